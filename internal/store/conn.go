package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// querier is a transaction, or a pool whose every statement is one.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// conn is a querier as the rest of the package uses it: with the engine's
// placeholders, and with errors of the domain.
type conn struct {
	querier
	engine *engine
	// session is the connection of a transaction.
	session *sql.Conn
	// prepared keeps statements for bulk work; nil prepares nothing. Outside of
	// a transaction it is complete.
	prepared map[string]*sql.Stmt
	// compiled are statements of the pool that a transaction can use as well.
	compiled map[string]*sql.Stmt
}

// exec runs a statement and returns the number of rows that it changed.
func (c *conn) exec(ctx context.Context, query string, args ...any) (int64, error) {
	ctx, cancel := c.engine.bounded(ctx)
	defer cancel()
	var res sql.Result
	st, err := c.prepare(ctx, query) //nolint:sqlclosecheck // closed with the transaction
	switch {
	case err != nil:
	case st != nil:
		res, err = st.ExecContext(ctx, args...)
	default:
		res, err = c.ExecContext(ctx, c.engine.bind(query), args...)
	}
	if err != nil {
		return 0, c.engine.domainError(ctx, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, c.engine.domainError(ctx, err)
	}
	return n, nil
}

// each runs a query and gives every row to fn.
func (c *conn) each(ctx context.Context, fn func(*sql.Rows) error, query string, args ...any) error {
	ctx, cancel := c.engine.bounded(ctx)
	defer cancel()
	var rows *sql.Rows
	st, err := c.prepare(ctx, query) //nolint:sqlclosecheck // closed with the transaction
	switch {
	case err != nil:
	case st != nil:
		rows, err = st.QueryContext(ctx, args...)
	default:
		rows, err = c.QueryContext(ctx, c.engine.bind(query), args...)
	}
	if err != nil {
		return c.engine.domainError(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return c.engine.domainError(ctx, err)
	}
	return nil
}

// one runs a query and scans its first row; ErrNotFound where there is none.
func (c *conn) one(ctx context.Context, dest []any, query string, args ...any) error {
	found := false
	err := c.each(ctx, func(rows *sql.Rows) error {
		if found {
			return nil
		}
		found = true
		return rows.Scan(dest...)
	}, query, args...)
	if err == nil && !found {
		return platform.ErrNotFound
	}
	return err
}

// prepare is the statement for bulk work, or nil.
func (c *conn) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	if c.prepared == nil {
		return nil, nil
	}
	if st, ok := c.prepared[query]; ok || c.session == nil {
		return st, nil
	}
	var st *sql.Stmt
	var err error
	if known := c.compiled[query]; known != nil {
		st = c.querier.(*sql.Tx).StmtContext(ctx, known)
	} else {
		st, err = c.PrepareContext(ctx, c.engine.bind(query))
	}
	if err == nil {
		c.prepared[query] = st // closed with the transaction
	}
	return st, err
}

func (e *engine) bind(query string) string {
	if e.rebind == nil {
		return query
	}
	return e.rebind(query)
}

// domainError says what the database's error means to the domain.
func (e *engine) domainError(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case cause != nil:
		return fmt.Errorf("%w: %w", platform.ErrUnavailable, cause)
	case e.conflict(err):
		return fmt.Errorf("%w: %w", platform.ErrConflict, err)
	}
	return fmt.Errorf("%w: %w", platform.ErrUnavailable, err)
}

// unavailable wraps an error of opening or ending a transaction.
func (s *Store) unavailable(ctx context.Context, doing string, err error) error {
	return fmt.Errorf("%s: %w", doing, s.engine.domainError(ctx, err))
}

// named says which thing was not found, or in conflict.
func named(err error, format string, args ...any) error {
	if err == nil || !errors.Is(err, platform.ErrNotFound) && !errors.Is(err, platform.ErrConflict) {
		return err
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

// micros is t as the database keeps it; the zero time is NULL.
func micros(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMicro(), Valid: !t.IsZero()}
}

// fromMicros is the opposite of micros.
func fromMicros(v sql.NullInt64) time.Time {
	if !v.Valid {
		return time.Time{}
	}
	return fromUnixMicro(v.Int64)
}

// fromUnixMicro is the time that the database keeps as v.
func fromUnixMicro(v int64) time.Time { return time.UnixMicro(v).UTC() }

// orNull is s, or NULL where it is empty.
func orNull(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }
