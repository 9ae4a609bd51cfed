package store

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// TestPushTogether lets workers of two nodes work at the same time.
func TestPushTogether(t *testing.T) {
	onBoth(t, func(t *testing.T, e engineTest) {
		database := e.database(t)
		p := newPushTest(t, e, database)
		nodes := []*Store{p.Store, p.Store}
		if p.pool != nil {
			nodes[1] = e.at(t, database, testKeyring(t, 1))
		}
		subs := p.subscribe(3)
		const messages, most = 60, 4
		w := &together{holders: map[int64]bool{}, busy: map[uint64]int{}, keys: map[string]bool{}, last: map[string]int64{}, left: messages * len(subs)}
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range messages {
				if _, err := p.Publish(t.Context(), []pusher.Batch{{p.message(fmt.Sprint(i%5), subs...)}}); err != nil {
					w.fail(err)
				}
			}
		})
		for n := range 6 {
			wg.Go(func() {
				var mine []pusher.Work // while it claims the next
				finish := func() {
					completions := w.release(mine, n)
					had, err := nodes[n%2].Complete(t.Context(), completions)
					w.completed(completions, had, err)
				}
				for w.goOn() {
					var endpoints []pusher.Endpoint
					for i, sub := range subs {
						endpoints = append(endpoints, pusher.Endpoint{Subscription: sub, Room: 3, Concurrency: most, Ordered: i > 0})
					}
					r, err := nodes[n%2].Claim(t.Context(), pusher.Claim{Node: fmt.Sprint(n), Lease: time.Minute, Endpoints: endpoints})
					w.claimed(r.Work, subs[0], most, err)
					finish()
					mine = r.Work
				}
				finish()
			})
		}
		wg.Wait()
		require.NoError(t, w.err)
		require.Zero(t, p.count(`SELECT count(*) FROM push_queue`))
		require.Equal(t, messages*len(subs), p.count(`SELECT count(*) FROM push_deliveries WHERE state = 2`))
	})
}

// together is what workers see of each other.
type together struct {
	mu      sync.Mutex
	holders map[int64]bool
	busy    map[uint64]int
	keys    map[string]bool
	last    map[string]int64 // the last delivered of each key
	left    int
	err     error
}

func (w *together) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

func (w *together) goOn() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.left > 0 && w.err == nil
}

func (w *together) claimed(work []pusher.Work, unordered uint64, most int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range work {
		key := fmt.Sprint(d.Subscription, d.Key)
		if w.holders[d.ID.ID] {
			err = fmt.Errorf("delivery %d has two holders", d.ID.ID)
		}
		if w.busy[d.Subscription]++; w.busy[d.Subscription] > most {
			err = fmt.Errorf("%d of subscription %d are under way", w.busy[d.Subscription], d.Subscription)
		}
		if d.Subscription != unordered && (w.keys[key] || w.last[key] > d.ID.ID) {
			err = fmt.Errorf("delivery %d of the key %q is beside another one, or after a later one", d.ID.ID, key)
		}
		w.holders[d.ID.ID], w.keys[key] = true, true
	}
	if w.err == nil {
		w.err = err
	}
}

// release decides what becomes of the work. Others may claim it from when it is
// completed, so it is taken off before.
func (w *together) release(work []pusher.Work, n int) (completions []pusher.Completion) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, d := range work {
		key := fmt.Sprint(d.Subscription, d.Key)
		w.busy[d.Subscription]--
		delete(w.holders, d.ID.ID)
		delete(w.keys, key)
		state := pusher.Delivered
		if (i+n+d.Attempt)%4 == 0 {
			state = pusher.Pending
		} else {
			w.last[key] = d.ID.ID
		}
		completions = append(completions, done(d, state, 0))
	}
	return completions
}

func (w *together) completed(completions []pusher.Completion, had []bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, ours := range had {
		if !ours {
			err = fmt.Errorf("delivery %d was lost", completions[i].ID.ID)
		}
		if completions[i].State == pusher.Delivered {
			w.left--
		}
	}
	if w.err == nil {
		w.err = err
	}
}
