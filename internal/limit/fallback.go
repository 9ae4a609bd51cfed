package limit

import (
	"context"
	"sync"
	"time"
)

// fallback is what a node allows on its own while Redis does not answer: its
// share of every limit.
type fallback struct {
	// mu is held for reading by calls, and for writing to take the counts out.
	mu     sync.RWMutex
	memory *Memory
}

// take is Memory.Take with the share of one node among n.
func (f *fallback) take(ctx context.Context, now time.Time, checks []Check, n int64) (Result, error) {
	var shares [MaxChecks]Check
	for i := range checks {
		shares[i] = checks[i].share(n)
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.memory.Take(ctx, now, shares[:len(checks)])
}

// takeQuotas removes the counts of the current windows and returns them, to be
// added to those in Redis. The rates stay.
func (f *fallback) takeQuotas(now time.Time) []QuotaCount {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := f.memory.Quotas(now)
	if len(counts) > 0 {
		for i := range f.memory.shards {
			s := &f.memory.shards[i]
			s.mu.Lock() // Sweep may run
			clear(s.usage)
			s.mu.Unlock()
		}
	}
	return counts
}

// share is one node's part of c among n nodes.
func (c Check) share(n int64) Check {
	if n <= 1 {
		return c
	}
	c.Rate = c.Rate.share(n)
	c.Quota.Day = shareOf(c.Quota.Day, n)
	c.Quota.Month = shareOf(c.Quota.Month, n)
	return c
}

// share makes the period longer, for requests/n would be 0 or far off where
// there are few requests. At least one request remains possible at once.
func (r Rate) share(n int64) Rate {
	if r.IsZero() {
		return r
	}
	part := r
	part.Burst = max(1, r.capacity()/n)
	if r.Period <= maxPeriod/time.Duration(n) {
		part.Period *= time.Duration(n)
	} else {
		part.Requests = shareOf(r.Requests, n)
	}
	if part.Validate() != nil {
		return r // an allowance that takes decades to fill
	}
	return part
}

// shareOf rounds up, so that a small limit does not become none.
func shareOf(limit, n int64) int64 {
	if limit <= 0 {
		return limit
	}
	return (limit-1)/n + 1
}
