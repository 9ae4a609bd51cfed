package caddymodule

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
)

// dependency is a server that the engine relies on. Who talks to it says when
// it stops and starts to answer; each such turn is one line in the log.
type dependency struct {
	name string
	// meanwhile says what goes on without it.
	meanwhile string
	now       func() time.Time

	mu    sync.Mutex
	err   error // why it is down; nil while it is up
	since time.Time
}

// set notes that the server does not answer, or with nil that it does.
func (d *dependency) set(err error, logger *zap.Logger) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case (err == nil) == (d.err == nil):
	case err != nil:
		d.since = d.now()
		logger.Error("a server does not answer", zap.String("server", d.name), zap.String("meanwhile", d.meanwhile), zap.Error(err))
	default:
		logger.Info("a server answers again", zap.String("server", d.name), zap.Duration("after", d.now().Sub(d.since)))
		d.since = time.Time{}
	}
	d.err = err
}

// report tells the state, and for how long the server has been down.
func (d *dependency) report() (adminapi.Dependency, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := adminapi.Dependency{Name: d.name, Up: d.err == nil, Since: d.since}
	if d.err == nil {
		return r, 0
	}
	r.Error = d.err.Error()
	return r, d.now().Sub(d.since)
}

// up is 1 while the server answers, else 0: the value of a metric.
func (d *dependency) up() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return 0
	}
	return 1
}

// health tells whether calls can be taken.
func (e *engine) health() adminapi.HealthReport {
	report := adminapi.HealthReport{Status: adminapi.Ready, Dependencies: []adminapi.Dependency{}}
	opened := e.gate.Load() != nil
	if !opened {
		report.Status, report.Reason = adminapi.NotReady, "the store is not open yet"
	}
	for _, d := range e.dependencies {
		state, down := d.report()
		report.Dependencies = append(report.Dependencies, state)
		if state.Up || report.Status == adminapi.NotReady {
			continue
		}
		report.Status = adminapi.Degraded
		if reason := e.refuses(d, down); reason != "" {
			report.Status, report.Reason = adminapi.NotReady, reason
		}
	}
	return report
}

// refuses tells why calls are refused without the server; "" when they go on.
func (e *engine) refuses(d *dependency, down time.Duration) string {
	settings := e.settings.Load()
	switch {
	case d == &e.redisState && settings.redis.OnFailure == failureDeny:
		return "redis is down and on_redis_failure is deny"
	case d == &e.storeState && down > settings.staleness:
		return "the store is down for longer than staleness"
	}
	return ""
}
