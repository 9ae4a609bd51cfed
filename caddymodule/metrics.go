package caddymodule

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-openplatform/openplatform/internal/gate"
	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	metricsNamespace = "caddy"
	metricsSubsystem = "open_platform"
)

// metrics count calls. They belong to the engine and are registered with the
// registry of every configuration, so that a reload does not set them back.
// What every call counts is looked up once: on its way there is no label to
// hash. No app and no address is ever a label.
type metrics struct {
	calls      *prometheus.CounterVec
	refusals   *prometheus.CounterVec
	push       *pushMetrics
	collectors []prometheus.Collector

	passed  [environments]prometheus.Counter
	refused [environments]prometheus.Counter
}

// environments counts sandbox, production, and calls that got to neither.
const environments = 3

func newMetrics(e *engine, o *engineOptions) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "calls_total",
			Help: "Calls that reached the gate, by environment and whether they were allowed or refused.",
		}, []string{"environment", "result"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "refusals_total",
			Help: "Calls that were refused, by stage of the gate and error code.",
		}, []string{"stage", "code"}),
	}
	for i, name := range [environments]string{string(platform.Sandbox), string(platform.Production), ""} {
		m.passed[i] = m.calls.WithLabelValues(name, "allowed")
		m.refused[i] = m.calls.WithLabelValues(name, "refused")
	}
	m.collectors = []prometheus.Collector{
		m.calls, m.refusals,
		gauge("app_cache_entries", "Apps in memory.", func() float64 {
			if g := e.gate.Load(); g != nil {
				return float64(g.CachedApps())
			}
			return 0
		}),
		gauge("limit_cells", "Live rate and quota counters in memory.", func() float64 { _, n := e.memory(); return float64(n) }),
		gauge("nonces_entries", "Nonces remembered in memory against replays.", func() float64 { n, _ := e.memory(); return float64(n.Entries) }),
		gauge("nonces_bytes", "Memory of the remembered nonces, in bytes.", func() float64 { n, _ := e.memory(); return float64(n.Bytes) }),
	}
	m.push = newPushMetrics()
	m.collectors = append(m.collectors, m.push.collectors(e)...)
	if o.redis != nil {
		m.collectors = append(m.collectors, redisMetrics(e)...)
	}
	for _, d := range e.dependencies {
		m.collectors = append(m.collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "dependency_up",
			Help:        "Whether a server that this node relies on answers: 1 or 0.",
			ConstLabels: prometheus.Labels{"dependency": d.name},
		}, d.up))
	}
	return m
}

// redisMetrics tell what goes through Redis, and what does not.
func redisMetrics(e *engine) []prometheus.Collector {
	counted := func(name, help string, of func(limit.RedisStats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: name, Help: help,
		}, func() float64 { return float64(of(e.redisStats())) })
	}
	return []prometheus.Collector{
		counted("redis_scripts_total", "Script calls to Redis for single calls.", func(s limit.RedisStats) uint64 { return s.Scripts }),
		counted("redis_leases_total", "Script calls to Redis that take or give back slices of limits.", func(s limit.RedisStats) uint64 { return s.Leases }),
		counted("redis_errors_total", "Calls that Redis failed to answer.", func(s limit.RedisStats) uint64 { return s.Errors }),
		counted("redis_fallback_total", "Calls that were decided without Redis while it did not answer.", func(s limit.RedisStats) uint64 { return s.Fallback }),
		gauge("redis_leases_held", "Limits of which this node holds a slice.", func() float64 { return float64(e.redisStats().Leased) }),
		gauge("nodes", "Nodes that share Redis, as far as this one knows.", func() float64 { return float64(e.redisStats().Nodes) }),
	}
}

func gauge(name, help string, read func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: name, Help: help,
	}, read)
}

// register puts the metrics into a configuration's registry.
func (m *metrics) register(registry prometheus.Registerer) error {
	for _, c := range m.collectors {
		if err := registry.Register(c); err != nil {
			if _, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
				continue
			}
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	return nil
}

// Record counts a call that has ended.
func (m *metrics) Record(c *gate.Call) {
	environment := environments - 1
	switch c.Environment {
	case platform.Sandbox:
		environment = 0
	case platform.Production:
		environment = 1
	}
	if c.Refusal == nil {
		m.passed[environment].Inc()
		return
	}
	m.refused[environment].Inc()
	m.refusals.WithLabelValues(string(c.Refusal.Stage), c.Refusal.Code.Name).Inc()
}

// Interface guard
var _ gate.Recorder = (*metrics)(nil)
