// Package store keeps the domain in a SQL database: SQLite today. It fills
// [platform.Store]. Secrets are encrypted at rest with the keys of a
// [Keyring]; nothing else about them is decided here.
package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Options are a store's settings. Zero fields take the defaults.
type Options struct {
	// Readers is the largest number of connections that read; 0 means 4.
	Readers int
	// Rand is where nonces come from; nil means crypto/rand.
	Rand io.Reader
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (o Options) readers() int {
	if o.Readers > 0 {
		return o.Readers
	}
	return 4
}

// Store keeps the domain. It is safe for concurrent use: writers queue for one
// connection, readers see the last commit and wait for nobody.
type Store struct {
	engine  *engine
	writer  *sql.DB
	readers *sql.DB
	rand    io.Reader
	now     func() time.Time
	keys    atomic.Pointer[Keyring]
	// rotating is held while the master key rotates.
	rotating sync.Mutex
}

var _ platform.Store = (*Store)(nil)

// open takes over both pools and closes them where it fails.
func open(ctx context.Context, e *engine, writer, readers *sql.DB, keys *Keyring, o Options) (*Store, error) {
	s := &Store{engine: e, writer: writer, readers: readers, rand: o.Rand, now: o.Now}
	if s.rand == nil {
		s.rand = rand.Reader
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.keys.Store(keys)
	err := s.migrate(ctx)
	if err == nil {
		err = s.checkKeys(ctx, keys)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store: %w", err), s.Close())
	}
	return s, nil
}

// Close ends all connections.
func (s *Store) Close() error {
	return errors.Join(s.readers.Close(), s.writer.Close())
}

// The tries to migrate, when several processes open a new database together:
// one of them wins, and the others find its work done.
const (
	migrateTries = 10
	migrateWait  = 100 * time.Millisecond
)

// migrate brings the schema up to date.
func (s *Store) migrate(ctx context.Context) error {
	for try := 1; ; try++ {
		err := s.migrateOnce(ctx)
		var newer *newerSchemaError
		if err == nil || errors.As(err, &newer) || try == migrateTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(migrateWait):
		}
	}
}

func (s *Store) migrateOnce(ctx context.Context) error {
	folder, err := fs.Sub(migrations, s.engine.folder)
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	p, err := goose.NewProvider(s.engine.dialect, s.writer, folder,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return s.unavailable(ctx, "reading the schema version", err)
	}
	if current > target {
		return &newerSchemaError{current, target}
	}
	if _, err := p.Up(ctx); err != nil {
		return s.unavailable(ctx, "migrating the schema", err)
	}
	return nil
}

// newerSchemaError says that a later program has written the database.
type newerSchemaError struct{ database, program int64 }

func (e *newerSchemaError) Error() string {
	return fmt.Sprintf("the database has schema version %d and this program knows versions up to %d: run the newer program, or restore a backup from before its first start", e.database, e.program)
}
