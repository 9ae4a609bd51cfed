package oauth

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// maxRevocations bounds the memory. Beyond it everything is looked at anew.
const maxRevocations = 100_000

// revocations remembers what was revoked lately, so that a revocation need not
// search the cache, and a look into the store that had begun before it cannot
// bring back what it saw. Revocations are numbered; a token that was loaded
// after the latest one needs no further check.
type revocations struct {
	// latest is the number of the latest revocation.
	latest atomic.Uint64

	mu sync.RWMutex
	// recent and earlier hold the number of the latest revocation of each kind and key.
	// They change places, so that nothing is kept for long.
	recent, earlier map[platform.Change]uint64
	rotated         time.Time
	// floor is the revocation that concerned everything.
	floor uint64
	// users is the latest change of a merchant, who may have been enabled.
	users uint64
}

// Apply puts a change of the domain in force, if it may end tokens or make them
// valid again: those that it concerns are looked at anew by all calls that begin afterwards.
func (v *Verifier) Apply(c platform.Change) {
	switch c.Kind {
	case platform.ChangeGrant, platform.ChangeToken, platform.ChangeUser:
		v.forget(c)
	}
}

// ForgetAll has all tokens looked at anew: what to do when changes may have been
// missed.
func (v *Verifier) ForgetAll() { v.forget(platform.Change{}) }

func (v *Verifier) forget(c platform.Change) {
	// A cached token is younger than the staleness, and no load takes longer
	// than its time limit.
	v.revoked.add(c, v.now(), time.Duration(v.staleness.Load())+loadTimeout)
}

// add numbers a revocation and keeps it at least for keep.
func (r *revocations) add(c platform.Change, now time.Time, keep time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	number := r.latest.Load() + 1
	if now.Sub(r.rotated) > keep || r.recent == nil {
		r.recent, r.earlier, r.rotated = make(map[platform.Change]uint64), r.recent, now
	}
	if c == (platform.Change{}) || len(r.recent) >= maxRevocations {
		r.recent, r.earlier, r.floor = make(map[platform.Change]uint64), nil, number
	} else {
		r.recent[c] = number
	}
	if c.Kind == platform.ChangeUser {
		r.users = number
	}
	// Last: who sees the number finds the revocation.
	r.latest.Store(number)
}

// concerns tells whether the token was loaded before a revocation that concerns
// it. If not, it need not be asked again until the next one.
func (r *revocations) concerns(t *seen) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	number := r.latest.Load()
	checked := t.checked.Load()
	newer := func(kind platform.ChangeKind, key string) bool {
		c := platform.Change{Kind: kind, Key: key}
		return r.recent[c] > checked || r.earlier[c] > checked
	}
	if r.floor > checked {
		return true
	}
	// Whose a token is that was refused nobody knows; few are remembered as such,
	// and not for long. Nothing else makes one valid again.
	if t.token == nil && r.users > checked {
		return true
	}
	if of := t.token; of != nil && (newer(platform.ChangeToken, string(of.Family)) ||
		of.Grant != "" && (newer(platform.ChangeGrant, of.Grant) || newer(platform.ChangeUser, of.User))) {
		return true
	}
	t.checked.Store(number)
	return false
}
