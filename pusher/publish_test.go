package pusher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func TestMistakes(t *testing.T) {
	f := newFixture(t, Settings{}, testApp(1, to("a")))
	now := time.Now()
	for name, c := range map[string]struct {
		message Message
		field   string
	}{
		"environment":     {Message{Environment: "test", Topic: "item.changed", Data: []byte("1")}, "environment"},
		"no topic":        {Message{Environment: platform.Production, Topic: "item.none", Data: []byte("1")}, "topic"},
		"draft":           {Message{Environment: platform.Production, Topic: "trade.draft", Data: []byte("1")}, "topic"},
		"offline":         {Message{Environment: platform.Production, Topic: "trade.gone", Data: []byte("1")}, "topic"},
		"no user":         {Message{Environment: platform.Production, Topic: "trade.created", Data: []byte("1")}, "user"},
		"a user":          {Message{Environment: platform.Production, Topic: "item.changed", User: "m", Data: []byte("1")}, "user"},
		"no data":         {Message{Environment: platform.Production, Topic: "item.changed"}, "data"},
		"no JSON":         {testMessage(`{"a":}`), "data"},
		"two values":      {testMessage(`1 2`), "data"},
		"no UTF-8":        {testMessage("\"\xff\""), "data"},
		"too large":       {testMessage(`"` + strings.Repeat("x", maxData) + `"`), "data"},
		"key too long":    {Message{Environment: platform.Production, Topic: "item.changed", Key: strings.Repeat("x", 257), Data: []byte("1")}, "key"},
		"control":         {Message{Environment: platform.Production, Topic: "item.changed", Idempotency: "a\x00", Data: []byte("1")}, "id"},
		"user no UTF-8":   {Message{Environment: platform.Production, Topic: "trade.created", User: "\xff", Data: []byte("1")}, "user"},
		"before its time": {Message{Environment: platform.Production, Topic: "item.changed", Time: now.Add(48 * time.Hour), Data: []byte("1")}, "time"},
		"ages ago":        {Message{Environment: platform.Production, Topic: "item.changed", Time: time.Unix(-1, 0), Data: []byte("1")}, "time"},
		"schema":          {Message{Environment: platform.Production, Topic: "item.changed", Check: true, Data: []byte(`{"price":-1}`)}, "data"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.Publish(t.Context(), []Message{testMessage(`{"id":1}`), c.message})
			batch, ok := errors.AsType[*BatchError](err)
			require.True(t, ok, "%v", err)
			require.Len(t, batch.Mistakes, 1)
			field, ok := errors.AsType[*platform.FieldError](batch.Mistakes[1])
			require.True(t, ok, "%v", err)
			require.Equal(t, c.field, field.Field)
			require.Empty(t, f.store.messages, "all or nothing")
		})
	}
	_, err := f.Publish(t.Context(), []Message{testMessage(`x`), testMessage(`1`), testMessage(`y`)})
	require.EqualError(t, err, "2 messages cannot be published; message 0: data: it is no JSON in UTF-8; want JSON (RFC 8259)")
	require.ErrorContains(t, checkContent(&Message{Data: []byte("1"), Time: now.Add(maxAhead + 1)}, now), "from 1970 on and at most 24 hours ahead")
	require.NoError(t, checkContent(&Message{Data: []byte("1"), Time: now.Add(maxAhead)}, now))
	_, err = f.Publish(t.Context(), make([]Message, MaxBatch+1))
	require.ErrorContains(t, err, "at most 1000")

	// What lies within the bounds, just so, is taken.
	largest := slices.Repeat([]Message{testMessage(`1`)}, MaxBatch)
	largest[0].Data = []byte(`"` + strings.Repeat("x", maxData-2) + `"`)
	largest[1].Key, largest[1].Idempotency = strings.Repeat("x", maxText), strings.Repeat("y", maxText)
	largest[2].Time, largest[3].Time = time.Unix(0, 0).UTC(), now.Add(maxAhead)
	_, err = f.Publish(t.Context(), largest)
	require.NoError(t, err)

	m := testMessage(`{"price":-1}`)
	m.Check = true
	_, err = f.Publish(t.Context(), []Message{m})
	require.ErrorContains(t, err, "missing property 'id'")
	require.ErrorContains(t, err, "'/price'")
	_, err = f.Publish(t.Context(), []Message{{Environment: platform.Production, Topic: "trade.bad", Check: true, Data: []byte("1")}})
	require.ErrorContains(t, err, "may not refer to other documents")
	require.NotErrorAs(t, err, new(*BatchError))
}

// TestFanOut: who gets a message.
func TestFanOut(t *testing.T) {
	trade := func(change ...func(*platform.Subscription)) platform.Subscription {
		return to("x", append(change, func(s *platform.Subscription) {
			s.Topics = []string{"item.changed", "trade.created", "trade.old"}
		})...)
	}
	status := func(v platform.SubscriptionStatus) func(*platform.Subscription) {
		return func(s *platform.Subscription) { s.Status = v }
	}
	apps := make([]platform.Subscriber, 15)
	for n := range apps {
		apps[n] = testApp(uint64(n), trade())
	}
	apps[2] = testApp(2, trade(status(platform.Paused)))
	apps[3] = testApp(3, trade(status(platform.Disabled)))
	apps[4] = testApp(4, trade(status(platform.Unverified)))
	apps[5].App.Packages = nil
	apps[6].App.Packages[0].Until = time.Now().Add(-time.Hour)
	apps[7] = testApp(7, trade(func(s *platform.Subscription) { s.Environment = platform.Sandbox }))
	apps[8] = testApp(8, trade(func(s *platform.Subscription) { s.Filter.Users = []string{"m2"} }))
	apps[9] = testApp(9, trade(func(s *platform.Subscription) {
		s.Filter.Conditions = []platform.Condition{{Pointer: "/n", Op: "gt", Value: []byte("5")}}
	}))
	apps[10].App.Status = platform.Suspended
	apps[13].App.Packages[0].From = time.Now().Add(time.Hour)
	f := newFixture(t, Settings{}, apps[1:]...)
	later := time.Now().Add(time.Hour)
	for n := uint64(1); n < 11; n++ {
		f.store.grants = append(f.store.grants, platform.Grant{ID: fmt.Sprint("gr_", n), User: "m1", AppNumber: n, Environment: platform.Production, Scopes: []string{"basic", "trade"}, ExpiresAt: later})
	}
	f.store.grants = append(
		f.store.grants,
		platform.Grant{ID: "gr_11", User: "m1", AppNumber: 11, Environment: platform.Production, Scopes: []string{"basic"}, ExpiresAt: later},
		platform.Grant{ID: "gr_12", User: "m2", AppNumber: 12, Environment: platform.Production, Scopes: []string{"trade"}, ExpiresAt: later},
		platform.Grant{ID: "gr_13", User: "m1", AppNumber: 13, Environment: platform.Production, Scopes: []string{"trade"}, ExpiresAt: later},
		platform.Grant{ID: "gr_14", User: "m1", AppNumber: 14, Environment: platform.Production, Scopes: []string{"trade"}, ExpiresAt: later},
		platform.Grant{ID: "gr_14_again", User: "m1", AppNumber: 14, Environment: platform.Production, Scopes: []string{"trade"}, ExpiresAt: later},
	)
	got := func(m Message) (apps []uint64) {
		t.Helper()
		r, err := f.Publish(t.Context(), []Message{m})
		require.NoError(t, err)
		for id := int64(1); id <= f.store.last; id++ {
			if x := f.store.rows[id]; x.message == r[0].ID {
				apps = append(apps, x.delivery.App)
				require.Equal(t, 10*x.delivery.App, x.delivery.Subscription)
				if m.User != "" {
					require.Equal(t, fmt.Sprint("gr_", x.delivery.App), x.delivery.Grant)
				}
			}
		}
		require.Len(t, apps, r[0].Deliveries)
		return apps
	}
	require.Equal(t, []uint64{1, 2, 3, 5, 6, 10, 11, 12, 13, 14}, got(testMessage(`{"n":1}`)), "basic, without a merchant")
	require.Equal(t, []uint64{1, 2, 3, 9, 10, 11, 12, 14}, got(Message{Environment: platform.Production, Topic: "trade.old", Data: []byte(`{"n":6}`)}), "a package")
	require.Equal(t, []uint64{1, 2, 3, 10, 14}, got(Message{Environment: platform.Production, Topic: "trade.created", User: "m1", Data: []byte(`{"n":1}`)}),
		"a merchant, once however often it authorized the app")
	require.Equal(t, []uint64{12}, got(Message{Environment: platform.Production, Topic: "trade.created", User: "m2", Data: []byte(`1`)}))
	require.Empty(t, got(Message{Environment: platform.Production, Topic: "trade.created", User: "m3", Data: []byte(`1`)}))
	require.Equal(t, []uint64{7}, got(Message{Environment: platform.Sandbox, Topic: "item.changed", Data: []byte(`1`)}))

	began := f.store.count("granted")
	var batch []Message
	for i := range 50 {
		batch = append(batch, Message{Environment: platform.Production, Topic: "trade.created", User: fmt.Sprint("m", i%5), Data: []byte(`1`)})
	}
	_, err := f.Publish(t.Context(), batch)
	require.NoError(t, err)
	require.Equal(t, began+1, f.store.count("granted"), "one query for a batch")
}

func TestIdempotency(t *testing.T) {
	f := newFixture(t, Settings{}, testApp(1, to("a")))
	m := testMessage(`{"id":1}`)
	m.Idempotency = "order-1"
	first, err := f.Publish(t.Context(), []Message{m})
	require.NoError(t, err)
	again, err := f.Publish(t.Context(), []Message{m})
	require.NoError(t, err)
	require.True(t, again[0].Duplicate)
	require.Equal(t, first[0].ID, again[0].ID)
	require.Len(t, f.store.rows, 1)
	for _, change := range []func(*Message){
		func(m *Message) { m.Data = []byte(`{"id":2}`) },
		func(m *Message) { m.Key = "k" },
		func(m *Message) { m.Time = time.Unix(1e9, 0) },
	} {
		other := m
		change(&other)
		_, err = f.Publish(t.Context(), []Message{testMessage("1"), other})
		batch, ok := errors.AsType[*BatchError](err)
		require.True(t, ok)
		require.ErrorIs(t, batch.Mistakes[1], platform.ErrConflict)
		require.ErrorIs(t, err, platform.ErrConflict)
		require.Len(t, f.store.rows, 1)
	}
	_, err = f.Publish(t.Context(), []Message{m, m})
	require.ErrorContains(t, err, "message 0 of the batch has the same")
	m.Idempotency = "order-2"
	sandbox := m
	sandbox.Environment = platform.Sandbox
	_, err = f.Publish(t.Context(), []Message{m, sandbox})
	require.NoError(t, err, "each environment has ids of its own")
}

// grantsAsk is a store that is asked for grants by a function.
type grantsAsk struct {
	Store
	ask func(context.Context) error
}

func (g grantsAsk) Granted(ctx context.Context, _ platform.Environment, _ []string) ([]platform.Grant, error) {
	return nil, g.ask(ctx)
}

// TestPublishEnds: a store that does not answer holds no publisher for long. Before
// anything is saved the publisher is told so.
func TestPublishEnds(t *testing.T) {
	frozen := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for name, c := range map[string]struct {
		freeze func(*Pusher)
		kept   bool
	}{
		"topics": {func(p *Pusher) {
			p.options.Catalog = func(ctx context.Context) (*platform.Catalog, error) { return nil, frozen(ctx) }
		}, false},
		"grants": {func(p *Pusher) { p.options.Store = grantsAsk{p.options.Store, frozen} }, false},
		"saving": {func(p *Pusher) {
			p.joiner.save = func(ctx context.Context, _ []Batch) ([]BatchResult, error) { return nil, frozen(ctx) }
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, Settings{}, testApp(1, to("a")))
				c.freeze(f.Pusher)
				began := time.Now()
				_, err := f.Publish(context.Background(), []Message{{Environment: platform.Production, Topic: "trade.created", User: "m", Data: []byte("1")}})
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, c.kept, !errors.Is(err, ErrNothingKept), "%v", err)
				require.Equal(t, publishTimeout, time.Since(began))
			})
		})
	}
}

// TestDigest: what makes messages with one id different ones. Who took two for one
// would lose the second.
func TestDigest(t *testing.T) {
	at := time.Date(2027, 1, 31, 8, 0, 0, 1, time.UTC)
	m := Message{Environment: platform.Production, Topic: "t", User: "u", Key: "1", Time: at, Data: []byte("23")}
	seen := map[[32]byte]int{}
	for i, change := range []func(*Message){
		func(*Message) {},
		func(m *Message) { m.Environment = platform.Sandbox },
		func(m *Message) { m.Topic = "tt" },
		func(m *Message) { m.User = "uu" },
		func(m *Message) { m.Key = "2" },
		func(m *Message) { m.Time = at.Add(1) },
		func(m *Message) { m.Time = time.Time{} },
		func(m *Message) { m.Data = []byte("24") },
		func(m *Message) { m.Topic, m.User = "", "tu" },
		func(m *Message) { m.User, m.Key = "u1", "" },
		func(m *Message) { m.Key, m.Time, m.Data = "", time.Time{}, []byte("123") },
		func(m *Message) { m.Time, m.Data = time.Time{}, []byte("2027-01-31T08:00:00.000000001Z23") },
	} {
		other := m
		change(&other)
		digest := digestOf(&other)
		require.NotContains(t, seen, digest, "%d is taken for %d", i, seen[digest])
		seen[digest] = i
	}
	same := m
	same.ID, same.Idempotency, same.Time = MessageID{1, 2}, "x", at.In(time.FixedZone("", 8*3600))
	require.Equal(t, digestOf(&m), digestOf(&same), "the same moment")
}

// TestPublishersJoin: one alone does not wait, and those that come at the same
// time share a transaction.
func TestPublishersJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		j := &joiner{save: func(_ context.Context, batches []Batch) ([]BatchResult, error) {
			elapse(10 * time.Millisecond)
			sizes = append(sizes, len(batches))
			out := make([]BatchResult, len(batches))
			for i, b := range batches {
				out[i] = BatchResult{Receipts: []Receipt{{ID: b[0].Message.ID}}}
			}
			return out, nil
		}}
		began := time.Now()
		var all sync.WaitGroup
		for i := range int64(3000) {
			all.Go(func() {
				r := j.publish(context.Background(), Batch{{Message: Message{ID: MessageID{1, i}}, Deliveries: make([]NewDelivery, 1)}})
				require.NoError(t, r.Err)
				require.Equal(t, MessageID{1, i}, r.Receipts[0].ID)
			})
		}
		all.Wait()
		require.Equal(t, []int{1, 1000, 1000, 999}, sizes)
		require.Equal(t, 40*time.Millisecond, time.Since(began))
	})
}

// TestPublisherLeaves: who waits no longer leaves the others alone, also when it
// leads them.
func TestPublisherLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := errors.New("no")
		saved := 0
		j := &joiner{save: func(ctx context.Context, batches []Batch) ([]BatchResult, error) {
			elapse(10 * time.Millisecond)
			saved += len(batches)
			if len(batches) == 7 {
				return nil, fail
			}
			return make([]BatchResult, len(batches)), ctx.Err()
		}}
		var all sync.WaitGroup
		publish := func(d time.Duration, want error) {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), d)
				defer cancel()
				require.ErrorIs(t, j.publish(ctx, Batch{{}}).Err, want)
			})
			synctest.Wait()
		}
		publish(5*time.Millisecond, nil)                      // leads, and is served although its time is over
		publish(5*time.Millisecond, context.DeadlineExceeded) // the first that waits
		publish(15*time.Millisecond, nil)                     // leads then
		publish(time.Second, nil)
		publish(5*time.Millisecond, context.DeadlineExceeded)
		all.Wait()
		require.Equal(t, 3, saved)
		require.False(t, j.leading)
		require.Empty(t, j.waiting)

		publish(time.Second, nil)
		for range 7 {
			publish(time.Second, fail)
		}
		all.Wait()
		require.False(t, j.leading)

		// Its turn comes at the moment when it leaves: nobody else would lead.
		j.leading = true
		me := &joined{batch: Batch{{}}, lead: make(chan struct{}), done: make(chan struct{})}
		close(me.lead)
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		require.NoError(t, j.leave(ended, me).Err)
		require.False(t, j.leading)
	})
}
