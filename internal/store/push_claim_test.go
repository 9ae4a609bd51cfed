package store

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// Of each endpoint a node gets what it has room for, and all nodes together what
// the endpoint bears.
func TestClaimCaps(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		subs := p.subscribe(3)
		for range 6 {
			p.publish(p.message("", subs[0], subs[1]))
		}
		ask := func(room, most int) pusher.ClaimResult {
			p.Helper()
			e := []pusher.Endpoint{endpoint(subs[1]), endpoint(subs[2])}
			return p.claim(pusher.Endpoint{Subscription: subs[0], Room: room, Concurrency: most}, e[0], e[1])
		}
		r := ask(2, 4)
		require.Len(p, r.Work, 2+6)
		require.Equal(p, []uint64{subs[0]}, r.More)
		require.Empty(p, r.Busy)
		first := r.Work[0]
		r = ask(5, 4)
		require.Len(p, r.Work, 2, "four are under way")
		require.Equal(p, []uint64{subs[0]}, r.More)
		r = ask(5, 4)
		require.Empty(p, r.Work)
		require.Equal(p, []uint64{subs[0]}, r.More)
		r = ask(0, 5)
		require.Empty(p, r.Work)
		require.Equal(p, []uint64{subs[0]}, r.More)
		require.Equal(p, []bool{true}, p.complete(done(first, pusher.Delivered, 0)))
		require.Len(p, ask(5, 4).Work, 1)
		r = ask(1, 100)
		require.Len(p, r.Work, 1)
		require.Empty(p, r.More, "that was the last one")
		require.Empty(p, p.claim().Work)
		// The same endpoint twice is one.
		p.publish(p.message("", subs[2]), p.message("", subs[2]))
		e := pusher.Endpoint{Subscription: subs[2], Room: 1, Concurrency: 9}
		require.Len(p, p.claim(e, e).Work, 1)
	})
}

// Only what is due is claimed, the longest due first.
func TestClaimDue(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		p.publish(p.message("", sub), p.message("", sub))
		w := p.claim(endpoint(sub)).Work
		require.Equal(p, []bool{true, true}, p.complete(done(w[0], pusher.Pending, time.Hour), done(w[1], pusher.Pending, 0)))
		again := p.claim(endpoint(sub))
		require.Equal(p, ids(w[1:]), ids(again.Work))
		require.Empty(p, again.More)
		list, err := p.Waiting(p.Context())
		require.NoError(p, err)
		require.Len(p, list, 1)
		require.Equal(p, sub, list[0].Subscription)
		require.WithinDuration(p, p.now().Add(time.Hour), list[0].Due, time.Minute)
		require.Equal(p, []bool{true}, p.complete(done(again.Work[0], pusher.Pending, 0)))
		p.dueNow()
		r, err := p.Claim(p.Context(), pusher.Claim{Lease: time.Minute, Endpoints: []pusher.Endpoint{{Subscription: sub, Room: 1, Concurrency: 1}}})
		require.NoError(p, err)
		require.Equal(p, ids(w[:1]), ids(r.Work))
	})
}

// What is under way is not claimed again, also where the fences of its deliveries
// are not in the order of their claims: one that was under way before is ahead of
// the clock, for the clock has been put back or the database has come from elsewhere.
func TestClaimAheadOfTheClock(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		subs := p.subscribe(2)
		ahead := func() {
			p.run(`UPDATE push_queue SET fence = ` + p.sqlClock() + ` + 20000000 WHERE id = (SELECT max(id) FROM push_queue)`)
		}
		p.publish(p.message("", subs[0]), p.message("", subs[0]))
		ahead()
		w := p.claim(endpoint(subs[0])).Work
		require.Len(p, w, 2)
		require.Empty(p, p.claim(endpoint(subs[0])).Work)
		require.Equal(p, []bool{true, true}, p.complete(done(w[0], pusher.Delivered, 0), done(w[1], pusher.Delivered, 0)), "its fence is a later one all the same")

		p.publish(p.message("", subs[1]))
		ahead()
		require.Len(p, p.claim(endpoint(subs[1])).Work, 1)
		p.publish(p.message("", subs[1]))
		require.Len(p, p.claim(endpoint(subs[1])).Work, 1)
		require.Empty(p, p.claim(endpoint(subs[1])).Work)
	})
}

// Deliveries of subscriptions that are not active wait; those of a deleted one
// are nobody's.
func TestClaimActiveAlone(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		subs := p.subscribe(5)
		p.publish(p.message("", subs...))
		status := func(sub uint64, status platform.SubscriptionStatus) {
			p.run(`UPDATE subscriptions SET status = ? WHERE number = ?`, string(status), int64(sub))
		}
		status(subs[0], platform.Paused)
		status(subs[1], platform.Disabled)
		status(subs[2], platform.Unverified)
		p.run(`DELETE FROM subscriptions WHERE number = ?`, int64(subs[3]))
		var all []pusher.Endpoint
		for _, sub := range subs {
			all = append(all, endpoint(sub))
		}
		r := p.claim(all...)
		require.Len(p, r.Work, 1)
		require.Equal(p, subs[4], r.Work[0].Subscription)
		require.Empty(p, r.Busy)
		require.Empty(p, r.More)
		list, err := p.Waiting(p.Context())
		require.NoError(p, err)
		var waiting []uint64
		for _, w := range list {
			waiting = append(waiting, w.Subscription)
		}
		require.Equal(p, subs[:3], waiting)
		status(subs[1], platform.SubscriptionActive)
		require.Len(p, p.claim(all...).Work, 1)
	})
}

// A delivery whose grant has ended is told to be.
func TestClaimRevoked(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		p.user(platform.UserActive)
		p.grant("live", platform.Production, p.now().Add(time.Hour))
		p.grant("over", platform.Sandbox, p.now().Add(-time.Hour))
		granted, err := p.Granted(p.Context(), platform.Production, []string{"u1", "u1", "nobody", "\x00"})
		require.NoError(p, err)
		require.Equal(p, []platform.Grant{{
			ID: "live", User: "u1", App: p.app.ID, AppNumber: p.app.Number, Environment: platform.Production, Scopes: []string{"trade"},
			CreatedAt: fromUnixMicro(1), ExpiresAt: p.now().Add(time.Hour).UTC(),
		}}, granted)
		for _, none := range [][]string{nil, {"nobody"}} {
			granted, err = p.Granted(p.Context(), platform.Production, none)
			require.NoError(p, err)
			require.Empty(p, granted)
		}
		granted, err = p.Granted(p.Context(), platform.Sandbox, []string{"u1"})
		require.NoError(p, err)
		require.Empty(p, granted)

		want := map[int64]bool{}
		for _, id := range []string{"live", "over", "gone", "", "live"} {
			m := p.message("", sub)
			m.Deliveries[0].Grant = id
			p.publish(m)
			want[m.Message.ID.ID] = id == "over" || id == "gone"
		}
		w := p.claim(endpoint(sub)).Work
		require.Len(p, w, 5)
		for i := range w {
			require.Equal(p, want[w[i].Message.ID], w[i].Revoked)
		}
		require.Equal(p, []bool{true}, p.complete(done(w[0], pusher.Pending, 0)))

		for _, status := range []platform.UserStatus{platform.UserDisabled, platform.UserActive} {
			p.user(status)
			granted, err = p.Granted(p.Context(), platform.Production, []string{"u1"})
			require.NoError(p, err)
			require.Equal(p, status == platform.UserDisabled, len(granted) == 0)
			w = p.claim(endpoint(sub)).Work
			require.Len(p, w, 1)
			require.Equal(p, status == platform.UserDisabled, w[0].Revoked)
			require.Equal(p, []bool{true}, p.complete(done(w[0], pusher.Pending, 0)))
		}
		p.run(`UPDATE grants SET revoked_at = ? WHERE id = 'live'`, p.now().UnixMicro())
		w = p.claim(endpoint(sub)).Work
		require.True(p, w[0].Revoked, "it ended meanwhile")
		cancel := pusher.Completion{ID: w[0].ID, Subscription: sub, Fence: w[0].Fence, State: pusher.Cancelled}
		require.Equal(p, []bool{true}, p.complete(cancel))
		require.Equal(p, recorded{State: pusher.Cancelled, Attempts: 3, Status: 500, Class: pusher.ClassStatus, Fence: w[0].Fence}, p.recorded(w[0].ID))
	})
}

// What was pruned by its age is posted from the original.
func TestClaimWithoutPayload(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		p.publish(p.message("", sub))
		p.run(`DELETE FROM push_payloads`)
		w := p.claim(endpoint(sub)).Work
		require.Len(p, w, 1)
		require.Empty(p, w[0].Body)
	})
}

// Another node that is at an endpoint is not waited for.
func TestClaimBusy(t *testing.T) {
	p := newPushTest(t, engines[1], postgresDatabase(t))
	subs := p.subscribe(3)
	p.publish(p.message("", subs...))
	p.run(`UPDATE subscriptions SET status = 'paused' WHERE number = ?`, int64(subs[2]))
	other, err := p.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = other.Exec(t.Context(), `SELECT 1 FROM subscriptions WHERE number = ANY($1) FOR UPDATE`, []int64{int64(subs[0]), int64(subs[2])})
	require.NoError(t, err)
	r := p.claim(endpoint(subs[0]), endpoint(subs[1]), endpoint(subs[2]))
	require.Len(t, r.Work, 1)
	require.Equal(t, []uint64{subs[0]}, r.Busy)
	require.Empty(t, r.More)

	require.NoError(t, other.Rollback(t.Context()))
	require.Len(t, p.claim(endpoint(subs[0])).Work, 1)
}

// Who changes a delivery is not waited for either.
func TestClaimOfWhatIsChanged(t *testing.T) {
	p := newPushTest(t, engines[1], postgresDatabase(t))
	sub := p.subscribe(1)[0]
	p.publish(p.message("", sub), p.message("", sub))
	p.owe(p.claim(pusher.Endpoint{Subscription: sub, Room: 1, Concurrency: 1}).Work[0].ID)
	p.run(`DELETE FROM push_claims`)
	other, err := p.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = other.Exec(t.Context(), `UPDATE push_queue SET owed = owed + 1`)
	require.NoError(t, err)
	r := p.claim(endpoint(sub))
	require.Len(t, r.Work, 1, "nobody can tell now how many manual pushes of the other one are owed")
	require.Equal(t, pusher.Auto, r.Work[0].Cause)
	require.Empty(t, r.More, "it would not be had at once")
	require.NoError(t, other.Commit(t.Context()))
	require.Equal(t, []bool{true}, p.complete(done(r.Work[0], pusher.Delivered, 0)))
	for _, want := range []int{2, 1} {
		work := p.claim(endpoint(sub)).Work
		require.Len(t, work, want)
		for _, w := range work {
			require.Equal(t, pusher.Manual, w.Cause)
			require.Equal(t, []bool{true}, p.complete(done(w, pusher.Delivered, 0)))
		}
	}
	require.Zero(t, p.count(`SELECT count(*) FROM push_queue`))
}

// A claim may see a delivery that is acknowledged, or cancelled, at that moment: its
// row is there when that is over. Where the delivery then comes back, who has it is
// stale, and the next one waits until that one is done.
func TestClaimOfWhatEnds(t *testing.T) {
	p := newPushStore(t, engines[1].empty(t), "a")
	id := p.publish(t, "a", testTime)
	stale := p.claim(t, "a")[0]
	require.NoError(t, p.Cancel(t.Context(), id))
	require.Zero(t, p.count(t, "push_claims"))
	_, err := p.pool.Exec(t.Context(), `INSERT INTO push_claims VALUES ($1, $2, $3, $4, 'node')`, int64(stale.Subscription), stale.Fence, id.ID, stale.Fence+60_000_000)
	require.NoError(t, err)
	_, err = p.pool.Exec(t.Context(), `UPDATE push_deliveries SET fence = 0`)
	require.NoError(t, err)
	require.NoError(t, p.PushAgain(t.Context(), id))
	require.Empty(t, p.claim(t, "a"))
	require.False(t, p.complete(t, stale, pusher.Delivered))
	require.Equal(t, pusher.Pending, p.state(t, id))
	work := p.claim(t, "a")
	require.Len(t, work, 1)
	require.True(t, p.complete(t, work[0], pusher.Delivered))
}

// However long something has been due, claims come to it one after the other.
func TestClaimGoesOn(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		for range 7 {
			p.publish(p.message("", sub))
		}
		p.run(`UPDATE push_queue SET due_at = due_at - 60000000 + 1000000 * id`)
		var got []int
		for more := true; more; {
			r := p.claim(pusher.Endpoint{Subscription: sub, Room: 2, Concurrency: 100})
			got, more = append(got, len(r.Work)), len(r.More) > 0
		}
		require.Equal(p, []int{2, 2, 2, 1}, got)
	})
}

// Without anything due a claim remembers how far it looked, and still finds what
// was committed late, or is due by a clock that went back.
func TestClaimLooksAtEverything(t *testing.T) {
	p := newPushTest(t, engines[1], postgresDatabase(t))
	sub := p.subscribe(1)[0]
	require.Empty(t, p.claim(endpoint(sub)).Work)
	p.publish(p.message("", sub))
	p.run(`UPDATE push_queue SET due_at = due_at - 60000000`)
	require.Empty(t, p.claim(endpoint(sub)).Work, "it is before what was looked at")
	p.clock.Add(lookEvery.Microseconds())
	require.Len(t, p.claim(endpoint(sub)).Work, 1)
}

// TestWhatWaitsForTheDisk is what was accepted and what became of it, and not who
// has it meanwhile, which changes nothing of it.
func TestWhatWaitsForTheDisk(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		p.run(`CREATE TABLE levels (op TEXT, level TEXT)`)
		if p.pool != nil {
			p.run(`CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				INSERT INTO levels VALUES (TG_OP || ' ' || TG_TABLE_NAME, current_setting('synchronous_commit')); RETURN NULL; END $$`)
		}
		for _, table := range []string{"push_queue", "push_claims"} {
			for _, op := range []string{"INSERT", "UPDATE", "DELETE"} {
				if p.pool != nil {
					p.run(`CREATE TRIGGER note_` + op + ` AFTER ` + op + ` ON ` + table + ` FOR EACH ROW EXECUTE FUNCTION note()`)
					continue
				}
				p.run(`CREATE TEMP TRIGGER note_` + table + op + ` AFTER ` + op + ` ON main.` + table + ` BEGIN
					INSERT INTO main.levels SELECT '` + op + ` ` + table + `', CASE synchronous WHEN 2 THEN 'on' WHEN 1 THEN 'off' END FROM pragma_synchronous; END`)
			}
		}
		p.publish(p.message("", sub))
		p.complete(done(p.claim(endpoint(sub)).Work[0], pusher.Delivered, 0))
		for op, want := range map[string]string{
			"INSERT push_queue": "on", "INSERT push_claims": "off", "DELETE push_claims": "on", "DELETE push_queue": "on",
		} {
			require.Equal(p, 1, p.count(`SELECT count(*) FROM levels WHERE op = ? AND level = ?`, op, want), op)
		}
		require.Equal(p, 4, p.count(`SELECT count(*) FROM levels`))
	})
}

// TestLostClaim: a server that failed forgets a claim whose node goes on. The next
// claim is another one. Whoever comes first tells what became of the delivery, and
// both attempts are recorded.
func TestLostClaim(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		p.publish(p.message("", sub))
		lost := p.claim(endpoint(sub)).Work[0]
		p.run(`DELETE FROM push_claims`)
		p.clock.Add(1)
		again := p.claim(endpoint(sub)).Work[0]
		require.NotEqual(p, lost.Fence, again.Fence)
		require.Equal(p, []bool{true}, p.complete(done(lost, pusher.Pending, 0)))
		require.Empty(p, p.claim(endpoint(sub)).Work, "it is under way still")
		require.Equal(p, []bool{true}, p.complete(done(again, pusher.Delivered, 0)))
		require.Equal(p, []bool{false}, p.complete(done(lost, pusher.Pending, 0)))
		require.Equal(p, 2, p.count(`SELECT count(*) FROM push_attempts`))
		require.Equal(p, pusher.Delivered, p.recorded(again.ID).State)
	})
}
