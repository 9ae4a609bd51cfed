package pusher

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Options are what a pusher works with. Zero fields take the defaults.
type Options struct {
	// Store keeps messages and deliveries. Required.
	Store Store
	// Catalog is the catalog in force, with its topics. Required.
	Catalog func(context.Context) (*platform.Catalog, error)
	// Source is the "source" of all events (CloudEvents 1.0): a URI.
	Source string
	// Node names this process in records. Required.
	Node string
	// Settings are those that a new configuration may change.
	Settings Settings
	// Now is the clock; nil means time.Now. Rand is where keys, nonces and IDs
	// come from; nil means crypto/rand.
	Now  func() time.Time
	Rand io.Reader
	// Report hears of what went wrong in the background, with what it was
	// about. Notify hears of events that people should know of.
	Report func(doing string, err error)
	Notify func(Event)
}

// Settings can change while the pusher runs.
type Settings struct {
	// Off makes the node publish, but deliver nothing.
	Off bool
	// Workers is how many requests are under way at once. Default: 1024.
	Workers int
	// Timeout bounds one request, from the look-up of the name to the last byte
	// of the answer that is read. Default: 5s.
	Timeout time.Duration
	// Lease is for how long a claimed delivery belongs to a node. It must be
	// longer than Timeout by 5s. Default: 30s.
	Lease time.Duration
	// Schedule is the waits between attempts, before jitter. Default:
	// DefaultSchedule.
	Schedule []time.Duration
	// DisableAfter is for how long an endpoint may fail without a success until
	// it is disabled. Default: 72h.
	DisableAfter time.Duration
	// Allow lists addresses that callbacks may lead to although they are not
	// public, and by http too.
	Allow []netip.Prefix
	// Egress is the local address that requests come from; invalid lets the
	// system choose.
	Egress netip.Addr
}

// DefaultSchedule is when a delivery is attempted: at once, then after each of
// these waits.
var DefaultSchedule = []time.Duration{
	5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
	2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 10 * time.Hour,
}

// EventKind is a kind of event.
type EventKind string

// The kinds of event.
const (
	DeliveryFailed   EventKind = "delivery_failed"
	EndpointDisabled EventKind = "endpoint_disabled"
)

// Event is something that people should know of.
type Event struct {
	Kind         EventKind
	App          string // ID
	Subscription string // ID
	Delivery     DeliveryID
	Topic        string
	Reason       string
}

// Pusher publishes and delivers. It is safe for concurrent use.
type Pusher struct{ options Options }

// New makes a pusher. It delivers once Run is called.
func New(o Options) (*Pusher, error) { return &Pusher{o}, nil }

// Run delivers until ctx ends, and then waits for the requests under way, at
// most for their timeout. Call it once.
func (p *Pusher) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Configure puts other settings in force.
func (p *Pusher) Configure(Settings) error { return nil }

// Apply hears of a change of the domain that was committed.
func (p *Pusher) Apply(context.Context, platform.Change) error { return nil }

// Reload loads all subscribers anew: changes may have been missed.
func (p *Pusher) Reload(context.Context) error { return nil }

// Publish accepts messages: all of them, or none and an error. A mistake in
// them is a *BatchError. It returns once they are durable.
func (p *Pusher) Publish(context.Context, []Message) ([]Receipt, error) {
	return nil, errors.New("publishing: this node has no pusher")
}

// Wake looks for deliveries of subscriptions that became due by other means
// than Publish; none means any.
func (p *Pusher) Wake(subscriptions ...uint64) {}

// Challenge posts a challenge to the URL of a subscription, encrypted and signed
// as messages are; the endpoint proves with its answer that it can read them.
func (p *Pusher) Challenge(context.Context, *platform.Subscriber, *platform.Subscription) error {
	return nil
}

// Reseal returns what the app gets for a delivery, encrypted with a key that is
// live: the body that was kept, or one made anew.
func (p *Pusher) Reseal(ctx context.Context, app uint64, message MessageID, body []byte, keyNumber int) ([]byte, error) {
	return body, nil
}

// BatchError lists the mistakes of a batch, by the index of the message.
type BatchError struct{ Mistakes map[int]error }

// Error counts the mistakes.
func (e *BatchError) Error() string { return "some messages cannot be published" }

// Stats are the figures of this node since it started.
type Stats struct {
	// Delivered, Failed, Retried, Cancelled count completed deliveries; Lost
	// those whose lease ended first, Rescued those of other nodes.
	Delivered, Failed, Retried, Cancelled, Lost, Rescued uint64
	InFlight                                             int
	// Endpoints counts those in memory with work, Open those whose circuit is
	// open.
	Endpoints, Open int
}

// Stats are the figures of this node.
func (p *Pusher) Stats() Stats { return Stats{} }
