package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// keepJobs is for how long jobs that ended are kept.
const keepJobs = 30 * 24 * time.Hour

// prunePush removes what ended long ago beside the series, and what is left of
// deleted subscriptions.
func (s *Store) prunePush(ctx context.Context, now time.Time) error {
	for statement, age := range map[string]time.Duration{
		`DELETE FROM push_idempotency WHERE (environment, key) IN (SELECT environment, key FROM push_idempotency WHERE at < ? LIMIT ?)`: keepIdempotency,
		`DELETE FROM push_jobs WHERE id IN (SELECT id FROM push_jobs WHERE state IN ('done', 'cancelled') AND updated_at < ? LIMIT ?)`:  keepJobs,
	} {
		err := s.inBatches(ctx, func(c *conn) (int64, error) {
			return c.exec(ctx, statement, now.Add(-age).UnixMicro(), pruneBatch)
		})
		if err != nil {
			return fmt.Errorf("deleting what has ended of the pusher: %w", err)
		}
	}
	if err := s.endOrphans(ctx); err != nil {
		return fmt.Errorf("ending the deliveries of deleted subscriptions: %w", err)
	}
	return nil
}

// endOlder cancels live deliveries that were made before the time. The oldest
// have the lowest numbers, so the first batch without one is the end.
func (s *Store) endOlder(ctx context.Context, before time.Time) (bool, error) {
	return true, s.inBatches(ctx, func(c *conn) (int64, error) {
		return c.endSome(ctx, `SELECT at, id FROM (SELECT at, id FROM push_queue ORDER BY id LIMIT ?) AS oldest WHERE at < ?`, pruneBatch, before.UnixMicro())
	})
}

// queueParts are the parts of the queue that an index has by subscription: what
// waits behind another one of its key, and the rest.
var queueParts = []string{`NOT held`, `held`}

// endOrphans cancels live deliveries whose subscription is gone. The queue may
// be long and its subscriptions few, so each of these is looked up once.
func (s *Store) endOrphans(ctx context.Context) error {
	for _, part := range queueParts {
		var orphans []int64
		err := s.load(func(r *reader) error {
			return r.each(ctx, func(rows *sql.Rows) error {
				var number int64
				err := rows.Scan(&number)
				orphans = append(orphans, number)
				return err
			}, `WITH RECURSIVE w (number) AS (SELECT min(subscription) FROM push_queue WHERE `+part+`
				UNION ALL SELECT (SELECT min(subscription) FROM push_queue WHERE `+part+` AND subscription > w.number) FROM w WHERE w.number IS NOT NULL)
				SELECT w.number FROM w WHERE w.number IS NOT NULL AND NOT EXISTS (SELECT 1 FROM subscriptions s WHERE s.number = w.number)`)
		})
		if err != nil {
			return err
		}
		for _, orphan := range orphans {
			err := s.inBatches(ctx, func(c *conn) (int64, error) {
				return c.endSome(ctx, `SELECT at, id FROM push_queue WHERE subscription = ? AND `+part+` LIMIT ?`, orphan, pruneBatch)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// endSome cancels the live deliveries that the query finds.
func (c *conn) endSome(ctx context.Context, query string, args ...any) (int64, error) {
	var ids []pusher.DeliveryID
	err := c.each(ctx, func(rows *sql.Rows) error {
		var id pusher.DeliveryID
		err := rows.Scan(&id.At, &id.ID)
		ids = append(ids, id)
		return err
	}, query, args...)
	if err != nil {
		return 0, err
	}
	ended, err := c.endLive(ctx, ids, pusher.Cancelled, `1 = 1`)
	return int64(len(ended)), err
}

// freePayloads is what is done before payloads go. A reset refers to the payload
// of a delivery that is older than itself: it gets a copy. As the old deliveries
// must be gone before, nobody refers to their payloads anew.
func (s *Store) freePayloads(ctx context.Context, before time.Time) (bool, error) {
	var left bool
	err := s.load(func(r *reader) error {
		return r.one(ctx, []any{&left}, `SELECT EXISTS (SELECT 1 FROM push_deliveries WHERE at < ?)`, before.UnixMicro())
	})
	if err != nil || left {
		return false, err
	}
	err = s.inBatches(ctx, func(c *conn) (int64, error) {
		return c.exec(ctx, `DELETE FROM push_failed WHERE (at, id) IN (SELECT at, id FROM push_failed WHERE at < ? ORDER BY at, id LIMIT ?)`,
			before.UnixMicro(), pruneBatch)
	})
	if err != nil {
		return false, err
	}
	return true, s.inBatches(ctx, func(c *conn) (int64, error) { return c.adoptPayloads(ctx, before) })
}

// adoptPayloads gives a batch of resets a payload of their own, where they
// refer to one that was made before the time.
func (c *conn) adoptPayloads(ctx context.Context, before time.Time) (int64, error) {
	if err := c.lockAgain(ctx); err != nil {
		return 0, err
	}
	var ids []pusher.DeliveryID
	err := c.each(ctx, func(rows *sql.Rows) error {
		var id pusher.DeliveryID
		err := rows.Scan(&id.At, &id.ID)
		ids = append(ids, id)
		return err
	}, `SELECT at, id FROM push_deliveries WHERE origin_id IS NOT NULL AND payload_at < ? LIMIT ?`, before.UnixMicro(), idBatch)
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	list, args := idList(ids)
	if _, err := c.lockQueue(ctx, list, `JOIN ids ON `+c.engine.lookup("q.id", "ids.id")+` WHERE true`, args...); err != nil {
		return 0, err
	}
	for _, statement := range []string{
		`INSERT INTO push_payloads (at, id, key_number, body) SELECT d.at, d.id, p.key_number, p.body FROM ids
			JOIN push_deliveries d ON d.at = ids.at AND d.id = ids.id JOIN push_payloads p ON p.at = d.payload_at AND p.id = d.payload_id`,
		`UPDATE push_deliveries SET payload_at = at, payload_id = id WHERE (at, id) IN (SELECT at, id FROM ids)`,
		`UPDATE push_queue SET payload_at = at, payload_id = id WHERE ` + c.engine.anyOf("id", "SELECT id FROM ids"),
	} {
		if _, err := c.exec(ctx, list+statement, args...); err != nil {
			return 0, err
		}
	}
	return int64(len(ids)), nil
}
