package caddymodule

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// pushMetrics count what is pushed. No app and no endpoint is ever a label.
type pushMetrics struct {
	completed *prometheus.CounterVec
	duration  prometheus.Histogram
	lag       prometheus.Histogram
	depth     atomic.Pointer[pusher.Depth]
}

func newPushMetrics() *pushMetrics {
	return &pushMetrics{
		completed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "push_attempts_total",
			Help: "Attempts to deliver, by what became of the delivery and the class of the failure.",
		}, []string{"outcome", "class"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "push_request_duration_seconds",
			Help:    "Duration of requests to apps.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "push_lag_seconds",
			Help:    "How long after they were due deliveries were attempted.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 120, 600},
		}),
	}
}

// observe counts a completed attempt.
func (m *pushMetrics) observe(o pusher.Observation) {
	outcome := o.Outcome.String()
	if o.Outcome == pusher.Pending {
		outcome = "retry"
	}
	m.completed.WithLabelValues(outcome, string(o.Class)).Inc()
	if o.Duration > 0 {
		m.duration.Observe(o.Duration.Seconds())
		m.lag.Observe(max(0, o.Lag.Seconds()))
	}
}

// collectors are what is registered of them.
func (m *pushMetrics) collectors(e *engine) []prometheus.Collector {
	waiting := func(name, help string, of func(*pusher.Depth) float64) prometheus.Collector {
		return gauge(name, help, func() float64 {
			if d := m.depth.Load(); d != nil {
				return of(d)
			}
			return 0
		})
	}
	counted := func(name, help string, of func(pusher.Stats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: name, Help: help,
		}, func() float64 { return float64(of(e.pushStats())) })
	}
	collectors := []prometheus.Collector{
		m.completed, m.duration, m.lag,
		waiting("push_pending", "Deliveries that wait, on all nodes.", func(d *pusher.Depth) float64 { return float64(d.Pending) }),
		waiting("push_delivering", "Deliveries under way, on all nodes.", func(d *pusher.Depth) float64 { return float64(d.Delivering) }),
		waiting("push_suspended", "Deliveries whose endpoint is disabled or paused.", func(d *pusher.Depth) float64 { return float64(d.Suspended) }),
		waiting("push_oldest_due_seconds", "For how long the oldest pending delivery has been due.", func(d *pusher.Depth) float64 {
			if d.Oldest.IsZero() {
				return 0
			}
			return max(0, time.Since(d.Oldest).Seconds())
		}),
		gauge("push_requests_under_way", "Requests to apps under way on this node.", func() float64 { return float64(e.pushStats().InFlight) }),
		gauge("push_endpoints_busy", "Endpoints with work on this node.", func() float64 { return float64(e.pushStats().Endpoints) }),
		gauge("push_circuits_open", "Endpoints that this node leaves alone for a while since they failed.", func() float64 { return float64(e.pushStats().Open) }),
		counted("push_leases_lost_total", "Attempts that changed nothing any more: the lease had ended, the delivery was over, or it could not be saved.", func(s pusher.Stats) uint64 { return s.Lost }),
		counted("push_leases_rescued_total", "Deliveries that this node made due again since the lease of their node had ended.", func(s pusher.Stats) uint64 { return s.Rescued }),
	}
	for _, status := range []platform.SubscriptionStatus{platform.SubscriptionActive, platform.Paused, platform.Disabled, platform.Unverified} {
		collectors = append(collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "push_endpoints",
			Help: "Endpoints that apps have subscribed with, by their state.", ConstLabels: prometheus.Labels{"state": string(status)},
		}, func() float64 {
			if e.gate.Load() == nil {
				return 0
			}
			return float64(e.pusher.Subscriptions(status))
		}))
	}
	return collectors
}

// pushStats are the pusher's figures; none before the store is open.
func (e *engine) pushStats() pusher.Stats {
	if e.gate.Load() == nil {
		return pusher.Stats{}
	}
	return e.pusher.Stats()
}
