package limit

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"time"
)

// MemoryOptions are the settings of a Memory.
type MemoryOptions struct {
	// Location is the time zone of days and months. Default UTC.
	Location *time.Location
	// Shards is the number of independently locked parts, rounded up to a
	// power of two, at most 4096. Default 256.
	Shards int
}

// Memory counts the calls of a single node against limits. A rate costs one int64 a key; a key
// at rest costs nothing after the next Sweep.
type Memory struct {
	calendar calendar
	seed     maphash.Seed
	mask     uint64
	shards   []shard
}

type shard struct {
	mu        sync.Mutex
	cells     map[Key]int64 // theoretical arrival time, Unix ns
	usage     map[Key]usage
	peakCells int // the most cells since the map was made
	peakUsage int // the most usage entries since the map was made
}

// usage is what a key has used of its quotas. Only a limited unit is counted.
type usage struct {
	day, month count
	// unsaved says that it changed since it was last told of.
	unsaved bool
}

// NewMemory returns an empty Memory. It starts no goroutine; its owner calls
// Sweep every few seconds.
func NewMemory(o MemoryOptions) *Memory {
	if o.Location == nil {
		o.Location = time.UTC
	}
	if o.Shards <= 0 {
		o.Shards = 256
	}
	n := 1
	for n < min(o.Shards, 4096) {
		n *= 2
	}
	m := &Memory{
		calendar: calendar{location: o.Location},
		seed:     maphash.MakeSeed(),
		mask:     uint64(n - 1),
		shards:   make([]shard, n),
	}
	for i := range m.shards {
		m.shards[i].cells = make(map[Key]int64)
		m.shards[i].usage = make(map[Key]usage)
	}
	return m
}

// shardOf is keyed, so that nobody can choose names that crowd one shard.
func (m *Memory) shardOf(k Key) int {
	return int(maphash.Comparable(m.seed, k) & m.mask)
}

// charge is the state that a check's key gets if the call is allowed.
type charge struct {
	shard *shard
	tat   int64
	usage usage
}

// Take checks all limits and then charges all of them, atomically: a refused
// call costs nothing. An error, as for a Rate or Quota that does not validate,
// means that nothing was decided and nothing charged. There are at most
// MaxChecks checks, their keys distinct. It does not allocate, but for new keys.
func (m *Memory) Take(_ context.Context, now time.Time, checks []Check) (Result, error) {
	if err := validate(checks); err != nil {
		return Result{}, fmt.Errorf("taking limits: %w", err)
	}
	var charges [MaxChecks]charge
	var locked lockSet
	for i := range checks {
		n := m.shardOf(checks[i].Key)
		charges[i].shard = &m.shards[n]
		locked.add(n)
	}
	now = clamp(now)
	w := m.calendar.at(now)

	locked.lock(m.shards)
	var t tally
	for i := range checks {
		charges[i].inspect(&checks[i], now, &w, &t)
	}
	allowed := !t.seen || t.result.Allowed
	if allowed {
		for i := range checks {
			charges[i].apply(&checks[i])
		}
	}
	locked.unlock(m.shards)

	t.result.Allowed = allowed
	return t.result, nil
}

// inspect adds the outcome of one check to t and notes what it would cost.
func (c *charge) inspect(check *Check, now time.Time, w *windows, t *tally) {
	if r := check.Rate; !r.IsZero() {
		nano := now.UnixNano()
		tat, changed := r.settle(c.shard.cells[check.Key], nano)
		if changed {
			c.shard.cells[check.Key] = tat
		}
		next, res := r.take(tat, nano)
		res.Scope = check.Key.Scope
		c.tat = next
		t.add(res, r.capacity())
	}
	if check.Quota.IsZero() {
		return
	}
	c.usage = c.shard.usage[check.Key]
	if limit := check.Quota.Day; limit > 0 {
		c.usage.day = c.usage.day.at(w.day.start, now.Unix())
		res := c.usage.day.take(limit, UnitDay, w.day, now)
		res.Scope = check.Key.Scope
		c.usage.day.used++
		t.add(res, limit)
	}
	if limit := check.Quota.Month; limit > 0 {
		c.usage.month = c.usage.month.at(w.month.start, now.Unix())
		res := c.usage.month.take(limit, UnitMonth, w.month, now)
		res.Scope = check.Key.Scope
		c.usage.month.used++
		t.add(res, limit)
	}
}

func (c *charge) apply(check *Check) {
	if !check.Rate.IsZero() {
		c.shard.cells[check.Key] = c.tat
		c.shard.peakCells = max(c.shard.peakCells, len(c.shard.cells))
	}
	if !check.Quota.IsZero() {
		c.usage.unsaved = true
		c.shard.usage[check.Key] = c.usage
		c.shard.peakUsage = max(c.shard.peakUsage, len(c.shard.usage))
	}
}

// lockSet holds distinct shard numbers in ascending order: the order in which
// every caller locks, so that no two can wait for each other.
type lockSet struct {
	shards [MaxChecks]int
	n      int
}

func (l *lockSet) add(shard int) {
	i := l.n
	for ; i > 0 && l.shards[i-1] >= shard; i-- {
		if l.shards[i-1] == shard {
			return
		}
	}
	copy(l.shards[i+1:l.n+1], l.shards[i:l.n])
	l.shards[i] = shard
	l.n++
}

func (l *lockSet) lock(shards []shard) {
	for _, n := range l.shards[:l.n] {
		shards[n].mu.Lock()
	}
}

func (l *lockSet) unlock(shards []shard) {
	for _, n := range l.shards[:l.n] {
		shards[n].mu.Unlock()
	}
}
