package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

func TestJobs(t *testing.T) {
	onBoth(t, func(t *testing.T, e engineTest) {
		t.Run("list", func(t *testing.T) { testJobList(t, e) })
		t.Run("repush", func(t *testing.T) { testRepush(t, e) })
		t.Run("manual", func(t *testing.T) { testManualJob(t, e) })
		t.Run("reset", func(t *testing.T) { testReset(t, e) })
		t.Run("two nodes", func(t *testing.T) { testJobOnTwoNodes(t, e) })
		t.Run("states", func(t *testing.T) { testJobStates(t, e) })
		t.Run("turns", func(t *testing.T) { testJobTurns(t, e) })
	})
}

func (p *pushStore) job(tb testing.TB, cause pusher.Cause, f pusher.Filter) *pusher.Job {
	tb.Helper()
	j := &pusher.Job{ID: fmt.Sprintf("job_%d", p.last.Add(1)), Cause: cause, Filter: f, Actor: "staff"}
	require.NoError(tb, p.CreateJob(tb.Context(), j))
	require.Equal(tb, pusher.JobRunning, j.State)
	return j
}

// run steps until no job runs, and returns how many steps there were.
func (p *pushStore) run(tb testing.TB, limit int) (steps int, last *pusher.Job) {
	tb.Helper()
	for {
		job, _, err := p.StepJob(tb.Context(), limit)
		require.NoError(tb, err)
		if job == nil {
			return steps, last
		}
		steps, last = steps+1, job
	}
}

func testJobList(t *testing.T, e engineTest) {
	now := testTime
	p := newPushStore(t, e.with(t, e.database(t), testKeyring(t, 1), Options{Now: func() time.Time { return now }}), "a")
	f := pusher.Filter{
		App: p.app.Number, Subscription: p.subs["a"].Number, Environment: platform.Production, Topic: "a", User: "usr_a",
		States: []pusher.State{pusher.Delivered, pusher.Failed}, Since: testTime.Add(-time.Hour), Until: testTime.Add(-time.Minute), Message: pusher.MessageID{At: 1, ID: 2},
	}
	p.publish(t, "a", testTime)
	var want []pusher.Job
	for _, cause := range []pusher.Cause{pusher.Manual, pusher.Repush, pusher.Reset} {
		now = now.Add(time.Second)
		j := p.job(t, cause, f)
		require.Equal(t, pusher.Job{ID: j.ID, Cause: cause, Filter: f, State: pusher.JobRunning, Actor: "staff", CreatedAt: now, UpdatedAt: now}, *j)
		found, err := p.Job(t.Context(), j.ID)
		require.NoError(t, err)
		require.Equal(t, j, found)
		want = append([]pusher.Job{*j}, want...)
	}
	jobs, err := p.Jobs(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, want, jobs)
	jobs, err = p.Jobs(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, want[:2], jobs)
	for _, bad := range []pusher.Job{{ID: "job_a"}, {ID: want[0].ID, Cause: pusher.Reset}, {ID: "job_b", Cause: pusher.Reset, Filter: pusher.Filter{Topic: "\x00"}}} {
		require.ErrorIs(t, p.CreateJob(t.Context(), &bad), platform.ErrConflict)
	}
	jobs, err = p.Jobs(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, want, jobs)
}

// A repush takes the failed deliveries that were there, and no others.
func testRepush(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "a", "b")
	failed := map[pusher.DeliveryID]bool{}
	for i := range 25 {
		id := p.publish(t, "a", testTime.Add(time.Duration(i)*5*time.Hour))
		if i%2 == 0 {
			failed[id] = true
			p.deliver(t, "a", pusher.Failed)
		} else {
			p.deliver(t, "a", pusher.Delivered)
		}
	}
	p.publish(t, "b", testTime)
	p.deliver(t, "b", pusher.Failed)
	j := p.job(t, pusher.Repush, pusher.Filter{App: p.app.Number, Topic: "a"})
	require.EqualValues(t, 13, j.Total)
	p.publish(t, "a", testTime.Add(time.Hour))
	p.deliver(t, "a", pusher.Failed)

	job, subs, err := p.StepJob(t.Context(), 4)
	require.NoError(t, err)
	require.LessOrEqual(t, job.Done, int64(4))
	require.Equal(t, []uint64{p.subs["a"].Number}, subs)
	steps, last := p.run(t, 4)
	require.Equal(t, 3, steps)
	require.Equal(t, pusher.JobDone, last.State)
	require.EqualValues(t, 13, last.Done)
	work := p.claim(t, "a", "b")
	require.Len(t, work, 13)
	for _, w := range work {
		require.True(t, failed[w.ID])
		require.Equal(t, pusher.Repush, w.Cause)
		require.Equal(t, []int{1, 2}, []int{w.Tries, w.Attempt})
		require.Greater(t, w.Fence, int64(1))
		require.True(t, p.complete(t, w, pusher.Failed))
	}
	require.Equal(t, 15, p.count(t, "push_failed"))
	record, err := p.Delivery(t.Context(), work[0].ID)
	require.NoError(t, err)
	require.Equal(t, pusher.Repush, record.Cause)
}

// A manual job takes deliveries in any state, what is under way too.
func testManualJob(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "a")
	for _, state := range []pusher.State{pusher.Delivered, pusher.Failed, pusher.Cancelled, pusher.Acked} {
		p.publish(t, "a", testTime)
		p.deliver(t, "a", state)
	}
	p.publish(t, "a", testTime)
	moving := p.claim(t, "a")
	p.publish(t, "a", testTime)
	for range 2 {
		j := p.job(t, pusher.Manual, pusher.Filter{})
		require.EqualValues(t, 6, j.Total)
	}
	_, last := p.run(t, 4)
	require.EqualValues(t, 6, last.Done)
	require.True(t, p.complete(t, moving[0], pusher.Delivered))
	attempts := map[pusher.DeliveryID]int{}
	for {
		work := p.claim(t, "a")
		if len(work) == 0 {
			break
		}
		for _, w := range work {
			attempts[w.ID]++
			require.Equal(t, pusher.Manual, w.Cause)
			require.True(t, p.complete(t, w, pusher.Delivered))
		}
	}
	require.Len(t, attempts, 6)
	for _, n := range attempts {
		require.Equal(t, 2, n)
	}

	p.job(t, pusher.Manual, pusher.Filter{States: []pusher.State{pusher.Failed}})
	_, last = p.run(t, 4)
	require.Zero(t, last.Done)

	// More may come to be of a state once they were counted.
	p.publish(t, "a", testTime)
	require.EqualValues(t, 6, p.job(t, pusher.Manual, pusher.Filter{States: []pusher.State{pusher.Delivered}}).Total)
	require.Equal(t, 1, p.deliver(t, "a", pusher.Delivered))
	_, last = p.run(t, 4)
	require.EqualValues(t, 7, last.Done)
	require.EqualValues(t, 7, last.Total)
}

// A reset makes deliveries anew, linked to the old, in their order; a second one
// does not repeat the first, and what is published meanwhile is left alone.
func testReset(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "ordered.a", "gone")
	var old []pusher.DeliveryID
	for i := range 10 {
		old = append(old, p.publish(t, "ordered.a", testTime.Add(time.Duration(i)*time.Second), func(m *pusher.Publication) { m.Deliveries[0].Key = "k" }))
		if i > 0 {
			p.deliver(t, "ordered.a", pusher.Delivered)
		}
	}
	for round := range 2 {
		f := pusher.Filter{App: p.app.Number, Since: testTime.Add(3 * time.Second)}
		if round == 1 {
			f.Until = testTime.Add(time.Hour)
		}
		j := p.job(t, pusher.Reset, f)
		require.EqualValues(t, 7, j.Total)
		job, subs, err := p.StepJob(t.Context(), 3)
		require.NoError(t, err)
		require.EqualValues(t, 3, job.Done)
		require.Equal(t, []uint64{p.subs["ordered.a"].Number}, subs)
		meanwhile := p.publish(t, "ordered.a", time.Now())
		p.deliver(t, "ordered.a", pusher.Delivered)
		p.run(t, 3)
		live, err := p.Undelivered(t.Context(), p.app.Number, platform.Production, nil, pusher.Cursor{}, 0)
		require.NoError(t, err)
		require.Len(t, live, 4)
		records, err := p.Deliveries(t.Context(), pusher.Filter{Since: testTime.Add(time.Hour)}, pusher.Cursor{}, 0)
		require.NoError(t, err)
		var made []pusher.Record
		for _, r := range records {
			if r.Origin != (pusher.DeliveryID{}) {
				made = append(made, r)
			} else if round == 0 {
				require.Equal(t, meanwhile, r.ID)
			}
		}
		require.Len(t, made, 7*(round+1))
		for i, r := range made[:7] {
			origin := old[9-i]
			require.Equal(t, origin, r.Origin)
			require.Equal(t, pusher.Reset, r.Cause)
			first, err := p.Delivery(t.Context(), origin)
			require.NoError(t, err)
			require.Equal(t, first.Message, r.Message)
			require.Equal(t, "k", r.Key)
			want, key, err := p.Body(t.Context(), origin)
			require.NoError(t, err)
			body, number, err := p.Body(t.Context(), r.ID)
			require.NoError(t, err)
			require.Equal(t, want, body)
			require.Equal(t, key, number)
		}
		for range 7 {
			p.deliver(t, "ordered.a", pusher.Delivered)
		}
	}
	require.Equal(t, 10+2, p.count(t, "push_payloads"))
}

// Whoever does the next step, on whichever node: nothing is repeated and nothing
// skipped, while others fail and publish.
func testJobOnTwoNodes(t *testing.T, e engineTest) {
	database := e.database(t)
	p := newPushStore(t, e.at(t, database, testKeyring(t, 1)), "a")
	second := e.at(t, database, testKeyring(t, 1))
	const n = 40
	for i := range n {
		p.publish(t, "a", testTime.Add(time.Duration(i/3)*time.Hour))
	}
	require.Equal(t, n, p.deliver(t, "a", pusher.Failed))
	p.job(t, pusher.Repush, pusher.Filter{})
	done := 0
	for i := 0; ; i++ {
		s := p.Store
		if i%2 == 1 {
			s = second
		}
		if e.name == "postgres" && i == 2 { // a node that dies in its step
			tx, err := second.readers.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			c := &conn{querier: tx, engine: second.engine}
			job, err := c.lockJob(t.Context())
			require.NoError(t, err)
			_, err = second.stepJob(t.Context(), c, job, 7)
			require.NoError(t, err)
			none, _, err := s.StepJob(t.Context(), 7)
			require.NoError(t, err)
			require.Nil(t, none, "another node is at it")
			require.NoError(t, tx.Rollback())
		}
		job, _, err := s.StepJob(t.Context(), 7)
		require.NoError(t, err)
		if job == nil {
			break
		}
		work := p.claim(t, "a")
		require.EqualValues(t, len(work), job.Done-int64(done))
		done = int(job.Done)
		for _, w := range work {
			require.Equal(t, 2, w.Attempt, "nothing is repeated")
			require.True(t, p.complete(t, w, pusher.Failed))
		}
	}
	require.Equal(t, n, done)
}

// A job that is paused or cancelled stops at its next step; one that has ended
// stays so.
func testJobStates(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "a")
	for range 9 {
		p.publish(t, "a", testTime)
	}
	p.deliver(t, "a", pusher.Failed)
	first, second := p.job(t, pusher.Repush, pusher.Filter{}), p.job(t, pusher.Repush, pusher.Filter{})
	step := func() *pusher.Job {
		job, _, err := p.StepJob(t.Context(), 4)
		require.NoError(t, err)
		return job
	}
	require.Equal(t, first.ID, step().ID)
	require.NoError(t, p.SetJob(t.Context(), first.ID, pusher.JobPaused))
	require.NoError(t, p.SetJob(t.Context(), first.ID, pusher.JobPaused))
	job := step()
	require.Equal(t, second.ID, job.ID)
	require.EqualValues(t, 4, job.Done, "those that the first one did not push")
	require.NoError(t, p.SetJob(t.Context(), second.ID, pusher.JobCancelled))
	require.Nil(t, step())
	require.ErrorIs(t, p.SetJob(t.Context(), second.ID, pusher.JobRunning), platform.ErrConflict)
	require.ErrorIs(t, p.SetJob(t.Context(), first.ID, pusher.JobDone), platform.ErrConflict)
	require.NoError(t, p.SetJob(t.Context(), first.ID, pusher.JobRunning))
	_, last := p.run(t, 4)
	require.Equal(t, first.ID, last.ID)
	require.Equal(t, pusher.JobDone, last.State)
	require.EqualValues(t, 5, last.Done)
	require.ErrorIs(t, p.SetJob(t.Context(), first.ID, pusher.JobPaused), platform.ErrConflict)
	saved, err := p.Job(t.Context(), first.ID)
	require.NoError(t, err)
	require.Equal(t, last, saved)
}

// Jobs take turns, so that a small one does not wait for a large one.
func testJobTurns(t *testing.T, e engineTest) {
	now := testTime
	p := newPushStore(t, e.with(t, e.database(t), testKeyring(t, 1), Options{Now: func() time.Time { now = now.Add(time.Second); return now }}), "a")
	for range 6 {
		p.publish(t, "a", testTime)
	}
	large, small := p.job(t, pusher.Manual, pusher.Filter{App: p.app.Number}), p.job(t, pusher.Manual, pusher.Filter{App: p.app.Number})
	var order []string
	for range 4 {
		job, _, err := p.StepJob(t.Context(), 1)
		require.NoError(t, err)
		order = append(order, job.ID)
	}
	require.Equal(t, []string{large.ID, small.ID, large.ID, small.ID}, order)
}
