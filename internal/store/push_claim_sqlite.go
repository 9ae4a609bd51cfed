package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

const (
	// endpointState tells of an active subscription how many deliveries are
	// under way, and whether some are held back.
	endpointState = `SELECT (SELECT count(*) FROM push_queue WHERE subscription = s.number AND state = 1),
			EXISTS (SELECT 1 FROM push_queue WHERE subscription = s.number AND held)
		FROM subscriptions s WHERE s.number = ? AND s.status = 'active'`
	freeHeld = `UPDATE push_queue SET held = 0 WHERE id IN (SELECT id FROM push_queue WHERE subscription = ? AND held LIMIT ` + lookahead + `)`
	holdBack = `UPDATE push_queue SET held = 1 WHERE id = ?`
	// The limits of what is asked often are sums: SQLite compiles a statement anew
	// for each value of a limit that is a parameter alone.
	dueNow = `FROM push_queue q WHERE subscription = ? AND state = 0 AND NOT held AND due_at <= ? ORDER BY due_at, id LIMIT 0 + ?`
	// dueHeads tells of each due delivery whether it is behind another one of its
	// key, and whether one of them is under way.
	dueHeads = `SELECT id, order_key IS NOT NULL AND
				EXISTS (SELECT 1 FROM push_queue o WHERE o.subscription = q.subscription AND o.order_key = q.order_key AND o.id < q.id),
			order_key IS NOT NULL AND EXISTS (SELECT 1 FROM push_queue o INDEXED BY push_queue_claimed
				WHERE o.subscription = q.subscription AND o.state = 1 AND o.order_key = q.order_key) ` + dueNow
	anyDue = `SELECT 1 ` + dueNow

	take = `UPDATE push_queue SET state = 1, fence = fence + 1, claimed_at = ?1, lease_until = ?2, node = ?3, owed = max(owed - 1, 0),
		cause = CASE WHEN owed > 0 THEN 1 ELSE cause END, tries = CASE WHEN owed > 0 THEN 0 ELSE tries END,
		first_attempt = CASE WHEN owed > 0 THEN NULL ELSE first_attempt END `
	taken = ` RETURNING subscription, id, at, app, fence, message_at, message_id, topic, user_id, order_key, attempts, tries, cause,
		first_attempt, due_at, payload_at, payload_id, grant_id`
	takeDue = take + `WHERE id IN (SELECT id FROM push_queue q WHERE subscription = ?4 AND state = 0 AND NOT held AND due_at <= ?1
		ORDER BY due_at, id LIMIT 0 + ?5)` + taken
	takeOne = take + `WHERE id = ?4` + taken

	loadPayload = `SELECT key_number, body FROM push_payloads WHERE at = ? AND id = ?`
	grantHolds  = `SELECT EXISTS (SELECT 1 FROM grants WHERE id = ? AND revoked_at IS NULL AND expires_at > ?)`
)

// claimSQLite claims in one transaction.
func (s *Store) claimSQLite(ctx context.Context, c pusher.Claim) (pusher.ClaimResult, error) {
	var r pusher.ClaimResult
	err := s.hot(ctx, func(ctx context.Context, conn *conn) error {
		claim := &sqliteClaim{conn: conn, Claim: c, now: s.now().UnixMicro(), grants: map[string]bool{}}
		for _, e := range c.Endpoints {
			if err := claim.endpoint(ctx, e); err != nil {
				return err
			}
		}
		if err := claim.load(ctx); err != nil {
			return err
		}
		r = claim.result
		return nil
	})
	if err != nil {
		return pusher.ClaimResult{}, err
	}
	return r, nil
}

// sqliteClaim is a claim under way.
type sqliteClaim struct {
	*conn
	pusher.Claim
	now    int64
	result pusher.ClaimResult
	// rows belong to result.Work.
	rows []takenRow
	// grants that were looked up, and whether they hold.
	grants map[string]bool
}

// takenRow is what of a claimed row is to be looked up.
type takenRow struct {
	payloadAt, payloadID int64
	grant                sql.NullString
}

func (c *sqliteClaim) endpoint(ctx context.Context, e pusher.Endpoint) error {
	var busy int
	var held bool
	err := c.one(ctx, []any{&busy, &held}, endpointState, int64(e.Subscription))
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	free := max(0, min(e.Room, e.Concurrency-busy))
	more := held && !e.Ordered
	if more { // it is ordered no longer
		if _, err := c.exec(ctx, freeHeld, int64(e.Subscription)); err != nil {
			return err
		}
	}
	var left bool
	switch {
	case free > 0 && e.Ordered:
		left, err = c.takeHeads(ctx, e.Subscription, free)
	case free > 0:
		err = c.take(ctx, takeDue, c.now, c.now+c.Lease.Microseconds(), c.Node, int64(e.Subscription), free)
	}
	if err == nil && (free == 0 || !e.Ordered) {
		err = c.each(ctx, func(*sql.Rows) error { left = true; return nil }, anyDue, int64(e.Subscription), c.now, 1)
	}
	if err != nil {
		return err
	}
	more = more || left
	if more {
		c.result.More = append(c.result.More, e.Subscription)
	}
	return nil
}

// takeHeads takes the oldest delivery of each key, and holds back the others
// that it meets. It tells whether there may be more to take.
func (c *sqliteClaim) takeHeads(ctx context.Context, subscription uint64, free int) (more bool, err error) {
	var heads, others []int64
	seen := 0
	err = c.each(ctx, func(rows *sql.Rows) error {
		seen++
		var id int64
		var behind, busy bool
		if err := rows.Scan(&id, &behind, &busy); err != nil {
			return err
		}
		switch {
		case behind:
			others = append(others, id)
		case !busy:
			heads = append(heads, id)
		}
		return nil
	}, dueHeads, int64(subscription), c.now, free+lookaheadRows)
	if err != nil {
		return false, err
	}
	for _, id := range others {
		if _, err := c.exec(ctx, holdBack, id); err != nil {
			return false, err
		}
	}
	for _, id := range heads[:min(free, len(heads))] {
		if err := c.take(ctx, takeOne, c.now, c.now+c.Lease.Microseconds(), c.Node, id); err != nil {
			return false, err
		}
	}
	return len(heads) > free || seen == free+lookaheadRows, nil
}

// take claims what the query finds.
func (c *sqliteClaim) take(ctx context.Context, query string, args ...any) error {
	return c.each(ctx, func(rows *sql.Rows) error {
		var w pusher.Work
		var t takenRow
		var user, key sql.NullString
		var first sql.NullInt64
		var due int64
		err := rows.Scan(&w.Subscription, &w.ID.ID, &w.ID.At, &w.App, &w.Fence, &w.Message.At, &w.Message.ID, &w.Topic, &user, &key,
			&w.Attempt, &w.Tries, &w.Cause, &first, &due, &t.payloadAt, &t.payloadID, &t.grant)
		if err != nil {
			return err
		}
		w.User, w.Key, w.Attempt, w.Tries = user.String, key.String, w.Attempt+1, w.Tries+1
		w.FirstAttempt, w.Created, w.Due = fromMicros(first), fromUnixMicro(w.ID.At), fromUnixMicro(due)
		c.result.Work, c.rows = append(c.result.Work, w), append(c.rows, t)
		return nil
	}, query, args...)
}

// load loads what is posted, and looks at the grants.
func (c *sqliteClaim) load(ctx context.Context) error {
	for i := range c.rows {
		w, t := &c.result.Work[i], &c.rows[i]
		err := c.one(ctx, []any{&w.KeyNumber, &w.Body}, loadPayload, t.payloadAt, t.payloadID)
		if err != nil && !errors.Is(err, platform.ErrNotFound) { // else it is gone by its age
			return err
		}
		if !t.grant.Valid {
			continue
		}
		live, known := c.grants[t.grant.String]
		if !known {
			if err := c.one(ctx, []any{&live}, grantHolds, t.grant.String, c.now); err != nil {
				return err
			}
			c.grants[t.grant.String] = live
		}
		w.Revoked = !live
	}
	return nil
}
