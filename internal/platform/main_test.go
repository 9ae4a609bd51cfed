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

func newFixture(tb testing.TB) *fixture {
	tb.Helper()
	key, err := store.NewKey(rand.Reader)
	require.NoError(tb, err)
	keys, err := store.NewKeyring(key)
	require.NoError(tb, err)
	s, err := store.OpenSQLite(tb.Context(), filepath.Join(tb.TempDir(), "store.db"), keys, store.Options{})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	f := &fixture{now: start, store: s}
	f.Service = platform.NewService(platform.ServiceOptions{
		Store: s, Now: func() time.Time { return f.now }, OnChange: func(c platform.Change) { f.changes = append(f.changes, c) },
	})
	return f
}

// app makes an app with the defaults.
func (f *fixture) app(tb testing.TB) (*platform.App, *platform.IssuedSecret) {
	tb.Helper()
	a, s, err := f.CreateApp(tb.Context(), "test", platform.NewApp{Name: "Shop"})
	require.NoError(tb, err)
	return a, s
}

// entries is the audit log, newest first.
func (f *fixture) entries(tb testing.TB) []platform.AuditEntry {
	tb.Helper()
	e, err := f.Audit(tb.Context(), platform.AuditFilter{Limit: 1000})
	require.NoError(tb, err)
	return e
}

// requireField requires a mistake in the field.
func requireField(tb testing.TB, err error, field string) {
	tb.Helper()
	var fe *platform.FieldError
	require.ErrorAs(tb, err, &fe)
	require.Equal(tb, field, fe.Field)
	require.NotEmpty(tb, fe.Problem)
}
