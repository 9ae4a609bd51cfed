package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"

	"github.com/caddy-openplatform/openplatform/pusher"
)

const (
	// endpointDue tells of an active subscription how many deliveries are under
	// way, whether some are held back, and which others are due, the oldest first;
	// of these whether they are behind another one of their key, whether one of
	// their key is under way, and of those that can be claimed what is posted.
	// Where nothing is due there is one row still. The limit is a sum: SQLite
	// compiles a statement anew for each value of a limit that is a parameter
	// alone.
	endpointDue = `SELECT (SELECT count(*) FROM push_claims WHERE subscription = ?1),
			EXISTS (SELECT 1 FROM push_queue WHERE subscription = ?1 AND held), d.id, d.behind, d.busy,
			q.at, q.app, ` + claimedFence + `, q.message_at, q.message_id, q.topic, q.user_id, q.order_key, q.attempts, ` + claimedTries + `, ` + claimedCause + `,
			` + claimedFirst + `, q.due_at, p.key_number, p.body,
			q.grant_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.id = q.grant_id AND ` + grantHolds + `?2)
		FROM subscriptions s
		LEFT JOIN (SELECT w.id,
				?4 AND w.order_key IS NOT NULL AND
					EXISTS (SELECT 1 FROM push_queue o WHERE o.subscription = ?1 AND o.order_key = w.order_key AND o.id < w.id) AS behind,
				?4 AND w.order_key IS NOT NULL AND w.order_key IN (
					SELECT o.order_key FROM push_claims c JOIN push_queue o ON o.id = c.id WHERE c.subscription = ?1 AND o.order_key IS NOT NULL) AS busy
			FROM push_queue w
			WHERE w.subscription = ?1 AND NOT w.held AND w.due_at <= ?2 AND w.id NOT IN (SELECT id FROM push_claims WHERE subscription = ?1)
			ORDER BY w.due_at, w.id LIMIT 0 + ?3) d
		LEFT JOIN push_queue q ON q.id = d.id AND NOT d.behind AND NOT d.busy
		LEFT JOIN push_payloads p ON p.at = q.payload_at AND p.id = q.payload_id
		WHERE s.number = ?1 AND s.status = 'active'`
	freeHeld = `UPDATE push_queue SET held = 0 WHERE id IN (SELECT id FROM push_queue WHERE subscription = ? AND held LIMIT ` + lookahead + `)`
	holdBack = `UPDATE push_queue SET held = 1 WHERE id IN ` + listed
	take     = `INSERT INTO push_claims (subscription, fence, id, lease_until, node)
		SELECT q.subscription, ` + claimedFence + `, q.id, ?3, ?4 FROM push_queue q WHERE q.id IN ` + listed
	pay = `UPDATE push_queue SET ` + payOwed + ` WHERE owed > 0 AND id IN ` + listed
	// claimedFence is the fence of a claim at the time of the second parameter.
	claimedFence = `max(q.fence + 1, ?2)`
	// listed is what stands in the first parameter, a list in JSON.
	listed = `(SELECT value FROM json_each(?1))`
)

// claimSQLite claims in one transaction.
func (s *Store) claimSQLite(ctx context.Context, c pusher.Claim) (pusher.ClaimResult, error) {
	var r pusher.ClaimResult
	err := s.group.doSoon(ctx, func(ctx context.Context, conn *conn) error {
		claim := &sqliteClaim{conn: conn, Claim: c, now: s.now().UnixMicro()}
		for _, e := range c.Endpoints {
			if err := claim.endpoint(ctx, e); err != nil {
				return err
			}
		}
		if err := claim.mark(ctx); err != nil {
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
	// behind are met deliveries that wait for others of their keys.
	behind []int64
}

// endpoint finds what can be taken of a subscription: of an ordered one the
// oldest delivery of each key alone.
func (c *sqliteClaim) endpoint(ctx context.Context, e pusher.Endpoint) error {
	limit := e.Room + 1
	if e.Ordered {
		limit = e.Room + lookaheadRows
	}
	var under, seen int
	var held bool
	var due []pusher.Work
	err := c.each(ctx, func(rows *sql.Rows) error {
		var d dueRow
		if err := rows.Scan(&under, &held, &d.id, &d.behind, &d.busy, &d.at, &d.app, &d.fence, &d.messageAt, &d.messageID, &d.topic, &d.user, &d.key,
			&d.attempts, &d.tries, &d.cause, &d.first, &d.due, &d.keyNumber, &d.body, &d.revoked); err != nil {
			return err
		}
		if !d.id.Valid {
			return nil
		}
		seen++
		switch {
		case d.behind.Bool:
			c.behind = append(c.behind, d.id.Int64)
		case !d.busy.Bool:
			due = append(due, d.work(e.Subscription))
		}
		return nil
	}, endpointDue, int64(e.Subscription), c.now, limit, e.Ordered)
	if err != nil {
		return err
	}
	more := held && !e.Ordered
	if more { // it is ordered no longer
		if _, err := c.exec(ctx, freeHeld, int64(e.Subscription)); err != nil {
			return err
		}
	}
	slices.SortFunc(due, olderWork)
	free := max(0, min(e.Room, e.Concurrency-under))
	c.result.Work = append(c.result.Work, due[:min(free, len(due))]...)
	if more || len(due) > free || seen > 0 && free == 0 || e.Ordered && seen == limit {
		c.result.More = append(c.result.More, e.Subscription)
	}
	return nil
}

// mark makes the node the owner of what was found, and holds back what waits.
func (c *sqliteClaim) mark(ctx context.Context) error {
	if len(c.behind) > 0 {
		if _, err := c.exec(ctx, holdBack, numberList(c.behind)); err != nil {
			return err
		}
	}
	if len(c.result.Work) == 0 {
		return nil
	}
	ids, manual := make([]int64, len(c.result.Work)), false
	for i := range c.result.Work {
		ids[i], manual = c.result.Work[i].ID.ID, manual || c.result.Work[i].Cause == pusher.Manual
	}
	taken := numberList(ids)
	if _, err := c.exec(ctx, take, taken, c.now, c.now+c.Lease.Microseconds(), c.Node); err != nil {
		return err
	}
	if !manual {
		return nil
	}
	_, err := c.exec(ctx, pay, taken)
	return err
}

// dueRow is a row of endpointDue. It is empty where nothing is due, and but for
// its id where the delivery has to wait for another one.
type dueRow struct {
	id, at, app, fence, messageAt, messageID sql.NullInt64
	attempts, tries, cause, first, due       sql.NullInt64
	keyNumber                                sql.NullInt64
	topic, user, key                         sql.NullString
	behind, busy, revoked                    sql.NullBool
	body                                     []byte // empty where it is gone by its age
}

func (d *dueRow) work(subscription uint64) pusher.Work {
	return pusher.Work{
		ID: pusher.DeliveryID{At: d.at.Int64, ID: d.id.Int64}, Subscription: subscription, App: uint64(d.app.Int64), Fence: d.fence.Int64,
		Message: pusher.MessageID{At: d.messageAt.Int64, ID: d.messageID.Int64}, Topic: d.topic.String, User: d.user.String, Key: d.key.String,
		Attempt: int(d.attempts.Int64) + 1, Tries: int(d.tries.Int64) + 1, Cause: pusher.Cause(d.cause.Int64),
		Trying: trying(d.first, d.fence.Int64), Created: fromUnixMicro(d.at.Int64), Due: fromUnixMicro(d.due.Int64),
		Body: d.body, KeyNumber: int(d.keyNumber.Int64), Revoked: d.revoked.Bool,
	}
}

// numberList is numbers in JSON, for listed.
func numberList(numbers []int64) string {
	list, _ := json.Marshal(numbers) // numbers cannot fail
	return string(list)
}
