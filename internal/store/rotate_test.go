package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// importTest fills the store with n apps of one secret each.
func importTest(tb testing.TB, s *Store, n int) {
	tb.Helper()
	_, err := s.ImportApps(tb.Context(), func(yield func(platform.App) bool) {
		for i := range n {
			if !yield(*testApp(fmt.Sprintf("%07d", i))) {
				return
			}
		}
	})
	require.NoError(tb, err)
}

func requireSecret(tb testing.TB, s *Store, n string) {
	tb.Helper()
	a, err := s.AppByKey(tb.Context(), "ak_"+n)
	require.NoError(tb, err)
	require.Equal(tb, "sk_first_"+n, string(a.Credentials[0].Secret.Reveal()))
}

func TestRotateKeys(t *testing.T) { onBoth(t, testRotateKeys) }

func testRotateKeys(t *testing.T, e engineTest) {
	path := e.database(t)
	s, err := e.open(t.Context(), path, testKeyring(t, 1), Options{})
	require.NoError(t, err)
	const n = rotateBatch + 20
	importTest(t, s, n)
	var steps [][2]int
	require.NoError(t, s.RotateKeys(t.Context(), "test", testKeyring(t, 2), func(done, total int) {
		steps = append(steps, [2]int{done, total})
		requireSecret(t, s, "0000000") // calls go on between the batches
		requireSecret(t, s, fmt.Sprintf("%07d", n-1))
		putApps(t, s, testApp(fmt.Sprint("during", done))) // and so do changes
	}))
	require.Equal(t, [][2]int{{rotateBatch, n}, {n, n}}, steps)
	putApps(t, s, testApp("after"))
	require.NoError(t, s.Close())

	_, err = e.open(t.Context(), path, testKeyring(t, 1), Options{})
	require.ErrorIs(t, err, ErrWrongKey, "the old key is of no more use")
	s = e.at(t, path, testKeyring(t, 2))
	for _, app := range []string{"0000000", fmt.Sprintf("%07d", n-1), fmt.Sprint("during", rotateBatch), "after"} {
		requireSecret(t, s, app)
	}
}

// A rotation that dies goes on where it stopped, in a new process with both keys.
func TestRotateKeysResumes(t *testing.T) { onBoth(t, testRotateKeysResumes) }

func testRotateKeysResumes(t *testing.T, e engineTest) {
	path := e.database(t)
	s, err := e.open(t.Context(), path, testKeyring(t, 1), Options{})
	require.NoError(t, err)
	const n = 2*rotateBatch + 20
	importTest(t, s, n)
	ctx, cancel := context.WithCancel(t.Context())
	err = s.RotateKeys(ctx, "test", testKeyring(t, 2), func(int, int) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
	requireSecret(t, s, "0000000")
	requireSecret(t, s, fmt.Sprintf("%07d", n-1))
	require.NoError(t, s.Close())

	for _, alone := range []byte{1, 2} {
		_, err = e.open(t.Context(), path, testKeyring(t, alone), Options{})
		require.ErrorIs(t, err, ErrWrongKey)
	}
	s = e.at(t, path, testKeyring(t, 2, 1))
	var first, last [2]int
	require.NoError(t, s.RotateKeys(t.Context(), "test", testKeyring(t, 2), func(done, total int) {
		if first == [2]int{} {
			first = [2]int{done, total}
		}
		last = [2]int{done, total}
	}))
	require.Equal(t, [2]int{rotateBatch, n - rotateBatch}, first, "the first batch was done")
	require.Equal(t, [2]int{n - rotateBatch, n - rotateBatch}, last)
	e.at(t, path, testKeyring(t, 2))
}

func TestRotateKeysOnlyOnce(t *testing.T) { onBoth(t, testRotateKeysOnlyOnce) }

func testRotateKeysOnlyOnce(t *testing.T, e engineTest) {
	s := e.empty(t)
	importTest(t, s, 3)
	var second error
	require.NoError(t, s.RotateKeys(t.Context(), "test", testKeyring(t, 2), func(int, int) {
		second = s.RotateKeys(t.Context(), "test", testKeyring(t, 3), nil)
	}))
	require.ErrorIs(t, second, platform.ErrConflict)
	require.NoError(t, s.RotateKeys(t.Context(), "test", testKeyring(t, 2), nil), "again to the same key is nothing")
	requireSecret(t, s, "0000000")
}

// A process that does not know of the new key cannot seal with the old one any
// more, so that nothing is lost.
func TestRetiredKeySealsNothing(t *testing.T) { onBoth(t, testRetiredKeySealsNothing) }

func testRetiredKeySealsNothing(t *testing.T, e engineTest) {
	path := e.database(t)
	s, straggler := e.at(t, path, testKeyring(t, 1)), e.at(t, path, testKeyring(t, 1))
	importTest(t, s, 3)
	require.NoError(t, s.RotateKeys(t.Context(), "test", testKeyring(t, 2), nil))
	err := straggler.Update(t.Context(), func(tx platform.Tx) error { return tx.PutApp(t.Context(), testApp("late")) })
	require.ErrorIs(t, err, platform.ErrConflict)
}

// A process that was told of the new key reads what others seal with it.
func TestAddKeys(t *testing.T) { onBoth(t, testAddKeys) }

func testAddKeys(t *testing.T, e engineTest) {
	path := e.database(t)
	s, late := e.at(t, path, testKeyring(t, 1)), e.at(t, path, testKeyring(t, 1))
	importTest(t, s, 1)
	late.AddKeys(testKeyring(t, 1, 2))
	require.NoError(t, s.RotateKeys(t.Context(), "test", testKeyring(t, 2, 1), nil))
	requireSecret(t, late, "0000000")
}

// A secret that was swapped with another one's in the database is noticed.
func TestSecretsAreBoundToTheirRow(t *testing.T) { onBoth(t, testSecretsAreBoundToTheirRow) }

func testSecretsAreBoundToTheirRow(t *testing.T, e engineTest) {
	s := e.empty(t)
	importTest(t, s, 2)
	_, err := s.writer.Exec(`UPDATE app_credentials SET secret = (SELECT secret FROM app_credentials WHERE app = 1 AND number = 1) WHERE app = 2 AND number = 1`)
	require.NoError(t, err)
	_, err = s.AppByKey(t.Context(), "ak_0000001")
	require.ErrorContains(t, err, "moved to another row")
	require.NotErrorIs(t, err, platform.ErrNotFound)
}

func TestSecretsAreNotInTheFiles(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, filepath.Join(dir, "store.db"), testKeyring(t, 1))
	service := platform.NewService(platform.ServiceOptions{Store: s})
	app, op1, err := service.CreateApp(t.Context(), "test", platform.NewApp{Name: "planted-name"})
	require.NoError(t, err)
	top, err := service.AllowDialect(t.Context(), "test", app.ID, "top", "", "")
	require.NoError(t, err)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	var found int
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		require.NoError(t, err)
		require.NotContains(t, string(b), op1.Secret[3:40], f.Name())
		require.NotContains(t, string(b), top.Secret, f.Name())
		require.NotContains(t, string(b), string(testKey(1)), f.Name())
		if len(b) > 0 {
			found++
		}
	}
	require.GreaterOrEqual(t, found, 2, "the database and its log")
	entries, err := s.Audit(t.Context(), platform.AuditFilter{})
	require.NoError(t, err)
	require.Len(t, entries, 2)
	for _, e := range entries {
		require.NotContains(t, string(e.Before)+string(e.After), op1.Secret)
		require.NotContains(t, string(e.Before)+string(e.After), top.Secret)
	}
}

func BenchmarkAppByKey(b *testing.B) {
	const n = 10_000
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) {
			s := e.empty(b)
			importTest(b, s, n)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i = (i + 7919) % n
				if _, err := s.AppByKey(b.Context(), fmt.Sprintf("ak_%07d", i)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkImportApps(b *testing.B) {
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) {
			s := e.empty(b)
			b.ReportAllocs()
			done, err := s.ImportApps(b.Context(), func(yield func(platform.App) bool) {
				for i := 0; b.Loop(); i++ {
					if !yield(*testApp(fmt.Sprintf("%07d", i))) {
						return
					}
				}
			})
			if err != nil || done == 0 {
				b.Fatal(done, err)
			}
		})
	}
}
