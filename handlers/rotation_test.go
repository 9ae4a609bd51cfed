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
// every key that a secret may be encrypted with, until one has gone through.
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
		require.Error(t, app.RotateMasterKey(broken, nil))
		require.Len(t, keys(), n)
		require.Contains(t, keys(), first[0])
	}
	before := keys()

	require.NoError(t, app.RotateMasterKey(t.Context(), nil))
	require.Len(t, keys(), 1)
	require.NotContains(t, before, keys()[0])
	require.NoError(t, caddy.Stop())
	require.NoError(t, w.load(w.setup), "the store opens with the new key alone")
	require.Equal(t, http.StatusOK, w.do(c.request(t, http.MethodGet, "/v1/products", "")).Code)
}
