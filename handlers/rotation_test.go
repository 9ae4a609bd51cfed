package handlers_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// TestMasterKeyRotation: however often a rotation is broken off, the file keeps
// every key that a secret may be encrypted with. Once one has gone through, the
// store needs the new key alone.
func TestMasterKeyRotation(t *testing.T) {
	w := newWorld(t, "127.0.0.1:1", "open_gate production \n respond OK")
	_, c := w.app(platform.Production, "trade")
	running, err := caddy.ActiveContext().App("open_platform")
	require.NoError(t, err)
	app := running.(*caddymodule.App)
	keys := func() []string {
		data, err := os.ReadFile(filepath.Join(w.dir, "master.key"))
		require.NoError(t, err)
		return strings.Fields(string(data))
	}
	first := keys()
	require.Len(t, first, 1)

	broken, cancel := context.WithCancel(t.Context())
	cancel()
	for n := 2; n <= 3; n++ {
		require.Error(t, app.RotateMasterKey(broken, "test", nil))
		require.Len(t, keys(), n)
		require.Contains(t, keys(), first[0])
	}
	before := keys()

	require.NoError(t, app.RotateMasterKey(t.Context(), "test", nil))
	require.Equal(t, before, keys()[1:], "what was sealed for merchants before stays readable")
	require.NotContains(t, before, keys()[0])
	require.NoError(t, caddy.Stop())
	require.NoError(t, os.WriteFile(filepath.Join(w.dir, "master.key"), []byte(keys()[0]), 0o600))
	require.NoError(t, w.load(w.setup), "the store opens with the new key alone")
	require.Equal(t, http.StatusOK, w.do(c.request(t, http.MethodGet, "/v1/products", "")).Code)
	require.Equal(t, []string{"test"}, rotations(t, w), "of those that went through")
}

// TestMasterKeyOfTheConfiguration: reloads go over to another key and back, as long
// as each configuration has the key that the store is encrypted with; what would not
// start by itself is refused.
func TestMasterKeyOfTheConfiguration(t *testing.T) {
	w := newWorld(t, "127.0.0.1:1", "open_gate production \n respond OK")
	_, c := w.app(platform.Production)
	file := "{file." + filepath.Join(w.dir, "master.key") + "}"
	first, second := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	for _, step := range []struct {
		keys string
		ok   bool
	}{
		{first, false},
		{first + " " + file, true},
		{file, false},
		{"", false},
		{first, true},
		{second, false},
		{second + " " + first, true},
		{first, false},
		{second, true},
		{file + " " + second, true},
		{"", true},
	} {
		s := w.setup
		if step.keys != "" {
			s.global = "master_key " + step.keys
		}
		if err := w.load(s); !step.ok {
			require.ErrorContains(t, err, "write the new key before the old one", "%q", step.keys)
			w.attach()
		} else {
			require.NoError(t, err, "%q", step.keys)
		}
		require.Equal(t, http.StatusOK, w.do(c.request(t, http.MethodGet, "/v1/products", "")).Code)
	}
	require.Equal(t, []string{"caddy", "caddy", "caddy"}, rotations(t, w))
	require.NoError(t, caddy.Stop())
	require.NoError(t, w.load(w.setup))
}

// rotations tells who is said to have changed the master key.
func rotations(t *testing.T, w *world) (actors []string) {
	t.Helper()
	entries, err := w.service.Audit(t.Context(), platform.AuditFilter{Action: "master_key.rotate"})
	require.NoError(t, err)
	for i := range entries {
		actors = append(actors, entries[i].Actor)
	}
	return actors
}
