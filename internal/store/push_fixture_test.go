package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// pushStore is a store with an app that has subscriptions, one for each topic.
type pushStore struct {
	*Store
	app  *platform.App
	subs map[string]*platform.Subscription
	last atomic.Int64
}

// newPushStore opens a database and makes the app "a" with a subscription for
// each topic; a name that begins with "ordered" is ordered.
func newPushStore(tb testing.TB, s *Store, topics ...string) *pushStore {
	tb.Helper()
	p := &pushStore{Store: s, app: testApp("a"), subs: map[string]*platform.Subscription{}}
	put(tb, s, func(ctx context.Context, tx platform.Tx) error { return tx.PutApp(ctx, p.app) })
	p.subscribe(tb, p.app, topics...)
	return p
}

func (p *pushStore) subscribe(tb testing.TB, a *platform.App, topics ...string) {
	tb.Helper()
	put(tb, p.Store, func(ctx context.Context, tx platform.Tx) error {
		for _, topic := range topics {
			err := tx.PutTopic(ctx, &platform.Topic{Name: topic, Package: platform.BasicPackage, Status: platform.Online})
			sub := testSubscription(a, a.ID+topic, topic)
			sub.Status, sub.Ordered = platform.SubscriptionActive, strings.HasPrefix(topic, "ordered")
			if err := errors.Join(err, tx.PutSubscription(ctx, sub)); err != nil {
				return err
			}
			p.subs[topic] = sub
		}
		return nil
	})
}

// set changes the status of a subscription.
func (p *pushStore) set(tb testing.TB, topic string, status platform.SubscriptionStatus) {
	tb.Helper()
	p.subs[topic].Status = status
	put(tb, p.Store, func(ctx context.Context, tx platform.Tx) error { return tx.PutSubscription(ctx, p.subs[topic]) })
}

// message is the n-th message of a topic, made at that time.
func (p *pushStore) message(topic string, at time.Time) pusher.Message {
	return pusher.Message{
		ID: pusher.MessageID{At: at.UnixMicro(), ID: p.last.Add(1)}, Environment: platform.Production, Topic: topic, User: "usr_a", Time: at,
		Data: []byte(`{"n":1}`),
	}
}

// publish makes a message with one delivery for the topic's subscription, and
// returns what it became.
func (p *pushStore) publish(tb testing.TB, topic string, at time.Time, change ...func(*pusher.Publication)) pusher.DeliveryID {
	tb.Helper()
	sub := p.subs[topic]
	m := pusher.Publication{Message: p.message(topic, at), Deliveries: []pusher.NewDelivery{
		{Subscription: sub.Number, App: sub.AppNumber, Body: fmt.Appendf(nil, "body %d", p.last.Load()), KeyNumber: 3},
	}}
	for _, change := range change {
		change(&m)
	}
	results, err := p.Publish(tb.Context(), []pusher.Batch{{m}})
	require.NoError(tb, err)
	require.NoError(tb, results[0].Err)
	records, err := p.Deliveries(tb.Context(), pusher.Filter{Message: m.Message.ID}, pusher.Cursor{}, 10)
	require.NoError(tb, err)
	require.Len(tb, records, len(m.Deliveries))
	return records[0].ID
}

// claim takes everything that is due of the topics' subscriptions.
func (p *pushStore) claim(tb testing.TB, topics ...string) []pusher.Work {
	tb.Helper()
	c := pusher.Claim{Node: "node", Lease: time.Hour}
	for _, topic := range topics {
		c.Endpoints = append(c.Endpoints, pusher.Endpoint{Subscription: p.subs[topic].Number, Room: 1000, Concurrency: 1000})
	}
	r, err := p.Claim(tb.Context(), c)
	require.NoError(tb, err)
	return r.Work
}

// complete tells how an attempt of a delivery ended; it returns whether it still
// had it.
func (p *pushStore) complete(tb testing.TB, w pusher.Work, state pusher.State) bool {
	tb.Helper()
	ours, err := p.Complete(tb.Context(), []pusher.Completion{{
		ID: w.ID, Subscription: w.Subscription, Fence: w.Fence, State: state,
		Attempt: &pusher.Attempt{Number: w.Attempt, Cause: w.Cause, Started: time.Now(), Duration: time.Millisecond, Status: 200, Node: "node"},
	}})
	require.NoError(tb, err)
	return ours[0]
}

// deliver claims the deliveries of a topic and ends all of them in the state.
func (p *pushStore) deliver(tb testing.TB, topic string, state pusher.State) int {
	tb.Helper()
	work := p.claim(tb, topic)
	for _, w := range work {
		require.True(tb, p.complete(tb, w, state))
	}
	return len(work)
}

// state is what the record of a delivery says.
func (p *pushStore) state(tb testing.TB, id pusher.DeliveryID) pusher.State {
	tb.Helper()
	record, err := p.Delivery(tb.Context(), id)
	require.NoError(tb, err)
	return record.State
}

// count counts the rows of a table.
func (p *pushStore) count(tb testing.TB, from string) (n int) {
	tb.Helper()
	require.NoError(tb, p.readers.QueryRow(`SELECT count(*) FROM `+from).Scan(&n))
	return n
}

func idsOf(records []pusher.Record) []pusher.DeliveryID {
	ids := make([]pusher.DeliveryID, len(records))
	for i := range records {
		ids[i] = records[i].ID
	}
	return ids
}
