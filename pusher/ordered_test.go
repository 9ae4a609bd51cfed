package pusher

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func ordered(s *platform.Subscription) { s.Ordered = true }

// publishKeyed publishes messages with the keys, one after the other, and returns
// their IDs.
func (f *fixture) publishKeyed(tb testing.TB, keys ...string) []string {
	tb.Helper()
	var ids []string
	for _, k := range keys {
		m := testMessage(`{"id":1}`)
		m.Key = k
		r, err := f.Publish(context.Background(), []Message{m})
		require.NoError(tb, err)
		ids = append(ids, r[0].ID.String())
	}
	return ids
}

func TestOrderIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a", ordered)))
		second := f.another(t, Settings{})
		connect(t, second, w)
		w.answer("a", func(n int, _ *post) reply {
			return reply{status: []int{200, 500, 200}[n%3], after: time.Duration(n%7) * time.Millisecond}
		})
		run(t, f.Pusher)
		run(t, second)
		byKey := make(map[string][]string)
		for i := range 60 {
			k := fmt.Sprint("k", i%5)
			byKey[k] = append(byKey[k], f.publishKeyed(t, k)...)
		}
		pass(24 * time.Hour)
		require.Equal(t, uint64(60), f.Stats().Delivered+second.Stats().Delivered)
		place := make(map[string]int)
		for i, p := range w.to("a") {
			if _, known := place[p.message]; !known {
				place[p.message] = i // its first attempt
			}
		}
		last := make(map[string]int)
		for i, p := range w.to("a") {
			last[p.message] = i
		}
		for k, ids := range byKey {
			for i := 1; i < len(ids); i++ {
				require.Less(t, last[ids[i-1]], place[ids[i]], "%s: message %d began before %d was over", k, i, i-1)
			}
		}
	})
}

// TestHeadHoldsItsKey: a message that fails holds up its own key, for an hour at
// the most.
func TestHeadHoldsItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a", ordered)))
		var bad string
		w.answer("a", func(_ int, p *post) reply {
			if p.message == bad {
				return reply{status: 422}
			}
			return reply{status: 200}
		})
		messages := []Message{testMessage(`{"id":1}`), testMessage(`{"id":2}`), testMessage(`{"id":3}`)}
		messages[0].Key, messages[1].Key, messages[2].Key = "x", "x", "y"
		r, err := f.Publish(t.Context(), messages)
		require.NoError(t, err)
		bad = r[0].ID.String()
		began := time.Now()
		run(t, f.Pusher)
		pass(time.Minute)
		require.Equal(t, Delivered, f.store.state(3), "another key is not held up")
		require.Equal(t, Pending, f.store.state(2))
		pass(2 * time.Hour)
		require.Equal(t, Failed, f.store.state(1))
		require.Equal(t, Delivered, f.store.state(2))
		posts := w.to("a")
		require.Equal(t, r[1].ID.String(), posts[len(posts)-1].message)
		require.InDelta(t, platform.DefaultHoldFor.Seconds(), posts[len(posts)-1].at.Sub(began).Seconds(), 1)
	})
}

// TestHoldForIsForKeys: without a key nothing waits, and retries go on.
func TestHoldForIsForKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a", ordered, func(s *platform.Subscription) { s.HoldFor = time.Minute })))
		w.answer("a", always(reply{status: 422}))
		run(t, f.Pusher)
		f.publish(t, 1)
		f.publishKeyed(t, "k")
		pass(10 * time.Minute)
		require.Equal(t, Pending, f.store.state(1))
		require.Equal(t, Failed, f.store.state(2))
	})
}

// TestHoldForCountsRequests: an endpoint that answers slowly holds up a key for no
// longer than one that fails at once.
func TestHoldForCountsRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{Timeout: 30 * time.Second}, testApp(1, to("a", ordered, func(s *platform.Subscription) {
			s.HoldFor, s.Schedule = time.Minute, []time.Duration{5 * time.Second, time.Hour, time.Hour}
		})))
		w.answer("a", always(reply{status: 500, after: 20 * time.Second}))
		began := time.Now()
		run(t, f.Pusher)
		f.publishKeyed(t, "k")
		pass(time.Hour)
		posts := w.to("a")
		require.Len(t, posts, 3)
		require.InDelta(t, 60, posts[2].at.Sub(began).Seconds(), 1, "the last one when the time is over")
		require.Equal(t, Failed, f.store.state(1))
	})
}

// TestHoldForIsOfOneClock: for how long a delivery has held up its key is not told by a
// node's clock that is ahead of the database's.
func TestHoldForIsOfOneClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a", ordered)))
		f.now = func() time.Time { return time.Now().Add(2 * platform.DefaultHoldFor) }
		f.scheduler.now = f.now
		w.answer("a", func(n int, _ *post) reply { return reply{status: []int{500, 500, 200}[n-1]} })
		run(t, f.Pusher)
		f.publishKeyed(t, "k")
		pass(time.Hour)
		require.Len(t, w.to("a"), 3)
		require.Equal(t, Delivered, f.store.state(1))
	})
}
