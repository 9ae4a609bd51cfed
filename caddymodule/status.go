package caddymodule

import (
	"context"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/limit"
)

// status tells how the engine is doing. What cannot be counted because the
// store does not answer is left at zero, with the reason.
func (e *engine) status(ctx context.Context) adminapi.StatusReport {
	report := adminapi.StatusReport{Health: e.health(), Storage: e.storage.describe()}
	g := e.gate.Load()
	if g == nil {
		report.StorageError = "not open yet"
		return report
	}
	nonces, counters := e.memory()
	report.CachedApps = g.CachedApps()
	report.NonceEntries, report.NonceBytes = nonces.Entries, nonces.Bytes
	report.LimitCounters = counters
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

// memory counts the nonces and the counters in this node's memory; none before
// the store is open.
func (e *engine) memory() (limit.NonceStats, int) {
	if e.gate.Load() == nil {
		return limit.NonceStats{}, 0
	}
	return e.ledger.stats()
}

// redisStats counts what went through Redis; nothing before it is open.
func (e *engine) redisStats() limit.RedisStats {
	if e.gate.Load() == nil {
		return limit.RedisStats{}
	}
	if shared, ok := e.ledger.(sharedLedger); ok {
		return shared.Stats()
	}
	return limit.RedisStats{}
}
