package pusher

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// down lets calls of the store fail for a while.
func (m *memory) down(until time.Time, calls ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = func(call string) error {
		for _, c := range calls {
			if c == call && time.Now().Before(until) {
				return fmt.Errorf("connecting: %w", platform.ErrUnavailable)
			}
		}
		return nil
	}
}

// TestStoreIsDown: outcomes are kept until the store answers again, and nothing
// is sent twice.
func TestStoreIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
		w.answer("a", always(reply{status: 200, after: time.Second}))
		run(t, f.Pusher)
		f.publish(t, 40)
		pass(100 * time.Millisecond)
		f.store.down(time.Now().Add(20*time.Second), "claim", "complete", "waiting", "rescue", "step")
		pass(19 * time.Second)
		require.Len(t, w.to("a"), 8, "no attempt is made that was not claimed")
		require.Zero(t, f.Stats().Delivered)
		require.Less(t, f.store.count("claim")+f.store.count("complete"), 80)
		pass(20 * time.Second)
		require.Equal(t, uint64(40), f.Stats().Delivered)
		require.Len(t, w.to("a"), 40)
		require.Zero(t, f.Stats().Lost)
	})
}

// TestStoreIsDownForLong: what could not be saved within its lease is due again.
func TestStoreIsDownForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
		w.answer("a", always(reply{status: 200, after: time.Second}))
		run(t, f.Pusher)
		f.publish(t, 8)
		pass(100 * time.Millisecond)
		f.store.down(time.Now().Add(5*time.Minute), "claim", "complete", "waiting", "rescue", "step")
		pass(6 * time.Minute)
		require.Equal(t, uint64(8), f.Stats().Delivered)
		require.Equal(t, uint64(8), f.Stats().Lost)
		require.Equal(t, uint64(8), f.Stats().Rescued)
		posts := w.to("a")
		require.Len(t, posts, 16)
		require.Equal(t, 2, posts[15].attempt)
	})
}

// TestStaleNode: a node whose lease ended comes back, and cannot complete.
func TestStaleNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
		f.publish(t, 1)
		stale, err := f.store.Claim(t.Context(), Claim{Lease: 30 * time.Second, Endpoints: []Endpoint{{Subscription: 10, Room: 1, Concurrency: 1}}})
		require.NoError(t, err)
		require.Len(t, stale.Work, 1)
		run(t, f.Pusher)
		pass(29 * time.Second)
		require.Empty(t, w.to("a"))
		pass(10 * time.Second)
		require.Len(t, w.to("a"), 1)
		had, err := f.store.Complete(t.Context(), []Completion{{ID: stale.Work[0].ID, Subscription: stale.Work[0].Subscription, Fence: stale.Work[0].Fence, State: Failed}})
		require.NoError(t, err)
		require.Equal(t, []bool{false}, had)
		require.Equal(t, Delivered, f.store.state(1))
		require.Equal(t, uint64(1), f.Stats().Rescued)
	})
}

// TestPausedWhileHeld: what was claimed of an endpoint, and not begun when somebody
// pauses it, is not posted. It waits, and has used up no attempt.
func TestPausedWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{Workers: 8}, testApp(1, to("a")))
		run(t, f.Pusher)
		f.publish(t, 1)
		pass(time.Second) // it is known to be quick: many are claimed
		w.answer("a", always(reply{status: 200, after: 3 * time.Second}))
		f.publish(t, 12)
		pass(time.Second)
		begun := len(w.to("a"))
		f.store.put(testApp(1, to("a", func(s *platform.Subscription) { s.Status = platform.Paused })))
		require.NoError(t, f.Apply(t.Context(), platform.Change{Kind: platform.ChangePush, Key: "1"}))
		pass(time.Minute)
		require.Len(t, w.to("a"), begun)
		held := 0
		for id := int64(1); id <= f.store.made(); id++ {
			if f.store.state(id) == Pending {
				held += f.store.rows[id].claimedTimes
				require.Empty(t, f.store.tried(id))
			}
		}
		require.NotZero(t, held)
		f.store.put(testApp(1, to("a")))
		require.NoError(t, f.Apply(t.Context(), platform.Change{Kind: platform.ChangePush, Key: "1"}))
		pass(time.Minute)
		require.Equal(t, uint64(13), f.Stats().Delivered)
		require.Len(t, w.to("a"), 13)
	})
}

// TestLeaseNearlyOver: a request is begun only where it ends, and can be saved, within
// the lease.
func TestLeaseNearlyOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{Timeout: 5 * time.Second}, testApp(1, to("a")))
		require.NoError(t, f.Reload(t.Context()))
		f.publish(t, 1)
		r, err := f.store.Claim(t.Context(), Claim{Lease: time.Minute, Endpoints: []Endpoint{{Subscription: 10, Room: 1, Concurrency: 1}}})
		require.NoError(t, err)
		least := time.Now().Add(5*time.Second + leaseMargin)
		require.False(t, f.deliver(&item{work: r.Work[0], until: least.Add(-1)}).attempted)
		require.Empty(t, w.all())
		require.True(t, f.deliver(&item{work: r.Work[0], until: least}).attempted)
		require.Len(t, w.all(), 1)
	})
}

// TestStop: requests under way end, the rest is given back at once.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{Workers: 4}, testApp(1, to("a")), testApp(2, to("b")))
		for _, host := range []string{"a", "b"} {
			w.answer(host, always(reply{status: 200, after: 80 * time.Millisecond}))
		}
		stop := run(t, f.Pusher)
		f.publish(t, 100)
		pass(500 * time.Millisecond)
		stop()
		sent := len(w.all())
		require.Equal(t, uint64(sent), f.Stats().Delivered)
		claimed := 0
		for _, x := range f.store.rows {
			require.NotEqual(t, Delivering, x.state)
			claimed += x.claimedTimes
			if x.state == Pending {
				require.Zero(t, x.attempts)
				require.False(t, x.due.After(time.Now()))
			}
		}
		require.Greater(t, claimed, sent, "some had been claimed and were given back")

		// Another node goes on at once, and nothing is sent twice.
		second := f.another(t, Settings{})
		connect(t, second, w)
		run(t, second)
		pass(5 * time.Second)
		require.Len(t, w.all(), 200)
	})
}

// TestStopWhileClaiming: what a claim brings that was under way is posted or given back,
// and does not wait for its lease to end.
func TestStopWhileClaiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newSimulation(t, Settings{}, testApp(1, to("a")))
		f.options.Store = &slowClaims{f.store}
		stop := run(t, f.Pusher)
		f.publish(t, 4)
		pass(50 * time.Millisecond)
		stop()
		require.Equal(t, 1, f.store.count("claim"))
		for id := int64(1); id <= f.store.made(); id++ {
			require.NotEqual(t, Delivering, f.store.state(id))
		}
	})
}

// slowClaims tells what was claimed a little later, unless nobody waits for it.
type slowClaims struct{ *memory }

func (s *slowClaims) Claim(ctx context.Context, c Claim) (ClaimResult, error) {
	r, err := s.memory.Claim(ctx, c)
	elapse(100 * time.Millisecond)
	if ctx.Err() != nil {
		return ClaimResult{}, ctx.Err()
	}
	return r, err
}

// TestStopWhileStoreIsDown ends all the same.
func TestStopWhileStoreIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
		w.answer("a", always(reply{status: 200, after: time.Second}))
		stop := run(t, f.Pusher)
		f.publish(t, 1)
		pass(100 * time.Millisecond)
		f.store.down(time.Now().Add(time.Hour), "claim", "complete", "waiting", "rescue", "step")
		began := time.Now()
		stop()
		require.LessOrEqual(t, time.Since(began), DefaultTimeout+stopMargin+time.Second)
		require.Equal(t, Delivering, f.store.state(1))
	})
}

// TestStartWhileStoreIsDown: the node delivers once the store answers.
func TestStartWhileStoreIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
		f.publish(t, 1)
		f.subscribers.Store(nil)
		f.store.down(time.Now().Add(time.Minute), "subscribers")
		run(t, f.Pusher)
		pass(2 * time.Minute)
		require.Len(t, w.to("a"), 1)
	})
}

// TestPoisonedOutcome: one that the store refuses does not keep others from being
// saved.
func TestPoisonedOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a", wide)))
		w.answer("a", always(reply{status: 200, after: time.Millisecond}))
		refused := &refusing{memory: f.store, id: 7}
		f.options.Store = refused
		run(t, f.Pusher)
		f.publish(t, 20)
		pass(time.Second)
		require.Equal(t, uint64(19), f.Stats().Delivered)
		require.Equal(t, uint64(1), f.Stats().Lost)
	})
}

// refusing refuses the completion of one delivery.
type refusing struct {
	*memory
	id int64
}

func (r *refusing) Complete(ctx context.Context, done []Completion) ([]bool, error) {
	for _, c := range done {
		if c.ID.ID == r.id {
			return nil, errors.New("a value that no column takes")
		}
	}
	return r.memory.Complete(ctx, done)
}

func TestOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{Off: true}, testApp(1, to("a")))
		run(t, f.Pusher)
		f.publish(t, 3)
		pass(time.Minute)
		require.Empty(t, w.all())
		require.Zero(t, f.store.count("claim")+f.store.count("waiting")+f.store.count("step"))
		require.NoError(t, f.Configure(Settings{}))
		pass(time.Second)
		require.Len(t, w.all(), 3)
	})
}

// TestWakeOfAnotherNode: a message that another node published is delivered at
// once, and one whose wake was lost within seconds.
func TestWakeOfAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
		publisher := f.another(t, Settings{})
		run(t, f.Pusher)
		synctest.Wait()
		_, err := publisher.Publish(t.Context(), []Message{testMessage(`{"id":1}`)})
		require.NoError(t, err)
		f.store.wakes[0]([]uint64{10})
		synctest.Wait()
		require.Len(t, w.all(), 1)
		_, err = publisher.Publish(t.Context(), []Message{testMessage(`{"id":1}`)})
		require.NoError(t, err)
		pass(scanEvery * 13 / 10)
		require.Len(t, w.all(), 2)
	})
}

// TestLeaseOfOtherSettings: what was claimed for a short time is not posted, nor saved,
// as if it had been for the longer one of new settings.
func TestLeaseOfOtherSettings(t *testing.T) {
	short, long := Settings{Timeout: 5 * time.Second, Lease: 10 * time.Second}, Settings{Timeout: time.Minute, Lease: 65 * time.Second}
	t.Run("posted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			short, long := short, long
			short.Workers, long.Workers = 2, 2
			f, w := newSimulation(t, short, testApp(1, to("a")))
			run(t, f.Pusher)
			f.publish(t, 1)
			pass(time.Second)
			w.answer("a", always(reply{status: 200, after: 3 * time.Second}))
			f.publish(t, 6)
			pass(time.Second) // some are under way, the others wait for them
			w.answer("a", always(reply{status: 200, after: 30 * time.Second}))
			require.NoError(t, f.Configure(long))
			pass(10 * time.Minute)
			require.Zero(t, f.Stats().Rescued, "no lease ended before its request did")
			require.Len(t, w.to("a"), 7)
		})
	})
	t.Run("saved", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, _ := newSimulation(t, short, testApp(1, to("a")))
			run(t, f.Pusher)
			synctest.Wait()
			f.store.down(time.Now().Add(time.Hour), "complete")
			f.publish(t, 1)
			pass(time.Second)
			require.NoError(t, f.Configure(long))
			pass(11 * time.Second)
			require.Equal(t, uint64(1), f.Stats().Lost)
		})
	})
}
