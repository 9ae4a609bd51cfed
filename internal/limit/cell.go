package limit

import "time"

// Cell is what one key has used of a rate, for an owner that guards it. The rate may
// be another one each time. The zero Cell is at rest.
type Cell struct{ tat int64 }

// Free is how many requests the rate allows now; where it allows none, wait is for
// how long.
func (c *Cell) Free(r Rate, now time.Time) (n int64, wait time.Duration) {
	nano := clamp(now).UnixNano()
	c.tat, _ = r.settle(c.tat, nano)
	_, next := r.take(c.tat, nano)
	if !next.Allowed {
		return 0, next.RetryAfter
	}
	return next.Remaining + 1, 0
}

// Charge takes n requests, or gives them back where n is negative.
func (c *Cell) Charge(r Rate, n int64, now time.Time) {
	c.tat = max(c.tat, clamp(now).UnixNano()) + n*r.step()
}
