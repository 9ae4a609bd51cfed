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

func TestPushRecords(t *testing.T) {
	onBoth(t, func(t *testing.T, e engineTest) {
		t.Run("delivery", func(t *testing.T) { testDeliveryRecord(t, e) })
		t.Run("states", func(t *testing.T) { testStates(t, e) })
		t.Run("lists", func(t *testing.T) { testDeliveryLists(t, e) })
		t.Run("messages", func(t *testing.T) { testMessageLists(t, e) })
		t.Run("unknown", func(t *testing.T) { testUnknownRecords(t, e) })
		t.Run("depth", func(t *testing.T) { testDepth(t, e) })
	})
}

// A record follows its delivery, with every attempt.
func testDeliveryRecord(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "ordered.a")
	id := p.publish(t, "ordered.a", testTime, func(m *pusher.Publication) { m.Deliveries[0].Key = "k" })
	record, err := p.Delivery(t.Context(), id)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), record.Due, time.Minute)
	want := pusher.Record{
		ID: id, Message: record.Message, Environment: platform.Production, Topic: "ordered.a", User: "usr_a", Key: "k",
		App: "app_a", AppKey: "ak_a", Subscription: "sub_app_aordered.a", State: pusher.Pending, Due: record.Due, Created: testTime,
	}
	require.Equal(t, want, *record)
	body, key, err := p.Body(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "body 1", string(body))
	require.Equal(t, 3, key)

	work := p.claim(t, "ordered.a")
	require.Len(t, work, 1)
	require.Equal(t, pusher.Delivering, p.state(t, id))
	attempts, err := p.Attempts(t.Context(), id)
	require.NoError(t, err)
	require.Empty(t, attempts)

	failed := &pusher.Attempt{
		Number: 1, Cause: pusher.Auto, Started: testTime.Add(time.Second), Duration: 3 * time.Millisecond, Address: "203.0.113.1:443",
		Status: 503, Class: pusher.ClassStatus, Error: "busy", Response: []byte{0, 1, 255}, Node: "n1",
	}
	ours, err := p.Complete(t.Context(), []pusher.Completion{{ID: id, Subscription: work[0].Subscription, Fence: work[0].Fence, State: pusher.Pending, Attempt: failed}})
	require.NoError(t, err)
	require.Equal(t, []bool{true}, ours)
	work = p.claim(t, "ordered.a")
	require.True(t, p.complete(t, work[0], pusher.Delivered))
	attempts, err = p.Attempts(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, attempts, 2)
	require.Equal(t, *failed, attempts[0])
	require.Equal(t, 2, attempts[1].Number)
	record, err = p.Delivery(t.Context(), id)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), record.DeliveredAt, time.Minute)
	want.State, want.Attempts, want.LastStatus, want.Due, want.DeliveredAt = pusher.Delivered, 2, 200, time.Time{}, record.DeliveredAt
	require.Equal(t, want, *record)
}

// What waits is suspended while its subscription is, and cancelled when that is
// deleted; what is under way is under way.
func testStates(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "a")
	moving := p.publish(t, "a", testTime)
	p.claim(t, "a")
	waiting := p.publish(t, "a", testTime)
	for status, want := range map[platform.SubscriptionStatus]pusher.State{
		platform.SubscriptionActive: pusher.Pending, platform.Paused: pusher.Suspended, platform.Disabled: pusher.Suspended, platform.Unverified: pusher.Suspended,
	} {
		p.set(t, "a", status)
		require.Equal(t, want, p.state(t, waiting), status)
		require.Equal(t, pusher.Delivering, p.state(t, moving), status)
		for _, state := range []pusher.State{pusher.Pending, pusher.Suspended, pusher.Delivering, pusher.Failed} {
			for name, f := range map[string]pusher.Filter{"all": {}, "app": {App: p.app.Number}, "subscription": {Subscription: p.subs["a"].Number}} {
				f.States = []pusher.State{state}
				records, err := p.Deliveries(t.Context(), f, pusher.Cursor{}, 0)
				require.NoError(t, err)
				expected := []pusher.DeliveryID{}
				if state == want {
					expected = append(expected, waiting)
				}
				if state == pusher.Delivering {
					expected = append(expected, moving)
				}
				require.Equal(t, expected, idsOf(records), "%s %s %s", status, state, name)
			}
		}
	}
	put(t, p.Store, func(ctx context.Context, tx platform.Tx) error { return tx.DeleteSubscription(ctx, p.subs["a"].ID) })
	require.Equal(t, pusher.Cancelled, p.state(t, waiting))
	require.Equal(t, pusher.Cancelled, p.state(t, moving))
}

// Lists are newest first, filtered, and go on where a page ended.
func testDeliveryLists(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "a", "b")
	other := testApp("other")
	putApps(t, p.Store, other)
	p.subscribe(t, other, "c")
	topics := []string{"a", "b", "c"}
	var all []pusher.Record
	for i := range 60 {
		topic := topics[i%3]
		id := p.publish(t, topic, testTime.Add(time.Duration(i/4)*12*time.Hour), func(m *pusher.Publication) {
			m.Message.User = fmt.Sprint("usr_", i%5)
			if i%2 == 0 {
				m.Message.Environment = platform.Sandbox
			}
		})
		for _, w := range p.claim(t, topic) {
			if i%4 > 0 {
				p.complete(t, w, []pusher.State{pusher.Delivered, pusher.Failed, pusher.Cancelled}[i%4-1])
			} else {
				_, err := p.Complete(t.Context(), []pusher.Completion{{ID: w.ID, Subscription: w.Subscription, Fence: w.Fence, Wait: time.Hour}})
				require.NoError(t, err)
			}
		}
		record, err := p.Delivery(t.Context(), id)
		require.NoError(t, err)
		all = append(all, *record)
	}
	slices.SortFunc(all, func(a, b pusher.Record) int { return compareIDs(b.ID, a.ID) })

	since, until := testTime.Add(36*time.Hour), testTime.Add(100*time.Hour)
	for name, c := range map[string]struct {
		filter pusher.Filter
		want   func(pusher.Record) bool
	}{
		"all":          {pusher.Filter{}, func(pusher.Record) bool { return true }},
		"app":          {pusher.Filter{App: other.Number}, func(r pusher.Record) bool { return r.App == other.ID }},
		"subscription": {pusher.Filter{Subscription: p.subs["b"].Number}, func(r pusher.Record) bool { return r.Topic == "b" }},
		"environment":  {pusher.Filter{Environment: platform.Sandbox}, func(r pusher.Record) bool { return r.Environment == platform.Sandbox }},
		"topic":        {pusher.Filter{Topic: "a"}, func(r pusher.Record) bool { return r.Topic == "a" }},
		"user":         {pusher.Filter{User: "usr_3"}, func(r pusher.Record) bool { return r.User == "usr_3" }},
		"user of app":  {pusher.Filter{User: "usr_3", App: other.Number}, func(r pusher.Record) bool { return r.User == "usr_3" && r.App == other.ID }},
		"failed":       {pusher.Filter{States: []pusher.State{pusher.Failed}}, func(r pusher.Record) bool { return r.State == pusher.Failed }},
		"failed of app": {
			pusher.Filter{States: []pusher.State{pusher.Failed}, App: other.Number, Topic: "c", User: "usr_1"},
			func(r pusher.Record) bool { return r.State == pusher.Failed && r.App == other.ID && r.User == "usr_1" },
		},
		"live of app": {
			pusher.Filter{States: []pusher.State{pusher.Pending, pusher.Delivering, pusher.Pending}, App: p.app.Number},
			func(r pusher.Record) bool { return r.State <= pusher.Delivering && r.App == p.app.ID },
		},
		"states": {
			pusher.Filter{States: []pusher.State{pusher.Failed, pusher.Cancelled}, Since: since},
			func(r pusher.Record) bool {
				return (r.State == pusher.Failed || r.State == pusher.Cancelled) && !r.Created.Before(since)
			},
		},
		"time":    {pusher.Filter{Since: since, Until: until}, func(r pusher.Record) bool { return !r.Created.Before(since) && r.Created.Before(until) }},
		"message": {pusher.Filter{Message: all[7].Message}, func(r pusher.Record) bool { return r.ID == all[7].ID }},
		"none":    {pusher.Filter{Topic: "no\x00ne"}, func(pusher.Record) bool { return false }},
	} {
		want := []pusher.Record{}
		for _, r := range all {
			if c.want(r) {
				want = append(want, r)
			}
		}
		require.Equal(t, name == "none", len(want) == 0, name)
		for _, limit := range []int{0, 1, 7} {
			got, after := []pusher.Record{}, pusher.Cursor{}
			for {
				page, err := p.Deliveries(t.Context(), c.filter, after, limit)
				require.NoError(t, err, name)
				if len(page) == 0 {
					break
				}
				got = append(got, page...)
				after = pusher.Cursor(page[len(page)-1].ID)
			}
			require.Equal(t, want, got, "%s by %d", name, limit)
		}
	}
}

func compareIDs(a, b pusher.DeliveryID) int {
	if a.At != b.At {
		return int(a.At - b.At)
	}
	return int(a.ID - b.ID)
}

func testMessageLists(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "a", "b")
	other := testApp("other")
	putApps(t, p.Store, other)
	p.subscribe(t, other, "c")
	both := func(m *pusher.Publication) {
		m.Deliveries = append(m.Deliveries, pusher.NewDelivery{Subscription: p.subs["c"].Number, App: other.Number, Body: []byte("c")})
	}
	first := p.publish(t, "a", testTime, both)
	p.deliver(t, "a", pusher.Failed)
	var messages []pusher.MessageID
	for i := range 9 {
		m := p.message("b", testTime.Add(time.Duration(i)*time.Hour))
		m.User = fmt.Sprint("usr_", i%3)
		messages = append(messages, m.ID)
		results, err := p.Publish(t.Context(), []pusher.Batch{{{Message: m, Deliveries: []pusher.NewDelivery{{Subscription: p.subs["b"].Number, App: p.app.Number}}}}})
		require.NoError(t, err)
		require.NoError(t, results[0].Err)
	}
	nobody := p.message("b", testTime.Add(100*time.Hour))
	nobody.Key, nobody.Idempotency = "k", "mine"
	_, err := p.Publish(t.Context(), []pusher.Batch{{{Message: nobody}}})
	require.NoError(t, err)
	p.deliver(t, "b", pusher.Delivered)

	record, err := p.Delivery(t.Context(), first)
	require.NoError(t, err)
	m, err := p.MessageRecord(t.Context(), record.Message)
	require.NoError(t, err)
	require.Equal(t, map[pusher.State]int{pusher.Failed: 1, pusher.Pending: 1}, m.States)
	require.JSONEq(t, `{"n":1}`, string(m.Data))
	require.Equal(t, testTime, m.Time)
	m, err = p.MessageRecord(t.Context(), nobody.ID)
	require.NoError(t, err)
	require.Empty(t, m.States)
	require.Equal(t, []string{"k", "mine", "usr_a"}, []string{m.Key, m.Idempotency, m.User})

	list := func(f pusher.Filter) (ids []pusher.MessageID) {
		t.Helper()
		after := pusher.Cursor{}
		for {
			page, err := p.Messages(t.Context(), f, after, 2)
			require.NoError(t, err)
			if len(page) == 0 {
				return ids
			}
			for _, m := range page {
				ids = append(ids, m.ID)
			}
			after = pusher.Cursor(page[len(page)-1].ID)
		}
	}
	newest := slices.Clone(messages)
	slices.Reverse(newest)
	ofB := append([]pusher.MessageID{nobody.ID}, newest...)
	oldest := []pusher.MessageID{newest[8], record.Message} // of the same time: the higher number first
	require.Equal(t, append(append([]pusher.MessageID{nobody.ID}, newest[:8]...), oldest...), list(pusher.Filter{}))
	require.Equal(t, ofB, list(pusher.Filter{Topic: "b"}))
	require.Equal(t, append(slices.Clone(newest[:8]), oldest...), list(pusher.Filter{App: p.app.Number}))
	require.Equal(t, []pusher.MessageID{record.Message}, list(pusher.Filter{App: other.Number}))
	require.Equal(t, []pusher.MessageID{record.Message}, list(pusher.Filter{States: []pusher.State{pusher.Failed}}))
	require.Empty(t, list(pusher.Filter{States: []pusher.State{pusher.Failed}, App: other.Number}))
	require.Equal(t, newest, list(pusher.Filter{Subscription: p.subs["b"].Number}))
	require.Equal(t, []pusher.MessageID{newest[1], newest[4], newest[7]}, list(pusher.Filter{User: "usr_1"}))
	require.Equal(t, newest[5:7], list(pusher.Filter{Since: testTime.Add(2 * time.Hour), Until: testTime.Add(4 * time.Hour)}))
	require.Equal(t, newest[5:7], list(pusher.Filter{App: p.app.Number, Since: testTime.Add(2 * time.Hour), Until: testTime.Add(4 * time.Hour)}))
	require.Empty(t, list(pusher.Filter{Environment: platform.Sandbox}))
}

func testUnknownRecords(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "a")
	id := p.publish(t, "a", testTime)
	for _, id := range []pusher.DeliveryID{{}, {At: id.At, ID: id.ID + 1}, {At: id.At + 1, ID: id.ID}} {
		_, err := p.Delivery(t.Context(), id)
		require.ErrorIs(t, err, platform.ErrNotFound)
		_, _, err = p.Body(t.Context(), id)
		require.ErrorIs(t, err, platform.ErrNotFound)
		_, err = p.Attempts(t.Context(), id)
		require.ErrorIs(t, err, platform.ErrNotFound)
		require.ErrorIs(t, p.PushAgain(t.Context(), id), platform.ErrNotFound)
		require.ErrorIs(t, p.Cancel(t.Context(), id), platform.ErrNotFound)
		_, err = p.MessageRecord(t.Context(), pusher.MessageID(id))
		require.ErrorIs(t, err, platform.ErrNotFound)
	}
	for _, id := range []string{"", "job_none", "job_\x00"} {
		_, err := p.Job(t.Context(), id)
		require.ErrorIs(t, err, platform.ErrNotFound)
		require.ErrorIs(t, p.SetJob(t.Context(), id, pusher.JobPaused), platform.ErrNotFound)
	}
}

func testDepth(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "a", "b", "ordered.c", "d")
	depth := func() pusher.Depth {
		d, err := p.Depth(t.Context())
		require.NoError(t, err)
		return d
	}
	require.Zero(t, depth())
	for range 3 {
		p.publish(t, "b", testTime)
		p.publish(t, "ordered.c", testTime, func(m *pusher.Publication) { m.Deliveries[0].Key = "k" })
		p.publish(t, "d", testTime)
	}
	r, err := p.Claim(t.Context(), pusher.Claim{Node: "n", Lease: time.Hour, Endpoints: []pusher.Endpoint{
		{Subscription: p.subs["ordered.c"].Number, Room: 1, Concurrency: 1, Ordered: true},
		{Subscription: p.subs["d"].Number, Room: 2, Concurrency: 2},
	}})
	require.NoError(t, err)
	require.Len(t, r.Work, 3)
	d := depth()
	require.EqualValues(t, 3+2+1, d.Pending, "those that wait for another one of their key wait too")
	require.EqualValues(t, 3, d.Delivering)
	require.WithinDuration(t, time.Now(), d.Oldest, time.Minute)
	p.set(t, "b", platform.Paused)
	require.Equal(t, []int64{3, 3, 3}, []int64{depth().Pending, depth().Delivering, depth().Suspended})
	put(t, p.Store, func(ctx context.Context, tx platform.Tx) error {
		return tx.DeleteSubscription(ctx, p.subs["ordered.c"].ID)
	})
	require.Equal(t, []int64{1, 2, 3}, []int64{depth().Pending, depth().Delivering, depth().Suspended})
}
