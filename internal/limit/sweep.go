package limit

import (
	"maps"
	"time"
)

// Sweep forgets the keys whose rate allowance is whole again and the counts of
// past days and months, and returns how many it forgot. It locks one shard at
// a time. Its owner calls it every few seconds; how often makes no difference
// to any result, only to memory.
func (m *Memory) Sweep(now time.Time) int {
	// A caller that is late by the usual skew must still find its state.
	past := clamp(now.Add(-skew))
	nano, w := past.UnixNano(), m.calendar.at(past)
	dropped := 0
	for i := range m.shards {
		dropped += m.shards[i].sweep(nano, &w)
	}
	return dropped
}

func (s *shard) sweep(nano int64, w *windows) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.cells) + len(s.usage)
	maps.DeleteFunc(s.cells, func(_ Key, tat int64) bool { return tat <= nano })
	maps.DeleteFunc(s.usage, func(_ Key, u usage) bool {
		return u.day.start < w.day.start && u.month.start < w.month.start
	})
	s.cells, s.peakCells = shrink(s.cells, s.peakCells)
	s.usage, s.peakUsage = shrink(s.usage, s.peakUsage)
	return before - len(s.cells) - len(s.usage)
}

// Len counts the live rate and quota counters, locking one shard at a time.
func (m *Memory) Len() int {
	n := 0
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		n += len(s.cells) + len(s.usage)
		s.mu.Unlock()
	}
	return n
}

// shrink copies a map that is mostly empty: a Go map keeps the memory of its
// largest size.
func shrink[V any](m map[Key]V, peak int) (map[Key]V, int) {
	if peak < 64 || len(m) > peak/4 {
		return m, peak
	}
	small := make(map[Key]V, len(m))
	maps.Copy(small, m)
	return small, len(small)
}

// QuotaCount is the use of one quota window, to be kept over a restart.
type QuotaCount struct {
	Key   Key
	Unit  Unit
	Start int64 // the beginning of the window, Unix seconds
	Used  int64
}

// Quotas returns the counts of the day and the month that now falls into, in
// no particular order. Calls that go on meanwhile may be missing.
func (m *Memory) Quotas(now time.Time) []QuotaCount {
	return m.quotas(now, false)
}

// UnsavedQuotas returns those of them that changed since it was last called. Who
// cannot save them gives them to KeepUnsaved.
func (m *Memory) UnsavedQuotas(now time.Time) []QuotaCount {
	return m.quotas(now, true)
}

// KeepUnsaved has counts returned by UnsavedQuotas once more, as they are then.
func (m *Memory) KeepUnsaved(counts []QuotaCount) {
	for _, q := range counts {
		s := &m.shards[m.shardOf(q.Key)]
		s.mu.Lock()
		if u, ok := s.usage[q.Key]; ok {
			u.unsaved = true
			s.usage[q.Key] = u
		}
		s.mu.Unlock()
	}
}

// quotas returns the counts, locking one shard at a time: all of them, or those that
// are unsaved, which they then are no longer.
func (m *Memory) quotas(now time.Time, unsaved bool) []QuotaCount {
	w := m.calendar.at(clamp(now))
	var counts []QuotaCount
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		for k, u := range s.usage {
			if unsaved {
				if !u.unsaved {
					continue
				}
				u.unsaved = false
				s.usage[k] = u
			}
			if u.day.used > 0 && u.day.start >= w.day.start {
				counts = append(counts, QuotaCount{k, UnitDay, u.day.start, u.day.used})
			}
			if u.month.used > 0 && u.month.start >= w.month.start {
				counts = append(counts, QuotaCount{k, UnitMonth, u.month.start, u.month.used})
			}
		}
		s.mu.Unlock()
	}
	return counts
}

// RestoreQuotas brings back what Quotas returned. Counts of an older window
// than the one in use are ignored; in the same window the higher count stays.
// Restoring twice is therefore the same as restoring once.
func (m *Memory) RestoreQuotas(counts []QuotaCount) {
	for _, q := range counts {
		s := &m.shards[m.shardOf(q.Key)]
		s.mu.Lock()
		u := s.usage[q.Key]
		switch q.Unit {
		case UnitDay:
			u.day = u.day.restored(q)
		case UnitMonth:
			u.month = u.month.restored(q)
		}
		if u != (usage{}) {
			s.usage[q.Key] = u
			s.peakUsage = max(s.peakUsage, len(s.usage))
		}
		s.mu.Unlock()
	}
}

func (c count) restored(q QuotaCount) count {
	if q.Start < c.start || q.Start == c.start && q.Used <= c.used || q.Used <= 0 {
		return c
	}
	return count{start: q.Start, used: q.Used}
}
