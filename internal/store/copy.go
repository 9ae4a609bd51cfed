package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	// copyBatch is how many rows are at hand at a time, and copyBytes how large
	// their bodies may be, about.
	copyBatch = 2000
	copyBytes = 16 << 20
	// copyPatience bounds a copy whose caller has set no deadline.
	copyPatience = 24 * time.Hour
)

// Copy moves everything from one store to another one, which may be of the
// other engine and must be new: apps with their numbers, secrets (encrypted
// again under the target's keys), merchants with their grants and tokens, the
// catalog, subscriptions, messages with their deliveries, limits, quota counts and the audit log; what counts upwards goes on after it. Then it compares every row
// of both, decrypted secrets too, and names the first one that differs.
//
// All of that is one transaction of the target: a copy that is broken off, or
// finds a difference, leaves the target as new, and can be started again. Only
// after the commit is anything there: a target that is refused as not new has
// all of it. The source is read in one snapshot; what is
// changed there later is not copied, so stop its nodes first.
//
// Progress, which may be nil, is called after each batch; every row counts
// twice, once written and once compared. A target that has something is
// ErrConflict.
func Copy(ctx context.Context, from, to *Store, progress func(done, total int)) error {
	ctx, cancel := context.WithTimeout(ctx, copyPatience)
	defer cancel()
	err := from.view(ctx, func(r *reader) error {
		if err := r.unhurried(ctx); err != nil {
			return err
		}
		return to.update(ctx, map[string]*sql.Stmt{}, func(t *tx) error {
			if err := t.unhurried(ctx); err != nil {
				return err
			}
			if err := t.checkEmpty(ctx); err != nil {
				return err
			}
			total, err := r.countRows(ctx)
			if err != nil {
				return err
			}
			done := 0
			count := func(n int) {
				done += n
				if progress != nil {
					progress(done, 2*total)
				}
			}
			if err := t.copyFrom(ctx, r, count); err != nil {
				return err
			}
			if err := compare(ctx, r, &t.reader, count); err != nil {
				return err
			}
			return t.Announce(ctx, platform.Change{Kind: platform.ChangeCatalog})
		})
	})
	if err != nil {
		return fmt.Errorf("copying the store: %w", err)
	}
	return nil
}

// unhurried lifts the session's bounds for this transaction.
func (c *conn) unhurried(ctx context.Context) error {
	if c.engine.unhurried == "" {
		return nil
	}
	_, err := c.exec(ctx, c.engine.unhurried)
	return err
}

// checkEmpty refuses a store that has more than a new one.
func (t *tx) checkEmpty(ctx context.Context) error {
	for _, table := range copyTables {
		var n int
		query := `SELECT count(*) FROM ` + table.name
		if table.name == "packages" {
			query += ` WHERE name <> '` + platform.BasicPackage + `'`
		}
		if err := t.one(ctx, []any{&n}, query); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("the target has rows in %s; want a new database: %w", table.name, platform.ErrConflict)
		}
	}
	return nil
}

func (r *reader) countRows(ctx context.Context) (total int, err error) {
	for _, table := range copyTables {
		var n int
		if err := r.one(ctx, []any{&n}, `SELECT count(*) FROM `+table.name); err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// copyFrom writes all that r reads.
func (t *tx) copyFrom(ctx context.Context, r *reader, count func(int)) error {
	if _, err := t.exec(ctx, `DELETE FROM packages`); err != nil { // every new store has one
		return err
	}
	for _, table := range copyTables {
		batch, size := make([][]any, 0, copyBatch), 0
		flush := func() error {
			if len(batch) == 0 {
				return nil
			}
			if err := t.writeRows(ctx, table, batch); err != nil {
				return fmt.Errorf("writing %s: %w", table.name, err)
			}
			count(len(batch))
			batch, size = batch[:0], 0
			return nil
		}
		err := r.readRows(ctx, table, func(row []any) error {
			batch = append(batch, row)
			for _, value := range row {
				if body, ok := value.([]byte); ok {
					size += len(body)
				}
			}
			if len(batch) == copyBatch || size >= copyBytes {
				return flush()
			}
			return nil
		})
		if err == nil {
			err = flush()
		}
		if err != nil {
			return err
		}
	}
	for _, name := range counters {
		last, err := r.counter(ctx, name)
		if err != nil {
			return err
		}
		if err := t.setCounter(ctx, name, last); err != nil {
			return err
		}
	}
	return nil
}

// writeRows writes a batch, with secrets under the target's key, and with room
// for rows that are partitioned by time.
func (t *tx) writeRows(ctx context.Context, table copyTable, batch [][]any) error {
	columns := table.names()
	if table.sealed != nil {
		columns = columns[:len(columns)-1]
		for i, row := range batch {
			sealed, err := t.seal(table.sealed, row)
			if err != nil {
				return err
			}
			batch[i] = sealed
		}
	}
	for _, series := range t.store.series {
		if series.table != table.name {
			continue
		}
		at := slices.Index(columns, "at")
		made := "" // rows come in the order of time
		for _, row := range batch {
			when := time.UnixMicro(row[at].(int64))
			if p := series.partition(when); p.name != made {
				made = p.name
				if err := t.room(ctx, series, when); err != nil {
					return err
				}
			}
		}
	}
	return t.insertRows(ctx, table.name, columns, batch)
}

// seal encrypts the secret of a row and drops the app's ID.
func (t *tx) seal(s *sealedColumns, row []any) ([]any, error) {
	if secret, ok := row[s.secret].([]byte); ok {
		id, sealed, err := t.keys.Load().Seal(t.store.rand, secret, s.placeOf(row))
		if err != nil {
			return nil, err
		}
		row[s.secret], row[s.keyID] = sealed, id
	}
	return row[:len(row)-1], nil
}
