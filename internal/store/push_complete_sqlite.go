package store

import (
	"context"
	"database/sql"

	"github.com/caddy-openplatform/openplatform/pusher"
)

const (
	queuedRows  = `SELECT id, fence, attempts, tries, owed, first_attempt FROM push_queue WHERE id IN ` + listed
	deleteQueue = `DELETE FROM push_queue WHERE id IN ` + listed
	requeue     = `UPDATE push_queue SET fence = ?, due_at = ?, attempts = ?, tries = ?, first_attempt = ? WHERE id = ?`
	endClaim    = `DELETE FROM push_claims WHERE id = ? AND fence = ?`
	endClaims   = `DELETE FROM push_claims WHERE id IN ` + listed
	recordTry   = `UPDATE push_deliveries SET state = ?, attempts = ?, fence = ?, delivered_at = coalesce(delivered_at, ?),
		last_status = coalesce(?, last_status), last_class = coalesce(?, last_class) WHERE at = ? AND id = ?`
	insertFailed = `INSERT INTO push_failed (at, id, app) SELECT at, id, app FROM push_deliveries WHERE at = ? AND id = ? ON CONFLICT DO NOTHING`
	// insertAttempt keeps what is known of an attempt: its end instead of its
	// loss, and the first of two that a caller tells of twice.
	insertAttempt = `INSERT INTO push_attempts (at, id, fence, number, cause, started, duration, address, status, class, error, response, node)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (at, id, fence) DO UPDATE SET started = excluded.started, duration = excluded.duration, address = excluded.address,
			status = excluded.status, class = excluded.class, error = excluded.error, response = excluded.response, node = excluded.node
			WHERE push_attempts.class = 'lost'`
	replacePayload = `UPDATE push_payloads SET body = ?, key_number = ?
		WHERE (at, id) = (SELECT payload_at, payload_id FROM push_deliveries WHERE at = ? AND id = ?)`
)

// completeSQLite completes in one transaction.
func (s *Store) completeSQLite(ctx context.Context, done []pusher.Completion) ([]bool, error) {
	var had []bool
	err := s.hot(ctx, func(ctx context.Context, c *conn) (err error) {
		completion := &sqliteCompletion{conn: c, now: s.now().UnixMicro()}
		had, err = completion.complete(ctx, done)
		return err
	})
	if err != nil {
		return nil, err
	}
	return had, nil
}

// sqliteCompletion is a completion under way.
type sqliteCompletion struct {
	*conn
	now int64
	// queued are the rows of the queue by their numbers, gone those that leave it.
	queued map[int64]queueEntry
	gone   []int64
}

// queueEntry is what the queue knows of a delivery. The fence is that of the last
// claim that is over.
type queueEntry struct {
	fence, attempts, tries, owed int64
	first                        sql.NullInt64
}

func (c *sqliteCompletion) complete(ctx context.Context, done []pusher.Completion) ([]bool, error) {
	if err := c.find(ctx, done); err != nil {
		return nil, err
	}
	had := make([]bool, len(done))
	for i := range done {
		d := &done[i]
		if err := c.record(ctx, d); err != nil {
			return nil, err
		}
		row, ok := c.queued[d.ID.ID]
		if had[i] = ok && row.fence < d.Fence; !had[i] {
			continue
		}
		if err := c.move(ctx, d, row); err != nil {
			return nil, err
		}
	}
	if len(c.gone) == 0 {
		return had, nil
	}
	gone := numberList(c.gone)
	if _, err := c.exec(ctx, endClaims, gone); err != nil {
		return nil, err
	}
	_, err := c.exec(ctx, deleteQueue, gone)
	return had, err
}

// find reads the rows that the deliveries have in the queue.
func (c *sqliteCompletion) find(ctx context.Context, done []pusher.Completion) error {
	ids := make([]int64, len(done))
	for i := range done {
		ids[i] = done[i].ID.ID
	}
	c.queued = make(map[int64]queueEntry, len(done))
	return c.each(ctx, func(rows *sql.Rows) error {
		var id int64
		var e queueEntry
		err := rows.Scan(&id, &e.fence, &e.attempts, &e.tries, &e.owed, &e.first)
		c.queued[id] = e
		return err
	}, queuedRows, numberList(ids))
}

// record writes what was attempted, whoever has the delivery now.
func (c *sqliteCompletion) record(ctx context.Context, d *pusher.Completion) error {
	if d.Body != nil {
		if _, err := c.exec(ctx, replacePayload, d.Body, int64(d.KeyNumber), d.ID.At, d.ID.ID); err != nil {
			return err
		}
	}
	if d.Attempt == nil {
		return nil
	}
	return c.insertAttempt(ctx, d.ID, d.Fence, d.Attempt)
}

// move moves a delivery on, in the queue or out of it.
func (c *sqliteCompletion) move(ctx context.Context, d *pusher.Completion, row queueEntry) error {
	var status sql.NullInt64
	var class sql.NullString
	if d.Attempt != nil {
		row.attempts, row.tries = row.attempts+1, row.tries+1
		if !row.first.Valid {
			row.first = sql.NullInt64{Int64: d.Fence, Valid: true}
		}
		status, class = sql.NullInt64{Int64: int64(d.Attempt.Status), Valid: true}, sql.NullString{String: string(d.Attempt.Class), Valid: true}
	}
	state, due, fence := d.State, c.now+d.Wait.Microseconds(), d.Fence
	if row.owed > 0 {
		state, due = pusher.Pending, c.now
	}
	if state == pusher.Pending {
		row.fence, fence = d.Fence, 0 // the queue has it
		c.queued[d.ID.ID] = row
		if _, err := c.exec(ctx, requeue, d.Fence, due, row.attempts, row.tries, row.first, d.ID.ID); err != nil {
			return err
		}
		if _, err := c.exec(ctx, endClaim, d.ID.ID, d.Fence); err != nil {
			return err
		}
	} else {
		c.gone = append(c.gone, d.ID.ID)
		delete(c.queued, d.ID.ID)
	}
	delivered := sql.NullInt64{Int64: c.now, Valid: d.State == pusher.Delivered}
	if _, err := c.exec(ctx, recordTry, int64(state), row.attempts, fence, delivered, status, class, d.ID.At, d.ID.ID); err != nil {
		return err
	}
	if state == pusher.Failed {
		_, err := c.exec(ctx, insertFailed, d.ID.At, d.ID.ID)
		return err
	}
	return nil
}

func (c *conn) insertAttempt(ctx context.Context, id pusher.DeliveryID, fence int64, a *pusher.Attempt) error {
	_, err := c.exec(ctx, insertAttempt, id.At, id.ID, fence, int64(a.Number), int64(a.Cause), a.Started.UnixMicro(), a.Duration.Microseconds(),
		a.Address, int64(a.Status), string(a.Class), a.Error, a.Response, a.Node)
	return err
}
