package command

import (
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"
)

// Caddy knows no origins on a socket, and refuses a request that names one.
func TestAdminEndpointOnASocket(t *testing.T) {
	socket := "unix/" + filepath.Join(t.TempDir(), "a.sock")
	forget := false
	require.NoError(t, caddy.Run(&caddy.Config{Admin: &caddy.AdminConfig{
		Listen: socket, Config: &caddy.ConfigSettings{Persist: &forget},
	}}))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	run(t, socket, "app", "list").failed(t, "the running configuration has no open_platform app")
	run(t, socket+"|0220", "app", "list").failed(t, "the running configuration has no open_platform app")
}
