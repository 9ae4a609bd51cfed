package caddymodule

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// openPusher makes the pusher. It delivers once the background work starts.
func (e *engine) openPusher(ctx context.Context, o *engineOptions) error {
	p, err := pusher.New(pusher.Options{
		Store: e.store, Catalog: e.service.Catalog, Source: o.push.Source, Node: o.push.Node, Settings: o.push.settings, Rand: rand.Reader,
		Report:  func(doing string, err error) { e.logger().Warn("push: "+doing, zap.Error(err)) },
		Notify:  e.notify,
		Observe: e.metrics.push.observe,
	})
	if err != nil {
		return fmt.Errorf("opening the pusher: %w", err)
	}
	if err := p.Reload(ctx); err != nil {
		return fmt.Errorf("opening the pusher: %w", err)
	}
	e.pusher = p
	e.messages = &pusher.Manager{Store: e.store, Directory: e.service, Wake: p.Wake, Rand: rand.Reader}
	return nil
}

// allowsHTTP tells whether callbacks to a host may go by http: to an address of
// the networks that the operator allows. What a name leads to is checked when
// the connection is made.
func (e *engine) allowsHTTP(host string) bool {
	allow := e.settings.Load().push.settings.Allow
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return len(allow) > 0
	}
	return slices.ContainsFunc(allow, func(n netip.Prefix) bool { return n.Contains(addr.Unmap()) })
}

// push delivers until ctx ends.
func (e *engine) push(ctx context.Context) {
	if err := e.pusher.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		e.logger().Error("messages are not pushed any more; restart this node", zap.Error(err))
	}
}

// notify tells people of what they should know, by the log and as an event of
// Caddy's.
func (e *engine) notify(event pusher.Event) {
	data := map[string]any{"app": event.App, "subscription": event.Subscription, "topic": event.Topic, "reason": event.Reason}
	if event.Delivery != (pusher.DeliveryID{}) {
		data["delivery"] = event.Delivery.String()
	}
	fields := make([]zap.Field, 0, len(data))
	for name, value := range data {
		fields = append(fields, zap.Any(name, value))
	}
	switch event.Kind {
	case pusher.EndpointDisabled:
		e.logger().Error("an endpoint is disabled; its deliveries wait until the subscription is resumed", fields...)
	case pusher.DeliveryFailed:
		e.logger().Warn("a delivery failed for good; push it again once the endpoint works", fields...)
	}
	if emit := e.settings.Load().emit; emit != nil {
		emit("open_platform_"+string(event.Kind), data)
	}
}

// depthEvery is how often it is counted what waits.
const depthEvery = 15 * time.Second

// watchDepth counts what waits, for the metrics.
func (e *engine) watchDepth(ctx context.Context) {
	ticker := time.NewTicker(depthEvery)
	defer ticker.Stop()
	for {
		round, cancel := context.WithTimeout(ctx, storeTimeout)
		depth, err := e.store.Depth(round)
		cancel()
		if err == nil {
			e.metrics.push.depth.Store(&depth)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Pusher is what messages are published through. It opens the store if a
// message comes before this app was started.
func (a *App) Pusher(ctx context.Context) (*pusher.Pusher, error) {
	if _, err := a.Gate(ctx); err != nil {
		return nil, err
	}
	return a.engine.pusher, nil
}

// Publish accepts messages of the process itself: the Go API of open_publish.
// All are accepted or none; once it returns they are durable. A mistake in them
// is a *pusher.BatchError.
func (a *App) Publish(ctx context.Context, messages []pusher.Message) ([]pusher.Receipt, error) {
	p, err := a.Pusher(ctx)
	if err != nil {
		return nil, err
	}
	return p.Publish(ctx, messages)
}

// Messages is through which messages and deliveries are looked up and pushed
// again; nil until the store is open.
func (a *App) Messages() *pusher.Manager {
	if a.engine.gate.Load() == nil {
		return nil
	}
	return a.engine.messages
}

// PushStats are the figures of this node.
func (a *App) PushStats() pusher.Stats { return a.engine.pushStats() }

// Challenge asks the endpoint of a subscription to show that it can read what
// is pushed to it.
func (a *App) Challenge(ctx context.Context, s *platform.Subscriber, sub *platform.Subscription) error {
	return a.engine.pusher.Challenge(ctx, s, sub)
}

// EgressIPs are the addresses that requests to apps come from, as far as the
// operator told.
func (a *App) EgressIPs() []netip.Addr { return a.Push.egress }
