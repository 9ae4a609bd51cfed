package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
)

// migratePatience is how long a node waits for others that bring the schema up
// to date, and for its own turn.
const migratePatience = 60 * time.Second

// The tries to migrate a SQLite file, when several processes open a new one
// together: one of them wins, and the others find its work done. On PostgreSQL
// a lock makes them take turns.
const (
	migrateTries = 10
	migrateWait  = 100 * time.Millisecond
)

// migrate brings the schema of a SQLite file up to date.
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

// migrateOnce applies what is missing. Nodes of the version before go on
// working next to a migrated database until they are restarted: a migration
// may add tables, indexes and columns with a default, and what it takes away
// must have been out of use for a version. A migration that runs longer than a
// session's limits begins with SET LOCAL statement_timeout = 0.
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
