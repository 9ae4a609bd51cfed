package store

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

func TestMain(m *testing.M) {
	// Each check writes to a disk; -rapid.checks on the command line wins.
	if err := flag.Set("rapid.checks", "25"); err != nil {
		panic(err)
	}
	code := m.Run()
	closeServer()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// server is the PostgreSQL of all tests that do not break it.
var server = sync.OnceValues(func() (*testserver.Postgres, error) {
	serverStarted = true
	return testserver.StartPostgres("127.0.0.1")
})

var serverStarted bool

func closeServer() {
	if !serverStarted {
		return
	}
	if p, err := server(); err == nil {
		_ = p.Close()
	}
}

// engineTest is an engine as the tests that hold for all of them need it.
type engineTest struct {
	name string
	// database makes an empty database.
	database func(testing.TB) string
	// open opens a database.
	open func(context.Context, string, *Keyring, Options) (*Store, error)
}

var engines = []engineTest{
	{"sqlite", sqliteDatabase, OpenSQLite},
	{"postgres", postgresDatabase, OpenPostgres},
}

// sqliteDatabase is a file that is not there yet.
func sqliteDatabase(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "store.db")
}

// postgresDatabase is the DSN of an empty database.
func postgresDatabase(tb testing.TB) string {
	tb.Helper()
	p, err := server()
	require.NoError(tb, err)
	return p.Database(tb)
}

// onBoth runs a test on each engine.
func onBoth(t *testing.T, test func(*testing.T, engineTest)) {
	t.Helper()
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { test(t, e) })
	}
}

// at opens a database; the test closes it.
func (e engineTest) at(tb testing.TB, database string, keys *Keyring) *Store {
	tb.Helper()
	return e.with(tb, database, keys, Options{})
}

func (e engineTest) with(tb testing.TB, database string, keys *Keyring, o Options) *Store {
	tb.Helper()
	s, err := e.open(tb.Context(), database, keys, o)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return s
}

// empty opens a new database.
func (e engineTest) empty(tb testing.TB) *Store {
	tb.Helper()
	return e.at(tb, e.database(tb), testKeyring(tb, 1))
}

// testKey is a master key made of one byte.
func testKey(b byte) []byte { return bytes.Repeat([]byte{b}, keySize) }

func testKeyring(tb testing.TB, keys ...byte) *Keyring {
	tb.Helper()
	var older [][]byte
	for _, b := range keys[1:] {
		older = append(older, testKey(b))
	}
	k, err := NewKeyring(testKey(keys[0]), older...)
	require.NoError(tb, err)
	return k
}

// openAt opens the database at path; the test closes it.
func openAt(tb testing.TB, path string, keys *Keyring) *Store {
	tb.Helper()
	s, err := OpenSQLite(tb.Context(), path, keys, Options{})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return s
}

func openTemp(tb testing.TB) *Store {
	tb.Helper()
	return openAt(tb, filepath.Join(tb.TempDir(), "store.db"), testKeyring(tb, 1))
}

var testTime = time.Date(2026, 5, 6, 7, 8, 9, 123456000, time.UTC)

// testApp is an app with something of everything that needs no other row.
func testApp(n string) *platform.App {
	return &platform.App{
		ID: "app_" + n, Key: "ak_" + n, Name: "Shop " + n, Kind: platform.ISV, Mode: platform.Client, Status: platform.Active,
		Credentials: []platform.Credential{
			{
				Number: 1, Environment: platform.Sandbox, Kind: platform.SharedSecret, Dialect: "op1",
				Secret: platform.NewSecret([]byte("sk_first_" + n)), CreatedAt: testTime, ExpiresAt: testTime.Add(time.Hour),
			},
			{
				Number: 3, Environment: platform.Production, Kind: platform.PublicKey, Dialect: "op1",
				PublicKeyPEM: "-----BEGIN PUBLIC KEY-----\n", CreatedAt: testTime,
			},
		},
		Dialects:  []platform.DialectGrant{{Dialect: "jd"}, {Dialect: "top", Method: "md5"}},
		OAuth:     platform.OAuthSettings{RedirectURIs: []string{"https://" + n + ".example.com/a?b=c"}, Tokens: platform.JWTToken, WithoutPKCE: true},
		CreatedAt: testTime, UpdatedAt: testTime.Add(time.Minute),
	}
}

func put(tb testing.TB, s *Store, fn func(ctx context.Context, tx platform.Tx) error) {
	tb.Helper()
	require.NoError(tb, s.Update(tb.Context(), func(tx platform.Tx) error { return fn(tb.Context(), tx) }))
}

func putApps(tb testing.TB, s *Store, apps ...*platform.App) {
	tb.Helper()
	put(tb, s, func(ctx context.Context, tx platform.Tx) error {
		for _, a := range apps {
			if err := tx.PutApp(ctx, a); err != nil {
				return err
			}
		}
		return nil
	})
}
