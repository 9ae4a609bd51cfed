package store

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// pushModel is what the queue must be, in memory.
type pushModel struct {
	*pushTest
	nodes []*Store
	// free and strict are subscriptions without and with an order.
	free, strict []uint64
	live         map[int64]*modelDelivery
	over         map[int64]*modelDelivery
	// lost are claims whose holder does not have the delivery any more.
	lost []pusher.Work
	// unseen are deliveries that no claim has shown yet, by their body.
	unseen map[string]*modelDelivery
}

type modelDelivery struct {
	sub      uint64
	key      string
	id       pusher.DeliveryID // zero until it was claimed once
	order    int64             // in which they were published
	due      bool
	held     *pusher.Work // who has it
	fence    int64
	attempts int
	owed     int
}

const modelCap = 3

// TestPushModel does everything in any order, over two nodes where there can be
// two: nothing is lost, nothing has two holders, keys keep their order, caps
// hold.
func TestPushModel(t *testing.T) {
	onBoth(t, func(t *testing.T, e engineTest) {
		database := e.database(t)
		p := newPushTest(t, e, database)
		nodes := []*Store{p.Store}
		if p.pool != nil {
			nodes = append(nodes, e.at(t, database, testKeyring(t, 1)))
		}
		rapid.Check(t, func(rt *rapid.T) {
			m := &pushModel{
				pushTest: p, nodes: nodes, free: p.subscribe(1), strict: p.subscribe(2),
				live: map[int64]*modelDelivery{}, over: map[int64]*modelDelivery{}, unseen: map[string]*modelDelivery{},
			}
			rt.Repeat(map[string]func(*rapid.T){
				"publish": m.publishSome, "claim": m.claimSome, "complete": m.completeOne, "stale": m.completeStale,
				"rescue": m.rescueAll, "owe": m.oweOne, "again": m.pushAgain, "due": m.allDue, "cancel": m.cancelOne,
			})
			m.drain(rt)
		})
	})
}

func (m *pushModel) publishSome(t *rapid.T) {
	for range rapid.IntRange(1, 4).Draw(t, "messages") {
		key := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "key")
		msg := m.message(key, append(slices.Clone(m.free), m.strict...)...)
		for i := range msg.Deliveries {
			d := &msg.Deliveries[i]
			if d.Subscription == m.free[0] {
				d.Key = ""
			}
			d.Body = fmt.Appendf(d.Body, " for %d", d.Subscription)
			m.unseen[string(d.Body)] = &modelDelivery{sub: d.Subscription, key: d.Key, order: msg.Message.ID.ID, due: true}
		}
		m.publish(msg)
	}
}

func (m *pushModel) claimSome(t *rapid.T) {
	var endpoints []pusher.Endpoint
	for _, sub := range append(slices.Clone(m.free), m.strict...) {
		if rapid.Bool().Draw(t, "ask") {
			endpoints = append(endpoints, pusher.Endpoint{
				Subscription: sub, Room: rapid.IntRange(0, 4).Draw(t, "room"), Concurrency: modelCap, Ordered: sub != m.free[0],
			})
		}
	}
	node := rapid.IntRange(0, len(m.nodes)-1).Draw(t, "node")
	r, err := m.nodes[node].Claim(m.Context(), pusher.Claim{Node: fmt.Sprint(node), Lease: time.Minute, Endpoints: endpoints})
	require.NoError(t, err)
	require.Empty(t, r.Busy)
	m.check(t, r)
}

// check compares what was claimed with the model.
func (m *pushModel) check(t *rapid.T, r pusher.ClaimResult) {
	for i := range r.Work {
		w := &r.Work[i]
		d := m.live[w.ID.ID]
		if d == nil {
			d = m.unseen[string(w.Body)]
			require.NotNil(t, d, "delivery %d is known, and not over", w.ID.ID)
			delete(m.unseen, string(w.Body))
			d.id, m.live[w.ID.ID] = w.ID, d
		}
		require.Nil(t, d.held, "delivery %d has another holder", w.ID.ID)
		require.True(t, d.due, "delivery %d is due", w.ID.ID)
		require.Greater(t, w.Fence, d.fence)
		require.Equal(t, d.attempts+1, w.Attempt)
		require.Equal(t, d.key, w.Key)
		if d.owed > 0 {
			require.Equal(t, pusher.Manual, w.Cause)
			require.Equal(t, 1, w.Tries)
			d.owed--
		}
		d.held, d.fence = w, w.Fence
		if d.key != "" {
			for _, o := range m.all() {
				if o != d && o.sub == d.sub && o.key == d.key {
					require.Nil(t, o.held, "two of the key %q are under way", d.key)
					require.Greater(t, o.order, d.order, "an older one of the key %q is there", d.key)
				}
			}
		}
	}
	busy := map[uint64]int{}
	for _, d := range m.live {
		if d.held != nil {
			busy[d.sub]++
			require.LessOrEqual(t, busy[d.sub], modelCap)
		}
	}
}

// all are the deliveries that are not over.
func (m *pushModel) all() []*modelDelivery {
	return append(slices.Collect(maps.Values(m.live)), slices.Collect(maps.Values(m.unseen))...)
}

// pick draws one of the deliveries for which ok holds, or nil.
func pick(t *rapid.T, from map[int64]*modelDelivery, ok func(*modelDelivery) bool) *modelDelivery {
	var some []int64
	for _, id := range slices.Sorted(maps.Keys(from)) {
		if ok(from[id]) {
			some = append(some, id)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return from[rapid.SampledFrom(some).Draw(t, "delivery")]
}

func (m *pushModel) completeOne(t *rapid.T) {
	d := pick(t, m.live, func(d *modelDelivery) bool { return d.held != nil })
	if d == nil {
		return
	}
	state := rapid.SampledFrom([]pusher.State{pusher.Pending, pusher.Delivered, pusher.Failed}).Draw(t, "state")
	wait := rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "wait")
	c := done(*d.held, state, wait)
	if rapid.IntRange(0, 4).Draw(t, "unattempted") == 0 {
		c.Attempt = nil
	} else {
		d.attempts++
	}
	require.Equal(t, []bool{true}, m.complete(c))
	m.lost = append(m.lost, *d.held)
	d.held = nil
	switch {
	case d.owed > 0:
		d.due = true
	case state == pusher.Pending:
		d.due = wait == 0
	default:
		delete(m.live, d.id.ID)
		m.over[d.id.ID] = d
	}
}

func (m *pushModel) completeStale(t *rapid.T) {
	if len(m.lost) > 0 {
		w := rapid.SampledFrom(m.lost).Draw(t, "lost")
		require.Equal(t, []bool{false}, m.complete(done(w, pusher.Delivered, 0)))
	}
}

func (m *pushModel) rescueAll(t *rapid.T) {
	m.expire()
	n, _, err := m.Rescue(m.Context(), 1000)
	require.NoError(t, err)
	for _, d := range m.live {
		if d.held != nil {
			n--
			m.lost = append(m.lost, *d.held)
			d.held, d.due = nil, true
			d.attempts++
		}
	}
	require.Zero(t, n)
}

func (m *pushModel) oweOne(t *rapid.T) {
	if d := pick(t, m.live, func(*modelDelivery) bool { return true }); d != nil {
		m.owe(d.id)
		d.owed++
		d.due = d.due || d.held == nil
	}
}

func (m *pushModel) pushAgain(t *rapid.T) {
	if d := pick(t, m.over, func(*modelDelivery) bool { return true }); d != nil {
		m.putBack(d.id, pusher.Repush)
		delete(m.over, d.id.ID)
		d.due, m.live[d.id.ID] = true, d
	}
}

func (m *pushModel) allDue(*rapid.T) {
	m.dueNow()
	for _, d := range m.live {
		d.due = d.due || d.held == nil
	}
}

// cancelOne takes a delivery out of the queue, as somebody does who cancels it.
func (m *pushModel) cancelOne(t *rapid.T) {
	d := pick(t, m.live, func(*modelDelivery) bool { return true })
	if d == nil {
		return
	}
	m.run(`UPDATE push_deliveries SET state = 5, fence = ? WHERE at = ? AND id = ?`, d.fence, d.id.At, d.id.ID)
	m.run(`DELETE FROM push_queue WHERE id = ?`, d.id.ID)
	if d.held != nil {
		m.lost = append(m.lost, *d.held)
	}
	d.held, d.owed = nil, 0
	delete(m.live, d.id.ID)
	m.over[d.id.ID] = d
}

// drain delivers all that is left: nothing was lost, and nothing is stuck.
func (m *pushModel) drain(t *rapid.T) {
	m.rescueAll(t)
	m.allDue(t)
	for n := 0; len(m.all()) > 0; n++ {
		require.Less(t, n, 500, "%d deliveries are stuck", len(m.all()))
		r, err := m.nodes[n%len(m.nodes)].Claim(m.Context(), pusher.Claim{Lease: time.Minute, Endpoints: []pusher.Endpoint{
			{Subscription: m.free[0], Room: 9, Concurrency: modelCap},
			{Subscription: m.strict[0], Room: 9, Concurrency: modelCap, Ordered: true},
			{Subscription: m.strict[1], Room: 9, Concurrency: modelCap, Ordered: true},
		}})
		require.NoError(t, err)
		m.check(t, r)
		var completions []pusher.Completion
		for _, w := range r.Work {
			completions = append(completions, done(w, pusher.Delivered, 0))
			d := m.live[w.ID.ID]
			d.held = nil
			if d.owed == 0 {
				delete(m.live, w.ID.ID)
			}
			d.attempts++
		}
		for _, ours := range m.complete(completions...) {
			require.True(t, ours)
		}
	}
	require.Zero(t, m.count(`SELECT count(*) FROM push_queue WHERE subscription IN (?, ?, ?)`, int64(m.free[0]), int64(m.strict[0]), int64(m.strict[1])))
}
