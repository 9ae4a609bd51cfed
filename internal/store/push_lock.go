package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// lockTries is how often a transaction is tried that did not get its locks, and
// lockPause is how long it waits before the first time, and so on.
const (
	lockTries = 100
	lockPause = 2 * time.Millisecond
)

// pushing runs fn, which changes deliveries that nodes may be at, and returns the
// subscriptions that may have work by it: other nodes hear of them. It does not
// take the lock of the domain: rows are locked one by one. It may run fn again,
// after all of it was undone.
func (s *Store) pushing(ctx context.Context, fn func(*conn) ([]uint64, error)) error {
	for try := 1; ; try++ {
		err := s.transaction(ctx, s.issuing(), nil, func(c *conn) error {
			if err := c.byIndex(ctx); err != nil {
				return err
			}
			subscriptions, err := fn(c)
			if err != nil || len(subscriptions) == 0 {
				return err
			}
			return c.notifyPush(ctx, subscriptions)
		})
		if !errors.Is(err, errLocked) && sqlState(err) != deadlockDetected {
			return err
		}
		if try == lockTries {
			return fmt.Errorf("%w: %w", platform.ErrUnavailable, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", platform.ErrUnavailable, context.Cause(ctx))
		case <-time.After(min(time.Duration(try)*lockPause, 50*lockPause)):
		}
	}
}

// byIndex makes the transaction find rows by indexes alone: the figures of tables
// that change all the time are never up to date.
func (c *conn) byIndex(ctx context.Context) error {
	if c.engine.byIndex == "" {
		return nil
	}
	return c.each(ctx, func(*sql.Rows) error { return nil }, c.engine.byIndex)
}

// errLocked says that somebody else has a delivery, and may wait for what this
// transaction has.
var errLocked = errors.New("others are at these deliveries")

// lockAgain makes the transaction the only one that puts deliveries back into
// the queue. What it does not find there does not come there meanwhile, and so
// is not waited for after the records were locked.
func (c *conn) lockAgain(ctx context.Context) error {
	if c.engine.again == "" {
		return nil
	}
	return c.each(ctx, func(*sql.Rows) error { return nil }, c.engine.again)
}

// inOrder is the order in which rows of the queue q are locked. The sum keeps
// PostgreSQL from reading the whole queue for the sake of its order.
const inOrder = ` ORDER BY q.id + 0`

// lockQueue finds the queue's rows that the rest of the query selects, and keeps
// them from others until the transaction ends. Nobody waits in a circle: rows of
// subscriptions without an order are locked in the order of their ids, and before
// any record. Who leaves the queue of an ordered subscription changes the next row
// of its key too, so such a subscription is locked before its rows. A completion
// locks them the other way round: where it has one of them, all is undone and
// tried again. So it is in the one case that is left, a manual push that finds
// another one owed while its delivery is completed, once the server has seen it.
func (c *conn) lockQueue(ctx context.Context, with, from string, args ...any) ([]queuedDelivery, error) {
	var locked []queuedDelivery
	read := func(tail string) error {
		return c.each(ctx, func(rows *sql.Rows) error {
			var q queuedDelivery
			err := rows.Scan(&q.id.At, &q.id.ID, &q.subscription, &q.fence)
			locked = append(locked, q)
			return err
		}, with+`SELECT q.at, q.id, q.subscription, q.fence FROM push_queue q `+from+tail, args...)
	}
	if c.engine.lockRow == "" {
		return locked, read(inOrder)
	}
	if err := read(` AND q.order_key IS NULL` + inOrder + c.engine.lockRow + ` OF q`); err != nil {
		return nil, err
	}
	err := c.each(ctx, func(*sql.Rows) error { return nil }, with+`SELECT s.number FROM subscriptions s
		WHERE `+c.engine.anyOf("s.number", `SELECT q.subscription FROM push_queue q `+from+` AND q.order_key IS NOT NULL`)+`
		ORDER BY s.number`+c.engine.lockRow, args...)
	if err != nil {
		return nil, err
	}
	err = read(` AND q.order_key IS NOT NULL` + inOrder + c.engine.lockRow + ` OF q NOWAIT`)
	if sqlState(err) == lockNotAvailable {
		err = errLocked
	}
	return locked, err
}

const (
	// lockNotAvailable is the SQLSTATE of a lock that was not waited for.
	lockNotAvailable = "55P03"
	// deadlockDetected is that of who waited in a circle, and was undone.
	deadlockDetected = "40P01"
)
