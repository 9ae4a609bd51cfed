package store

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

func TestPushAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, e engineTest) {
		t.Run("final", func(t *testing.T) { testPushFinalAgain(t, e) })
		t.Run("under way", func(t *testing.T) { testPushUnderWayAgain(t, e) })
		t.Run("cancel", func(t *testing.T) { testCancel(t, e) })
	})
}

// A delivery that is over, however it ended, is attempted again: as often as it
// was asked for.
func testPushFinalAgain(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "a")
	for _, state := range []pusher.State{pusher.Delivered, pusher.Failed, pusher.Cancelled, pusher.Acked} {
		id := p.publish(t, "a", testTime)
		work := p.claim(t, "a")
		require.True(t, p.complete(t, work[0], state))
		fences := map[int64]bool{work[0].Fence: true}
		require.NoError(t, p.PushAgain(t.Context(), id))
		require.NoError(t, p.PushAgain(t.Context(), id))
		require.Equal(t, pusher.Pending, p.state(t, id))
		require.Zero(t, p.count(t, "push_failed"))
		for i := range 2 {
			work := p.claim(t, "a")
			require.Len(t, work, 1, "%s %d", state, i)
			w := work[0]
			require.Equal(t, id, w.ID)
			require.Equal(t, pusher.Manual, w.Cause)
			require.Equal(t, 1, w.Tries)
			require.Equal(t, i+2, w.Attempt)
			require.Zero(t, w.Trying)
			require.False(t, fences[w.Fence], "a fence never repeats")
			fences[w.Fence] = true
			require.True(t, p.complete(t, w, pusher.Delivered))
		}
		require.Empty(t, p.claim(t, "a"))
		require.Equal(t, pusher.Delivered, p.state(t, id))
		record, err := p.Delivery(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, pusher.Manual, record.Cause)
		require.Equal(t, 3, record.Attempts)
	}
	id := p.publish(t, "a", testTime)
	p.deliver(t, "a", pusher.Delivered)
	put(t, p.Store, func(ctx context.Context, tx platform.Tx) error { return tx.DeleteSubscription(ctx, p.subs["a"].ID) })
	require.ErrorIs(t, p.PushAgain(t.Context(), id), platform.ErrConflict)
}

// A push while an attempt is under way makes another one after it, also where
// the lease has been taken away in between.
func testPushUnderWayAgain(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "a")
	id := p.publish(t, "a", testTime)
	first := p.claim(t, "a")[0]
	require.NoError(t, p.PushAgain(t.Context(), id))
	require.NoError(t, p.PushAgain(t.Context(), id))
	require.Empty(t, p.claim(t, "a"), "one at a time")
	require.True(t, p.complete(t, first, pusher.Delivered))
	for range 2 {
		work := p.claim(t, "a")
		require.Len(t, work, 1)
		require.Equal(t, pusher.Manual, work[0].Cause)
		require.True(t, p.complete(t, work[0], pusher.Failed))
	}
	require.Empty(t, p.claim(t, "a"))
	require.Equal(t, pusher.Failed, p.state(t, id))

	// Acknowledged, and pushed again, while a node is at it: that node's fence is
	// none that is given later.
	require.NoError(t, p.PushAgain(t.Context(), id))
	stale := p.claim(t, "a")[0]
	n, err := p.Acknowledge(t.Context(), p.app.Number, platform.Production, []pusher.DeliveryID{id})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, p.PushAgain(t.Context(), id))
	again := p.claim(t, "a")[0]
	require.NotEqual(t, stale.Fence, again.Fence)
	require.False(t, p.complete(t, stale, pusher.Failed))
	require.True(t, p.complete(t, again, pusher.Delivered))
	require.Equal(t, pusher.Delivered, p.state(t, id))
	attempts, err := p.Attempts(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, attempts, 5)
}

func testCancel(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "a")
	moving := p.publish(t, "a", testTime)
	work := p.claim(t, "a")
	waiting := p.publish(t, "a", testTime)
	for _, id := range []pusher.DeliveryID{moving, waiting} {
		require.NoError(t, p.Cancel(t.Context(), id))
		require.Equal(t, pusher.Cancelled, p.state(t, id))
		require.ErrorIs(t, p.Cancel(t.Context(), id), platform.ErrConflict)
	}
	require.False(t, p.complete(t, work[0], pusher.Delivered))
	require.Equal(t, pusher.Cancelled, p.state(t, moving))
	require.Empty(t, p.claim(t, "a"))
}

// TestPushWaitsInACircle: who changes deliveries and was undone, because somebody
// else waits for what it has, does it again.
func TestPushWaitsInACircle(t *testing.T) {
	p := newPushStore(t, engines[1].empty(t), "a")
	ids := []int64{p.publish(t, "a", testTime).ID, p.publish(t, "a", testTime).ID}
	const lock = `SELECT 1 FROM push_queue WHERE id = $1 FOR UPDATE`
	other, err := p.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = other.Exec(t.Context(), `SET LOCAL deadlock_timeout = '1h'`) // it is not the one that notices
	require.NoError(t, err)
	_, err = other.Exec(t.Context(), lock, ids[1])
	require.NoError(t, err)
	var waits sync.WaitGroup
	tries := 0
	require.NoError(t, p.pushing(t.Context(), func(c *conn) ([]uint64, error) {
		tries++
		for _, id := range ids {
			if err := c.each(t.Context(), func(*sql.Rows) error { return nil }, `SELECT 1 FROM push_queue WHERE id = ? FOR UPDATE`, id); err != nil {
				return nil, err
			}
			if tries == 1 {
				waits.Go(func() {
					_, err := other.Exec(t.Context(), lock, ids[0])
					assert.NoError(t, err)
					assert.NoError(t, other.Commit(t.Context()))
				})
				require.Eventually(t, func() bool { return p.count(t, `pg_locks WHERE NOT granted`) > 0 }, time.Minute, time.Millisecond)
			}
		}
		return nil, nil
	}))
	waits.Wait()
	require.Equal(t, 2, tries)
}
