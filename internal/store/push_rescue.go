package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// lostText is what an attempt says whose node told nothing of it.
const lostText = `the lease ended before the node told how it went`

const (
	// rescueLost makes those pending whose claims are over by their time, but for
	// what others are changing now; claims go too of which nothing is left. Rows of
	// the queue are locked before claims, as everybody does.
	rescueLost = `WITH clock AS MATERIALIZED (SELECT ` + sqlNow + ` AS now),
		over AS MATERIALIZED (
			SELECT c.subscription, c.fence, c.id, c.node FROM push_claims c WHERE c.lease_until <= (SELECT now FROM clock)
			ORDER BY c.subscription, c.fence, c.id LIMIT $1),
		lost AS MATERIALIZED (
			SELECT o.*, q.at, q.cause, q.attempts + 1 AS attempts
			FROM over o JOIN push_queue q ON q.id = ANY (ARRAY[o.id]) WHERE q.fence < o.fence FOR UPDATE OF q SKIP LOCKED),
		kept AS (
			UPDATE push_queue q SET fence = l.fence, due_at = c.now, attempts = l.attempts, tries = q.tries + 1,
				first_attempt = coalesce(q.first_attempt, l.fence)
			FROM lost l, clock c WHERE q.id = ANY (ARRAY[l.id])),
		ended AS (
			DELETE FROM push_claims c USING over o WHERE c.subscription = ANY (ARRAY[o.subscription]) AND c.fence = o.fence AND c.id = o.id
				AND (o.id IN (SELECT id FROM lost) OR NOT EXISTS (SELECT 1 FROM push_queue q WHERE q.id = o.id AND q.fence < o.fence))),
		record AS (
			UPDATE push_deliveries d SET attempts = l.attempts, last_status = 0, last_class = 'lost' FROM lost l WHERE d.at = l.at AND d.id = l.id),
		tried AS (
			INSERT INTO push_attempts (at, id, fence, number, cause, started, duration, address, status, class, error, response, node)
				SELECT l.at, l.id, l.fence, l.attempts, l.cause, l.fence, 0, '', 0, 'lost', '` + lostText + `', NULL, l.node FROM lost l
			ON CONFLICT DO NOTHING)
		SELECT subscription FROM lost`
	lostTimes = `SELECT DISTINCT q.at FROM push_claims c JOIN push_queue q ON q.id = c.id WHERE c.lease_until <= ` + sqlNow

	findLost = `SELECT c.id, c.subscription, c.fence, c.node, q.at, q.cause, q.attempts FROM push_claims c
		LEFT JOIN push_queue q ON q.id = c.id AND q.fence < c.fence WHERE c.lease_until <= ? ORDER BY c.id LIMIT ?`
	keepLost = `UPDATE push_queue SET fence = ?1, due_at = ?2, attempts = attempts + 1, tries = tries + 1,
		first_attempt = coalesce(first_attempt, ?1) WHERE id = ?3`
	recordLost = `UPDATE push_deliveries SET attempts = attempts + 1, last_status = 0, last_class = 'lost' WHERE at = ? AND id = ?`
)

// Rescue makes deliveries pending whose lease has ended, and records the attempt
// as lost. It returns how many, and of which subscriptions.
func (s *Store) Rescue(ctx context.Context, limit int) (int, []uint64, error) {
	rescue := s.rescuePostgres
	if s.pool == nil {
		rescue = s.rescueSQLite
	}
	subscriptions, err := rescue(ctx, limit)
	if err != nil {
		return 0, nil, fmt.Errorf("rescuing deliveries: %w", err)
	}
	n := len(subscriptions)
	slices.Sort(subscriptions)
	return n, slices.Compact(subscriptions), nil
}

func (s *Store) rescuePostgres(ctx context.Context, limit int) (subscriptions []uint64, err error) {
	err = s.withRoom(ctx, func() error {
		b := planned()
		b.Queue(rescueLost, limit).Query(func(rows pgx.Rows) (err error) {
			subscriptions, err = pgx.CollectRows(rows, pgx.RowTo[uint64])
			return err
		})
		return s.pipeline(ctx, b)
	}, func() (times []int64) {
		b := planned()
		b.Queue(lostTimes).Query(func(rows pgx.Rows) (err error) {
			times, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			return err
		})
		_ = s.pipeline(ctx, b) // without them the next try fails, and tells
		return times
	}, attemptSeries)
	return subscriptions, err
}

func (s *Store) rescueSQLite(ctx context.Context, limit int) ([]uint64, error) {
	type lost struct {
		id    pusher.DeliveryID
		fence int64
		pusher.Attempt
	}
	var subscriptions []uint64
	err := s.hot(ctx, func(ctx context.Context, c *conn) error {
		subscriptions = nil
		now := s.now().UnixMicro()
		var found []lost
		var over []int64
		err := c.each(ctx, func(rows *sql.Rows) error {
			l := lost{Attempt: pusher.Attempt{Class: pusher.ClassLost, Error: lostText}}
			var subscription uint64
			var at, cause, attempts sql.NullInt64
			if err := rows.Scan(&l.id.ID, &subscription, &l.fence, &l.Node, &at, &cause, &attempts); err != nil {
				return err
			}
			if over = append(over, l.id.ID); !at.Valid {
				return nil
			}
			l.id.At, l.Cause, l.Number, l.Started = at.Int64, pusher.Cause(cause.Int64), int(attempts.Int64)+1, fromUnixMicro(l.fence)
			subscriptions, found = append(subscriptions, subscription), append(found, l)
			return nil
		}, findLost, now, limit)
		if err != nil || len(over) == 0 {
			return err
		}
		for i := range found {
			l := &found[i]
			if _, err := c.exec(ctx, keepLost, l.fence, now, l.id.ID); err != nil {
				return err
			}
			if _, err := c.exec(ctx, recordLost, l.id.At, l.id.ID); err != nil {
				return err
			}
			if err := c.insertAttempt(ctx, l.id, l.fence, &l.Attempt); err != nil {
				return err
			}
		}
		_, err = c.exec(ctx, endClaims, numberList(over))
		return err
	})
	if err != nil {
		return nil, err
	}
	return subscriptions, nil
}
