package store

import (
	"context"
	"database/sql"
	"io"
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
	rand io.Reader
}

var _ platform.Tx = (*tx)(nil)

// Update runs fn in one transaction. Where fn fails, its error is returned as
// it is, and nothing has happened.
func (s *Store) Update(ctx context.Context, fn func(platform.Tx) error) error {
	return s.update(ctx, nil, func(t *tx) error { return fn(t) })
}

// update is Update; prepared keeps statements for bulk work.
func (s *Store) update(ctx context.Context, prepared map[string]*sql.Stmt, fn func(*tx) error) error {
	c, err := s.begin(ctx, s.writer, nil)
	if err != nil {
		return err
	}
	c.prepared = prepared
	defer func() { _ = c.tx.Rollback() }() // also when fn panics; nothing after a commit
	if err := fn(&tx{reader{c, &s.keys}, s.rand}); err != nil {
		return err
	}
	if err := c.tx.Commit(); err != nil {
		return s.unavailable(ctx, "committing", err)
	}
	return nil
}

// view runs fn in a transaction that only reads.
func (s *Store) view(ctx context.Context, fn func(*reader) error) error {
	c, err := s.begin(ctx, s.readers, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = c.tx.Rollback() }()
	return fn(&reader{c, &s.keys})
}

// AppByKey loads an app with everything that hangs from it.
func (s *Store) AppByKey(ctx context.Context, appKey string) (a *platform.App, err error) {
	err = s.view(ctx, func(r *reader) error { a, err = r.AppByKey(ctx, appKey); return err })
	return a, err
}

// App loads an app by its ID.
func (s *Store) App(ctx context.Context, id string) (a *platform.App, err error) {
	err = s.view(ctx, func(r *reader) error { a, err = r.App(ctx, id); return err })
	return a, err
}

// Apps lists apps by ID, without their credentials.
func (s *Store) Apps(ctx context.Context, f platform.AppFilter, p platform.Page) (apps []platform.App, err error) {
	err = s.view(ctx, func(r *reader) error { apps, err = r.Apps(ctx, f, p); return err })
	return apps, err
}

// CountApps counts all apps.
func (s *Store) CountApps(ctx context.Context) (n int, err error) {
	err = s.view(ctx, func(r *reader) error { n, err = r.CountApps(ctx); return err })
	return n, err
}

// Catalog loads all APIs, packages, plans, groups and platform limits.
func (s *Store) Catalog(ctx context.Context) (c *platform.Catalog, err error) {
	err = s.view(ctx, func(r *reader) error { c, err = r.Catalog(ctx); return err })
	return c, err
}

// Audit lists changes, newest first.
func (s *Store) Audit(ctx context.Context, f platform.AuditFilter) (entries []platform.AuditEntry, err error) {
	err = s.view(ctx, func(r *reader) error { entries, err = r.Audit(ctx, f); return err })
	return entries, err
}
