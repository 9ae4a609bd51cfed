package store

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// attempts are those of a delivery, by fence.
func (p *pushTest) attempts(id pusher.DeliveryID) (all []pusher.Attempt) {
	p.Helper()
	rows, err := p.readers.Query(p.engine.bind(`SELECT number, cause, started, duration, address, status, class, error, response, node
		FROM push_attempts WHERE at = ? AND id = ? ORDER BY fence`), id.At, id.ID)
	require.NoError(p, err)
	defer func() { require.NoError(p, rows.Close()) }()
	for rows.Next() {
		var a pusher.Attempt
		var started, duration int64
		require.NoError(p, rows.Scan(&a.Number, &a.Cause, &started, &duration, &a.Address, &a.Status, &a.Class, &a.Error, &a.Response, &a.Node))
		a.Started, a.Duration = fromUnixMicro(started), time.Duration(duration)*time.Microsecond
		all = append(all, a)
	}
	require.NoError(p, rows.Err())
	return all
}

func TestComplete(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		for range 5 {
			p.publish(p.message("", sub))
		}
		w := p.claim(endpoint(sub)).Work
		gaveUp := pusher.Completion{ID: w[4].ID, Subscription: sub, Fence: w[4].Fence, State: pusher.Pending} // not attempted
		require.Equal(p, []bool{true, true, true, true, true}, p.complete(
			done(w[3], pusher.Pending, 0), gaveUp, done(w[2], pusher.Cancelled, 0), done(w[0], pusher.Delivered, 0), done(w[1], pusher.Failed, 0),
		))
		require.Equal(p, recorded{pusher.Delivered, 1, true, 204, "", w[0].Fence}, p.recorded(w[0].ID))
		require.Equal(p, recorded{pusher.Failed, 1, false, 500, pusher.ClassStatus, w[1].Fence}, p.recorded(w[1].ID))
		require.Equal(p, recorded{pusher.Cancelled, 1, false, 500, pusher.ClassStatus, w[2].Fence}, p.recorded(w[2].ID))
		require.Equal(p, recorded{pusher.Pending, 1, false, 500, pusher.ClassStatus, 0}, p.recorded(w[3].ID))
		require.Equal(p, recorded{pusher.Pending, 0, false, 0, "", 0}, p.recorded(w[4].ID))
		require.Equal(p, 1, p.count(`SELECT count(*) FROM push_failed`))
		require.Equal(p, []pusher.Attempt{*done(w[0], pusher.Delivered, 0).Attempt}, p.attempts(w[0].ID))
		require.Empty(p, p.attempts(w[4].ID))

		again := p.claim(endpoint(sub)).Work
		require.Equal(p, ids(w[3:]), ids(again))
		require.Equal(p, []int{2, 1}, []int{again[0].Attempt, again[1].Attempt})
		require.Equal(p, []int{2, 1}, []int{again[0].Tries, again[1].Tries})
		require.Greater(p, again[1].Fence, w[4].Fence)
		require.Equal(p, time.Duration(again[0].Fence-w[3].Fence)*time.Microsecond, again[0].Trying, "from claim to claim")
		require.Zero(p, again[1].Trying)
		require.Equal(p, []bool{true}, p.complete(done(again[0], pusher.Delivered, 0)))
		require.Equal(p, recorded{pusher.Delivered, 2, true, 204, "", again[0].Fence}, p.recorded(w[3].ID))

		_, err := p.Complete(p.Context(), []pusher.Completion{{State: pusher.Delivering}})
		require.ErrorContains(p, err, "no state")
		require.Empty(p, p.complete())
	})
}

// Who has lost a delivery changes nothing, and what it did is recorded.
func TestCompleteStale(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		p.publish(p.message("", sub))
		first := p.claim(endpoint(sub)).Work[0]
		p.expire()
		n, subs, err := p.Rescue(p.Context(), 10)
		require.NoError(p, err)
		require.Equal(p, 1, n)
		require.Equal(p, []uint64{sub}, subs)
		require.Equal(p, recorded{pusher.Pending, 1, false, 0, pusher.ClassLost, 0}, p.recorded(first.ID))
		lost := p.attempts(first.ID)
		require.Len(p, lost, 1)
		require.Equal(p, pusher.Attempt{Number: 1, Started: lost[0].Started, Class: pusher.ClassLost, Error: lostText, Node: "n1"}, lost[0])
		require.WithinDuration(p, p.now(), lost[0].Started, time.Minute)

		require.Equal(p, []bool{false}, p.complete(done(first, pusher.Delivered, 0)), "it is pending")
		second := p.claim(endpoint(sub)).Work[0]
		require.Equal(p, 2, second.Attempt)
		require.Equal(p, 2, second.Tries)
		require.Greater(p, second.Fence, first.Fence)
		require.Equal(p, []bool{false, true, false}, p.complete(
			done(first, pusher.Failed, 0), done(second, pusher.Pending, time.Hour), done(second, pusher.Delivered, 0),
		))
		require.Equal(p, []bool{false}, p.complete(done(second, pusher.Delivered, 0)), "it has told already")
		require.Equal(p, recorded{pusher.Pending, 2, false, 500, pusher.ClassStatus, 0}, p.recorded(first.ID))
		all := p.attempts(first.ID)
		require.Len(p, all, 2)
		require.Equal(p, *done(first, pusher.Delivered, 0).Attempt, all[0], "the end of it instead of its loss, and the first that was told")
		require.Equal(p, *done(second, pusher.Pending, 0).Attempt, all[1])

		// It left the queue, and came back.
		p.dueNow()
		third := p.claim(endpoint(sub)).Work[0]
		require.Equal(p, []bool{true}, p.complete(done(third, pusher.Failed, 0)))
		p.putBack(third.ID, pusher.Manual)
		fourth := p.claim(endpoint(sub)).Work[0]
		require.Greater(p, fourth.Fence, third.Fence)
		require.Equal(p, []bool{false}, p.complete(done(third, pusher.Delivered, 0)))
		require.Equal(p, []bool{true}, p.complete(done(fourth, pusher.Delivered, 0)))
		n, _, err = p.Rescue(p.Context(), 10)
		require.NoError(p, err)
		require.Zero(p, n)
	})
}

// Each push by hand is one attempt more, whenever it comes.
// An attempt that is under way when its delivery ends is counted, so that the next
// one has another number.
func TestEndedUnderWay(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		p.publish(p.message("", sub), p.message("", sub))
		w := p.claim(endpoint(sub)).Work
		require.Len(p, w, 2)
		require.Equal(p, []bool{true}, p.complete(done(w[1], pusher.Pending, 0)))
		for i, attempts := range []int{1, 1} { // one under way, one pending
			require.NoError(p, p.Cancel(p.Context(), w[i].ID))
			require.Equal(p, attempts, p.recorded(w[i].ID).Attempts)
		}
		require.Equal(p, []bool{false}, p.complete(done(w[0], pusher.Delivered, 0)))
		require.Len(p, p.attempts(w[0].ID), 1)
		require.NoError(p, p.PushAgain(p.Context(), w[0].ID))
		again := p.claim(endpoint(sub)).Work
		require.Len(p, again, 1)
		require.Equal(p, 2, again[0].Attempt)
	})
}

func TestCompleteOwed(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		p.publish(p.message("", sub))
		claim := func(cause pusher.Cause, attempt, tries int) pusher.Work {
			p.Helper()
			w := p.claim(endpoint(sub)).Work
			require.Len(p, w, 1)
			require.Equal(p, cause, w[0].Cause)
			require.Equal(p, []int{attempt, tries}, []int{w[0].Attempt, w[0].Tries})
			return w[0]
		}
		complete := func(w pusher.Work, state pusher.State, wait time.Duration) {
			p.Helper()
			require.Equal(p, []bool{true}, p.complete(done(w, state, wait)))
		}
		w := claim(pusher.Auto, 1, 1)
		complete(w, pusher.Pending, time.Hour)
		p.owe(w.ID)
		p.owe(w.ID)
		w = claim(pusher.Manual, 2, 1)
		require.Zero(p, w.Trying)
		complete(w, pusher.Delivered, 0)
		require.Equal(p, recorded{pusher.Pending, 2, true, 204, "", 0}, p.recorded(w.ID), "one more is owed")
		delivered := p.count(`SELECT delivered_at FROM push_deliveries`)
		w = claim(pusher.Manual, 3, 1)
		p.owe(w.ID) // while it is under way
		complete(w, pusher.Failed, 0)
		w = claim(pusher.Manual, 4, 1)
		complete(w, pusher.Pending, 0)
		w = claim(pusher.Manual, 5, 2) // a retry keeps the cause
		require.NotZero(p, w.Trying)
		p.clock.Add(1)
		complete(w, pusher.Delivered, 0)
		require.Equal(p, recorded{pusher.Delivered, 5, true, 204, "", w.Fence}, p.recorded(w.ID))
		require.Equal(p, delivered, p.count(`SELECT delivered_at FROM push_deliveries`), "when it arrived first")
		require.Empty(p, p.claim(endpoint(sub)).Work)

		// One that is lost is not forgotten.
		p.publish(p.message("", sub))
		w = claim(pusher.Auto, 1, 1)
		complete(w, pusher.Pending, time.Hour)
		p.owe(w.ID)
		claim(pusher.Manual, 2, 1)
		p.expire()
		_, _, err := p.Rescue(p.Context(), 1)
		require.NoError(p, err)
		w = claim(pusher.Manual, 3, 2)
		complete(w, pusher.Delivered, 0)
	})
}

// What is posted can be encrypted anew.
func TestCompleteBody(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		p.publish(p.message("", sub), p.message("", sub))
		w := p.claim(endpoint(sub)).Work
		c := done(w[0], pusher.Pending, 0)
		c.Body, c.KeyNumber = []byte("anew"), 4
		require.Equal(p, []bool{true, true}, p.complete(c, done(w[1], pusher.Pending, 0)))
		again := p.claim(endpoint(sub)).Work
		require.Equal(p, []string{"anew", string(w[1].Body)}, bodies(again))
		require.Equal(p, []int{4, 3}, []int{again[0].KeyNumber, again[1].KeyNumber})
	})
}

// An attempt is recorded whatever it says, and whenever it was.
func TestCompleteRecordsAll(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		p.publish(p.message("", sub))
		if p.pool != nil { // the attempts of that day were dropped
			p.run(`DROP TABLE ` + attemptSeries.partition(p.now()).name)
		}
		w := p.claim(endpoint(sub)).Work[0]
		c := done(w, pusher.Pending, 0)
		c.Attempt.Error, c.Attempt.Address, c.Attempt.Response = "a\x00b\xff", "\x00", []byte("\x00\xff")
		require.Equal(p, []bool{true}, p.complete(c))
		a := p.attempts(w.ID)
		require.Equal(p, []string{"a\uFFFDb\uFFFD", "\uFFFD", "\x00\xff"}, []string{a[0].Error, a[0].Address, string(a[0].Response)})

		p.claim(endpoint(sub))
		p.expire()
		if p.pool != nil {
			p.run(`DROP TABLE ` + attemptSeries.partition(p.now()).name)
		}
		n, _, err := p.Rescue(p.Context(), 10)
		require.NoError(p, err)
		require.Equal(p, 1, n)
	})
}

// A claim of which nothing is left goes when its lease has ended.
func TestRescueOfNothing(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		p.publish(p.message("", sub))
		p.claim(endpoint(sub))
		p.run(`DELETE FROM push_queue`)
		for _, want := range []int{1, 0} {
			require.Equal(p, want, p.count(`SELECT count(*) FROM push_claims`))
			p.expire()
			n, _, err := p.Rescue(p.Context(), 10)
			require.NoError(p, err)
			require.Zero(p, n)
		}
		require.Zero(p, p.count(`SELECT count(*) FROM push_attempts`))
	})
}

// Rescue takes what it is allowed to, and leaves what is under way.
func TestRescueLimit(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		subs := p.subscribe(3)
		for range 3 {
			p.publish(p.message("", subs[0], subs[1]))
		}
		require.Len(p, p.claim(endpoint(subs[0]), endpoint(subs[1])).Work, 6)
		p.expire()
		p.publish(p.message("", subs[2]))
		live := p.claim(endpoint(subs[2])).Work
		var got []int
		for range 3 {
			n, _, err := p.Rescue(p.Context(), 4)
			require.NoError(p, err)
			got = append(got, n)
		}
		require.Equal(p, []int{4, 2, 0}, got)
		require.Equal(p, []bool{true}, p.complete(done(live[0], pusher.Delivered, 0)))
		require.Len(p, p.claim(endpoint(subs[0]), endpoint(subs[1])).Work, 6)
	})
}
