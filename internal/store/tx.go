package store

import (
	"context"
	"database/sql"
	"sync/atomic"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// reader reads within one transaction, so that it sees one state. Its keys are
// looked up after the rows were read, so that they are never older.
type reader struct {
	*conn
	keys *atomic.Pointer[Keyring]
}

// tx reads and writes within one transaction.
type tx struct {
	reader
	store *Store
	// madeRoom tells that this transaction made a partition.
	madeRoom bool
}

var _ platform.Tx = (*tx)(nil)

// Update runs fn in one transaction. Where fn fails, its error is returned as
// it is, and nothing has happened.
func (s *Store) Update(ctx context.Context, fn func(platform.Tx) error) error {
	return s.update(ctx, nil, func(t *tx) error { return fn(t) })
}

// update is Update; prepared keeps statements for bulk work. It is the only
// writer until fn is done.
func (s *Store) update(ctx context.Context, prepared map[string]*sql.Stmt, fn func(*tx) error) error {
	return s.transaction(ctx, s.writer, nil, func(c *conn) error {
		if s.engine.serial != "" {
			if _, err := c.exec(ctx, s.engine.serial); err != nil {
				return err
			}
		}
		c.prepared = prepared
		return fn(&tx{reader: reader{c, &s.keys}, store: s})
	})
}

// view runs fn in a transaction that only reads.
func (s *Store) view(ctx context.Context, fn func(*reader) error) error {
	return s.transaction(ctx, s.readers, &sql.TxOptions{ReadOnly: true, Isolation: s.snapshot}, func(c *conn) error {
		return fn(&reader{c, &s.keys})
	})
}

// load runs fn, which reads by one statement: that sees one state by itself,
// and costs one round trip to the database.
func (s *Store) load(fn func(*reader) error) error {
	if err := s.watch.down(); err != nil {
		return err
	}
	err := fn(&reader{&conn{querier: s.readers, engine: s.engine, prepared: s.loads}, &s.keys})
	s.noteFailure(err)
	return err
}

// transaction runs fn between a begin and a commit. Where fn fails, its error
// is returned as it is.
func (s *Store) transaction(ctx context.Context, db *sql.DB, o *sql.TxOptions, fn func(*conn) error) (err error) {
	if err := s.watch.down(); err != nil {
		return err
	}
	defer func() { s.noteFailure(err) }()
	ctx, cancel := s.engine.bounded(ctx)
	defer cancel()
	session, err := db.Conn(ctx)
	if err != nil {
		return s.unavailable(ctx, "beginning a transaction", err)
	}
	defer func() { _ = session.Close() }()
	return s.within(ctx, session, o, fn)
}

// within is transaction on a connection.
func (s *Store) within(ctx context.Context, session *sql.Conn, o *sql.TxOptions, fn func(*conn) error) error {
	tx, err := session.BeginTx(ctx, o)
	if err != nil {
		return s.unavailable(ctx, "beginning a transaction", err)
	}
	defer func() { _ = tx.Rollback() }() // also when fn panics; nothing after a commit
	if err := fn(&conn{querier: tx, engine: s.engine, session: session}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return s.unavailable(ctx, "committing", err)
	}
	return nil
}

// AppByKey loads an app with everything that hangs from it.
func (s *Store) AppByKey(ctx context.Context, appKey string) (a *platform.App, err error) {
	err = s.load(func(r *reader) error { a, err = r.AppByKey(ctx, appKey); return err })
	return a, err
}

// App loads an app by its ID.
func (s *Store) App(ctx context.Context, id string) (a *platform.App, err error) {
	err = s.load(func(r *reader) error { a, err = r.App(ctx, id); return err })
	return a, err
}

// Apps lists apps by ID, without their credentials.
func (s *Store) Apps(ctx context.Context, f platform.AppFilter, p platform.Page) (apps []platform.App, err error) {
	err = s.view(ctx, func(r *reader) error { apps, err = r.Apps(ctx, f, p); return err })
	return apps, err
}

// CountApps counts all apps.
func (s *Store) CountApps(ctx context.Context) (n int, err error) {
	err = s.load(func(r *reader) error { n, err = r.CountApps(ctx); return err })
	return n, err
}

// Catalog loads all APIs, topics, packages, plans, groups and platform limits.
func (s *Store) Catalog(ctx context.Context) (c *platform.Catalog, err error) {
	err = s.view(ctx, func(r *reader) error { c, err = r.Catalog(ctx); return err })
	return c, err
}

// Audit lists changes, newest first.
func (s *Store) Audit(ctx context.Context, f platform.AuditFilter) (entries []platform.AuditEntry, err error) {
	err = s.load(func(r *reader) error { entries, err = r.Audit(ctx, f); return err })
	return entries, err
}
