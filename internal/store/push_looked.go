package store

import (
	"sync"
	"time"

	"github.com/caddy-openplatform/openplatform/pusher"
)

const (
	// lateCommit is how long after it was due a delivery may appear, at the
	// most, so that claims still find it at once: transactions that make
	// deliveries due take milliseconds.
	lateCommit = time.Second
	// lookEvery is how often a claim looks at all due deliveries, at the least.
	lookEvery = 10 * time.Second
	// lookShare bounds the time for such looks: where one took long, the next
	// one waits for so many times as long.
	lookShare = 20
	// lookedMost bounds how many subscriptions are remembered.
	lookedMost = 100_000
)

// looked remembers how far claims have looked, for each subscription. What was
// delivered leaves entries in the indexes of PostgreSQL, and as long as any
// transaction is open that began before, nothing can remove them. Without a
// lower bound each claim would walk over all of them.
//
// No bound hides anything for long: what becomes due does so at the database's
// time of then, which is after the bound, and from time to time a claim looks at
// everything.
type looked struct {
	mu sync.Mutex
	at map[uint64]look
}

type look struct {
	// due: nothing that is due before is left. claimed: nothing that was claimed
	// before is under way. Both are the database's time.
	due, claimed int64
	// full is when a claim looked at everything, and took how long.
	full time.Time
	took time.Duration
}

// bounds returns from where to look, for each endpoint; 0 is at everything.
func (l *looked) bounds(endpoints []pusher.Endpoint, now time.Time) (due, claimed []int64) {
	due, claimed = make([]int64, len(endpoints)), make([]int64, len(endpoints))
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range endpoints {
		e := l.at[endpoints[i].Subscription]
		if now.Sub(e.full) >= max(lookEvery, lookShare*e.took) {
			continue
		}
		due[i], claimed[i] = e.due, e.claimed
	}
	return due, claimed
}

// note remembers what a claim of the bounds found.
func (l *looked) note(found map[uint64]look, since []int64, endpoints []pusher.Endpoint, now time.Time, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil || len(l.at) > lookedMost {
		l.at = make(map[uint64]look, len(found))
	}
	for i := range endpoints {
		f, ok := found[endpoints[i].Subscription]
		if !ok {
			continue
		}
		if f.full, f.took = now, took; since[i] != 0 {
			before := l.at[endpoints[i].Subscription]
			f.full, f.took = before.full, before.took
		}
		l.at[endpoints[i].Subscription] = f
	}
}
