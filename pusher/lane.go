package pusher

import (
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// slowLatency is from what average on an endpoint is slow.
const slowLatency = 100 * time.Millisecond

// group is a kind of endpoints that share a part of the workers.
type group uint8

const (
	// unproven endpoints have not answered yet.
	unproven group = iota
	fast
	slow
	groups
)

// place is where a lane waits.
type place uint8

const (
	nowhere place = iota
	inRing        // it may have work that is due, and is asked for in its turn: in ring, or in backlog
	parked        // the same, but its group has all that it may have
)

// lane is an endpoint with the deliveries of it that this node holds. The
// scheduler's lock guards it.
type lane struct {
	number   uint64
	endpoint *endpoint
	plan     plan
	place    place
	// due: more is due than there was room for. again: somebody woke it while
	// it held deliveries, which may be due once more when they are completed.
	due, again bool
	// streak is how many deliveries claims have brought since one left nothing.
	streak int
	// claimed counts deliveries from the claim to the completion, running
	// those that are posted now. held may not be posted yet.
	claimed, running int
	held             []*item
	// share bounds what is posted at once, from the last claim on.
	share int
	group group
	// latency is an average of the last requests, progress when the last one
	// ended or the first one began.
	latency  time.Duration
	progress time.Time
	// holding is how long a request has a worker, connecting included, over more
	// requests: an endpoint must not have many by connections that soon end.
	holding time.Duration
	circuit circuit
	health  health
	// spent is what the endpoint's rate has been used for.
	spent limit.Cell
	// alarm is when it is looked at again at the latest, if that is to come.
	alarm time.Time
	// empty is how often in a row a claim brought nothing of what is due.
	empty int
	used  time.Time
}

// sync takes over what is known of the endpoint.
func (l *lane) sync(e *endpoint, schedule []time.Duration) {
	if l.endpoint == e {
		return
	}
	old := l.endpoint
	l.endpoint, l.plan = e, newPlan(e.Subscription, schedule)
	l.health.known(e.FailingSince)
	if old != nil && (!old.active() || old.URL != e.URL) {
		l.circuit.works() // somebody looked after it
	}
}

// cap is how many may be under way on all nodes together.
func (l *lane) cap() int {
	if l.endpoint.Concurrency > 0 {
		return l.endpoint.Concurrency
	}
	return platform.DefaultConcurrency
}

// free is how many more may be posted now.
func (l *lane) free(workers int) int { return min(most(l.group, workers), l.share) - l.running }

// backlogged tells whether claims keep leaving something.
func (l *lane) backlogged() bool { return l.streak >= backlogFrom }

// kind tells in which group the lane belongs now.
func (l *lane) kind(now time.Time) group {
	switch {
	case l.running > 0 && now.Sub(l.progress) > slowLatency, l.latency > slowLatency, l.holding > slowLatency:
		return slow
	case l.latency == 0:
		return unproven
	}
	return fast
}

// took hears how long a request took, and how much of that its answer.
func (l *lane) took(whole, answering time.Duration, now time.Time) {
	l.progress = now
	l.holding += (whole - l.holding) / 32
	d := max(answering, 1)
	if l.latency == 0 {
		l.latency = d
		return
	}
	l.latency += (d - l.latency) / 8
	l.latency = max(l.latency, 1)
}

// tokens is how many requests the endpoint's rate allows now, and when it allows
// the next one where it allows none.
func (l *lane) tokens(now time.Time) (n int, next time.Time) {
	if l.endpoint.Rate.IsZero() {
		return maxClaim, time.Time{}
	}
	free, wait := l.spent.Free(l.endpoint.Rate, now)
	return int(min(free, maxClaim)), now.Add(wait)
}

// charge takes n tokens, or gives them back where n is negative.
func (l *lane) charge(n int, now time.Time) {
	if r := l.endpoint.Rate; !r.IsZero() {
		l.spent.Charge(r, int64(n), now)
	}
}
