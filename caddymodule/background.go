package caddymodule

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
)

const (
	// tendEvery is how often the ledger is tended, and a change that could not
	// be put in force is tried again.
	tendEvery = 5 * time.Second
	// maintainEvery is how often partitions are made and old data is dropped.
	maintainEvery = time.Hour
	// maintainTimeout bounds one round of it.
	maintainTimeout = 10 * time.Minute
)

// startBackground starts the engine's regular work. It ends with e.cancel.
func (e *engine) startBackground() {
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	e.background.Go(func() { e.tend(ctx) })
	e.background.Go(func() { e.maintain(ctx) })
	e.background.Go(func() { e.push(ctx) })
	e.background.Go(func() { e.watchDepth(ctx) })
	if e.storage.shared() {
		e.background.Go(func() { e.follow(ctx) })
	}
}

// tend keeps memory tidy and makes up for what failed.
func (e *engine) tend(ctx context.Context) {
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			e.ledger.tend(ctx, now)
			e.catchUp(ctx)
		}
	}
}

// maintain keeps the store within its retention. Of several nodes one does so.
func (e *engine) maintain(ctx context.Context) {
	ticker := time.NewTicker(maintainEvery)
	defer ticker.Stop()
	for {
		round, cancel := context.WithTimeout(ctx, maintainTimeout)
		err := e.store.Maintain(round, time.Now(), e.retention())
		cancel()
		if err != nil && ctx.Err() == nil {
			e.logger().Warn("the store was not maintained; trying again in an hour", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// retention is for how long everything is kept.
func (e *engine) retention() store.Retention {
	o := e.settings.Load()
	return o.push.retention(store.Retention{Audit: o.audit})
}

// follow puts in force what other nodes change.
func (e *engine) follow(ctx context.Context) {
	e.store.Watch(ctx, store.Watcher{
		Changed: e.changed,
		Missed: func() {
			e.stale.Store(true)
			e.catchUp(ctx)
		},
		Health: func(err error) { e.storeState.set(err, e.logger()) },
	})
}

// changed puts a change that was committed in force.
func (e *engine) changed(c platform.Change) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	e.tokens.Apply(c)
	if err := e.pusher.Apply(ctx, c); err != nil {
		e.logger().Error("change not in force for the push yet; trying again soon", zap.Error(err))
		e.stale.Store(true)
	}
	if err := e.gate.Load().Apply(ctx, c); err != nil {
		e.logger().Error("change not in force yet; trying again soon", zap.Error(err))
		e.stale.Store(true)
	}
}

// catchUp loads everything anew if a change may have been missed.
func (e *engine) catchUp(ctx context.Context) {
	if !e.stale.CompareAndSwap(true, false) {
		return
	}
	e.tokens.ForgetAll()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := errors.Join(e.gate.Load().Reload(ctx), e.pusher.Reload(ctx)); err != nil {
		e.stale.Store(true)
		e.logger().Warn("what changed is not in force yet; trying again soon", zap.Error(err))
	}
}
