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
	rescueLost = `WITH clock AS MATERIALIZED (SELECT ` + sqlNow + ` AS now),
		lost AS MATERIALIZED (
			SELECT q.id, q.at, q.subscription, q.fence, q.cause, q.attempts + 1 AS attempts, q.claimed_at, coalesce(q.node, '') AS node
			FROM push_queue q WHERE q.state = 1 AND q.lease_until <= (SELECT now FROM clock)
			ORDER BY q.subscription, q.claimed_at LIMIT $1 FOR UPDATE OF q SKIP LOCKED),
		kept AS (
			UPDATE push_queue q SET state = 0, due_at = c.now, attempts = l.attempts, tries = q.tries + 1,
				first_attempt = coalesce(q.first_attempt, q.claimed_at), claimed_at = NULL, lease_until = NULL, node = NULL
			FROM lost l, clock c WHERE q.id = l.id),
		record AS (
			UPDATE push_deliveries d SET attempts = l.attempts, last_status = 0, last_class = 'lost' FROM lost l WHERE d.at = l.at AND d.id = l.id),
		tried AS (
			INSERT INTO push_attempts (at, id, fence, number, cause, started, duration, address, status, class, error, response, node)
				SELECT l.at, l.id, l.fence, l.attempts, l.cause, l.claimed_at, 0, '', 0, 'lost', '` + lostText + `', NULL, l.node FROM lost l
			ON CONFLICT DO NOTHING)
		SELECT subscription FROM lost`
	lostTimes = `SELECT DISTINCT at FROM push_queue WHERE state = 1 AND lease_until <= ` + sqlNow

	findLost = `SELECT id, at, subscription, fence, cause, attempts, claimed_at, coalesce(node, '') FROM push_queue
		WHERE state = 1 AND lease_until <= ? ORDER BY subscription, claimed_at LIMIT ?`
	keepLost = `UPDATE push_queue SET state = 0, due_at = ?, attempts = attempts + 1, tries = tries + 1,
		first_attempt = coalesce(first_attempt, claimed_at), claimed_at = NULL, lease_until = NULL, node = NULL WHERE id = ?`
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
		err := c.each(ctx, func(rows *sql.Rows) error {
			l := lost{Attempt: pusher.Attempt{Class: pusher.ErrLost, Error: lostText}}
			var subscription uint64
			var claimed int64
			err := rows.Scan(&l.id.ID, &l.id.At, &subscription, &l.fence, &l.Cause, &l.Number, &claimed, &l.Node)
			l.Number, l.Started = l.Number+1, fromUnixMicro(claimed)
			subscriptions, found = append(subscriptions, subscription), append(found, l)
			return err
		}, findLost, now, limit)
		if err != nil {
			return err
		}
		for i := range found {
			l := &found[i]
			if _, err := c.exec(ctx, keepLost, now, l.id.ID); err != nil {
				return err
			}
			if _, err := c.exec(ctx, recordLost, l.id.At, l.id.ID); err != nil {
				return err
			}
			if err := c.insertAttempt(ctx, l.id, l.fence, &l.Attempt); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return subscriptions, nil
}
