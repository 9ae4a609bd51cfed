// Package limit bounds what an app may do: rates (GCRA), calendar quotas and
// the single use of nonces. It knows nothing of HTTP but the syntax of the
// RateLimit fields. A Ledger keeps the accounts: Local in one node's memory,
// Redis for all nodes together.
package limit

import (
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"
)

// MaxChecks is the largest number of checks in one Take.
const MaxChecks = 16

// Scope tells what a counter belongs to.
type Scope uint8

// The scopes, from the narrowest caller to the whole platform.
const (
	ScopeApp      Scope = iota + 1 // one app
	ScopeAppAPI                    // one app calling one API
	ScopeAppUser                   // one app acting for one merchant
	ScopeAPI                       // one API, all apps together
	ScopePlatform                  // all calls
)

// String returns the scope's name as it stands in headers and metrics.
func (s Scope) String() string {
	switch s {
	case ScopeApp:
		return "app"
	case ScopeAppAPI:
		return "app-api"
	case ScopeAppUser:
		return "app-user"
	case ScopeAPI:
		return "api"
	case ScopePlatform:
		return "platform"
	}
	return "unknown"
}

// Key names one counter. App is the app's number, Sub the Hash of the API or
// the merchant; what a scope does not need stays 0.
type Key struct {
	Scope Scope
	App   uint64
	Sub   uint64
}

// Hash turns the name of an API or a merchant into Key.Sub. It is xxHash64, so
// it is the same on every node and after a restart.
func Hash(s string) uint64 { return xxhash.Sum64String(s) }

// Check is one limit that applies to a call: a rate, a quota, or both on the
// same key.
type Check struct {
	Key   Key
	Rate  Rate
	Quota Quota
}

// Result is the outcome of a Take. It describes one limit: of an allowed call
// the tightest, the one with the smallest share left; of a refused call the
// refusing one, and among several the one that asks for the longest wait.
// Without any limit it is Allowed and otherwise zero.
type Result struct {
	Allowed    bool
	Quota      bool          // the limit described is a quota, not a rate
	Unit       Unit          // which quota; 0 for a rate
	Scope      Scope         // whose limit it is
	Limit      int64         // requests a Window
	Window     time.Duration // the rate's period, or the length of this day or month
	Remaining  int64         // requests that would be allowed right now, after this one
	Reset      time.Duration // until all of the limit is available again
	RetryAfter time.Duration // refused: the earliest time a call can be allowed; otherwise 0
}

// validate refuses what Take could not count correctly.
func validate(checks []Check) error {
	if len(checks) > MaxChecks {
		return fmt.Errorf("%d checks in one call; at most %d are allowed", len(checks), MaxChecks)
	}
	for i := range checks {
		c := &checks[i]
		if err := c.Rate.Validate(); err != nil {
			return fmt.Errorf("%s rate: %w", c.Key.Scope, err)
		}
		if err := c.Quota.Validate(); err != nil {
			return fmt.Errorf("%s quota: %w", c.Key.Scope, err)
		}
		for j := range i {
			if checks[j].Key == c.Key {
				return fmt.Errorf("two checks for one %s key; merge them into one", c.Key.Scope)
			}
		}
	}
	return nil
}

// tally reduces the outcomes of single limits to the one Result of a call.
type tally struct {
	result   Result
	capacity int64 // the most that result.Remaining can be
	seen     bool
}

func (t *tally) add(r Result, capacity int64) {
	if !t.seen || t.yieldsTo(&r, capacity) {
		*t = tally{result: r, capacity: capacity, seen: true}
	}
}

func (t *tally) yieldsTo(r *Result, capacity int64) bool {
	switch {
	case r.Allowed != t.result.Allowed:
		return !r.Allowed
	case !r.Allowed:
		return r.RetryAfter > t.result.RetryAfter
	default:
		return smallerShare(r.Remaining, capacity, t.result.Remaining, t.capacity)
	}
}
