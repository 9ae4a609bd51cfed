package pusher

import (
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// jitter is how far a wait lies from the schedule, either way.
const jitter = 0.2

// plan decides about the deliveries of one endpoint.
type plan struct {
	waits []time.Duration
	// holdFor bounds how long a delivery may hold up others of its key; 0
	// where nothing is ordered.
	holdFor time.Duration
}

// newPlan is the plan of a subscription on a platform with the schedule.
func newPlan(s *platform.Subscription, schedule []time.Duration) plan {
	p := plan{waits: schedule}
	if len(s.Schedule) > 0 {
		p.waits = s.Schedule
	}
	if s.Ordered {
		if p.holdFor = s.HoldFor; p.holdFor <= 0 {
			p.holdFor = platform.DefaultHoldFor
		}
	}
	return p
}

// next decides what becomes of a delivery whose attempt failed: how long it waits
// for the next one, or that there is none. tries counts the attempts; asked is
// what the endpoint asked for; held is for how long the delivery has held up
// others, negative where nobody waits for it; random lies in [0, 1).
func (p plan) next(tries int, asked, held time.Duration, random float64) (wait time.Duration, again bool) {
	if tries < 1 || tries > len(p.waits) {
		return 0, false
	}
	wait = p.waits[tries-1]
	wait += time.Duration((2*random - 1) * jitter * float64(wait))
	wait = max(wait, asked)
	if p.holdFor > 0 && held >= 0 {
		left := p.holdFor - held
		if left <= 0 {
			return 0, false
		}
		wait = min(wait, left) // the last attempt is made when the time is over
	}
	return wait, true
}
