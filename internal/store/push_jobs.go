package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// countPatience bounds the count with which a job begins.
const countPatience = 10 * time.Minute

// storedFilter is a job's filter as push_jobs keeps it, and how it was asked for.
// Times are in microseconds.
type storedFilter struct {
	App          uint64               `json:"app,omitempty"`
	Subscription uint64               `json:"subscription,omitempty"`
	Environment  platform.Environment `json:"environment,omitempty"`
	Topic        string               `json:"topic,omitempty"`
	User         string               `json:"user,omitempty"`
	States       []int                `json:"states,omitempty"`
	Since        int64                `json:"since,omitempty"`
	Until        int64                `json:"until,omitempty"`
	MessageAt    int64                `json:"message_at,omitempty"`
	MessageID    int64                `json:"message_id,omitempty"`
	Query        pusher.Query         `json:"query,omitzero"`
}

func filterText(f pusher.Filter, q pusher.Query) (string, error) {
	stored := storedFilter{
		App: f.App, Subscription: f.Subscription, Environment: f.Environment, Topic: f.Topic, User: f.User,
		Since: micros(f.Since).Int64, Until: micros(f.Until).Int64, MessageAt: f.Message.At, MessageID: f.Message.ID, Query: q,
	}
	for _, state := range statesOf(f) {
		stored.States = append(stored.States, int(state))
	}
	text, err := json.Marshal(stored)
	return string(text), err
}

// parseFilter is the opposite of filterText.
func parseFilter(text string) (pusher.Filter, pusher.Query, error) {
	var stored storedFilter
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return pusher.Filter{}, pusher.Query{}, fmt.Errorf("reading the filter of a job: %w", err)
	}
	f := pusher.Filter{
		App: stored.App, Subscription: stored.Subscription, Environment: stored.Environment, Topic: stored.Topic, User: stored.User,
		Since:   fromMicros(sql.NullInt64{Int64: stored.Since, Valid: stored.Since != 0}),
		Until:   fromMicros(sql.NullInt64{Int64: stored.Until, Valid: stored.Until != 0}),
		Message: pusher.MessageID{At: stored.MessageAt, ID: stored.MessageID},
	}
	for _, state := range stored.States {
		f.States = append(f.States, pusher.State(state))
	}
	return f, stored.Query, nil
}

// savedJob is a job with how far it has come.
type savedJob struct {
	pusher.Job
	cursor pusher.Cursor
	endID  int64
}

const jobColumns = `id, cause, filter, state, actor, total, done, cursor_at, cursor_id, end_id, created_at, updated_at`

func scanJob(rows *sql.Rows) (savedJob, error) {
	var j savedJob
	var filter string
	var created, updated sql.NullInt64
	err := rows.Scan(&j.ID, &j.Cause, &filter, &j.State, &j.Actor, &j.Total, &j.Done, &j.cursor.At, &j.cursor.ID, &j.endID, &created, &updated)
	if err != nil {
		return j, err
	}
	j.CreatedAt, j.UpdatedAt = fromMicros(created), fromMicros(updated)
	j.Filter, j.Query, err = parseFilter(filter)
	return j, err
}

// jobSelection is what a job pushes again: of a reset the originals, so that a
// second one does not repeat what the first one repeated. But for a manual push,
// an app gets nothing again that it would not get now; without the merchant's
// authorization nothing at all.
func (s *Store) jobSelection(j *savedJob) selection {
	f := j.Filter
	if j.Cause == pusher.Repush {
		f.States = []pusher.State{pusher.Failed}
	}
	sel := s.engine.selectDeliveries(f)
	if j.Cause == pusher.Reset {
		sel.rest.add(`d.origin_id IS NULL`)
	}
	if j.Cause == pusher.Manual {
		s.onlyGranted(&sel.rest)
	} else {
		s.onlyEntitled(&sel.rest)
	}
	sel.rest.add(sel.alias+`.id <= ? AND s.number IS NOT NULL`, j.endID)
	return sel
}

// CreateJob saves a job, and sets its Total, State and times. It ends at the
// deliveries that are there now: its filter gets that end.
func (s *Store) CreateJob(ctx context.Context, j *pusher.Job) error {
	if err := s.createJob(ctx, j); err != nil {
		return fmt.Errorf("making a job: %w", err)
	}
	return nil
}

func (s *Store) createJob(ctx context.Context, j *pusher.Job) error {
	if j.Cause == pusher.Auto || impossible(j.Filter) || !storable(j.ID+j.Actor) {
		return fmt.Errorf("a job pushes again what can be there: %w", platform.ErrConflict)
	}
	ctx, cancel := context.WithTimeout(ctx, countPatience)
	defer cancel()
	saved := savedJob{Job: *j}
	err := s.look(ctx, func(r *reader) error {
		if err := r.unhurried(ctx); err != nil {
			return err
		}
		var err error
		if saved.endID, err = r.counter(ctx, "push_deliveries"); err != nil {
			return err
		}
		var last sql.NullInt64
		if err := r.one(ctx, []any{&last}, `SELECT max(at) FROM push_deliveries`); err != nil {
			return err
		}
		// What comes later is not even looked at.
		end := time.UnixMicro(last.Int64 + 1)
		if saved.Filter.Until.IsZero() || saved.Filter.Until.After(end) {
			saved.Filter.Until = end
		}
		sel := s.jobSelection(&saved)
		where := sel.indexed.and(sel.rest)
		return r.one(ctx, []any{&saved.Total}, `SELECT count(*) FROM `+sel.from+s.engine.stateJoins()+where.String(), where.args...)
	})
	if err != nil {
		return err
	}
	filter, err := filterText(saved.Filter, saved.Query)
	if err != nil {
		return err
	}
	saved.State, saved.Done = pusher.JobRunning, 0
	saved.CreatedAt = s.now().UTC().Truncate(time.Microsecond)
	saved.UpdatedAt = saved.CreatedAt
	err = s.transaction(ctx, s.issuing(), nil, func(c *conn) error {
		_, err := c.exec(ctx, `INSERT INTO push_jobs (`+jobColumns+`) VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0, ?, ?, ?)`,
			saved.ID, uint8(saved.Cause), filter, string(saved.State), saved.Actor, saved.Total, saved.endID, micros(saved.CreatedAt), micros(saved.UpdatedAt))
		return named(err, "job %q", saved.ID)
	})
	if err != nil {
		return err
	}
	*j = saved.Job
	return nil
}

// Job loads a job.
func (s *Store) Job(ctx context.Context, id string) (*pusher.Job, error) {
	var job *pusher.Job
	if storable(id) {
		err := s.load(func(r *reader) error {
			return r.each(ctx, func(rows *sql.Rows) error {
				found, err := scanJob(rows)
				job = &found.Job
				return err
			}, `SELECT `+jobColumns+` FROM push_jobs WHERE id = ?`, id)
		})
		if err != nil {
			return nil, err
		}
	}
	if job == nil {
		return nil, named(platform.ErrNotFound, "job %q", id)
	}
	return job, nil
}

// Jobs lists jobs, newest first.
func (s *Store) Jobs(ctx context.Context, limit int) ([]pusher.Job, error) {
	jobs := []pusher.Job{}
	err := s.load(func(r *reader) error {
		return r.each(ctx, func(rows *sql.Rows) error {
			found, err := scanJob(rows)
			jobs = append(jobs, found.Job)
			return err
		}, `SELECT `+jobColumns+` FROM push_jobs ORDER BY created_at DESC, id DESC LIMIT ?`, listLimit(limit))
	})
	return jobs, err
}

// SetJob pauses, resumes or cancels a job. It waits for a step that is under
// way; there is no further one.
func (s *Store) SetJob(ctx context.Context, id string, state pusher.JobState) error {
	if state != pusher.JobRunning && state != pusher.JobPaused && state != pusher.JobCancelled {
		return fmt.Errorf("changing a job: %q is none of running, paused and cancelled: %w", state, platform.ErrConflict)
	}
	if !storable(id) {
		return named(platform.ErrNotFound, "job %q", id)
	}
	return s.transaction(ctx, s.issuing(), nil, func(c *conn) error {
		n, err := c.exec(ctx, `UPDATE push_jobs SET state = ?, updated_at = ? WHERE id = ? AND state IN ('running', 'paused')`,
			string(state), micros(s.now()), id)
		if err != nil || n > 0 {
			return err
		}
		var ended string
		if err := c.one(ctx, []any{&ended}, `SELECT state FROM push_jobs WHERE id = ?`, id); err != nil {
			return named(err, "job %q", id)
		}
		return fmt.Errorf("job %q has ended (%s): %w", id, ended, platform.ErrConflict)
	})
}

// StepJob does the next step of the running job that has waited the longest. A
// step looks at limit deliveries, and pushes those of them that the job selects;
// with the same commit the job's cursor moves on. So whoever dies repeats nothing,
// and skips nothing.
func (s *Store) StepJob(ctx context.Context, limit int) (*pusher.Job, []uint64, error) {
	var job *pusher.Job
	var subscriptions []uint64
	err := s.withRoom(ctx, func() error {
		return s.pushing(ctx, func(c *conn) ([]uint64, error) {
			job = nil
			saved, err := c.lockJob(ctx)
			if err != nil || saved == nil {
				return nil, err
			}
			subscriptions, err = s.stepJob(ctx, c, saved, listLimit(limit))
			job = &saved.Job
			return subscriptions, err
		})
	}, func() []int64 { return []int64{s.now().UnixMicro()} }, deliverySeries, payloadSeries)
	if err != nil {
		return nil, nil, fmt.Errorf("pushing the deliveries of a job again: %w", err)
	}
	return job, subscriptions, nil
}

// lockJob finds the running job whose last step is the longest ago; nil where
// there is none, or another node is at it.
func (c *conn) lockJob(ctx context.Context) (*savedJob, error) {
	lock := c.engine.lockRow
	if lock != "" {
		lock += ` SKIP LOCKED`
	}
	var found *savedJob
	err := c.each(ctx, func(rows *sql.Rows) error {
		j, err := scanJob(rows)
		found = &j
		return err
	}, `SELECT `+jobColumns+` FROM push_jobs WHERE state = 'running'
		AND id = (SELECT id FROM push_jobs WHERE state = 'running' ORDER BY updated_at, id LIMIT 1)`+lock)
	return found, err
}

// stepJob does a step and moves the cursor.
func (s *Store) stepJob(ctx context.Context, c *conn, j *savedJob, limit int) ([]uint64, error) {
	sel := s.jobSelection(j)
	sel.indexed.newerThan(sel.alias, j.cursor)
	// The last delivery that this step looks at; none is the end.
	var last pusher.Cursor
	err := c.one(ctx, []any{&last.At, &last.ID}, `SELECT `+sel.alias+`.at, `+sel.alias+`.id FROM `+sel.from+sel.indexed.String()+sel.oldestFirst()+`
		LIMIT 1 OFFSET ?`, append(sel.indexed.args, limit-1)...)
	switch {
	case err == nil:
		sel.indexed.add(sel.alias+`.at <= ? AND (`+sel.alias+`.at, `+sel.alias+`.id) <= (?, ?)`, last.At, last.At, last.ID)
		j.cursor = last
	case errors.Is(err, platform.ErrNotFound):
		j.State = pusher.JobDone
	default:
		return nil, err
	}
	now, err := s.pushNow(ctx, c)
	if err != nil {
		return nil, err
	}
	var pushed []queuedDelivery
	if j.Cause == pusher.Reset {
		pushed, err = s.pushAnew(ctx, c, sel, now)
	} else {
		pushed, err = c.pushAgain(ctx, j.Cause, sel, now)
	}
	if err != nil {
		return nil, err
	}
	j.Done += int64(len(pushed))
	j.Total = max(j.Total, j.Done) // more may have come to be of the kind since they were counted
	j.UpdatedAt = s.now().UTC().Truncate(time.Microsecond)
	_, err = c.exec(ctx, `UPDATE push_jobs SET state = ?, total = ?, done = ?, cursor_at = ?, cursor_id = ?, updated_at = ? WHERE id = ?`,
		string(j.State), j.Total, j.Done, j.cursor.At, j.cursor.ID, micros(j.UpdatedAt), j.ID)
	return subscriptionsOf(pushed), err
}
