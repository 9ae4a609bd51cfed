package pusher

import (
	"sync/atomic"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Stats are the figures of this node since it started.
type Stats struct {
	// Delivered, Failed, Retried and Cancelled count completed deliveries.
	Delivered uint64 `json:"delivered"`
	Failed    uint64 `json:"failed"`
	Retried   uint64 `json:"retried"`
	Cancelled uint64 `json:"cancelled"`
	// Lost counts deliveries whose lease ended first, Rescued those that were
	// taken from other nodes.
	Lost    uint64 `json:"lost"`
	Rescued uint64 `json:"rescued"`
	// InFlight counts requests under way.
	InFlight int `json:"in_flight"`
	// Endpoints counts those in memory with work, Open those whose circuit is
	// open.
	Endpoints int `json:"endpoints"`
	Open      int `json:"circuits_open"`
}

// Subscriptions counts the subscriptions of all apps that have the status.
func (p *Pusher) Subscriptions(status platform.SubscriptionStatus) (count int) {
	if d := p.subscribers.Load(); d != nil {
		for _, shard := range d.endpoints {
			for _, e := range shard {
				if e.Status == status {
					count++
				}
			}
		}
	}
	return count
}

// Observation is a completion, for those who measure.
type Observation struct {
	// Outcome is what became of the delivery; Pending for another attempt.
	Outcome State
	Class   ErrorClass
	// Duration is that of the request; 0 where none was made.
	Duration time.Duration
	// Lag is from when the attempt was due to when it began.
	Lag time.Duration
}

// counters are what Stats tells.
type counters struct {
	delivered, failed, retried, cancelled, lost, rescued atomic.Uint64
}

// count counts an outcome that was saved; had says whether the node still had
// the delivery. It tells people of what failed for good.
func (p *Pusher) count(o *outcome, had bool) {
	c := &p.stats
	if had {
		p.observe(o)
	}
	switch {
	case !had:
		c.lost.Add(1)
	case o.State == Delivered:
		c.delivered.Add(1)
	case o.State == Cancelled:
		c.cancelled.Add(1)
	case o.State == Failed:
		c.failed.Add(1)
		e := Event{Kind: DeliveryFailed, Delivery: o.ID, Topic: o.item.work.Topic, Reason: o.Attempt.Error}
		if to := p.endpoint(o.Subscription); to != nil {
			e.App, e.Subscription = to.app.app.ID, to.ID
		}
		p.notify(e)
	case o.attempted:
		c.retried.Add(1)
	}
}

// observe tells those who measure.
func (p *Pusher) observe(o *outcome) {
	if p.options.Observe == nil || !o.State.Final() && !o.attempted {
		return
	}
	seen := Observation{Outcome: o.State}
	if a := o.Attempt; a != nil {
		seen.Class, seen.Duration, seen.Lag = a.Class, a.Duration, a.Started.Sub(o.item.work.Due)
	}
	p.options.Observe(seen)
}

func (p *Pusher) notify(e Event) {
	if p.options.Notify != nil {
		p.options.Notify(e)
	}
}

// report tells of what went wrong in the background; nil did not.
func (p *Pusher) report(doing string, err error) {
	if err != nil && p.options.Report != nil {
		p.options.Report(doing, err)
	}
}

// Stats are the figures of this node.
func (p *Pusher) Stats() Stats {
	c, s := &p.stats, p.scheduler
	out := Stats{
		Delivered: c.delivered.Load(), Failed: c.failed.Load(), Retried: c.retried.Load(),
		Cancelled: c.cancelled.Load(), Lost: c.lost.Load(), Rescued: c.rescued.Load(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out.InFlight = s.running
	for _, l := range s.lanes {
		if l.claimed > 0 || l.place != nowhere || l.due {
			out.Endpoints++
		}
		if l.circuit.open() {
			out.Open++
		}
	}
	return out
}
