package store

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

func TestPushRetention(t *testing.T) {
	onBoth(t, func(t *testing.T, e engineTest) {
		t.Run("series", func(t *testing.T) { testPushSeries(t, e) })
		t.Run("payloads", func(t *testing.T) { testSharedPayloads(t, e) })
		t.Run("orphans", func(t *testing.T) { testOrphans(t, e) })
		t.Run("ended", func(t *testing.T) { testPruneEnded(t, e) })
	})
}

// Each table is kept for its own time; what still waits at the end of its time
// is cancelled and goes.
func testPushSeries(t *testing.T, e engineTest) {
	now := testTime
	p := newPushStore(t, e.with(t, e.database(t), testKeyring(t, 1), Options{Now: func() time.Time { return now }}), "a", "b")
	keep := Retention{Messages: 4 * day, Deliveries: 10 * day, Attempts: 6 * day}
	count := func() [5]int {
		return [5]int{p.count(t, "push_messages"), p.count(t, "push_attempts"), p.count(t, "push_deliveries"), p.count(t, "push_payloads"), p.count(t, "push_failed")}
	}
	within := func(d time.Duration) int { // of one a day
		if e.name == "postgres" { // the rest of the oldest day
			d += time.Duration(now.UnixMicro()%day.Microseconds()) * time.Microsecond
		}
		return 1 + int(d/day)
	}
	for i := range 20 {
		require.NoError(t, p.Maintain(t.Context(), now, keep))
		p.publish(t, "a", now)
		p.deliver(t, "a", pusher.Failed)
		p.publish(t, "b", now) // nobody delivers it
		if i >= 12 {
			require.NoError(t, p.Maintain(t.Context(), now, keep))
			want := [5]int{2 * within(4*day), within(6 * day), 2 * within(10*day), 2 * within(10*day), within(10 * day)}
			require.Equal(t, want, count())
			require.Equal(t, within(10*day), p.count(t, "push_queue"), "what waits does not outlive its time")
		}
		now = now.Add(day)
	}
	before := count()
	require.NoError(t, p.Maintain(t.Context(), now.AddDate(10, 0, 0), Retention{}))
	require.Equal(t, before, count(), "for ever is for ever")
}

// A reset lives on the payload of a delivery that is older, and keeps it when
// that goes.
func testSharedPayloads(t *testing.T, e engineTest) {
	now := testTime
	p := newPushStore(t, e.with(t, e.database(t), testKeyring(t, 1), Options{Now: func() time.Time { return now }}), "a")
	keep := Retention{Deliveries: 10 * day}
	old := p.publish(t, "a", now)
	p.deliver(t, "a", pusher.Delivered)
	want, _, err := p.Body(t.Context(), old)
	require.NoError(t, err)
	now = now.Add(9 * day)
	if e.name == "postgres" {
		// The database's clock tells when a reset was made.
		now = time.Now()
		shift(t, p, old, now.Add(-9*day))
		old.At = now.Add(-9 * day).UnixMicro()
	}
	require.NoError(t, p.Maintain(t.Context(), now, keep))
	p.job(t, pusher.Reset, pusher.Filter{})
	_, last := p.run(t, 10)
	require.EqualValues(t, 1, last.Done)
	records, err := p.Deliveries(t.Context(), pusher.Filter{}, pusher.Cursor{}, 1)
	require.NoError(t, err)
	fresh := records[0].ID
	require.Equal(t, old, records[0].Origin)
	require.Equal(t, 1, p.count(t, "push_payloads"))

	now = now.Add(3 * day)
	for range 2 {
		require.NoError(t, p.Maintain(t.Context(), now, keep))
		_, err = p.Delivery(t.Context(), old)
		require.ErrorIs(t, err, platform.ErrNotFound)
		body, key, err := p.Body(t.Context(), fresh)
		require.NoError(t, err)
		require.Equal(t, want, body)
		require.Equal(t, 3, key)
		require.Equal(t, 1, p.count(t, "push_payloads"))
	}
	work := p.claim(t, "a")
	require.Len(t, work, 1)
	require.Equal(t, want, work[0].Body)
	require.True(t, p.complete(t, work[0], pusher.Delivered))
	now = now.Add(9 * day)
	require.NoError(t, p.Maintain(t.Context(), now, keep))
	require.Equal(t, []int{0, 0}, []int{p.count(t, "push_payloads"), p.count(t, "push_deliveries")})
}

// shift makes a delivery older.
func shift(t *testing.T, p *pushStore, id pusher.DeliveryID, at time.Time) {
	t.Helper()
	require.NoError(t, p.update(t.Context(), nil, func(t *tx) error {
		for _, series := range []series{deliverySeries, payloadSeries} {
			if err := t.room(context.Background(), series, at); err != nil {
				return err
			}
		}
		for _, statement := range []string{
			`UPDATE push_deliveries SET at = ?, payload_at = ? WHERE at = ?`,
			`UPDATE push_payloads SET at = ? WHERE at = ?`,
		} {
			args := []any{at.UnixMicro(), at.UnixMicro(), id.At}
			if statement[7:20] == "push_payloads" {
				args = args[1:]
			}
			if _, err := t.exec(context.Background(), statement, args...); err != nil {
				return err
			}
		}
		return nil
	}))
}

// What is left of a deleted subscription goes, however much it is, also where
// another delivery of its key was under way.
func testOrphans(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "a", "b", "ordered.c")
	var batch pusher.Batch
	for range pruneBatch + 50 {
		m := p.message("a", testTime)
		batch = append(batch, pusher.Publication{Message: m, Deliveries: []pusher.NewDelivery{{Subscription: p.subs["a"].Number, App: p.app.Number}}})
	}
	for range 5 {
		m := p.message("ordered.c", testTime)
		batch = append(batch, pusher.Publication{Message: m, Deliveries: []pusher.NewDelivery{{Subscription: p.subs["ordered.c"].Number, App: p.app.Number, Key: "k"}}})
	}
	results, err := p.Publish(t.Context(), []pusher.Batch{batch})
	require.NoError(t, err)
	require.NoError(t, results[0].Err)
	stays := p.publish(t, "b", testTime)
	r, err := p.Claim(t.Context(), pusher.Claim{Node: "n", Lease: time.Hour, Endpoints: []pusher.Endpoint{
		{Subscription: p.subs["a"].Number, Room: 5, Concurrency: 5},
		{Subscription: p.subs["ordered.c"].Number, Room: 5, Concurrency: 5, Ordered: true},
	}})
	require.NoError(t, err)
	require.Len(t, r.Work, 6)
	put(t, p.Store, func(ctx context.Context, tx platform.Tx) error {
		if err := tx.DeleteSubscription(ctx, p.subs["a"].ID); err != nil {
			return err
		}
		return tx.DeleteSubscription(ctx, p.subs["ordered.c"].ID)
	})
	require.NoError(t, p.Maintain(t.Context(), time.Now(), Retention{}))
	require.Equal(t, 1, p.count(t, "push_queue"))
	require.Equal(t, pusher.Pending, p.state(t, stays))
	require.Equal(t, len(batch), p.count(t, "push_deliveries WHERE state = 5"))
	for _, w := range r.Work {
		require.False(t, p.complete(t, w, pusher.Delivered))
	}
}

// Publishers' ids are known for a day, and jobs for a month.
func testPruneEnded(t *testing.T, e engineTest) {
	now := time.Now()
	p := newPushStore(t, e.with(t, e.database(t), testKeyring(t, 1), Options{Now: func() time.Time { return now }}), "a")
	p.publish(t, "a", now, func(m *pusher.Publication) { m.Message.Idempotency = "mine" })
	done := p.job(t, pusher.Manual, pusher.Filter{})
	p.run(t, 10)
	running, ended := p.job(t, pusher.Manual, pusher.Filter{}), p.job(t, pusher.Manual, pusher.Filter{})
	require.NoError(t, p.SetJob(t.Context(), ended.ID, pusher.JobCancelled))
	require.NoError(t, p.Maintain(t.Context(), now.Add(day-time.Hour), Retention{}))
	require.Equal(t, 1, p.count(t, "push_idempotency"))
	require.NoError(t, p.Maintain(t.Context(), now.Add(day+time.Hour), Retention{}))
	require.Zero(t, p.count(t, "push_idempotency"))
	require.Equal(t, 3, p.count(t, "push_jobs"))
	require.NoError(t, p.Maintain(t.Context(), now.Add(30*day+time.Hour), Retention{}))
	_, err := p.Job(t.Context(), running.ID)
	require.NoError(t, err)
	for _, over := range []*pusher.Job{done, ended} {
		_, err = p.Job(t.Context(), over.ID)
		require.ErrorIs(t, err, platform.ErrNotFound)
	}
}
