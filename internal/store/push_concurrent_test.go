package store

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// Nodes deliver while others push again, acknowledge, cancel and run jobs over
// the same deliveries: nobody fails, and all that is owed is attempted.
func TestPushConcurrently(t *testing.T) { onBoth(t, testPushConcurrently) }

func testPushConcurrently(t *testing.T, e engineTest) {
	const deliveries, rounds = 60, 12
	database := e.database(t)
	p := newPushStore(t, e.at(t, database, testKeyring(t, 1)), "a", "ordered.b")
	second := &pushStore{Store: e.at(t, database, testKeyring(t, 1)), app: p.app, subs: p.subs}
	var ids []pusher.DeliveryID
	for i := range deliveries {
		topic := []string{"a", "ordered.b"}[i%2]
		ids = append(ids, p.publish(t, topic, testTime, func(m *pusher.Publication) {
			if topic == "ordered.b" {
				m.Deliveries[0].Key = []string{"x", "y", "z"}[i%3]
			}
		}))
	}
	claim := func(p *pushStore) ([]pusher.Work, error) {
		r, err := p.Claim(t.Context(), pusher.Claim{Node: "n", Lease: time.Hour, Endpoints: []pusher.Endpoint{
			{Subscription: p.subs["a"].Number, Room: 20, Concurrency: 40},
			{Subscription: p.subs["ordered.b"].Number, Room: 20, Concurrency: 40, Ordered: true},
		}})
		return r.Work, err
	}
	deliver := func(p *pushStore, round int) error {
		work, err := claim(p)
		if err != nil {
			return err
		}
		var done []pusher.Completion
		for i, w := range work {
			state := []pusher.State{pusher.Delivered, pusher.Failed, pusher.Pending}[(i+round)%3]
			done = append(done, pusher.Completion{ID: w.ID, Subscription: w.Subscription, Fence: w.Fence, State: state, Attempt: &pusher.Attempt{Number: w.Attempt}})
		}
		_, err = p.Complete(t.Context(), done)
		return err
	}
	fails := make(chan error, 10_000)
	var wg sync.WaitGroup
	spawn := func(fn func(round int) error) {
		wg.Go(func() {
			for round := range rounds {
				fails <- fn(round)
			}
		})
	}
	for _, s := range []*pushStore{p, second} {
		spawn(func(round int) error { return deliver(s, round) })
		spawn(func(round int) error { // in an order that is none
			_, err := s.Acknowledge(t.Context(), p.app.Number, platform.Production, []pusher.DeliveryID{ids[(59+7*round)%60], ids[round], ids[30+round]})
			return err
		})
		spawn(func(round int) error { return s.PushAgain(t.Context(), ids[(round*11)%60]) })
		spawn(func(int) error { _, _, err := s.StepJob(t.Context(), 25); return err })
	}
	spawn(func(round int) error {
		j := &pusher.Job{ID: "job_" + string(rune('a'+round)), Cause: []pusher.Cause{pusher.Manual, pusher.Repush, pusher.Reset}[round%3]}
		return p.CreateJob(t.Context(), j)
	})
	wg.Wait()
	close(fails)
	for err := range fails {
		require.NoError(t, err)
	}

	// It drains without anybody's help.
	p.run(t, 1000)
	require.Eventually(t, func() bool {
		work, err := claim(p)
		require.NoError(t, err)
		for _, w := range work {
			p.complete(t, w, pusher.Delivered)
		}
		return p.count(t, "push_queue") == 0
	}, time.Minute, time.Millisecond)
	records, err := p.Deliveries(t.Context(), pusher.Filter{States: []pusher.State{pusher.Pending, pusher.Delivering, pusher.Suspended}}, pusher.Cursor{}, 0)
	require.NoError(t, err)
	require.Empty(t, records)
	failed, err := p.Deliveries(t.Context(), pusher.Filter{States: []pusher.State{pusher.Failed}}, pusher.Cursor{}, 10_000)
	require.NoError(t, err)
	require.Len(t, failed, p.count(t, "push_deliveries WHERE state = 3"), "each failed delivery is on the list, once")
	parcels, err := p.Undelivered(t.Context(), p.app.Number, platform.Production, nil, pusher.Cursor{}, 10_000)
	require.NoError(t, err)
	require.Len(t, parcels, len(failed))
}
