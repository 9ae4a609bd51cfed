package pusher_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
	"github.com/caddy-openplatform/openplatform/internal/testserver"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// database opens one store after the other on one database.
type database func(testing.TB) *store.Store

// TestStores runs the pusher on both engines.
func TestStores(t *testing.T) {
	t.Parallel()
	server := testserver.NewPostgres(t)
	engines := map[string]func(testing.TB) database{
		"sqlite": sqlite, "postgres": func(tb testing.TB) database { tb.Helper(); return postgres(server.Database(tb)) },
	}
	tests := map[string]func(*testing.T, *world){
		"delivers": delivers, "crash before the request": crashBefore, "crash after the request": crashAfter,
		"stale worker": staleWorker, "two nodes": twoNodes, "reload": reload, "noisy neighbour": noisyNeighbour, "rotation": rotation,
		"manual pushes": manualPushes, "order": order, "gone": gone, "store fails": storeFails, "10,000 endpoints": manyEndpoints,
	}
	for engine, prepare := range engines {
		for name, test := range tests {
			t.Run(engine+"/"+name, func(t *testing.T) {
				t.Parallel()
				open := prepare(t)
				test(t, &world{open: open, store: open(t), subs: make(map[string]*platform.Subscription)})
			})
		}
	}
}

func keyring(tb testing.TB) *store.Keyring {
	tb.Helper()
	keys, err := store.NewKeyring(bytes.Repeat([]byte{1}, 32))
	require.NoError(tb, err)
	return keys
}

// sqlite is a file. One process has it, so all nodes share one store.
func sqlite(tb testing.TB) database {
	tb.Helper()
	s, err := store.OpenSQLite(context.Background(), filepath.Join(tb.TempDir(), "store.db"), keyring(tb), store.Options{})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return func(testing.TB) *store.Store { return s }
}

func postgres(dsn string) database {
	return func(tb testing.TB) *store.Store {
		tb.Helper()
		s, err := store.OpenPostgres(context.Background(), dsn, keyring(tb), store.Options{})
		require.NoError(tb, err)
		tb.Cleanup(func() { require.NoError(tb, s.Close()) })
		return s
	}
}

func delivers(t *testing.T, w *world) {
	sink := newReceiver(t, nil)
	w.addApps(t, 3, sink.URL)
	n := w.start(t, "n1", w.store, settings())
	n.publish(t, "item.changed", 200)
	w.settled(t, 600)
	require.Equal(t, 600, sink.count())
	attempts, err := w.store.Attempts(t.Context(), w.records(t)[0].ID)
	require.NoError(t, err)
	require.Len(t, attempts, 1)
	require.Equal(t, 200, attempts[0].Status)
	require.Equal(t, "127.0.0.1", attempts[0].Address)
	plain, err := pusher.Decrypt(key(1).Reveal(), sink.bodies[0])
	require.NoError(t, err)
	require.Contains(t, string(plain), `"data":{"id":1}`)
}

// take claims as a node does that dies then.
func (w *world) take(tb testing.TB, sub *platform.Subscription, lease time.Duration) []pusher.Work {
	tb.Helper()
	r, err := w.store.Claim(tb.Context(), pusher.Claim{Node: "dead", Lease: lease, Endpoints: []pusher.Endpoint{{Subscription: sub.Number, Room: 100, Concurrency: 100}}})
	require.NoError(tb, err)
	return r.Work
}

func crashBefore(t *testing.T, w *world) {
	sink := newReceiver(t, nil)
	app := w.addApps(t, 1, sink.URL)[0]
	off := settings()
	off.Off = true
	publisher := w.start(t, "n0", w.store, off)
	ids := publisher.publish(t, "item.changed", 5)
	require.Len(t, w.take(t, w.subs[app.ID], time.Second), 5)
	n := w.start(t, "n1", w.store, settings())
	w.settled(t, 5)
	require.ElementsMatch(t, ids, sink.messages(), "each once")
	require.EqualValues(t, 5, n.Stats().Rescued)
	attempts, err := w.store.Attempts(t.Context(), w.records(t)[0].ID)
	require.NoError(t, err)
	var classes []pusher.ErrorClass
	for _, a := range attempts {
		classes = append(classes, a.Class)
	}
	require.ElementsMatch(t, []pusher.ErrorClass{pusher.ClassLost, pusher.ClassNone}, classes)
}

// failing is a store whose completions fail while down is set, and its claims
// while dead is.
type failing struct {
	pusher.Store
	down, dead atomic.Bool
}

var errDown = fmt.Errorf("connecting: %w", platform.ErrUnavailable)

func (f *failing) Complete(ctx context.Context, done []pusher.Completion) ([]bool, error) {
	if f.down.Load() {
		return nil, errDown
	}
	return f.Store.Complete(ctx, done)
}

func (f *failing) Claim(ctx context.Context, c pusher.Claim) (pusher.ClaimResult, error) {
	if f.dead.Load() {
		return pusher.ClaimResult{}, errDown
	}
	return f.Store.Claim(ctx, c)
}

// crashAfter: requests were answered, and the node never says so.
func crashAfter(t *testing.T, w *world) {
	sink := newReceiver(t, nil)
	w.addApps(t, 1, sink.URL)
	dying := &failing{Store: w.store}
	dying.down.Store(true)
	short := settings()
	short.Timeout, short.Lease = 5*time.Second, 10*time.Second
	first := w.start(t, "n1", dying, short)
	ids := first.publish(t, "item.changed", 5)
	sink.waitFor(t, 5)
	dying.dead.Store(true)
	second := w.start(t, "n2", w.open(t), settings())
	w.settled(t, 5)
	second.delivered(t, 5)
	twice := append(slices.Clone(ids), ids...)
	require.ElementsMatch(t, twice, sink.messages(), "what was under way comes twice, with the same ID")
	require.Equal(t, "2", sink.got[9].Get("X-Open-Attempt"))
}

func staleWorker(t *testing.T, w *world) {
	sink := newReceiver(t, nil)
	app := w.addApps(t, 1, sink.URL)[0]
	off := settings()
	off.Off = true
	w.start(t, "n0", w.store, off).publish(t, "item.changed", 1)
	stale := w.take(t, w.subs[app.ID], 100*time.Millisecond)
	w.start(t, "n1", w.store, settings())
	w.settled(t, 1)
	had, err := w.store.Complete(t.Context(), []pusher.Completion{{
		ID: stale[0].ID, Subscription: stale[0].Subscription, Fence: stale[0].Fence, State: pusher.Failed,
		Attempt: &pusher.Attempt{Number: 1, Started: time.Now(), Status: 500, Class: pusher.ClassStatus, Node: "dead"},
	}})
	require.NoError(t, err)
	require.Equal(t, []bool{false}, had)
	w.settled(t, 1)
}

func twoNodes(t *testing.T, w *world) {
	sink := newReceiver(t, nil)
	w.addApps(t, 4, sink.URL, func(s *platform.Subscription) { s.Concurrency = 2 })
	a, b := w.start(t, "n1", w.store, settings()), w.start(t, "n2", w.open(t), settings())
	var all sync.WaitGroup
	all.Go(func() { a.publish(t, "item.changed", 150) })
	all.Go(func() { b.publish(t, "item.changed", 150) })
	all.Wait()
	w.settled(t, 1200)
	require.Equal(t, 1200, sink.count(), "nothing comes twice")
	require.LessOrEqual(t, sink.peak, 8, "caps hold over all nodes")
	until(t, func() bool { return a.Stats().Delivered+b.Stats().Delivered == 1200 }, "each is counted once")
}

// reload: a second pusher starts before the first ends.
func reload(t *testing.T, w *world) {
	sink := newReceiver(t, nil)
	w.addApps(t, 5, sink.URL)
	first := w.start(t, "n1", w.store, settings())
	first.publish(t, "item.changed", 200)
	sink.waitFor(t, 100)
	second := w.start(t, "n1", w.store, settings())
	first.stop()
	second.publish(t, "item.changed", 20)
	w.settled(t, 1100)
	require.Equal(t, 1100, sink.count(), "nothing comes twice")
}

// noisyNeighbour: 1,000 wait for an endpoint that hangs, and what comes for
// another one is there long before the first is through.
func noisyNeighbour(t *testing.T, w *world) {
	release := make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	slow := newReceiver(t, func(http.ResponseWriter, int) { <-release })
	defer free()
	quick := newReceiver(t, nil)
	w.addApps(t, 1, slow.URL, func(s *platform.Subscription) { s.Concurrency = platform.MaxConcurrency })
	w.addApps(t, 1, quick.URL)
	set := settings()
	set.Workers = 8
	set.Timeout, set.Lease = 10*time.Minute, 20*time.Minute // no request is given up, and made again, on a slow machine
	n := w.start(t, "n1", w.store, set)
	n.publish(t, "item.1", 1000)
	slow.waitFor(t, 1)
	n.publish(t, "item.2", 300)
	quick.waitFor(t, 300)
	require.LessOrEqual(t, slow.count(), 4)
	free()
	w.settled(t, 1300)
}

func rotation(t *testing.T, w *world) {
	sink := newReceiver(t, func(w http.ResponseWriter, n int) {
		if n == 1 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	app := w.addApps(t, 1, sink.URL, func(s *platform.Subscription) { s.Schedule = []time.Duration{time.Hour} })[0]
	n := w.start(t, "n1", w.store, settings())
	n.publish(t, "item.changed", 1)
	until(t, func() bool { return n.Stats().Retried == 1 }, "the first attempt failed")
	rotate := func(number int, kind platform.PushKeyKind, secret byte, until time.Time) {
		require.NoError(t, w.store.Update(t.Context(), func(tx platform.Tx) error {
			return tx.PutPushKey(t.Context(), app, &platform.PushKey{Number: number, Environment: platform.Production, Kind: kind, Secret: key(secret), CreatedAt: time.Now(), ExpiresAt: until})
		}))
	}
	rotate(1, platform.EncryptionKey, 1, time.Now().Add(-time.Second)) // revoked
	rotate(2, platform.SigningKey, 2, time.Now().Add(time.Hour))       // overlaps
	rotate(3, platform.EncryptionKey, 3, time.Time{})
	rotate(4, platform.SigningKey, 4, time.Time{})
	require.NoError(t, n.Apply(t.Context(), platform.Change{Kind: platform.ChangePush, Key: fmt.Sprint(app.Number)}))
	require.NoError(t, w.store.PushAgain(t.Context(), w.records(t)[0].ID))
	n.Wake(w.subs[app.ID].Number)
	w.settled(t, 1)
	require.Regexp(t, `^v1,\S+ v1,\S+$`, sink.got[1].Get("webhook-signature"))
	require.Equal(t, "manual", sink.got[1].Get("X-Open-Cause"))
	plain, err := pusher.Decrypt(key(3).Reveal(), sink.bodies[1])
	require.NoError(t, err)
	require.Contains(t, string(plain), sink.messages()[0])
	body, number, err := w.store.Body(t.Context(), w.records(t)[0].ID)
	require.NoError(t, err)
	require.Equal(t, sink.bodies[1], body, "the record has what was posted")
	require.Equal(t, 3, number)
}

func manualPushes(t *testing.T, w *world) {
	sink := newReceiver(t, nil)
	app := w.addApps(t, 1, sink.URL)[0]
	n := w.start(t, "n1", w.store, settings())
	n.publish(t, "item.changed", 1)
	w.settled(t, 1)
	id := w.records(t)[0].ID
	require.NoError(t, w.store.PushAgain(t.Context(), id))
	require.NoError(t, w.store.PushAgain(t.Context(), id))
	n.Wake(w.subs[app.ID].Number)
	sink.waitFor(t, 3)
	w.settled(t, 1)
	require.Equal(t, 3, sink.count())
	attempts, err := w.store.Attempts(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, attempts, 3)
}

func order(t *testing.T, w *world) {
	sink := newReceiver(t, func(w http.ResponseWriter, n int) {
		if n%4 == 0 {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	})
	w.addApps(t, 1, sink.URL, func(s *platform.Subscription) { s.Ordered = true })
	a, b := w.start(t, "n1", w.store, settings()), w.start(t, "n2", w.open(t), settings())
	ids := append(a.publish(t, "item.changed", 40, "x", "y", "z", "u"), b.publish(t, "item.changed", 40, "x", "y", "z", "u")...)
	w.settled(t, 80)
	last := make(map[string]int)
	first := make(map[string]int)
	for i, id := range sink.messages() {
		last[id] = i
		if _, ok := first[id]; !ok {
			first[id] = i
		}
	}
	for i, id := range ids {
		if i >= 4 {
			require.Less(t, last[ids[i-4]], first[id], "message %d of its key", i/4)
		}
	}
}

func gone(t *testing.T, w *world) {
	sink := newReceiver(t, func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusGone) })
	app := w.addApps(t, 1, sink.URL)[0]
	n := w.start(t, "n1", w.store, settings())
	n.publish(t, "item.changed", 3)
	until(t, func() bool {
		s, err := w.store.Subscription(t.Context(), w.subs[app.ID].ID)
		return err == nil && s.Status == platform.Disabled
	}, "it is disabled")
	n.publish(t, "item.changed", 1) // waits
	records := w.records(t)
	require.Len(t, records, 4)
	until(t, func() bool {
		d, err := w.store.Depth(t.Context())
		return err == nil && d.Suspended == 4
	}, "all are suspended")
	// It is resumed, and works.
	sink.mu.Lock()
	sink.answer = nil
	sink.mu.Unlock()
	sub := *w.subs[app.ID]
	require.NoError(t, w.store.Update(t.Context(), func(tx platform.Tx) error { return tx.PutSubscription(t.Context(), &sub) }))
	require.NoError(t, n.Apply(t.Context(), platform.Change{Kind: platform.ChangePush, Key: fmt.Sprint(app.Number)}))
	w.settled(t, 4)
}

// storeFails: what cannot be recorded is not acknowledged, and is recorded later.
func storeFails(t *testing.T, w *world) {
	sink := newReceiver(t, nil)
	w.addApps(t, 1, sink.URL)
	flaky := &failing{Store: w.store}
	flaky.down.Store(true)
	n := w.start(t, "n1", flaky, settings())
	n.publish(t, "item.changed", 5)
	sink.waitFor(t, 5)
	require.Zero(t, n.Stats().Delivered)
	flaky.down.Store(false)
	w.settled(t, 5)
	n.delivered(t, 5)
	require.Equal(t, 5, sink.count())
}

func manyEndpoints(t *testing.T, w *world) {
	const many = 10_000
	sink := newReceiver(t, nil)
	w.addApps(t, many, sink.URL)
	n := w.start(t, "n1", w.store, settings())
	ids := n.publish(t, "item.changed", 1)
	ids = append(ids, n.publish(t, "item.77", 20)...)
	n.delivered(t, many+20)
	require.Len(t, ids, 21)
	require.Equal(t, many+20, sink.count())
}
