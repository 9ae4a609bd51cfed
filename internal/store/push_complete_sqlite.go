package store

import (
	"context"
	"database/sql"

	"github.com/caddy-openplatform/openplatform/pusher"
)

const (
	claimedRowQuery = `SELECT attempts, tries, owed, first_attempt, claimed_at FROM push_queue WHERE id = ? AND state = 1 AND fence = ?`
	deleteQueue     = `DELETE FROM push_queue WHERE id = ?`
	requeue         = `UPDATE push_queue SET state = 0, due_at = ?, attempts = ?, tries = ?, first_attempt = ?, claimed_at = NULL, lease_until = NULL,
		node = NULL WHERE id = ?`
	recordTry = `UPDATE push_deliveries SET state = ?, attempts = ?, fence = ?, delivered_at = coalesce(delivered_at, ?),
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
		now := s.now().UnixMicro()
		had = make([]bool, len(done))
		for i := range done {
			if had[i], err = c.complete(ctx, &done[i], now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return had, nil
}

func (c *conn) complete(ctx context.Context, d *pusher.Completion, now int64) (had bool, err error) {
	if d.Body != nil {
		if _, err := c.exec(ctx, replacePayload, d.Body, int64(d.KeyNumber), d.ID.At, d.ID.ID); err != nil {
			return false, err
		}
	}
	if a := d.Attempt; a != nil {
		if err := c.insertAttempt(ctx, d.ID, d.Fence, a); err != nil {
			return false, err
		}
	}
	var attempts, tries, owed, claimed int64
	var first sql.NullInt64
	err = c.each(ctx, func(rows *sql.Rows) error {
		had = true
		return rows.Scan(&attempts, &tries, &owed, &first, &claimed)
	}, claimedRowQuery, d.ID.ID, d.Fence)
	if err != nil || !had {
		return false, err
	}
	var status sql.NullInt64
	var class sql.NullString
	if d.Attempt != nil {
		attempts, tries = attempts+1, tries+1
		if !first.Valid {
			first = sql.NullInt64{Int64: claimed, Valid: true}
		}
		status, class = sql.NullInt64{Int64: int64(d.Attempt.Status), Valid: true}, sql.NullString{String: string(d.Attempt.Class), Valid: true}
	}
	state, due, fence := d.State, now+d.Wait.Microseconds(), d.Fence
	if owed > 0 {
		state, due = pusher.Pending, now
	}
	if state == pusher.Pending {
		fence = 0 // the queue has it
		_, err = c.exec(ctx, requeue, due, attempts, tries, first, d.ID.ID)
	} else {
		_, err = c.exec(ctx, deleteQueue, d.ID.ID)
	}
	if err != nil {
		return false, err
	}
	delivered := sql.NullInt64{Int64: now, Valid: d.State == pusher.Delivered}
	if _, err := c.exec(ctx, recordTry, int64(state), attempts, fence, delivered, status, class, d.ID.At, d.ID.ID); err != nil {
		return false, err
	}
	if state == pusher.Failed {
		if _, err := c.exec(ctx, insertFailed, d.ID.At, d.ID.ID); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (c *conn) insertAttempt(ctx context.Context, id pusher.DeliveryID, fence int64, a *pusher.Attempt) error {
	_, err := c.exec(ctx, insertAttempt, id.At, id.ID, fence, int64(a.Number), int64(a.Cause), a.Started.UnixMicro(), a.Duration.Microseconds(),
		a.Address, int64(a.Status), string(a.Class), a.Error, a.Response, a.Node)
	return err
}
