package pusher

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func TestScheduleOfRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
		w.answer("a", always(reply{status: 404}))
		stop := run(t, f.Pusher)
		f.publish(t, 1)
		pass(40 * time.Hour)
		posts := w.to("a")
		require.Len(t, posts, len(DefaultSchedule)+1)
		for i, want := range DefaultSchedule {
			require.Equal(t, i+2, posts[i+1].attempt)
			got := posts[i+1].at.Sub(posts[i].at)
			require.InDelta(t, want.Seconds(), got.Seconds(), 0.2*want.Seconds()+0.1, "wait %d", i)
		}
		require.Equal(t, Failed, f.store.state(1))
		require.Len(t, f.store.tried(1), len(DefaultSchedule)+1)
		stop()
		require.Len(t, f.events, 1)
		require.Equal(t, DeliveryFailed, f.events[0].Kind)
		require.Equal(t, "sub_00000000000000000010", f.events[0].Subscription)
	})
}

func TestScheduleOfSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a", func(s *platform.Subscription) { s.Schedule = []time.Duration{time.Minute} })))
		w.answer("a", func(n int, _ *post) reply { return reply{status: []int{500, 200}[n-1]} })
		stop := run(t, f.Pusher)
		f.publish(t, 1)
		pass(2 * time.Minute)
		require.Len(t, w.to("a"), 2)
		require.Equal(t, Delivered, f.store.state(1))
		stop()
		require.Equal(t, Stats{Delivered: 1, Retried: 1, Endpoints: 0}, f.Stats())
	})
}

func TestRetryAfterIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
		w.answer("a", func(n int, _ *post) reply {
			if n == 1 {
				return reply{status: 429, retryAfter: time.Hour}
			}
			return reply{status: 200}
		})
		run(t, f.Pusher)
		f.publish(t, 1)
		pass(time.Second)
		f.publish(t, 1) // the endpoint asked for less, so this one waits, but not for as long
		pass(50 * time.Second)
		require.Len(t, w.to("a"), 1)
		pass(30 * time.Second)
		require.Len(t, w.to("a"), 2)
		pass(50 * time.Minute)
		require.Len(t, w.to("a"), 2)
		pass(20 * time.Minute)
		posts := w.to("a")
		require.Len(t, posts, 3)
		require.Equal(t, posts[0].delivery, posts[2].delivery)
		require.GreaterOrEqual(t, posts[2].at.Sub(posts[0].at), time.Hour)
	})
}

func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
		healed := time.Now().Add(10 * time.Minute)
		w.answer("a", func(int, *post) reply {
			if time.Now().Before(healed) {
				return reply{class: ClassConnect}
			}
			return reply{status: 200}
		})
		run(t, f.Pusher)
		f.publish(t, 1000)
		pass(10 * time.Minute)
		// The first few, then a probe every minute at the most.
		require.Less(t, len(w.to("a")), 60)
		require.Equal(t, 1, f.Stats().Open)
		once := 0
		for id := int64(1); id <= f.store.made(); id++ {
			if len(f.store.tried(id)) <= 1 {
				once++
			}
		}
		require.Greater(t, once, 950, "deliveries that wait use up no attempt")
		pass(time.Hour)
		require.Equal(t, uint64(1000), f.Stats().Delivered)
		require.Zero(t, f.Stats().Open)
	})
}

func TestEndpointIsDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{DisableAfter: 2 * time.Hour, Schedule: slices.Repeat([]time.Duration{5 * time.Minute}, 100)}, testApp(1, to("a")))
		w.answer("a", always(reply{status: 500}))
		began := time.Now()
		stop := run(t, f.Pusher)
		f.publish(t, 20)
		pass(110 * time.Minute)
		require.Equal(t, platform.SubscriptionActive, f.store.look(10).Status)
		require.Equal(t, began.Unix(), f.store.look(10).FailingSince.Unix())
		require.Len(t, f.store.marked(), 1)
		pass(40 * time.Minute)
		require.Equal(t, platform.Disabled, f.store.look(10).Status)
		require.Contains(t, f.store.look(10).Reason, "no success since")
		n := len(w.to("a"))
		pass(4 * time.Hour)
		require.Len(t, w.to("a"), n, "nothing is sent to what is disabled")

		// Somebody resumes it, and it has two hours again.
		f.store.put(testApp(1, to("a")))
		require.NoError(t, f.Apply(t.Context(), platform.Change{Kind: platform.ChangePush, Key: "1"}))
		pass(time.Hour)
		require.Greater(t, len(w.to("a")), n)
		require.Equal(t, platform.SubscriptionActive, f.store.look(10).Status)
		w.answer("a", nil)
		f.publish(t, 1)
		pass(time.Hour)
		require.Equal(t, uint64(21), f.Stats().Delivered+f.Stats().Failed)
		require.NotZero(t, f.Stats().Delivered)
		stop()
		var kinds []EventKind
		for _, e := range f.events {
			kinds = append(kinds, e.Kind)
		}
		require.Contains(t, kinds, EndpointDisabled)
	})
}

func TestFailureIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
		w.answer("a", func(n int, _ *post) reply {
			if n <= 4 {
				return reply{status: 500}
			}
			return reply{status: 200}
		})
		run(t, f.Pusher)
		f.publish(t, 1)
		pass(24 * time.Hour)
		require.Len(t, f.store.marked(), 2)
		require.False(t, f.store.marked()[0].since.IsZero())
		require.True(t, f.store.marked()[1].since.IsZero())
	})
}

func TestGoneDisablesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a", func(s *platform.Subscription) { s.Concurrency = 1 })))
		w.answer("a", always(reply{status: 410}))
		run(t, f.Pusher)
		f.publish(t, 5)
		pass(time.Hour)
		require.Len(t, f.store.marked(), 1)
		require.Equal(t, platform.Disabled, f.store.look(10).Status)
		require.LessOrEqual(t, len(w.to("a")), 2)
		for id := int64(1); id <= f.store.made(); id++ {
			require.Equal(t, Pending, f.store.state(id), "what waits is not lost")
		}
	})
}

func TestGoneWhileReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
		w.answer("a", func(int, *post) reply {
			f.store.put(testApp(1, to("a")))
			require.NoError(t, f.Apply(t.Context(), platform.Change{Kind: platform.ChangePush, Key: "1"}))
			return reply{status: 410}
		})
		run(t, f.Pusher)
		f.publish(t, 1)
		pass(time.Hour)
		require.Len(t, w.to("a"), 1, "nothing of the subscription has changed: the answer counts")
		require.Equal(t, platform.Disabled, f.store.look(10).Status)
	})
}

func TestRevokedGrantCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
		f.publish(t, 1)
		f.store.rows[1].revoked = true
		run(t, f.Pusher)
		pass(time.Second)
		require.Empty(t, w.to("a"))
		require.Equal(t, Cancelled, f.store.state(1))
		require.Empty(t, f.store.tried(1))
		require.Equal(t, uint64(1), f.Stats().Cancelled)
	})
}

func TestManualPushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
		w.answer("a", always(reply{status: 200, after: time.Second}))
		run(t, f.Pusher)
		f.publish(t, 1)
		pass(500 * time.Millisecond)
		f.store.pushAgain(1) // while it is under way
		f.store.pushAgain(1)
		f.Wake(10)
		pass(4 * time.Second)
		posts := w.to("a")
		require.Len(t, posts, 3)
		require.Equal(t, []Cause{Auto, Manual, Manual}, []Cause{posts[0].cause, posts[1].cause, posts[2].cause})
		require.Equal(t, Delivered, f.store.state(1))
		for i, p := range posts {
			require.Equal(t, posts[0].message, p.message)
			require.Equal(t, i+1, p.attempt)
		}
	})
}
