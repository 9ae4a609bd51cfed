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

// worst is the longest time between the making of a delivery and its first
// request, of those that counts tells.
func (f *fixture) worst(w *wire, counts func(posted) bool) time.Duration {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	created := make(map[string]time.Time)
	for _, x := range f.store.rows {
		created[x.id.String()] = x.created
	}
	var worst time.Duration
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.posts {
		if counts(p) && p.attempt == 1 {
			worst = max(worst, p.at.Sub(created[p.delivery]))
		}
	}
	return worst
}

// notTo is all except for those to a host.
func notTo(skip string) func(posted) bool { return func(p posted) bool { return p.host != skip } }

// publishTo makes a message of a topic that one app alone subscribes.
func (f *fixture) publishTo(tb testing.TB, app uint64) {
	tb.Helper()
	f.store.mu.Lock()
	m := testMessage(`{}`)
	m.ID = MessageID{time.Now().UnixMicro(), f.store.last}
	f.store.insert(m, NewDelivery{Subscription: 10 * app, App: app, Body: []byte("{}"), KeyNumber: 1})
	f.store.mu.Unlock()
	f.Wake(10 * app)
}

func wide(s *platform.Subscription) { s.Concurrency = platform.MaxConcurrency }

// TestNoisyNeighbour: 5,000 deliveries wait for one endpoint that takes 500 ms,
// and those of others are not late.
func TestNoisyNeighbour(t *testing.T) {
	for _, workers := range []int{16, 64, 1024} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				apps := []platform.Subscriber{testApp(1, to("slow", wide))}
				for n := uint64(2); n < 22; n++ {
					apps = append(apps, testApp(n, to(fmt.Sprintf("quick-%d", n), wide)))
				}
				f, w := newSimulation(t, Settings{Workers: workers}, apps...)
				w.answer("slow", always(reply{status: 200, after: 500 * time.Millisecond}))
				for _, a := range apps[1:] {
					w.answer("quick-"+fmt.Sprint(a.App.Number), always(reply{status: 200, after: 5 * time.Millisecond}))
				}
				run(t, f.Pusher)
				for range 5000 {
					f.publishTo(t, 1)
				}
				for i := range 2000 {
					f.publishTo(t, uint64(2+i%20))
					pass(2 * time.Millisecond)
				}
				require.Less(t, f.worst(w, notTo("slow")), 200*time.Millisecond)
				require.Greater(t, len(w.to("slow")), 4*max(1, workers/3), "the slow one is served too")
				require.LessOrEqual(t, w.most("slow"), max(1, workers/2))
			})
		})
	}
}

// TestTurnsSlow: an endpoint that was quick begins to hang while much is
// under way to it.
func TestTurnsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{Workers: 64}, testApp(1, to("a", wide)), testApp(2, to("b")))
		hangs := time.Now().Add(time.Second)
		w.answer("a", func(int, *post) reply {
			if time.Now().After(hangs) {
				return reply{class: ClassTimeout, after: 5 * time.Second}
			}
			return reply{status: 200, after: 2 * time.Millisecond}
		})
		w.answer("b", always(reply{status: 200, after: 2 * time.Millisecond}))
		run(t, f.Pusher)
		f.publish(t, 500)
		for range 3000 {
			f.publishTo(t, 1)
			f.publishTo(t, 1)
			f.publishTo(t, 2)
			pass(2 * time.Millisecond)
		}
		require.Less(t, f.worst(w, notTo("a")), 200*time.Millisecond)
	})
}

// TestConnecting: the first connections may take long. An endpoint that is quick
// over them gets as many workers as others; one that needs a new one each time, or
// ends what it seemed to keep, does not.
func TestConnecting(t *testing.T) {
	first := func(n int) bool { return n <= 8 }
	for name, c := range map[string]struct {
		connects func(n int) bool
		kept     time.Duration
		group    group
	}{
		"once":                     {first, 300 * time.Millisecond, fast},
		"each time":                {func(int) bool { return true }, 0, slow},
		"each time, kept in vain":  {func(int) bool { return true }, 300 * time.Millisecond, slow},
		"for every second request": {func(n int) bool { return n%2 == 0 }, 300 * time.Millisecond, slow},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, w := newSimulation(t, Settings{Workers: 64}, testApp(1, to("a", wide)))
				w.answer("a", func(n int, _ *post) reply {
					if c.connects(n) {
						return reply{status: 200, after: 310 * time.Millisecond, connecting: c.kept}
					}
					return reply{status: 200, after: 10 * time.Millisecond}
				})
				run(t, f.Pusher)
				f.publish(t, 500)
				pass(10 * time.Second)
				f.scheduler.mu.Lock()
				defer f.scheduler.mu.Unlock()
				for _, l := range f.scheduler.lanes {
					require.Equal(t, c.group, l.kind(f.now()))
				}
				require.Len(t, f.scheduler.lanes, 1)
				if c.group == fast {
					require.Equal(t, 48, w.most("a"))
				}
			})
		})
	}
}

// TestManyEndpoints: the same with 10,000 of them, all with work.
func TestManyEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 10_000
		apps := []platform.Subscriber{testApp(1, to("slow", wide))}
		for n := uint64(2); n < many+2; n++ {
			apps = append(apps, testApp(n, to(fmt.Sprintf("q%d", n))))
		}
		f, w := newSimulation(t, Settings{}, apps...)
		w.answer("slow", always(reply{status: 200, after: 500 * time.Millisecond}))
		run(t, f.Pusher)
		for range 5000 {
			f.publishTo(t, 1)
		}
		pass(100 * time.Millisecond)
		_, err := f.Publish(context.Background(), []Message{testMessage(`{"id":1}`)})
		require.NoError(t, err)
		for i := range 200 {
			f.publishTo(t, uint64(2+i*31%many))
			pass(5 * time.Millisecond)
		}
		require.Less(t, f.worst(w, notTo("slow")), 200*time.Millisecond)
		require.GreaterOrEqual(t, len(w.all()), many+200)
	})
}

// TestBacklogs: who has no backlog does not wait behind 1,000 endpoints with one.
// Backlogs go on meanwhile, also where the others alone would need more than there
// is.
func TestBacklogs(t *testing.T) {
	const backlogs, each, others = 1000, 50, 3000
	for name, c := range map[string]struct {
		rate int // of the others, in a millisecond; 64 workers do 12.8
		late time.Duration
		busy bool // another node often has the backlogs' rows
	}{
		"others that leave room": {rate: 6, late: 100 * time.Millisecond},
		"too many others":        {rate: 14, late: 2 * time.Second},
		"two nodes":              {rate: 6, late: 100 * time.Millisecond, busy: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var apps []platform.Subscriber
				for n := range uint64(backlogs) {
					apps = append(apps, testApp(n+1, to("backlog")))
				}
				for n := range uint64(others) {
					apps = append(apps, testApp(backlogs+n+1, to("other")))
				}
				f, w := newSimulation(t, Settings{Workers: 64}, apps...)
				w.answer("backlog", always(reply{status: 200, after: 5 * time.Millisecond}))
				w.answer("other", always(reply{status: 200, after: 5 * time.Millisecond}))
				if asks := 0; c.busy {
					f.store.busy = func(subscription uint64) bool { asks++; return subscription <= 10*backlogs && asks%2 == 0 }
				}
				run(t, f.Pusher)
				f.publish(t, 1)
				pass(time.Second) // all of them have answered once
				for n := range backlogs * each {
					f.publishTo(t, uint64(n%backlogs+1))
				}
				pass(500 * time.Millisecond) // the first ones might be all that there is
				began, done := time.Now(), len(w.to("backlog"))
				for i := range 1000 {
					for n := range c.rate {
						f.publishTo(t, uint64(backlogs+(c.rate*i+n)%others+1))
					}
					pass(time.Millisecond)
				}
				require.Greater(t, len(w.to("backlog")), done+5000)
				pass(10 * time.Second)
				require.Len(t, w.all(), backlogs*(1+each)+others+1000*c.rate)
				require.Less(t, f.worst(w, func(p posted) bool { return p.host == "other" && p.at.After(began) }), c.late)
			})
		})
	}
}

// TestIdle: a node with nothing to do does nearly nothing.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")), testApp(2, to("b", func(s *platform.Subscription) { s.Status = platform.Paused })))
		w.answer("a", always(reply{status: 503}))
		run(t, f.Pusher)
		f.publish(t, 1) // one that waits for hours, and one that is suspended
		pass(3 * time.Hour)
		f.store.mu.Lock()
		clear(f.store.calls)
		f.store.mu.Unlock()
		pass(time.Hour)
		require.LessOrEqual(t, f.store.count("claim"), 2)
		require.LessOrEqual(t, f.store.count("complete"), 2)
		require.InDelta(t, 720, f.store.count("waiting"), 80)
		require.InDelta(t, 1200, f.store.count("rescue"), 120)
		require.Empty(t, w.to("b"))
		require.Empty(t, f.scheduler.idle, "workers have ended")
	})
}

// TestBatches: a backlog is claimed and completed in large batches, one message
// at once and alone.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a", wide)), testApp(2, to("b", wide)))
		for _, host := range []string{"a", "b"} {
			w.answer(host, always(reply{status: 200, after: 10 * time.Millisecond}))
		}
		run(t, f.Pusher)
		synctest.Wait() // it looks once when it starts
		f.publish(t, 1)
		pass(time.Second)
		require.LessOrEqual(t, f.store.count("claim"), 2)
		require.Equal(t, uint64(2), f.Stats().Delivered)
		began := f.store.count("claim")
		f.publish(t, 10_000)
		pass(2 * time.Second)
		require.Equal(t, uint64(20_002), f.Stats().Delivered)
		require.Less(t, f.store.count("claim")-began, 200)
		require.Less(t, f.store.count("complete"), 300)
		for _, n := range f.store.sizes["claim"] {
			require.LessOrEqual(t, n, maxClaim)
		}
	})
}

// TestBatchesOfMany: of each of many backlogs several deliveries are claimed at once.
func TestBatchesOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var apps []platform.Subscriber
		for n := range uint64(200) {
			apps = append(apps, testApp(n+1, to("a", wide)))
		}
		f, w := newSimulation(t, Settings{}, apps...)
		w.answer("a", always(reply{status: 200, after: 10 * time.Millisecond}))
		f.publish(t, 200)
		run(t, f.Pusher)
		pass(10 * time.Second)
		require.Equal(t, uint64(40_000), f.Stats().Delivered)
		asked := 0
		for _, n := range f.store.sizes["asked"] {
			asked += n
		}
		require.Less(t, asked, 40_000/6, "endpoints asked for; six deliveries of each on average")
	})
}
