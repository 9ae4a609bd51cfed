package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// PushAgain makes a delivery due now, and owes it one attempt more. Without the
// merchant's authorization there would be none: who claims it cancels it.
func (s *Store) PushAgain(ctx context.Context, id pusher.DeliveryID) error {
	err := s.pushing(ctx, func(c *conn) ([]uint64, error) {
		now, err := s.pushNow(ctx, c)
		if err != nil {
			return nil, err
		}
		one := s.engine.records()
		one.indexed.add(`d.at = ? AND d.id = ?`, id.At, id.ID)
		s.onlyGranted(&one.rest)
		pushed, err := c.pushAgain(ctx, pusher.Manual, one, now)
		if err == nil && len(pushed) == 0 {
			err = c.notPushed(ctx, id)
		}
		return subscriptionsOf(pushed), err
	})
	return wrapDelivery("pushing again", err)
}

// Cancel ends a delivery that is not final.
func (s *Store) Cancel(ctx context.Context, id pusher.DeliveryID) error {
	err := s.pushing(ctx, func(c *conn) ([]uint64, error) {
		ended, err := c.endLive(ctx, []pusher.DeliveryID{id}, pusher.Cancelled, `1 = 1`)
		if err == nil && len(ended) == 0 {
			err = c.knownDelivery(ctx, id, "it is final")
		}
		return subscriptionsOf(ended), err
	})
	return wrapDelivery("cancelling", err)
}

func wrapDelivery(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s a delivery: %w", doing, err)
}

// knownDelivery says why nothing could be done: it is not there, or there is a
// conflict.
func (c *conn) knownDelivery(ctx context.Context, id pusher.DeliveryID, conflict string) error {
	var n int
	if err := c.one(ctx, []any{&n}, `SELECT 1 FROM push_deliveries WHERE at = ? AND id = ?`, id.At, id.ID); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", conflict, platform.ErrConflict)
}

// notPushed says why a delivery could not be pushed again.
func (c *conn) notPushed(ctx context.Context, id pusher.DeliveryID) error {
	var subscribed int
	err := c.one(ctx, []any{&subscribed}, `SELECT count(s.number) FROM push_deliveries d LEFT JOIN subscriptions s ON s.number = d.subscription
		WHERE d.at = ? AND d.id = ?`, id.At, id.ID)
	if err != nil {
		return err
	}
	if subscribed > 0 {
		return c.knownDelivery(ctx, id, "the merchant's authorization under which it was made has ended, or the merchant is disabled")
	}
	return c.knownDelivery(ctx, id, "its subscription was deleted")
}

// queueColumns are those of a delivery that goes into the queue: who it is, and
// how it stands there.
const queueColumns = `id, at, subscription, app, order_key, message_at, message_id, topic, user_id, grant_id, payload_at, payload_id,
	due_at, fence, cause, owed, attempts, tries`

const queueValues = `d.id, d.at, d.subscription, d.app, d.order_key, d.message_at, d.message_id, d.topic, d.user_id, d.grant_id, d.payload_at, d.payload_id`

// pushAgain puts the selected deliveries into the queue, due now; whoever is in
// it already is due now too. A manual push is owed: the claim that pays it
// begins the schedule anew. The others begin it anew by themselves, and touch
// none that is in the queue. It returns those that were pushed.
func (c *conn) pushAgain(ctx context.Context, cause pusher.Cause, sel selection, now int64) ([]queuedDelivery, error) {
	if err := c.lockAgain(ctx); err != nil {
		return nil, err
	}
	where := sel.indexed.and(sel.rest)
	again := ` ON CONFLICT (id) DO NOTHING`
	owed := 0
	if cause == pusher.Manual {
		owed = 1
		again = ` ON CONFLICT (id) DO UPDATE SET owed = push_queue.owed + 1, due_at = excluded.due_at`
	}
	lock := ""
	if c.engine.lockRow != "" {
		lock = c.engine.lockRow + ` OF d`
		_, err := c.lockQueue(ctx, ``, sel.queued()+where.String(), where.args...)
		if err != nil {
			return nil, err
		}
	}
	where.add(`s.number IS NOT NULL`)
	var pushed []queuedDelivery
	// The records are locked in the order of their keys, and then looked at
	// again: one that was acknowledged meanwhile is not taken.
	err := c.each(ctx, func(rows *sql.Rows) error {
		var e queuedDelivery
		err := rows.Scan(&e.id.At, &e.id.ID, &e.subscription)
		pushed = append(pushed, e)
		return err
	}, `INSERT INTO push_queue (`+queueColumns+`)
		SELECT `+queueValues+`, CAST(? AS BIGINT), `+c.engine.backFence+`, CAST(? AS INT), CAST(? AS INT), d.attempts, 0
		FROM `+sel.from+c.engine.stateJoins()+where.String()+sel.oldestFirst()+lock+again+` RETURNING at, id, subscription`,
		append([]any{now, uint8(cause), owed}, where.args...)...)
	if err != nil {
		return nil, err
	}
	ids := idsOfQueued(pushed)
	for some := range slices.Chunk(sortedIDs(ids), idBatch) {
		list, args := idList(some)
		_, err := c.exec(ctx, list+`UPDATE push_deliveries SET state = ?, cause = ? WHERE (at, id) IN (SELECT at, id FROM ids)`,
			append(args, uint8(pusher.Pending), uint8(cause))...)
		if err != nil {
			return nil, err
		}
	}
	return pushed, c.forgetFailed(ctx, ids)
}

// pushNow is the time by which deliveries become due: on PostgreSQL the
// database's, which all nodes share.
func (s *Store) pushNow(ctx context.Context, c *conn) (now int64, err error) {
	if s.pool == nil {
		return s.now().UnixMicro(), nil
	}
	err = c.one(ctx, []any{&now}, `SELECT `+sqlNow)
	return now, err
}
