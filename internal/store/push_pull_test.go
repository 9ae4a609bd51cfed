package store

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

func TestPull(t *testing.T) {
	onBoth(t, func(t *testing.T, e engineTest) {
		t.Run("undelivered", func(t *testing.T) { testUndelivered(t, e) })
		t.Run("acknowledge", func(t *testing.T) { testAcknowledge(t, e) })
		t.Run("ordered", func(t *testing.T) { testAcknowledgeOrdered(t, e) })
	})
}

// An app pulls what waits and what failed, oldest first, page by page.
func testUndelivered(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "a", "b")
	other := testApp("other")
	putApps(t, p.Store, other)
	p.subscribe(t, other, "c")
	p.publish(t, "c", testTime)
	var want []pusher.Parcel
	for i := range 12 {
		topic := []string{"a", "b"}[i%2]
		id := p.publish(t, topic, testTime.Add(time.Duration(i)*13*time.Hour))
		states := []pusher.State{pusher.Failed, pusher.Delivered, pusher.Pending, pusher.Cancelled, pusher.Delivering, pusher.Failed}
		state := states[i/2]
		for _, w := range p.claim(t, topic) {
			if state == pusher.Delivering {
				continue
			}
			_, err := p.Complete(t.Context(), []pusher.Completion{{ID: w.ID, Subscription: w.Subscription, Fence: w.Fence, State: state, Wait: time.Hour}})
			require.NoError(t, err)
		}
		if state != pusher.Delivered && state != pusher.Cancelled {
			record, err := p.Delivery(t.Context(), id)
			require.NoError(t, err)
			body, key, err := p.Body(t.Context(), id)
			require.NoError(t, err)
			want = append(want, pusher.Parcel{ID: id, Message: record.Message, Topic: topic, Body: body, KeyNumber: key, Created: record.Created})
		}
	}
	require.Len(t, want, 8)
	pull := func(limit int, topics ...string) (got []pusher.Parcel) {
		t.Helper()
		after := pusher.Cursor{}
		for {
			page, err := p.Undelivered(t.Context(), p.app.Number, platform.Production, topics, after, limit)
			require.NoError(t, err)
			if len(page) == 0 {
				return got
			}
			got, after = append(got, page...), pusher.Cursor(page[len(page)-1].ID)
		}
	}
	p.set(t, "a", platform.Disabled) // suspended ones are pulled too
	require.Equal(t, want, pull(0))
	require.Equal(t, want, pull(1))
	require.Equal(t, want, pull(3, "a", "b", "c"))
	require.Equal(t, []pusher.Parcel{want[1], want[3], want[5], want[7]}, pull(2, "b"))
	require.Equal(t, want, pull(0, slices.Repeat([]string{"a", "b", "c"}, 30_000)...), "more than a statement has parameters")
	require.Empty(t, pull(0, "no\x00ne"))
	sandbox, err := p.Undelivered(t.Context(), p.app.Number, platform.Sandbox, nil, pusher.Cursor{}, 0)
	require.NoError(t, err)
	require.Empty(t, sandbox)
	put(t, p.Store, func(ctx context.Context, tx platform.Tx) error { return tx.DeleteSubscription(ctx, p.subs["b"].ID) })
	require.Len(t, pull(0), 4)
}

// What a merchant authorized no longer is not pulled, whether it waits or has
// failed.
func TestPullRevoked(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		p.user(platform.UserActive)
		p.grant("live", platform.Production, p.now().Add(time.Hour))
		p.grant("over", platform.Sandbox, p.now().Add(-time.Hour))
		grants := []string{"live", "over", "gone", ""}
		for _, grant := range slices.Concat(grants, grants) {
			m := p.message("", sub)
			m.Deliveries[0].Grant = grant
			p.publish(m)
		}
		for _, w := range p.claim(endpoint(sub)).Work[:4] {
			p.complete(done(w, pusher.Failed, 0))
		}
		pulled := func(want ...int64) {
			p.Helper()
			parcels, err := p.Undelivered(p.Context(), p.app.Number, platform.Production, nil, pusher.Cursor{}, 0)
			require.NoError(p, err)
			var got []int64
			for _, parcel := range parcels {
				got = append(got, parcel.Message.ID)
			}
			require.ElementsMatch(p, want, got)
		}
		first := p.seen - 7
		pulled(first, first+3, first+4, first+7)
		p.user(platform.UserDisabled)
		pulled(first+3, first+7)
		p.user(platform.UserActive)
		pulled(first, first+3, first+4, first+7)
		p.run(`UPDATE grants SET revoked_at = ? WHERE id = 'live'`, p.now().UnixMicro())
		pulled(first+3, first+7)
	})
}

// What was acknowledged is never attempted again, whatever is under way; and
// nobody acknowledges twice, or what is not theirs.
func testAcknowledge(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "a")
	other := testApp("other")
	putApps(t, p.Store, other)
	p.subscribe(t, other, "c")
	foreign := p.publish(t, "c", testTime)
	moving := p.publish(t, "a", testTime)
	work := p.claim(t, "a")
	require.Len(t, work, 1)
	failed := p.publish(t, "a", testTime)
	p.deliver(t, "a", pusher.Failed)
	arrived := p.publish(t, "a", testTime)
	p.deliver(t, "a", pusher.Delivered)
	waiting := p.publish(t, "a", testTime)

	all := []pusher.DeliveryID{foreign, moving, failed, arrived, waiting, moving, {At: 1, ID: 2}, {At: moving.At + 1, ID: moving.ID}}
	n, err := p.Acknowledge(t.Context(), p.app.Number, platform.Sandbox, all)
	require.NoError(t, err)
	require.Zero(t, n, "who comes with a sandbox credential")
	n, err = p.Acknowledge(t.Context(), p.app.Number, platform.Production, all)
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.False(t, p.complete(t, work[0], pusher.Pending), "it is over")
	for id, want := range map[pusher.DeliveryID]pusher.State{
		moving: pusher.Acked, failed: pusher.Acked, waiting: pusher.Acked, arrived: pusher.Delivered, foreign: pusher.Pending,
	} {
		require.Equal(t, want, p.state(t, id))
	}
	attempts, err := p.Attempts(t.Context(), moving)
	require.NoError(t, err)
	require.Len(t, attempts, 1, "the attempt is on record all the same")
	require.Empty(t, p.claim(t, "a"))
	require.Zero(t, p.count(t, "push_failed"))
	n, err = p.Acknowledge(t.Context(), p.app.Number, platform.Production, all)
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = p.Acknowledge(t.Context(), p.app.Number, platform.Production, nil)
	require.NoError(t, err)
	require.Zero(t, n)
	rest, err := p.Undelivered(t.Context(), p.app.Number, platform.Production, nil, pusher.Cursor{}, 0)
	require.NoError(t, err)
	require.Empty(t, rest)

	// Many at once.
	var many []pusher.DeliveryID
	for range idBatch + 10 {
		many = append(many, p.publish(t, "a", testTime))
	}
	n, err = p.Acknowledge(t.Context(), p.app.Number, platform.Production, many)
	require.NoError(t, err)
	require.Equal(t, len(many), n)
	require.Equal(t, 1, p.count(t, "push_queue"))
}

// Where the head of a key is acknowledged, the next one goes.
func testAcknowledgeOrdered(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "ordered.a")
	var ids []pusher.DeliveryID
	for i := range 6 {
		ids = append(ids, p.publish(t, "ordered.a", testTime, func(m *pusher.Publication) { m.Deliveries[0].Key = fmt.Sprint(i % 2) }))
	}
	claim := func() (claimed []pusher.DeliveryID) {
		r, err := p.Claim(t.Context(), pusher.Claim{Node: "n", Lease: time.Hour, Endpoints: []pusher.Endpoint{
			{Subscription: p.subs["ordered.a"].Number, Room: 100, Concurrency: 100, Ordered: true},
		}})
		require.NoError(t, err)
		for _, w := range r.Work {
			claimed = append(claimed, w.ID)
		}
		return claimed
	}
	require.ElementsMatch(t, ids[:2], claim())
	require.Empty(t, claim())
	n, err := p.Acknowledge(t.Context(), p.app.Number, platform.Production, []pusher.DeliveryID{ids[0], ids[2]})
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, ids[4:5], claim())
	require.NoError(t, p.Cancel(t.Context(), ids[1]))
	require.Equal(t, ids[3:4], claim())
}
