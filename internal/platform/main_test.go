package platform_test

import (
	"crypto/rand"
	"flag"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
)

func TestMain(m *testing.M) {
	// Each check writes to a disk; -rapid.checks on the command line wins.
	if err := flag.Set("rapid.checks", "25"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// fixture is a service over a real store, with a clock that the test moves.
type fixture struct {
	*platform.Service
	store   *store.Store
	now     time.Time
	changes []platform.Change
}

var start = time.Date(2026, 3, 4, 5, 6, 7, 891234567, time.UTC)

func newFixture(t testing.TB) *fixture {
	t.Helper()
	key, err := store.NewKey(rand.Reader)
	require.NoError(t, err)
	keys, err := store.NewKeyring(key)
	require.NoError(t, err)
	s, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "store.db"), keys, store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	f := &fixture{now: start, store: s}
	f.Service = platform.NewService(platform.ServiceOptions{
		Store: s, Now: func() time.Time { return f.now }, OnChange: func(c platform.Change) { f.changes = append(f.changes, c) },
	})
	return f
}

// app makes an app with the defaults.
func (f *fixture) app(t testing.TB) (*platform.App, *platform.IssuedSecret) {
	t.Helper()
	a, s, err := f.CreateApp(t.Context(), "test", platform.NewApp{Name: "Shop"})
	require.NoError(t, err)
	return a, s
}

// entries is the audit log, newest first.
func (f *fixture) entries(t testing.TB) []platform.AuditEntry {
	t.Helper()
	e, err := f.Audit(t.Context(), platform.AuditFilter{Limit: 1000})
	require.NoError(t, err)
	return e
}

// requireField requires a mistake in the field.
func requireField(t testing.TB, err error, field string) {
	t.Helper()
	var fe *platform.FieldError
	require.ErrorAs(t, err, &fe)
	require.Equal(t, field, fe.Field)
	require.NotEmpty(t, fe.Problem)
}
