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
