package store

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func TestOpenMakesPrivateFiles(t *testing.T) {
	// The path has every character that could be taken for something else.
	path := filepath.Join(t.TempDir(), "new folder", "a?b=c&d#e%20;f.db")
	s := openAt(t, path, testKeyring(t, 1))
	putApps(t, s, testApp("a"))
	dir, err := os.Stat(filepath.Dir(path))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), dir.Mode().Perm())
	files, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		info, err := f.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), f.Name())
	}
	require.Equal(t, "a?b=c&d#e%20;f.db", files[0].Name())
}

// What acknowledges a change must have it on the disk.
func TestSettingsOfConnections(t *testing.T) {
	s := openTemp(t)
	for name, db := range map[string]*sql.DB{"writer": s.writer, "readers": s.readers} {
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
			var got string
			require.NoError(t, db.QueryRow(`PRAGMA `+pragma).Scan(&got))
			require.Equal(t, want, got, name+" "+pragma)
		}
	}
	_, err := s.readers.Exec(`DELETE FROM packages`)
	require.ErrorContains(t, err, "readonly")
}

func TestReopen(t *testing.T) { onBoth(t, testReopen) }

func testReopen(t *testing.T, e engineTest) {
	path := e.database(t)
	a := testApp("a")
	first, err := e.open(t.Context(), path, testKeyring(t, 1), Options{})
	require.NoError(t, err)
	putApps(t, first, a)
	require.NoError(t, first.Close())
	got, err := e.at(t, path, testKeyring(t, 1)).AppByKey(t.Context(), "ak_a")
	require.NoError(t, err)
	require.Equal(t, a, got)
}

// schemaVersion is the number of the last migration.
func schemaVersion(t *testing.T, s *Store) int {
	t.Helper()
	files, err := fs.ReadDir(migrations, s.engine.folder)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(files[len(files)-1].Name(), fmt.Sprintf("%04d_", len(files))), "the numbers have no gap")
	return len(files)
}

func TestOpenTogether(t *testing.T) { onBoth(t, testOpenTogether) }

func testOpenTogether(t *testing.T, e engineTest) {
	path := e.database(t)
	keys := testKeyring(t, 1)
	var wg sync.WaitGroup
	stores, errs := make([]*Store, 6), make([]error, 6)
	for i := range stores {
		wg.Go(func() { stores[i], errs[i] = e.open(t.Context(), path, keys, Options{}) })
	}
	wg.Wait()
	for i, s := range stores {
		require.NoError(t, errs[i])
		putApps(t, s, testApp(fmt.Sprint(i)))
	}
	applied := 0
	require.NoError(t, stores[0].writer.QueryRow(`SELECT count(*) FROM goose_db_version WHERE version_id > 0`).Scan(&applied))
	require.Equal(t, schemaVersion(t, stores[0]), applied)
	for _, s := range stores {
		n, err := s.CountApps(t.Context())
		require.NoError(t, err)
		require.Equal(t, len(stores), n)
		require.NoError(t, s.Close())
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) { onBoth(t, testNewerDatabaseIsRefused) }

func testNewerDatabaseIsRefused(t *testing.T, e engineTest) {
	path := e.database(t)
	s, err := e.open(t.Context(), path, testKeyring(t, 1), Options{})
	require.NoError(t, err)
	known := schemaVersion(t, s)
	_, err = s.writer.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, ` + map[string]string{"sqlite": "1", "postgres": "true"}[e.name] + `)`)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = e.open(t.Context(), path, testKeyring(t, 1), Options{})
	require.ErrorContains(t, err, fmt.Sprintf("the database has schema version 9999 and this program knows versions up to %d: run the newer program", known))
}

func TestWrongKeyIsRefused(t *testing.T) { onBoth(t, testWrongKeyIsRefused) }

func testWrongKeyIsRefused(t *testing.T, e engineTest) {
	path := e.database(t)
	s, err := e.open(t.Context(), path, testKeyring(t, 1), Options{})
	require.NoError(t, err)
	putApps(t, s, testApp("a"))
	require.NoError(t, s.Close())
	_, err = e.open(t.Context(), path, testKeyring(t, 2), Options{})
	require.ErrorIs(t, err, ErrWrongKey)
	require.ErrorContains(t, err, "the master key does not match this database")

	// A key that only has the same ID fails the check value.
	s, err = e.open(t.Context(), path, testKeyring(t, 1), Options{})
	require.NoError(t, err)
	_, err = s.writer.Exec(s.engine.bind(`UPDATE master_keys SET check_seal = ?`), make([]byte, 50))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = e.open(t.Context(), path, testKeyring(t, 1), Options{})
	require.ErrorIs(t, err, ErrWrongKey)
}

func TestOpenFailures(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	require.NoError(t, os.WriteFile(garbage, []byte("this is no database, and long enough to be read as one"), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := OpenSQLite(ctx, garbage, testKeyring(t, 1), Options{})
	require.ErrorIs(t, err, platform.ErrUnavailable)
	_, err = OpenSQLite(t.Context(), filepath.Join(garbage, "under", "a-file.db"), testKeyring(t, 1), Options{})
	require.ErrorContains(t, err, "opening the store")
	_, err = OpenSQLite(t.Context(), dir, testKeyring(t, 1), Options{})
	require.ErrorContains(t, err, "opening the store")
}
