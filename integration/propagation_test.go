package integration

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// heardAtWorst is how long a change may take to hold on all nodes where its
// notification is lost. With it, it takes a fraction of that.
const heardAtWorst = 5 * time.Second

// TestChangesHoldOnAllNodes: what is changed on one node holds on the others.
func TestChangesHoldOnAllNodes(t *testing.T) {
	c := clusterSetup{nodes: 3}.start(t)
	at, others := c.nodes[0], c.nodes[1:]
	client := at.plain()
	code := func(n *node, a app, path string, number int) string {
		return send(t, client, a.sign(t, call{url: n.base() + path, number: number})).code()
	}
	// holds waits until each node answers so, and tells how long that took.
	holds := func(want string, ask func(n *node) string, change func()) {
		for _, n := range c.nodes {
			require.NotEqual(t, want, ask(n), "before the change")
		}
		began := time.Now()
		change()
		require.Equal(t, want, ask(at), "the node that made the change")
		for _, n := range others {
			eventually(t, want, func() error {
				if got := ask(n); got != want {
					return fmt.Errorf("%q", got)
				}
				return nil
			})
		}
		took := time.Since(began)
		t.Logf("%s holds on %d nodes after %v", want, len(c.nodes), took.Round(time.Millisecond))
		require.Less(t, took, heardAtWorst)
	}
	rest := func(method, path string, body any) {
		status, data := at.api(method, "/open_platform"+path, body)
		require.Less(t, status, 300, "%s", data)
	}

	t.Run("an app is suspended", func(t *testing.T) {
		a := at.newApp()
		holds("app_suspended", func(n *node) string { return code(n, a, "/v1/echo", 0) },
			func() { rest(http.MethodPost, "/apps/"+a.ID+"/suspend", nil) })
	})
	t.Run("an unknown app is made", func(t *testing.T) {
		var a app
		later := app{Key: "ak_00000000000000000000", Secret: "sk_unknown_unknown_unknown_unknown_00"}
		holds("", func(n *node) string {
			if a.Key == "" {
				return code(n, later, "/v1/echo", 0)
			}
			return code(n, a, "/v1/echo", 0)
		}, func() { a = at.newApp() })
	})
	t.Run("a secret is revoked", func(t *testing.T) {
		a := at.newApp()
		second := a
		status, data := at.api(http.MethodPost, "/open_platform/apps/"+a.ID+"/secrets", nil)
		require.Equal(t, http.StatusCreated, status, "%s", data)
		holds("signature_invalid", func(n *node) string { return code(n, second, "/v1/echo", 0) },
			func() { rest(http.MethodDelete, fmt.Sprintf("/apps/%s/credentials/%d", a.ID, a.Number), nil) })
	})
	t.Run("a package is taken away", func(t *testing.T) {
		a := at.newApp("--package", "trade")
		holds("package_not_granted", func(n *node) string { return code(n, a, "/v1/gold", 0) },
			func() { rest(http.MethodDelete, "/apps/"+a.ID+"/packages/trade", nil) })
	})
	t.Run("an API goes offline", func(t *testing.T) {
		a := at.newApp()
		holds("api_offline", func(n *node) string { return code(n, a, "/v1/items/1", 0) },
			func() { rest(http.MethodPost, "/apis/shop.item.get/1.0/offline", nil) })
	})
	t.Run("a notification is lost", func(t *testing.T) {
		// Written past the service, so that no notification goes out, and the
		// node that is asked first has not heard of it either.
		a := at.newApp()
		ctx := t.Context()
		conn, err := pgx.Connect(ctx, c.dsn(t))
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close(ctx)) }()
		for _, n := range c.nodes {
			require.Empty(t, code(n, a, "/v1/echo", 0))
		}
		began := time.Now()
		_, err = conn.Exec(ctx, `WITH suspended AS (UPDATE apps SET status = 'suspended' WHERE id = $1)
			INSERT INTO changes (kind, key, at) VALUES (1, $2, $3)`, a.ID, a.Key, began.UnixMicro())
		require.NoError(t, err)
		for _, n := range c.nodes {
			eventually(t, "app_suspended", func() error {
				if got := code(n, a, "/v1/echo", 0); got != "app_suspended" {
					return fmt.Errorf("%q", got)
				}
				return nil
			})
		}
		took := time.Since(began)
		t.Logf("holds on %d nodes after %v without a notification", len(c.nodes), took.Round(time.Millisecond))
		require.Less(t, took, heardAtWorst)
	})
}
