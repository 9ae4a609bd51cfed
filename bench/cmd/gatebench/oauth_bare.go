package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
)

// emptyStorage is a database of an engine that nothing else uses, with a master
// key in a folder.
func emptyStorage(ctx context.Context, dir, engine string, servers *servers) (*storage, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	if engine == "sqlite" {
		return sqliteIn(dir)
	}
	dsn, err := servers.postgres.DSN(ctx)
	if err != nil {
		return nil, err
	}
	return newStorage(dir, engine, dsn)
}

// postgresWriters is how many connections of a gateway's pool to PostgreSQL
// issue tokens by default. To SQLite one writes.
const postgresWriters = 14

// bareStore has the tables of a store and is written without any of its code.
type bareStore struct {
	db        *sql.DB
	statement *sql.Stmt
	loops     int
}

// newBareStore makes the tables and prepares to write tokens into them in so many
// loops at once, over as many connections as a gateway writes with, and as
// durably. It must be closed.
func newBareStore(ctx context.Context, dir, engine string, servers *servers, loops int) (b *bareStore, err error) {
	tables, err := emptyStorage(ctx, dir, engine, servers)
	if err != nil {
		return nil, err
	}
	made, err := tables.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := made.Close(); err != nil {
		return nil, err
	}
	// The store's package registers both drivers.
	driver, source, values, writers := "pgx", tables.Location, `$1, $2, 1, $3, 'production', $4, '', $5, $6`, postgresWriters
	if engine == "sqlite" {
		driver, values, writers = "sqlite", `?, ?, 1, ?, 'production', ?, '', ?, ?`, 1
		source = "file:" + (&url.URL{Path: source}).EscapedPath() +
			"?mode=rw&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&_pragma=cache_size(-65536)"
	}
	b = &bareStore{loops: loops}
	if b.db, err = sql.Open(driver, source); err != nil {
		return nil, fmt.Errorf("opening a bare store: %w", err)
	}
	b.db.SetMaxOpenConns(writers)
	b.db.SetMaxIdleConns(writers)
	b.statement, err = b.db.PrepareContext(ctx,
		`INSERT INTO oauth_tokens (hash, family, kind, app, environment, scopes, dpop_key, issued_at, expires_at) VALUES (`+values+`)`) //nolint:gosec // G202: no input
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preparing a bare insert: %w", err), b.db.Close())
	}
	return b, nil
}

// Close closes the database.
func (b *bareStore) Close() error { return errors.Join(b.statement.Close(), b.db.Close()) }

// insert writes one row after the other for d in each loop: what a token by
// client credentials leaves in the store.
func (b *bareStore) insert(ctx context.Context, d time.Duration) (outcome, error) {
	return together(ctx, b.loops, d, func(ctx context.Context, worker int) error {
		var hash oauth.Hash
		_, _ = rand.Read(hash[:])
		now := time.Now()
		_, err := b.statement.ExecContext(ctx, hash[:], "fa_"+rand.Text()[:22], worker+1, `["logistics","trade"]`,
			now.UnixMicro(), now.Add(oauth.AccessTokenLifetime).UnixMicro())
		if err != nil {
			return fmt.Errorf("inserting a row: %w", err)
		}
		return nil
	})
}
