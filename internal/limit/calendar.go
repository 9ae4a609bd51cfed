package limit

import (
	"sync/atomic"
	"time"
)

// Unit is the length of a quota's window.
type Unit uint8

// The units of a quota. The values are part of what QuotaCount persists.
const (
	UnitDay   Unit = 1
	UnitMonth Unit = 2
)

// String returns "day" or "month".
func (u Unit) String() string {
	switch u {
	case UnitDay:
		return "day"
	case UnitMonth:
		return "month"
	}
	return "none"
}

// span is a window [start, end) in Unix seconds.
type span struct{ start, end int64 }

func (s span) contains(t int64) bool { return s.start <= t && t < s.end }

// windows are the day and the month that a time falls into.
type windows struct{ day, month span }

// calendar finds windows. It keeps the latest ones, as nearly every call falls
// into them and computing them costs more than the rest of a Take.
type calendar struct {
	location *time.Location
	latest   atomic.Pointer[windows]
}

func (c *calendar) at(t time.Time) windows {
	sec := t.Unix()
	latest := c.latest.Load()
	if latest != nil && latest.day.contains(sec) && latest.month.contains(sec) {
		return *latest
	}
	y, m, d := t.In(c.location).Date()
	w := windows{
		day:   find(sec, func(i int) int64 { return time.Date(y, m, d+i, 0, 0, 0, 0, c.location).Unix() }),
		month: find(sec, func(i int) int64 { return time.Date(y, m+time.Month(i), 1, 0, 0, 0, 0, c.location).Unix() }),
	}
	c.latest.Store(&w)
	return w
}

// find returns the window around sec. start(i) is the beginning of the i-th
// window counted from the one of sec's local date. A change of the offset can
// skip midnight, repeat it, or skip a whole day, so that the local date alone
// may be one window off; the instants decide, and windows never overlap.
func find(sec int64, start func(i int) int64) span {
	i := 0
	for sec < start(i) {
		i--
	}
	for sec >= start(i+1) {
		i++
	}
	return span{start(i), start(i + 1)}
}

// count is the use of one window.
type count struct {
	start int64 // Unix seconds; 0: never used
	used  int64
}

// at returns c as it stands in the window that begins at start. A caller whose
// clock is behind by no more than the usual skew counts in the newer window
// that others have begun. If the clock was set back, the count goes along, so
// that setting it to and fro never empties it.
func (c count) at(start, now int64) count {
	switch {
	case start > c.start:
		return count{start: start}
	case start < c.start && now < c.start-int64(skew/time.Second):
		return count{start: start, used: c.used}
	}
	return c
}

// take is the outcome of one more call in the window w, with a limit above 0.
func (c count) take(limit int64, unit Unit, w span, now time.Time) Result {
	left := max(0, time.Unix(w.end, 0).Sub(now))
	res := Result{
		Quota: true, Unit: unit, Limit: limit, Reset: left,
		Window: time.Duration(w.end-w.start) * time.Second,
	}
	if c.used >= limit {
		// Never 0: a client told to retry at once would loop.
		res.RetryAfter = max(left, 1)
		return res
	}
	res.Allowed = true
	res.Remaining = limit - c.used - 1
	return res
}
