package pusher

import "time"

const (
	// openAfter is how many failures in a row open a circuit.
	openAfter = 5
	// firstProbe is how long it stays open at first; each probe that fails
	// doubles that, up to lastProbe.
	firstProbe = time.Second
	lastProbe  = time.Minute
)

// circuit keeps deliveries from an endpoint that cannot take them: they wait, and
// use up no attempt. Its zero value is closed. Its owner guards it.
type circuit struct {
	failures int
	// hold is how long it was opened for; 0 while it is closed.
	hold time.Duration
	// until is when a single request may probe.
	until time.Time
}

// open tells whether at most one request may be under way.
func (c *circuit) open() bool { return c.hold > 0 }

// wait is for how long no request may be made at all.
func (c *circuit) wait(now time.Time) time.Duration {
	if c.hold == 0 {
		return 0
	}
	return max(c.until.Sub(now), 0)
}

// works hears of an answer that shows that the endpoint works.
func (c *circuit) works() { *c = circuit{} }

// fails hears of a failure. random lies in [0, 1).
func (c *circuit) fails(now time.Time, random float64) {
	c.failures++
	switch {
	case c.failures < openAfter:
		return
	case c.hold == 0:
		c.hold = firstProbe
	case now.Before(c.until):
		return // requests that were under way when it opened
	default:
		c.hold = min(2*c.hold, lastProbe)
	}
	c.until = now.Add(spread(c.hold, random))
}

// throttles hears that the endpoint asks for less: for a pause of that length, a
// minute at the most, or for one that grows while it goes on asking. Then a single
// request probes. What was asked for holds in full for the delivery alone: another
// one, or somebody who pushes by hand, need not wait for a day.
func (c *circuit) throttles(now time.Time, asked time.Duration, random float64) {
	switch {
	case c.hold == 0:
		c.hold = firstProbe
	case !now.Before(c.until):
		c.hold = min(2*c.hold, lastProbe)
	}
	until := now.Add(max(min(asked, lastProbe), spread(c.hold, random)))
	if until.After(c.until) {
		c.until = until
	}
}

// spread is d, up to a fifth longer.
func spread(d time.Duration, random float64) time.Duration {
	return d + time.Duration(random*jitter*float64(d))
}
