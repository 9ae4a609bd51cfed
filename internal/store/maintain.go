package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Retention tells for how long rows of the time-series tables are kept; 0 is
// for ever. On PostgreSQL rows go by whole partitions, so they stay up to a
// partition's width longer.
type Retention struct {
	// Audit is for the log of changes: partitions of a month.
	Audit time.Duration
	// Messages is for what was published, Deliveries for the deliveries and what
	// was posted, Attempts for the push link records: partitions of a day. A
	// delivery that still waits at the end of its time is cancelled.
	Messages, Deliveries, Attempts time.Duration
}

const (
	// keepChanges is for how long the log of changes for other nodes is kept:
	// a node that was away for longer loads everything again.
	keepChanges = time.Hour
	// keepEnded is for how long codes, tokens and grants are kept after their
	// end: a replay is seen until then, and people see what has ended.
	keepEnded = 24 * time.Hour
	// pruneBatch is how many old rows are deleted in one transaction.
	pruneBatch = 1000
)

// Maintain makes partitions for the time to come and removes what is older
// than the retention. Call it about every hour. Of several nodes that call it
// together one works and the others return at once. It may be broken off at
// any point: the next call goes on.
func (s *Store) Maintain(ctx context.Context, now time.Time, keep Retention) error {
	if s.pool == nil {
		_, err := s.Prune(ctx, now.Add(-keepEnded))
		return errors.Join(err, s.prunePush(ctx, now), s.pruneSeries(ctx, nil, now, keep))
	}
	if err := s.watch.down(); err != nil {
		return err
	}
	conn, err := s.alone(ctx, lockMaintain)
	if err != nil {
		return fmt.Errorf("maintaining the store: %w", err)
	}
	if conn == nil {
		return nil
	}
	defer release(ctx, conn)
	_, err = s.Prune(ctx, now.Add(-keepEnded))
	err = errors.Join(s.makeAhead(ctx, now), s.pruneChanges(ctx, conn, now), err, s.prunePush(ctx, now), s.pruneSeries(ctx, conn, now, keep))
	if err != nil {
		return fmt.Errorf("maintaining the store: %w", err)
	}
	return nil
}

// pruneSeries removes the rows of each series that are older than its time: on
// PostgreSQL by the connection of the one node that maintains.
func (s *Store) pruneSeries(ctx context.Context, conn *pgx.Conn, now time.Time, keep Retention) error {
	var errs []error
	for _, series := range s.series {
		age := series.keep(keep)
		if age <= 0 {
			continue
		}
		before := now.Add(-age)
		if s.pool != nil { // whole partitions
			before = series.partition(before).from
		}
		ready, err := true, error(nil)
		if series.ready != nil {
			ready, err = series.ready(s, ctx, before)
		}
		switch {
		case err != nil || !ready:
		case s.pool != nil:
			err = s.dropOlder(ctx, conn, series, before)
		default:
			err = s.prune(ctx, series, before)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("deleting old rows of %s: %w", series.table, err))
		}
	}
	return errors.Join(errs...)
}

// prune deletes old rows of a SQLite table, the oldest first, and lets other
// writers in between. The first batch without an old row is the end.
func (s *Store) prune(ctx context.Context, series series, before time.Time) error {
	key := series.key
	if key == "" {
		key = "at, id"
	}
	return s.inBatches(ctx, func(c *conn) (int64, error) {
		return c.exec(ctx, `DELETE FROM `+series.table+` WHERE at < ? AND (`+key+`) IN (SELECT `+key+` FROM `+series.table+` ORDER BY `+key+` LIMIT ?)`,
			before.UnixMicro(), pruneBatch)
	})
}

// inBatches runs fn, which changes at most a batch of rows, until there are
// none, each time in a transaction of its own.
func (s *Store) inBatches(ctx context.Context, fn func(*conn) (int64, error)) error {
	for {
		var n int64
		err := s.pushing(ctx, func(c *conn) (_ []uint64, err error) {
			n, err = fn(c)
			return nil, err
		})
		if err != nil || n == 0 {
			return err
		}
	}
}

// pruneChanges forgets old changes, but never the last one: see Watch.
func (s *Store) pruneChanges(ctx context.Context, conn *pgx.Conn, now time.Time) error {
	_, err := conn.Exec(ctx, `DELETE FROM changes WHERE version <
		(SELECT coalesce(min(version) FILTER (WHERE at >= $1), max(version)) FROM changes)`, now.Add(-keepChanges).UnixMicro())
	if err != nil {
		return s.unavailable(ctx, "forgetting old changes", err)
	}
	return nil
}

// dropOlder drops the partitions whose rows are all older than the time. A
// partition is detached first, in a way that stops neither readers nor
// writers; where that is broken off it stays pending, and is finished here the
// next time. Detached partitions that were not dropped are found by their name.
func (s *Store) dropOlder(ctx context.Context, conn *pgx.Conn, series series, before time.Time) error {
	rows, err := conn.Query(ctx, `SELECT c.relname, c.relispartition, coalesce(i.inhdetachpending, false)
		FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = $1::text::regclass
		WHERE c.relkind = 'r' AND starts_with(c.relname, $2)
			AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = $1::text::regclass)
		ORDER BY c.relname`, series.table, series.prefix())
	if err != nil {
		return s.unavailable(ctx, "listing the partitions of "+series.table, err)
	}
	type found struct {
		Name              string
		Attached, Pending bool
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[found])
	if err != nil {
		return s.unavailable(ctx, "listing the partitions of "+series.table, err)
	}
	for _, table := range tables {
		p, ok := series.parse(table.Name)
		if !ok || p.until.After(before) {
			continue
		}
		s.rooms.Delete(p.name)
		var steps []string
		switch {
		case table.Pending:
			steps = append(steps, `ALTER TABLE `+series.table+` DETACH PARTITION `+p.name+` FINALIZE`)
		case table.Attached:
			steps = append(steps, `ALTER TABLE `+series.table+` DETACH PARTITION `+p.name+` CONCURRENTLY`)
		}
		for _, step := range append(steps, `DROP TABLE `+p.name) {
			if _, err := conn.Exec(ctx, step); err != nil {
				return s.unavailable(ctx, "dropping the partition "+p.name, err)
			}
		}
	}
	return nil
}
