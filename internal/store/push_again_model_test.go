package store

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// pushedDelivery is what a delivery is to be like.
type pushedDelivery struct {
	state pusher.State // Pending while it lives
	// owed counts manual pushes to come; work is the attempt under way.
	owed int
	work *pusher.Work
	// cause is the next attempt's, unless one is owed.
	cause    pusher.Cause
	attempts int
	origin   pusher.DeliveryID
	fences   map[int64]bool
}

func (d *pushedDelivery) live() bool { return d.state == pusher.Pending }

// againModel runs the store against a model in memory.
type againModel struct {
	*pushStore
	*rapid.T
	test       *testing.T
	deliveries map[pusher.DeliveryID]*pushedDelivery
	stale      []pusher.Work
}

// Whatever is done to deliveries, in whatever order, each attempt that is owed is
// made, nothing is attempted that is over, and no fence comes twice.
func TestPushAgainModel(t *testing.T) {
	onBoth(t, func(t *testing.T, e engineTest) {
		s := e.empty(t)
		n := 0
		rapid.Check(t, func(rt *rapid.T) {
			n++
			topic := fmt.Sprint("t", n)
			m := &againModel{T: rt, test: t, deliveries: map[pusher.DeliveryID]*pushedDelivery{}}
			m.pushStore = &pushStore{Store: s, app: testApp(topic), subs: map[string]*platform.Subscription{}}
			m.last.Store(int64(n) * 1_000_000)
			putApps(t, s, m.app)
			m.subscribe(t, m.app, topic)
			rt.Repeat(map[string]func(*rapid.T){
				"publish":     func(*rapid.T) { m.publishOne(topic) },
				"claim":       func(*rapid.T) { m.claimAll(topic) },
				"complete":    func(*rapid.T) { m.completeOne() },
				"stale":       func(*rapid.T) { m.completeStale() },
				"push again":  func(*rapid.T) { m.again() },
				"cancel":      func(*rapid.T) { m.cancel() },
				"acknowledge": func(*rapid.T) { m.acknowledge() },
				"job":         func(rt *rapid.T) { m.runJob(rapid.IntRange(1, 5).Draw(rt, "limit")) },
				"":            func(*rapid.T) { m.check() },
			})
			m.drain(topic)
		})
	})
}

// pick is one of the deliveries; false where there are none.
func (m *againModel) pick() (pusher.DeliveryID, *pushedDelivery, bool) {
	if len(m.deliveries) == 0 {
		return pusher.DeliveryID{}, nil, false
	}
	ids := slices.SortedFunc(maps.Keys(m.deliveries), compareIDs)
	id := ids[rapid.IntRange(0, len(ids)-1).Draw(m.T, "delivery")]
	return id, m.deliveries[id], true
}

func (m *againModel) publishOne(topic string) {
	id := m.publish(m.test, topic, testTime)
	m.deliveries[id] = &pushedDelivery{fences: map[int64]bool{}}
}

func (m *againModel) claimAll(topic string) {
	want := map[pusher.DeliveryID]bool{}
	for id, d := range m.deliveries {
		if d.live() && d.work == nil {
			want[id] = true
		}
	}
	work := m.claim(m.test, topic)
	require.Len(m, work, len(want))
	for i := range work {
		w := &work[i]
		d := m.deliveries[w.ID]
		require.True(m, want[w.ID])
		require.False(m, d.fences[w.Fence], "a fence comes once")
		d.fences[w.Fence], d.work = true, w
		if d.owed > 0 {
			d.owed--
			d.cause = pusher.Manual
		}
		require.Equal(m, d.cause, w.Cause)
		require.Equal(m, d.attempts+1, w.Attempt)
	}
}

func (m *againModel) completeOne() {
	_, d, ok := m.pick()
	if !ok || d.work == nil {
		return
	}
	state := rapid.SampledFrom([]pusher.State{pusher.Pending, pusher.Delivered, pusher.Failed, pusher.Cancelled}).Draw(m.T, "state")
	require.True(m, m.complete(m.test, *d.work, state))
	d.work = nil
	d.attempts++
	if d.owed == 0 {
		d.state = state
	}
}

func (m *againModel) completeStale() {
	if len(m.stale) == 0 {
		return
	}
	require.False(m, m.complete(m.test, m.stale[0], pusher.Delivered))
	m.stale = m.stale[1:]
}

func (m *againModel) again() {
	id, d, ok := m.pick()
	if !ok {
		return
	}
	require.NoError(m, m.PushAgain(m.test.Context(), id))
	d.state = pusher.Pending
	d.owed++
}

// end is what becomes of a delivery that is ended from outside.
func (m *againModel) end(d *pushedDelivery, state pusher.State) {
	if d.work != nil {
		m.stale = append(m.stale, *d.work)
		d.attempts++
	}
	d.state, d.work, d.owed = state, nil, 0
}

func (m *againModel) cancel() {
	id, d, ok := m.pick()
	if !ok {
		return
	}
	err := m.Cancel(m.test.Context(), id)
	if !d.live() {
		require.ErrorIs(m, err, platform.ErrConflict)
		return
	}
	require.NoError(m, err)
	m.end(d, pusher.Cancelled)
}

func (m *againModel) acknowledge() {
	var ids []pusher.DeliveryID
	want := 0
	for range rapid.IntRange(0, 3).Draw(m.T, "count") {
		id, d, ok := m.pick()
		if !ok {
			return
		}
		ids = append(ids, id)
		if d.live() || d.state == pusher.Failed {
			want++
			m.end(d, pusher.Acked)
		}
	}
	n, err := m.Acknowledge(m.test.Context(), m.app.Number, platform.Production, ids)
	require.NoError(m, err)
	require.Equal(m, want, n)
}

func (m *againModel) runJob(limit int) {
	cause := rapid.SampledFrom([]pusher.Cause{pusher.Manual, pusher.Repush, pusher.Reset}).Draw(m.T, "cause")
	want := 0
	before := maps.Clone(m.deliveries)
	for _, d := range before {
		switch {
		case cause == pusher.Manual:
			want++
			d.state = pusher.Pending
			d.owed++
		case cause == pusher.Repush && d.state == pusher.Failed:
			want++
			d.state, d.cause = pusher.Pending, pusher.Repush
		case cause == pusher.Reset && d.origin == pusher.DeliveryID{}:
			want++
		}
	}
	m.job(m.test, cause, pusher.Filter{App: m.app.Number})
	_, last := m.run(m.test, limit)
	require.EqualValues(m, want, last.Done)
	if cause != pusher.Reset {
		return
	}
	for _, r := range m.records() {
		if _, known := m.deliveries[r.ID]; !known {
			want--
			require.Zero(m, before[r.Origin].origin)
			m.deliveries[r.ID] = &pushedDelivery{cause: pusher.Reset, origin: r.Origin, fences: map[int64]bool{}}
		}
	}
	require.Zero(m, want)
}

func (m *againModel) records() []pusher.Record {
	records, err := m.Deliveries(m.test.Context(), pusher.Filter{App: m.app.Number}, pusher.Cursor{}, 10_000)
	require.NoError(m, err)
	return records
}

func (m *againModel) check() {
	records := m.records()
	require.Len(m, records, len(m.deliveries))
	undelivered := 0
	for _, r := range records {
		d := m.deliveries[r.ID]
		want := d.state
		if d.live() && d.work != nil {
			want = pusher.Delivering
		}
		require.Equal(m, want, r.State)
		require.Equal(m, d.attempts, r.Attempts)
		require.Equal(m, d.origin, r.Origin)
		if d.live() || d.state == pusher.Failed {
			undelivered++
		}
	}
	parcels, err := m.Undelivered(m.test.Context(), m.app.Number, platform.Production, nil, pusher.Cursor{}, 10_000)
	require.NoError(m, err)
	require.Len(m, parcels, undelivered)
}

// drain makes all attempts that are owed.
func (m *againModel) drain(topic string) {
	for {
		for _, d := range m.deliveries {
			if d.work != nil {
				require.True(m, m.complete(m.test, *d.work, pusher.Delivered))
				d.work = nil
				d.attempts++
				if d.owed == 0 {
					d.state = pusher.Delivered
				}
			}
		}
		live := false
		for _, d := range m.deliveries {
			live = live || d.live()
		}
		if !live {
			break
		}
		m.claimAll(topic)
	}
	m.check()
}
