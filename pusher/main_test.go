package pusher

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loopback is what tests allow callbacks to.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// testKey is 32 bytes.
func testKey(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// testApp is an app with keys in both environments. Its number is n, and those of
// its subscriptions go from 10n on.
func testApp(n uint64, subscriptions ...platform.Subscription) platform.Subscriber {
	s := platform.Subscriber{App: platform.App{
		ID: fmt.Sprintf("app_%020d", n), Number: n, Key: fmt.Sprintf("ak_%d", n), Status: platform.Active,
		Packages: []platform.PackageGrant{{Package: "trade"}},
	}}
	for i, e := range []platform.Environment{platform.Production, platform.Sandbox} {
		for j, k := range []platform.PushKeyKind{platform.EncryptionKey, platform.SigningKey, platform.Ed25519Key} {
			number := 3*i + j + 1
			s.Keys = append(s.Keys, platform.PushKey{Number: number, Environment: e, Kind: k, Secret: platform.NewSecret(testKey(byte(number)))})
		}
	}
	for i, sub := range subscriptions {
		sub.Number, sub.App, sub.AppNumber = 10*n+uint64(i), s.App.ID, n
		sub.ID = fmt.Sprintf("sub_%020d", sub.Number)
		if sub.Environment == "" {
			sub.Environment = platform.Production
		}
		if sub.Format == "" {
			sub.Format = platform.EncryptedFormat
		}
		if sub.Status == "" {
			sub.Status = platform.SubscriptionActive
		}
		s.Subscriptions = append(s.Subscriptions, sub)
	}
	return s
}

// The topics of the tests' catalog.
var testCatalog = &platform.Catalog{Topics: []platform.Topic{
	{Name: "item.changed", Package: platform.BasicPackage, Status: platform.Online, Schema: json.RawMessage(`{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"price":{"type":"number","minimum":0}}}`)},
	{Name: "trade.created", Package: "trade", UserToken: true, Status: platform.Online},
	{Name: "trade.old", Package: "trade", Status: platform.Deprecated},
	{Name: "trade.draft", Package: "trade", Status: platform.Draft},
	{Name: "trade.gone", Package: "trade", Status: platform.Offline},
	{Name: "trade.bad", Package: "trade", Status: platform.Online, Schema: json.RawMessage(`{"$ref":"https://example.com/x"}`)},
}}

// fixture is a pusher on a store in memory.
type fixture struct {
	*Pusher
	store *memory
	mu    sync.Mutex
	// events are those that were notified, problems those that were reported.
	events   []Event
	problems []string
}

// newFixture makes a pusher; it does not run yet.
func newFixture(tb testing.TB, s Settings, subscribers ...platform.Subscriber) *fixture {
	tb.Helper()
	f := &fixture{store: newMemory(time.Now)}
	f.store.put(subscribers...)
	f.Pusher = f.another(tb, s)
	return f
}

// another makes a further pusher on the same store: another node.
func (f *fixture) another(tb testing.TB, s Settings) *Pusher {
	tb.Helper()
	if s.Allow == nil {
		s.Allow = loopback
	}
	p, err := New(Options{
		Store: f.store, Catalog: func(context.Context) (*platform.Catalog, error) { return testCatalog, nil },
		Source: "https://open.example.com", Node: "node-1", Settings: s,
		Report: func(doing string, err error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.problems = append(f.problems, doing+": "+err.Error())
		},
		Notify: func(e Event) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.events = append(f.events, e)
		},
	})
	require.NoError(tb, err)
	return p
}

// run runs a pusher until the test ends, or until the function that it returns is
// called.
func run(tb testing.TB, p *Pusher) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(tb, <-done)
	})
	tb.Cleanup(stop)
	return stop
}

// item is a message of the topic that needs no merchant.
func testMessage(data string) Message {
	return Message{Environment: platform.Production, Topic: "item.changed", Data: []byte(data)}
}

// received is a request that a sink got.
type received struct {
	header http.Header
	body   []byte
	at     time.Time
	path   string
}

// sink is a receiver.
type sink struct {
	*httptest.Server
	got chan received
}

// newSink starts a receiver; answer may be nil.
func newSink(tb testing.TB, answer http.HandlerFunc) *sink {
	tb.Helper()
	s := &sink{got: make(chan received, 100_000)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		at := time.Now()
		if answer != nil {
			answer(w, r)
		}
		s.got <- received{r.Header, body, at, r.URL.Path}
	}))
	tb.Cleanup(s.Close)
	return s
}

// next waits for a request.
func (s *sink) next(tb testing.TB) received {
	tb.Helper()
	select {
	case r := <-s.got:
		return r
	case <-time.After(20 * time.Second):
		require.Fail(tb, "no request came")
		return received{}
	}
}

// eventually waits until a condition holds.
func eventually(tb testing.TB, holds func() bool, what string) {
	tb.Helper()
	require.Eventually(tb, holds, 20*time.Second, 2*time.Millisecond, what)
}

// quiet is a log that nobody reads.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
