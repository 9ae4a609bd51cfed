package pusher_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// world is a database with apps, and receivers for them.
type world struct {
	open  database
	store *store.Store
	apps  []*platform.App
	subs  map[string]*platform.Subscription // by host
}

// receiver is the endpoint of an app.
type receiver struct {
	*httptest.Server
	mu sync.Mutex
	// got are the requests in their order, peak how many were under way.
	got         []http.Header
	bodies      [][]byte
	under, peak int
	answer      func(w http.ResponseWriter, n int)
}

func newReceiver(tb testing.TB, answer func(w http.ResponseWriter, n int)) *receiver {
	tb.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		r.got, r.bodies = append(r.got, request.Header), append(r.bodies, body)
		n := len(r.got)
		r.under++
		r.peak = max(r.peak, r.under)
		r.mu.Unlock()
		if r.answer != nil {
			r.answer(w, n)
		}
		r.mu.Lock()
		r.under--
		r.mu.Unlock()
	}))
	tb.Cleanup(r.Close)
	return r
}

// messages are the IDs that came, in their order.
func (r *receiver) messages() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, h := range r.got {
		out = append(out, h.Get("webhook-id"))
	}
	return out
}

func (r *receiver) count() int { return len(r.messages()) }

func (r *receiver) waitFor(tb testing.TB, n int) {
	tb.Helper()
	until(tb, func() bool { return r.count() >= n }, "%d requests came, want %d", r.count, n)
}

// until waits for a condition, for long: the machine may be busy.
func until(tb testing.TB, holds func() bool, text string, args ...any) {
	tb.Helper()
	require.Eventually(tb, holds, 2*time.Minute, 5*time.Millisecond, append([]any{text}, args...)...)
}

func key(n byte) platform.Secret { return platform.NewSecret(bytes.Repeat([]byte{n}, 32)) }

// addApps makes apps, each with keys and a subscription of the topic "item.changed".
func (w *world) addApps(tb testing.TB, n int, url string, change ...func(*platform.Subscription)) []*platform.App {
	tb.Helper()
	const most = 1000 // in one transaction
	if n > most {
		return append(w.addApps(tb, most, url, change...), w.addApps(tb, n-most, url, change...)...)
	}
	var added []*platform.App
	require.NoError(tb, w.store.Update(tb.Context(), func(tx platform.Tx) error {
		for range n {
			i := len(w.apps) + 1
			a := &platform.App{ID: fmt.Sprintf("app_%d", i), Key: fmt.Sprintf("ak_%d", i), Name: "Shop", Kind: platform.ISV, Mode: platform.Web, Status: platform.Active, CreatedAt: time.Now(), UpdatedAt: time.Now()}
			if err := tx.PutApp(tb.Context(), a); err != nil {
				return err
			}
			sub := &platform.Subscription{
				ID: "sub_" + a.ID, App: a.ID, AppNumber: a.Number, Environment: platform.Production, URL: url, Topics: []string{fmt.Sprint("item.", i), "item.changed"},
				Format: platform.EncryptedFormat, Status: platform.SubscriptionActive, CreatedAt: time.Now(), UpdatedAt: time.Now(),
			}
			for _, c := range change {
				c(sub)
			}
			err := errors.Join(
				tx.PutPushKey(tb.Context(), a, &platform.PushKey{Number: 1, Environment: platform.Production, Kind: platform.EncryptionKey, Secret: key(1), CreatedAt: time.Now()}),
				tx.PutPushKey(tb.Context(), a, &platform.PushKey{Number: 2, Environment: platform.Production, Kind: platform.SigningKey, Secret: key(2), CreatedAt: time.Now()}),
				tx.PutSubscription(tb.Context(), sub),
			)
			if err != nil {
				return err
			}
			w.apps, added = append(w.apps, a), append(added, a)
			w.subs[a.ID] = sub
		}
		return nil
	}))
	return added
}

// node is a pusher that runs.
type node struct {
	*pusher.Pusher
	stop func()
}

// settings are those of tests: retries come at once, and nothing is late however
// busy the machine is.
func settings() pusher.Settings {
	return pusher.Settings{
		Timeout: 30 * time.Second, Lease: 90 * time.Second, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Schedule: []time.Duration{50 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond},
	}
}

// start starts a node on the store, which may be one that fails.
func (w *world) start(tb testing.TB, name string, s pusher.Store, set pusher.Settings) *node {
	tb.Helper()
	var catalog platform.Catalog
	for i := range w.apps {
		catalog.Topics = append(catalog.Topics, platform.Topic{Name: fmt.Sprint("item.", i+1), Package: platform.BasicPackage, Status: platform.Online})
	}
	catalog.Topics = append(catalog.Topics, platform.Topic{Name: "item.changed", Package: platform.BasicPackage, Status: platform.Online})
	p, err := pusher.New(pusher.Options{
		Store: s, Catalog: func(context.Context) (*platform.Catalog, error) { return &catalog, nil }, Source: "https://open.example.com", Node: name, Settings: set,
		Report: func(doing string, err error) { tb.Logf("%s: %s: %v", name, doing, err) },
	})
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	n := &node{Pusher: p, stop: sync.OnceFunc(func() { cancel(); require.NoError(tb, <-done) })}
	tb.Cleanup(n.stop)
	return n
}

// delivered waits until the node has counted so many deliveries, which it does
// after they were recorded.
func (n *node) delivered(tb testing.TB, want uint64) {
	tb.Helper()
	until(tb, func() bool { return n.Stats().Delivered == want }, "%d deliveries are counted", want)
}

// publish publishes n messages of a topic, and returns their IDs.
func (n *node) publish(tb testing.TB, topic string, count int, keys ...string) (ids []string) {
	tb.Helper()
	for count > 0 {
		var batch []pusher.Message
		for range min(count, 500) {
			m := pusher.Message{Environment: platform.Production, Topic: topic, Data: []byte(`{"id":1}`)}
			if len(keys) > 0 {
				m.Key = keys[len(ids)%len(keys)]
			}
			batch = append(batch, m)
		}
		receipts, err := n.Publish(tb.Context(), batch)
		require.NoError(tb, err)
		for _, r := range receipts {
			ids = append(ids, r.ID.String())
		}
		count -= len(batch)
	}
	return ids
}

// records are all deliveries, oldest first.
func (w *world) records(tb testing.TB) []pusher.Record {
	tb.Helper()
	var out []pusher.Record
	var after pusher.Cursor
	for {
		page, err := w.store.Deliveries(tb.Context(), pusher.Filter{}, after, 1000)
		require.NoError(tb, err)
		if len(page) == 0 {
			slices.Reverse(out)
			return out
		}
		out = append(out, page...)
		after = pusher.Cursor{At: page[len(page)-1].ID.At, ID: page[len(page)-1].ID.ID}
	}
}

// settled waits until no delivery is left, and tells that all arrived.
func (w *world) settled(tb testing.TB, want int) {
	tb.Helper()
	until(tb, func() bool {
		d, err := w.store.Depth(tb.Context())
		return err == nil && d.Pending+d.Delivering == 0
	}, "everything drains")
	records := w.records(tb)
	require.Len(tb, records, want)
	for _, r := range records {
		require.Equal(tb, pusher.Delivered, r.State, "%v", r.ID)
	}
}
