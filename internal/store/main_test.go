package store

import (
	"bytes"
	"context"
	"flag"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func TestMain(m *testing.M) {
	// Each check writes to a disk; -rapid.checks on the command line wins.
	if err := flag.Set("rapid.checks", "25"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// testKey is a master key made of one byte.
func testKey(b byte) []byte { return bytes.Repeat([]byte{b}, keySize) }

func testKeyring(t testing.TB, keys ...byte) *Keyring {
	t.Helper()
	var older [][]byte
	for _, b := range keys[1:] {
		older = append(older, testKey(b))
	}
	k, err := NewKeyring(testKey(keys[0]), older...)
	require.NoError(t, err)
	return k
}

// openAt opens the database at path; the test closes it.
func openAt(t testing.TB, path string, keys *Keyring) *Store {
	t.Helper()
	s, err := OpenSQLite(t.Context(), path, keys, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func openTemp(t testing.TB) *Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "store.db"), testKeyring(t, 1))
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
		CreatedAt: testTime, UpdatedAt: testTime.Add(time.Minute),
	}
}

func put(t testing.TB, s *Store, fn func(ctx context.Context, tx platform.Tx) error) {
	t.Helper()
	require.NoError(t, s.Update(t.Context(), func(tx platform.Tx) error { return fn(t.Context(), tx) }))
}

func putApps(t testing.TB, s *Store, apps ...*platform.App) {
	t.Helper()
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		for _, a := range apps {
			if err := tx.PutApp(ctx, a); err != nil {
				return err
			}
		}
		return nil
	})
}
