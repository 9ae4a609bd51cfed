package caddymodule

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/store"
)

// ledger is a limit.Ledger with its upkeep.
type ledger interface {
	limit.Ledger
	// tend drops what no longer matters and keeps what must last.
	tend(ctx context.Context, now time.Time)
	close() error
	// stats are the nonces and the counters in this node's memory.
	stats() (limit.NonceStats, int)
}

// openLedger opens what counts: Redis if there is one, else memory.
func (e *engine) openLedger(ctx context.Context, o *engineOptions, st *store.Store) (ledger, error) {
	if o.redis != nil {
		return e.openShared(o) //nolint:contextcheck // outlives the call that opened the store
	}
	if o.storage.shared() {
		o.logger.Warn("limits and nonces count on each node alone: other nodes may use this store; add the option redis to share them")
	}
	counts, err := st.LoadQuotas(ctx)
	if err != nil {
		return nil, fmt.Errorf("loading quota counts: %w", err)
	}
	memory := limit.NewMemory(limit.MemoryOptions{Location: o.location})
	memory.RestoreQuotas(counts)
	nonces := limit.NewMemoryNonces(limit.NonceOptions{Max: o.nonces, Rand: rand.Reader})
	return &ownLedger{Local: limit.Local{Limits: memory, Nonces: nonces}, store: st, logger: e.logger}, nil
}

// onceMax is how many proofs and log-ins the authorization server remembers on
// one node: 32 MB at the most.
const onceMax = 1_000_000

// onceLedger remembers what the authorization server takes once: on all nodes where
// they share nonces, which Redis bounds for each app, and else apart from the
// gate's, so that who fills this memory does not stop calls.
func onceLedger(o *engineOptions, led ledger) limit.Ledger {
	if o.redis != nil && o.redis.Nonces != noncesLocal {
		return led
	}
	return &limit.Local{
		Limits: limit.NewMemory(limit.MemoryOptions{Shards: 1}),
		Nonces: limit.NewMemoryNonces(limit.NonceOptions{Max: onceMax, Rand: rand.Reader}),
	}
}

// ownLedger counts in this node's memory and keeps quotas over restarts.
type ownLedger struct {
	limit.Local
	store  *store.Store
	logger func() *zap.Logger
}

func (l *ownLedger) tend(ctx context.Context, now time.Time) {
	l.Limits.Sweep(now)
	l.save(ctx, now)
}

// save keeps the quota counts: a crash forgets those since the last time.
func (l *ownLedger) save(ctx context.Context, now time.Time) {
	counts := l.Limits.UnsavedQuotas(now)
	if len(counts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := l.store.SaveQuotas(ctx, counts)
	if err == nil {
		return
	}
	l.Limits.KeepUnsaved(counts)
	if ctx.Err() == nil {
		l.logger().Warn("quota counts not saved; trying again soon", zap.Error(err))
	}
}

func (l *ownLedger) close() error {
	l.save(context.Background(), time.Now())
	return nil
}

func (l *ownLedger) stats() (limit.NonceStats, int) { return l.Nonces.Stats(), l.Limits.Len() }

// sharedLedger counts in Redis.
type sharedLedger struct{ *limit.Redis }

func (e *engine) openShared(o *engineOptions) (ledger, error) {
	options := limit.RedisOptions{
		Location: o.location, MaxNonces: o.nonces, Timeout: time.Duration(o.redis.Timeout),
		LocalNonces: o.redis.Nonces == noncesLocal,
		OnState:     func(err error) { e.redisState.set(err, e.logger()) },
		OnWarning:   func(err error) { e.logger().Warn("redis is not set up for this", zap.Error(err)) },
	}
	if o.redis.OnFailure == failureDeny {
		options.OnFailure = limit.FailDeny
	}
	if o.redis.Accuracy == accuracyLeased {
		options.Accuracy = limit.Leased
	}
	r, err := limit.OpenRedis(o.redis.URL, options)
	if err != nil {
		return nil, fmt.Errorf("opening redis: %w", err)
	}
	return sharedLedger{r}, nil
}

// tend has nothing to do: the ledger tends itself.
func (sharedLedger) tend(context.Context, time.Time) {}

func (l sharedLedger) close() error { return l.Close() }

func (l sharedLedger) stats() (limit.NonceStats, int) {
	s := l.Stats()
	return s.Nonces, s.Cells
}
