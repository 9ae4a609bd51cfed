package caddymodule

import (
	"context"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/limit"
)

// status tells how the engine is doing. What cannot be counted because the
// store does not answer is left at zero, with the reason.
func (e *engine) status(ctx context.Context) adminapi.StatusReport {
	report := adminapi.StatusReport{Storage: "sqlite " + e.path}
	g := e.gate.Load()
	if g == nil {
		report.StorageError = "not open yet"
		return report
	}
	nonces := e.nonceStats()
	report.CachedApps = g.CachedApps()
	report.NonceEntries, report.NonceBytes = nonces.Entries, nonces.Bytes
	report.LimitCounters = e.limitCells()
	apps, err := e.service.CountApps(ctx)
	if err != nil {
		report.StorageError = err.Error()
		return report
	}
	c, err := e.service.Catalog(ctx)
	if err != nil {
		report.StorageError = err.Error()
		return report
	}
	report.Apps, report.APIs = apps, len(c.APIs)
	return report
}

// nonceStats counts the remembered nonces; none before the store is open.
func (e *engine) nonceStats() limit.NonceStats {
	if e.gate.Load() == nil {
		return limit.NonceStats{}
	}
	return e.nonces.Stats()
}

// limitCells counts the live counters; none before the store is open.
func (e *engine) limitCells() int {
	if e.gate.Load() == nil {
		return 0
	}
	return e.memory.Len()
}
