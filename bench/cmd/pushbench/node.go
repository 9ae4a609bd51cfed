package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// node is a pusher that runs. The first thing that goes wrong ends the
// measurement: a retry would cost another amount than a delivery.
type node struct {
	*pusher.Pusher
	delivered atomic.Int64
	cancel    context.CancelCauseFunc
	done      chan struct{}
}

// start runs a pusher. delivered hears of each delivery once it is recorded. The
// context ends when something goes wrong, with the cause.
func (w *world) start(ctx context.Context, delivered func(soFar int64)) (*node, context.Context, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	n := &node{cancel: cancel, done: make(chan struct{})}
	observe := func(o pusher.Observation) {
		if o.Outcome != pusher.Delivered {
			cancel(fmt.Errorf("a delivery did not arrive at the first attempt: %s", o.Class))
			return
		}
		delivered(n.delivered.Add(1))
	}
	var err error
	n.Pusher, err = w.newPusher(observe, func(doing string, err error) { cancel(fmt.Errorf("%s: %w", doing, err)) })
	if err != nil {
		cancel(nil)
		return nil, nil, err
	}
	running := context.WithoutCancel(ctx)
	running, halt := context.WithCancel(running)
	context.AfterFunc(ctx, halt)
	go func() {
		defer close(n.done)
		_ = n.Run(running)
	}()
	return n, ctx, nil
}

// stop ends it, and waits for what is under way.
func (n *node) stop() {
	n.cancel(errStopped)
	<-n.done
}

// errStopped is the cause where nothing went wrong.
var errStopped = errors.New("stopped")

// empty makes sure that nothing waits: each delivery is recorded.
func (w *world) empty(ctx context.Context) error {
	d, err := w.store.Depth(ctx)
	if err == nil && d.Pending+d.Delivering+d.Suspended != 0 {
		err = fmt.Errorf("%d deliveries still wait", d.Pending+d.Delivering+d.Suspended)
	}
	return err
}

// publishAll has callers publish batches until next says that there is no more,
// or one of them fails. It returns how many messages were accepted.
func (w *world) publishAll(ctx context.Context, p *pusher.Pusher, callers, batch int, next func() bool) (int, error) {
	var accepted atomic.Int64
	var all sync.WaitGroup
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for range callers {
		all.Go(func() {
			for ctx.Err() == nil && next() {
				if _, err := p.Publish(ctx, w.messages(batch)); err != nil {
					cancel(fmt.Errorf("publishing: %w", err))
					return
				}
				accepted.Add(int64(batch))
			}
		})
	}
	all.Wait()
	return int(accepted.Load()), context.Cause(ctx)
}
