package pusher

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
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
	// Observe hears of each completion, in the loop that saves them: it must be
	// quick. Nil means nobody does.
	Observe func(Observation)
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
	// TLS is for https: root certificates, and the certificate that proves
	// to endpoints who calls them. Nil means the system's roots. No version
	// before 1.2 is spoken whatever it says.
	TLS *tls.Config
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
type Pusher struct {
	options Options
	now     func() time.Time
	random  io.Reader
	// source is the source of events as a JSON string.
	source []byte
	// newPoster makes what sends.
	newPoster func(*Settings) poster

	current     atomic.Pointer[current]
	topics      atomic.Pointer[topics]
	subscribers atomic.Pointer[directory]
	// loading is held while subscribers are loaded.
	loading sync.Mutex

	joiner    joiner
	scheduler *scheduler
	completer *completer
	marker    *marker
	// anyone and anyJob wake those who look for deliveries and for jobs.
	anyone, anyJob chan struct{}
	stats          counters
}

// current is the settings in force, with the sender that is made of them.
type current struct {
	Settings
	poster
}

// New makes a pusher. It delivers once Run is called.
func New(o Options) (*Pusher, error) {
	if o.Store == nil || o.Catalog == nil || o.Node == "" {
		return nil, errors.New("a pusher needs a store, a catalog and a node's name")
	}
	p := &Pusher{
		options: o, now: o.Now, source: jsonString(o.Source), scheduler: newScheduler(), completer: newCompleter(), marker: newMarker(),
		anyone: make(chan struct{}, 1), anyJob: make(chan struct{}, 1),
	}
	if p.now == nil {
		p.now = time.Now
	}
	p.newPoster = func(s *Settings) poster { return newSender(s, net.DefaultResolver.LookupNetIP, p.now) }
	p.random = rand.Reader
	if o.Rand != nil && o.Rand != rand.Reader {
		p.random = &lockedReader{r: o.Rand}
	}
	seed := [32]byte{}
	if _, err := io.ReadFull(p.random, seed[:]); err != nil {
		return nil, fmt.Errorf("reading random bytes: %w", err)
	}
	jitters := &lockedRand{r: mathrand.New(mathrand.NewChaCha8(seed))} //nolint:gosec // jitter, no secret
	p.joiner.save = o.Store.Publish
	s := p.scheduler
	s.now, s.random, s.find, s.begin = p.now, jitters.Float64, p.endpoint, p.work
	s.settings = func() *Settings { return &p.current.Load().Settings }
	return p, p.Configure(o.Settings)
}

// poster sends what is posted.
type poster interface {
	send(ctx context.Context, p *post) answer
	close()
}

// Configure puts other settings in force.
func (p *Pusher) Configure(s Settings) error {
	s = s.WithDefaults()
	if err := s.Validate(); err != nil {
		return err
	}
	old := p.current.Swap(&current{s, p.newPoster(&s)})
	if old != nil {
		old.close()
		p.Wake()
	}
	return nil
}

// Wake looks for deliveries of subscriptions that became due by other means
// than Publish; none means any.
func (p *Pusher) Wake(subscriptions ...uint64) {
	if len(subscriptions) > 0 {
		p.scheduler.wake(subscriptions...)
		return
	}
	for _, c := range []chan struct{}{p.anyone, p.anyJob} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// BatchError lists the mistakes of a batch, by the index of the message.
type BatchError struct{ Mistakes map[int]error }
