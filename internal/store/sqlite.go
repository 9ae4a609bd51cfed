package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sqliteEngine is SQLite as modernc.org/sqlite has it.
func sqliteEngine() *engine {
	return &engine{
		dialect:   goose.DialectSQLite3,
		folder:    "migrations/sqlite",
		appByKey:  fmt.Sprintf(appQuery, "app_key", "BLOB"),
		appByID:   fmt.Sprintf(appQuery, "id", "BLOB"),
		among:     ` IN (SELECT value FROM json_each(?))`,
		backFence: `d.fence`,
		lookup:    func(column, value string) string { return column + ` = ` + value },
		anyOf:     func(column, query string) string { return column + ` IN (` + query + `)` },
		counter: map[string]counter{
			"apps": sqliteCounter("apps"), "audit": sqliteCounter("audit"), "subscriptions": sqliteCounter("subscriptions"),
			"push_deliveries": {
				last: `SELECT last FROM push_numbers WHERE name = 'push_deliveries'`,
				set:  []string{`UPDATE push_numbers SET last = ? WHERE name = 'push_deliveries'`},
			},
		},
		conflict: func(err error) bool {
			var e *sqlite.Error
			if !errors.As(err, &e) {
				return false
			}
			switch e.Code() {
			case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
				return true
			}
			return false
		},
	}
}

// sqliteCounter is a table with AUTOINCREMENT.
func sqliteCounter(table string) counter {
	return counter{
		last: `SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = '` + table + `'`,
		set: []string{
			`DELETE FROM sqlite_sequence WHERE name = '` + table + `' AND seq <= ?`,
			`INSERT INTO sqlite_sequence (name, seq) VALUES ('` + table + `', ?)`,
		},
	}
}

// OpenSQLite opens the database file at path and brings its schema up to date.
// A missing file is made, with mode 0600, and its folder with mode 0700. It
// fails where the file is newer than this program and where the keys are not
// the ones that it was written with. What is committed survives a power cut, but
// for who had which delivery.
func OpenSQLite(ctx context.Context, path string, keys *Keyring, o Options) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	if err := createPrivate(path); err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	// One connection writes, so that writers queue here, where a deadline
	// counts, and never meet a busy database. Readers see the last commit. What
	// undoes one statement, or one piece of work, is kept in memory: else it is a
	// file, written with each page that is changed.
	writer, err := sql.Open("sqlite", sqliteDSN(path, "_txlock=immediate", "_pragma=cache_size(-65536)", "_pragma=temp_store(2)"))
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	writer.SetMaxOpenConns(1)
	readers, err := sql.Open("sqlite", sqliteDSN(path, "_query_only=1", "_pragma=cache_size(-8192)"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store: %w", err), writer.Close())
	}
	readers.SetMaxOpenConns(o.readers())
	readers.SetMaxIdleConns(o.readers())
	s := newStore(sqliteEngine(), writer, readers, keys, o)
	return s.start(ctx, func(ctx context.Context, keys *Keyring) error {
		if err := s.migrate(ctx); err != nil {
			return err
		}
		if err := s.noteKeys(ctx, keys); err != nil {
			return err
		}
		if s.loads, err = s.prepare(ctx, s.readers, s.engine.appByKey, s.engine.appByID, tokenQuery,
			userQuery+` WHERE `+userByID, grantQuery+` WHERE `+liveGrant); err != nil {
			return err
		}
		s.writes, err = s.prepare(ctx, s.writer, append([]string{
			beginWork, undoWork, endWork, redeemCode, insertTokens(1), insertTokens(2),
			replaceToken, s.engine.findGrant(), prolongGrant, insertFamily, insertCode,
		}, pushStatements...)...)
		if err == nil {
			s.group = startGroup(s)
		}
		return err
	})
}

// prepare compiles statements for the life of the store.
func (s *Store) prepare(ctx context.Context, db *sql.DB, queries ...string) (map[string]*sql.Stmt, error) {
	prepared := map[string]*sql.Stmt{}
	for _, query := range queries {
		st, err := db.PrepareContext(ctx, query) //nolint:sqlclosecheck // closed with the store
		if err != nil {
			return nil, s.unavailable(ctx, "preparing statements", err)
		}
		prepared[query] = st
	}
	return prepared, nil
}

// sqliteDSN names the file as a URI, so that no character of the path is taken
// for a parameter.
func sqliteDSN(path string, params ...string) string {
	base := "file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath() +
		"?mode=rw&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&_dqs=0"
	return strings.Join(append([]string{base}, params...), "&")
}

// createPrivate makes an empty file that only its owner can read, unless the
// file is there. SQLite gives its side files the same mode.
func createPrivate(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncDir(dir)
}
