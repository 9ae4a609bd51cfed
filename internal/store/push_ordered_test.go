package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// One of each key at a time, the oldest first.
func TestOrdered(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		for _, key := range []string{"a", "a", "b", "", "a", "", "b"} {
			p.publish(p.message(key, sub))
		}
		w := p.claim(ordered(sub)).Work
		require.Equal(p, []string{"a", "b", "", ""}, []string{w[0].Key, w[1].Key, w[2].Key, w[3].Key})
		require.Len(p, w, 4)
		require.Empty(p, p.claim(ordered(sub)).Work)
		require.Equal(p, 3, p.count(`SELECT count(*) FROM push_queue WHERE held`))

		// A head that fails holds its key until it is over.
		require.Equal(p, []bool{true, true}, p.complete(done(w[0], pusher.Pending, time.Hour), done(w[1], pusher.Delivered, 0)))
		r := p.claim(ordered(sub))
		require.Len(p, r.Work, 1)
		require.Equal(p, "b", r.Work[0].Key)
		require.Empty(p, p.claim(ordered(sub)).Work)
		p.dueNow()
		r = p.claim(ordered(sub))
		require.Equal(p, ids(w[:1]), ids(r.Work))
		require.Equal(p, []bool{true}, p.complete(done(r.Work[0], pusher.Failed, 0)))
		next := p.claim(ordered(sub)).Work
		require.Len(p, next, 1)
		require.Equal(p, "a", next[0].Key)
		require.Greater(p, next[0].ID.ID, w[0].ID.ID)

		// One that was put back is older, and still not beside the other.
		p.putBack(w[0].ID, pusher.Repush)
		require.Empty(p, p.claim(ordered(sub)).Work)
		require.Equal(p, []bool{true}, p.complete(done(next[0], pusher.Pending, 0)))
		r = p.claim(ordered(sub))
		require.Equal(p, ids(w[:1]), ids(r.Work))
		require.Equal(p, pusher.Repush, r.Work[0].Cause)

		// Whoever takes the head out of the queue lets the next one go.
		p.run(`DELETE FROM push_queue WHERE id = ?`, w[0].ID.ID)
		require.Equal(p, ids(next), ids(p.claim(ordered(sub)).Work))
	})
}

// A subscription that is ordered no longer lets go of all that it held back.
func TestOrderedNoLonger(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		for range 5 {
			p.publish(p.message("a", sub))
		}
		require.Len(p, p.claim(ordered(sub)).Work, 1)
		r := p.claim(endpoint(sub))
		require.Equal(p, []uint64{sub}, r.More)
		require.Len(p, append(r.Work, p.claim(endpoint(sub)).Work...), 4)
	})
}

// However many wait behind one of a key, others are found, and no claim looks at
// the same again.
func TestOrderedBehindMany(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		const behind = 3*lookaheadRows + 10
		batch := make(pusher.Batch, 0, behind+1)
		for range behind {
			batch = append(batch, p.message("slow", sub))
		}
		batch = append(batch, p.message("other", sub))
		r, err := p.Publish(p.Context(), []pusher.Batch{batch})
		require.NoError(p, err)
		require.NoError(p, r[0].Err)
		e := pusher.Endpoint{Subscription: sub, Room: 10, Concurrency: 10, Ordered: true}
		var keys []string
		for n := 0; ; n++ {
			require.Less(p, n, 10)
			r := p.claim(e)
			for _, w := range r.Work {
				keys = append(keys, w.Key)
			}
			if len(r.More) == 0 {
				break
			}
		}
		require.Equal(p, []string{"slow", "other"}, keys)
		require.Equal(p, behind-1, p.count(`SELECT count(*) FROM push_queue WHERE held`))
	})
}

// The heads of keys respect the cap, too.
func TestOrderedCaps(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		for i := range 5 {
			p.publish(p.message(fmt.Sprint(i), sub), p.message(fmt.Sprint(i), sub))
		}
		e := pusher.Endpoint{Subscription: sub, Room: 2, Concurrency: 3, Ordered: true}
		r := p.claim(e)
		require.Len(p, r.Work, 2)
		require.Equal(p, []uint64{sub}, r.More)
		require.Len(p, p.claim(e).Work, 1)
		r = p.claim(e)
		require.Empty(p, r.Work)
		require.Equal(p, []uint64{sub}, r.More)
	})
}

// What is due while the cap is reached is found once it is not, however long it has
// been due by then.
func TestOrderedBeyondTheCap(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		e := pusher.Endpoint{Subscription: sub, Room: 1, Concurrency: 1, Ordered: true}
		p.publish(p.message("k", sub))
		w := p.claim(e).Work
		require.Len(p, w, 1)
		p.publish(p.message("k", sub), p.message("other", sub))
		p.run(`UPDATE push_queue SET due_at = due_at - 5000000`)
		p.clock.Add(lookEvery.Microseconds())
		r := p.claim(e)
		require.Empty(p, r.Work)
		require.Equal(p, []uint64{sub}, r.More)
		require.Equal(p, []bool{true}, p.complete(done(w[0], pusher.Pending, time.Hour)))
		w = p.claim(e).Work
		require.Len(p, w, 1)
		require.Equal(p, "other", w[0].Key)
	})
}

// Who takes the head of a key out of the queue waits for a claim that is just
// holding back the next one, and lets it go then.
func TestOrderedRace(t *testing.T) {
	p := newPushTest(t, engines[1], postgresDatabase(t))
	sub := p.subscribe(1)[0]
	p.publish(p.message("a", sub), p.message("a", sub))
	claim, err := p.pool.Begin(t.Context())
	require.NoError(t, err)
	for _, statement := range []string{
		`SELECT 1 FROM subscriptions FOR UPDATE`,
		`UPDATE push_queue SET held = true WHERE id = (SELECT max(id) FROM push_queue)`,
	} {
		_, err = claim.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	gone := make(chan error, 1)
	go func() {
		_, err := p.pool.Exec(t.Context(), `DELETE FROM push_queue WHERE id = (SELECT min(id) FROM push_queue)`)
		gone <- err
	}()
	require.Eventually(t, func() bool { return len(gone) > 0 || p.count(`SELECT count(*) FROM pg_locks WHERE NOT granted`) > 0 }, time.Minute, time.Millisecond)
	require.Empty(t, gone)
	require.NoError(t, claim.Commit(t.Context()))
	require.NoError(t, <-gone)
	require.Len(t, p.claim(ordered(sub)).Work, 1)
}
