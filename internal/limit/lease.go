package limit

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	// leaseWorth is how much time a slice should last, as far as its bound
	// allows.
	leaseWorth = 500 * time.Millisecond
	// leaseLeast is the least that a slice holds, as far as its bound allows: an
	// app that calls now and then need not ask each time.
	leaseLeast = 100
	// leaseShare is the part of a limit that all nodes' slices may add up to.
	leaseShare = 10
	// leaseIdle is after how long what is left of a slice is given back.
	leaseIdle = 3 * time.Second
	// maxRefusal bounds how long a refusal is remembered.
	maxRefusal = time.Second
	// gather is how long a limit that is used up is left alone at most, so
	// that more than one call comes back at once.
	gather = 20 * time.Millisecond
)

// lease is what this node holds of one limit: calls that are charged already.
type lease struct {
	mu      sync.Mutex
	check   Check // the limit that the calls were taken from
	tokens  int64 // calls that are left
	epoch   int64 // changes when tokens are thrown away
	windows windows
	ends    int64 // Unix ns by this node's clock; from then on tokens are worthless
	slice   int64 // the latest size asked for
	used    int64 // calls since seen
	latest  int64 // Unix ns of the latest call
	waiting int64 // callers that wait for the fetch
	fetch   *fetch
	dead    bool // given back; look again

	found found // the shared state, when it was last seen
	seen  int64 // Unix ns

	refused Result
	retryAt int64 // Unix ns: when refused said that a call can be allowed
	blocked int64 // Unix ns: until then Redis is not asked again
}

// fetch is a call for more, that all callers share.
type fetch struct {
	done   chan struct{}
	err    error
	denied bool // nothing was left
}

// ticket is one call taken from a lease, to be put back if another check
// refuses.
type ticket struct {
	lease *lease
	epoch int64
}

func (t ticket) putBack() {
	t.lease.mu.Lock()
	defer t.lease.mu.Unlock()
	if t.epoch == t.lease.epoch && !t.lease.dead {
		t.lease.tokens++
		t.lease.used--
	}
}

const leaseShards = 64 // a power of two

// leases are all leases of a node.
type leases struct {
	seed   maphash.Seed
	shards [leaseShards]struct {
		sync.RWMutex
		held map[Key]*lease
	}
}

func newLeases() *leases {
	l := &leases{seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].held = make(map[Key]*lease)
	}
	return l
}

// of returns the lease of a key, a new one if need be.
func (l *leases) of(k Key) *lease {
	s := &l.shards[maphash.Comparable(l.seed, k)%leaseShards]
	s.RLock()
	held := s.held[k]
	s.RUnlock()
	if held != nil {
		return held
	}
	s.Lock()
	defer s.Unlock()
	if s.held[k] == nil {
		s.held[k] = new(lease)
	}
	return s.held[k]
}

// rest is what is to be given back of a lease.
type rest struct {
	check   Check
	tokens  int64
	windows windows
}

// retire ends all leases that were not used since, and returns what is left.
func (l *leases) retire(since int64) (rests []rest) {
	for i := range l.shards {
		s := &l.shards[i]
		s.Lock()
		for k, held := range s.held {
			held.mu.Lock()
			if held.latest < since && held.fetch == nil {
				held.dead = true
				delete(s.held, k)
				if held.tokens > 0 {
					rests = append(rests, rest{held.check, held.tokens, held.windows})
				}
			}
			held.mu.Unlock()
		}
		s.Unlock()
	}
	return rests
}

func (l *leases) len() (n int) {
	for i := range l.shards {
		s := &l.shards[i]
		s.RLock()
		n += len(s.held)
		s.RUnlock()
	}
	return n
}

// bound is the largest slice of one node among n.
func (c *Check) bound(n int64) int64 {
	capacity := int64(1) << 40
	if !c.Rate.IsZero() {
		capacity = c.Rate.capacity()
	}
	for _, limit := range []int64{c.Quota.Day, c.Quota.Month} {
		if limit > 0 {
			capacity = min(capacity, limit)
		}
	}
	return max(1, capacity/leaseShare/n)
}

// want is the size of the next slice: what leaseWorth takes at the pace since
// the last one, growing by leaps, at least leaseLeast, and within the bound.
func (l *lease) want(now, bound int64) int64 {
	elapsed := max(now-l.seen, int64(time.Millisecond))
	pace := float64(l.used) / float64(elapsed) * float64(leaseWorth)
	return max(1, min(bound, max(leaseLeast, min(int64(pace)+1, 4*l.slice+4))))
}

// tally adds the limits of the lease to t, as they stand after an allowed call.
func (l *lease) tally(t *tally, now int64) {
	ahead := l.tokens + 1 // charged, but not made yet; the one of this call is
	without := found{day: l.found.day - ahead, month: l.found.month - ahead}
	if r := l.check.Rate; !r.IsZero() {
		without.debt = max(0, l.found.debt-(now-l.seen)-ahead*r.step())
	}
	for res, capacity := range l.check.outcomes(without, &l.windows, time.Unix(0, now)) {
		res.Allowed, res.RetryAfter = true, 0 // it is paid for, whatever others did since
		t.add(res, capacity)
	}
}

// refuse adds what was noted when Redis had nothing left.
func (l *lease) refuse(t *tally, now int64) {
	res := l.refused
	res.RetryAfter = max(1, time.Duration(l.retryAt-now))
	t.add(res, max(res.Limit, 1))
}

// deny notes that the shared limit is used up.
func (l *lease) deny(now int64) {
	var t tally
	for res, capacity := range l.check.outcomes(l.found, &l.windows, time.Unix(0, now)) {
		t.add(res, capacity)
	}
	wait := time.Duration(1)
	if r := l.check.Rate; !r.IsZero() {
		wait = min(gather, time.Duration(l.slice*r.step()))
	}
	l.refused = t.decided(false)
	wait = max(wait, l.refused.RetryAfter)
	l.retryAt = now + int64(wait)
	l.blocked = now + int64(min(wait, maxRefusal))
}
