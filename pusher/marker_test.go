package pusher

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// TestMarkOfADeletedSubscription is given up.
func TestMarkOfADeletedSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
		w.answer("a", func(n int, _ *post) reply {
			if n == notedAfter {
				f.store.put(testApp(1))
			}
			return reply{status: 500}
		})
		stop := run(t, f.Pusher)
		f.publish(t, 1)
		pass(time.Hour)
		stop()
		require.Len(t, w.to("a"), notedAfter)
		require.Equal(t, 1, f.store.count("mark"))
		require.Empty(t, f.problems)
	})
}

// TestMarkThatFails: it is tried again while the store is down, and not where the
// store refuses it.
func TestMarkThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		fails func(*memory)
		noted bool // later
	}{
		"the store is down": {func(m *memory) { m.down(time.Now().Add(time.Minute), "mark") }, true},
		"it is refused": {func(m *memory) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.fail = func(call string) error {
				if call == "mark" {
					return errors.New("a value that no column takes")
				}
				return nil
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
				w.answer("a", always(reply{status: 500}))
				stop := run(t, f.Pusher)
				c.fails(f.store)
				f.publish(t, notedAfter)
				pass(2 * time.Minute)
				stop()
				require.Equal(t, c.noted, len(f.problems) > 1, "tried again")
				require.Equal(t, c.noted, !f.store.look(10).FailingSince.IsZero())
			})
		})
	}
}

// TestWorksElsewhere: an endpoint is not disabled by a node that cannot reach it while
// another one can, although the node did not hear of it in time.
func TestWorksElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := Settings{DisableAfter: 2 * time.Hour, Schedule: slices.Repeat([]time.Duration{5 * time.Minute}, 200)}
		f, w := newSimulation(t, settings, testApp(1, to("a")))
		w.answer("a", always(reply{status: 500}))
		stop := run(t, f.Pusher)
		f.publish(t, 5)
		pass(110 * time.Minute)
		f.store.mu.Lock()
		f.store.subscription(10).FailingSince = time.Time{} // by the other node
		f.store.mu.Unlock()
		pass(100 * time.Minute)
		require.Equal(t, platform.SubscriptionActive, f.store.look(10).Status)
		require.WithinDuration(t, time.Now().Add(-90*time.Minute), f.store.look(10).FailingSince, 15*time.Minute, "all begins anew")
		pass(2 * time.Hour)
		require.Equal(t, platform.Disabled, f.store.look(10).Status)
		stop()
		require.Len(t, f.events, 1)
	})
}

// TestLateSuccess: an endpoint that is about to be disabled answers a request under
// way. That it has failed for long is not true any more then; that it answered 410 is.
func TestLateSuccess(t *testing.T) {
	for name, c := range map[string]struct {
		answer int
		want   platform.SubscriptionStatus
	}{
		"failed for long": {500, platform.SubscriptionActive},
		"answered 410":    {410, platform.Disabled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, w := newSimulation(t, Settings{DisableAfter: 2 * time.Hour, Schedule: []time.Duration{24 * time.Hour}}, testApp(1, to("a")))
				w.answer("a", func(n int, _ *post) reply {
					switch n {
					case notedAfter + 1:
						return reply{status: 200, after: 2 * time.Second}
					case notedAfter + 2:
						return reply{status: c.answer, after: time.Second}
					}
					return reply{status: 500}
				})
				run(t, f.Pusher)
				f.publish(t, notedAfter)
				pass(3 * time.Hour)
				f.store.down(time.Now().Add(time.Minute), "mark")
				f.publish(t, 2)
				pass(2 * time.Minute)
				require.Equal(t, c.want, f.store.look(10).Status)
				if c.want == platform.SubscriptionActive {
					require.Zero(t, f.store.look(10).FailingSince)
				}
				f.publish(t, 1)
				pass(time.Minute)
				require.Equal(t, c.want == platform.SubscriptionActive, len(w.to("a")) > notedAfter+2)
			})
		})
	}
}

// TestLastWord: of what is said of an endpoint while the store is being told of
// something the last word counts, or that it answered 410.
func TestLastWord(t *testing.T) {
	fails, works := mark{since: time.Now()}, mark{}
	old, gone := mark{since: time.Now(), disable: "no success"}, mark{disable: "410"}
	for _, c := range []struct{ first, meanwhile, want mark }{
		{fails, works, works}, {works, fails, fails}, {fails, old, old}, {old, works, works}, {old, gone, gone}, {gone, works, gone}, {gone, old, gone},
	} {
		m := newMarker()
		m.add(c.first)
		_, ok := m.take()
		require.True(t, ok)
		m.add(c.meanwhile)
		m.again(c.first)
		got, _ := m.take()
		require.Equal(t, c.want, got)
		_, ok = m.take()
		require.False(t, ok)
	}
}

// TestHealthIsKnownFirst: an endpoint with few messages is not disabled before the store
// says since when it fails.
func TestHealthIsKnownFirst(t *testing.T) {
	var h health
	began := time.Now()
	for i := range 5 {
		note, disable := h.failed(began.Add(time.Duration(i)*40*time.Hour), DefaultDisableAfter)
		require.Equal(t, i == 2, note)
		require.False(t, disable)
	}
	h.known(began)
	_, disable := h.failed(began.Add(200*time.Hour), DefaultDisableAfter)
	require.True(t, disable)
}
