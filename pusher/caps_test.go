package pusher

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func TestConcurrencyIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")), testApp(2, to("b", func(s *platform.Subscription) { s.Concurrency = 3 })))
		for _, host := range []string{"a", "b"} {
			w.answer(host, always(reply{status: 200, after: 20 * time.Millisecond}))
		}
		second := f.another(t, Settings{})
		connect(t, second, w)
		run(t, f.Pusher)
		run(t, second)
		f.publish(t, 300)
		pass(time.Minute)
		require.Equal(t, platform.DefaultConcurrency, w.most("a"))
		require.Equal(t, 3, w.most("b"))
		require.Equal(t, uint64(600), f.Stats().Delivered+second.Stats().Delivered)
		require.Len(t, w.all(), 600)
	})
}

func TestRateIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a", func(s *platform.Subscription) {
			s.Rate = limit.Rate{Requests: 10, Period: time.Second, Burst: 5}
		})))
		began := time.Now()
		run(t, f.Pusher)
		f.publish(t, 105)
		pass(30 * time.Second)
		posts := w.to("a")
		require.Len(t, posts, 105)
		for i, p := range posts {
			require.GreaterOrEqual(t, p.at.Sub(began), time.Duration(i-5)*100*time.Millisecond)
		}
		require.Less(t, posts[104].at.Sub(began), 11*time.Second)
	})
}

// TestRateIsOfRequests: what a claim had room for and did not get, or never came to, is
// not charged.
func TestRateIsOfRequests(t *testing.T) {
	rate := func(r limit.Rate) func(*platform.Subscription) { return func(s *platform.Subscription) { s.Rate = r } }
	t.Run("one at a time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, w := newSimulation(t, Settings{}, testApp(1, to("a", rate(limit.Rate{Requests: 1, Period: time.Hour, Burst: 8}))))
			run(t, f.Pusher)
			for n := range 8 {
				f.publish(t, 1)
				pass(time.Millisecond)
				require.Len(t, w.to("a"), n+1)
			}
		})
	})
	t.Run("the store is down", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, w := newSimulation(t, Settings{}, testApp(1, to("a", rate(limit.Rate{Requests: 1, Period: time.Hour, Burst: 8}))))
			run(t, f.Pusher)
			synctest.Wait()
			f.store.down(time.Now().Add(time.Second), "claim")
			f.publish(t, 8)
			pass(3 * time.Second)
			require.Len(t, w.to("a"), 8)
		})
	})
}

// TestCapIsElsewhere: where other nodes have all that an endpoint bears, the store is
// asked now and then, and seconds do not pass once they are done.
func TestCapIsElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := func(s *platform.Subscription) { s.Concurrency = 1 }
		f, w := newSimulation(t, Settings{}, testApp(1, to("a", one)))
		f.publish(t, 2)
		r, err := f.store.Claim(t.Context(), Claim{Lease: time.Hour, Endpoints: []Endpoint{{Subscription: 10, Room: 1, Concurrency: 1}}})
		require.NoError(t, err)
		run(t, f.Pusher)
		pass(time.Minute)
		require.Empty(t, w.all())
		require.Less(t, f.store.count("claim"), 100)
		_, err = f.store.Complete(t.Context(), []Completion{{ID: r.Work[0].ID, Subscription: 10, Fence: r.Work[0].Fence, State: Delivered}})
		require.NoError(t, err)
		pass(lastEmpty * 12 / 10)
		require.Len(t, w.all(), 1)
	})
}

// TestRateIsRaised: the next delivery does not wait by the rate of before.
func TestRateIsRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a", func(s *platform.Subscription) {
			s.Rate = limit.Rate{Requests: 1, Period: time.Hour, Burst: 8}
		})))
		run(t, f.Pusher)
		f.publish(t, 20)
		pass(time.Minute)
		require.Len(t, w.to("a"), 8)
		f.store.put(testApp(1, to("a", func(s *platform.Subscription) { s.Rate = limit.Rate{Requests: 100, Period: time.Second} })))
		require.NoError(t, f.Apply(t.Context(), platform.Change{Kind: platform.ChangePush, Key: "1"}))
		pass(time.Second)
		require.Len(t, w.to("a"), 20)
	})
}
