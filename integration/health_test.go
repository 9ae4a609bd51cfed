package integration

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
)

// TestHealthWhileStopping: a node that is about to stop says so, so that a load
// balancer turns elsewhere before calls are refused.
func TestHealthWhileStopping(t *testing.T) {
	n, _ := startShop(t, globals("shutdown_delay 3s")+`http://127.0.0.1:%site% {
	open_health /healthz
}
`)
	client := n.plain()
	ask := func(method string) answer {
		req, err := http.NewRequest(method, n.base()+"/healthz", nil)
		require.NoError(t, err)
		return send(t, client, req)
	}
	require.JSONEq(t, `{"status":"ready"}`, string(ask(http.MethodGet).passed(t).body))
	require.Empty(t, ask(http.MethodHead).passed(t).body)
	require.Equal(t, http.StatusMethodNotAllowed, ask(http.MethodPost).StatusCode)
	n.waitHealth(adminapi.Ready)
	require.Regexp(t, `(?m)^health: +ready$`, n.cli("status"))

	require.NoError(t, n.cmd.Process.Signal(syscall.SIGTERM))
	eventually(t, "the node says that it stops", func() error {
		got := ask(http.MethodGet)
		if got.StatusCode != http.StatusServiceUnavailable || strings.TrimSpace(string(got.body)) != `{"status":"not_ready"}` {
			return fmt.Errorf("%s %s", got.Status, got.body)
		}
		return nil
	})
	client.CloseIdleConnections()
	require.Zero(t, n.ended())
}

// TestStoreIsAwayForTooLong: calls of known apps do not go on for ever.
func TestStoreIsAwayForTooLong(t *testing.T) {
	c := clusterSetup{redis: "-", more: "staleness 2s"}.start(t)
	n := c.nodes[0]
	a := n.newApp()
	echo := func() answer { return send(t, n.plain(), a.sign(t, call{url: n.base() + "/v1/echo"})) }
	echo().passed(t)
	c.postgres.Stop()
	n.waitHealth(adminapi.Degraded, "store")
	n.waitHealth(adminapi.NotReady, "store")
	eventually(t, "the app is forgotten", func() error {
		if got := echo(); got.code() != "store_unavailable" {
			return fmt.Errorf("%s", got.body)
		}
		return nil
	})
	require.NoError(t, c.postgres.Start())
	n.waitHealth(adminapi.Ready)
	eventually(t, "the app is known again", func() error {
		if got := echo(); got.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", got.body)
		}
		return nil
	})
}
