package integration

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCatalog changes the catalog of a running server.
func TestCatalog(t *testing.T) {
	n, _ := startShop(t, globals("")+gated("http://127.0.0.1:%site%", "sandbox", ""))
	client, base := n.plain(), n.fill("http://127.0.0.1:%site%")
	a := n.newApp()
	get := func(path string) answer { return send(t, client, a.sign(t, call{url: base + path})) }
	original := n.read("shop.openapi.yaml")
	get("/v1/echo").passed(t)

	t.Run("a mistake changes nothing", func(t *testing.T) {
		_, before := n.api(http.MethodGet, "/open_platform/apis", nil)
		_, audit := n.api(http.MethodGet, "/open_platform/audit", nil)
		broken := strings.Replace(original, "x-open-name: shop.events", "x-open-nam: shop.events", 1)
		n.write("shop.openapi.yaml", broken)
		for _, flags := range [][]string{nil, {"--dry-run"}, {"--yes", "--json"}} {
			stdout, stderr, code := n.try(append([]string{"apply", "-f", "shop.openapi.yaml"}, flags...)...)
			require.Equal(t, 2, code, "%s%s", stdout, stderr)
			require.Regexp(t, `(?m)^shop\.openapi\.yaml:\d+:\d+: .*x-open-nam`, stderr)
		}
		n.write("shop.openapi.yaml", strings.Replace(original, "x-open-package: trade", "x-open-package: no-such-package", 1))
		_, stderr, code := n.try("apply", "-f", "shop.openapi.yaml")
		require.Equal(t, 2, code, "%s", stderr)
		require.Contains(t, stderr, "no-such-package")
		_, _, code = n.try("apply", "-f", "no-such-file.yaml")
		require.Equal(t, 2, code)
		_, after := n.api(http.MethodGet, "/open_platform/apis", nil)
		require.Equal(t, string(before), string(after))
		_, after = n.api(http.MethodGet, "/open_platform/audit", nil)
		require.Equal(t, string(audit), string(after))
		get("/v1/echo").passed(t)
	})

	t.Run("apply shows what changes and puts it in force", func(t *testing.T) {
		changed := strings.Replace(original, "  /v1/gold:", "  /v1/new:\n    get:\n      x-open-name: shop.new\n      responses: {\"200\": {description: New.}}\n  /v1/gold:", 1)
		changed = strings.Replace(changed, "      x-open-name: shop.item.get\n", "      x-open-name: shop.item.get\n      x-open-package: trade\n", 1)
		kept, rest, _ := strings.Cut(changed, "  /v1/dead:")
		_, rest, _ = strings.Cut(rest, "  /v1/new:")
		changed = kept + "  /v1/new:" + rest
		n.write("shop.openapi.yaml", changed)
		get("/v1/new").refused(t, http.StatusNotFound, "api_unknown")
		get("/v1/items/1").passed(t)

		dry := n.cli("apply", "-f", "shop.openapi.yaml", "--dry-run")
		for _, want := range []string{"+ api shop.new@1.0", "~ api shop.item.get@1.0: package", "- api shop.dead@1.0"} {
			require.Contains(t, dry, want)
		}
		get("/v1/new").refused(t, http.StatusNotFound, "api_unknown")

		out := n.cli("apply", "-f", "shop.openapi.yaml")
		require.Contains(t, out, strings.TrimSpace(dry))
		require.Contains(t, out, "applied: 1 added, 1 changed, 1 offline")
		get("/v1/new").passed(t)
		get("/v1/items/1").refused(t, http.StatusForbidden, "package_not_granted")
		get("/v1/dead").refused(t, http.StatusGone, "api_offline")
		require.Contains(t, n.cli("apply", "-f", "shop.openapi.yaml"), "nothing changes")

		var entries struct {
			Entries []struct{ Action, Actor string }
		}
		require.NoError(t, json.Unmarshal([]byte(n.cli("audit", "--json")), &entries))
		require.Equal(t, "catalog.apply", entries.Entries[0].Action)
		require.True(t, strings.HasPrefix(entries.Entries[0].Actor, "cli:"), entries.Entries[0].Actor)
	})

	t.Run("offline, online", func(t *testing.T) {
		n.cli("api", "offline", "shop.echo@1.0")
		get("/v1/echo").refused(t, http.StatusGone, "api_offline")
		n.cli("api", "online", "shop.echo@1.0")
		require.Empty(t, get("/v1/echo").passed(t).Header.Get("Deprecation"))
	})

	t.Run("deprecated", func(t *testing.T) {
		n.cli("api", "deprecate", "shop.echo", "--sunset", "2199-06-30")
		got := get("/v1/echo").passed(t)
		require.Regexp(t, `^@\d{10}$`, got.Header.Get("Deprecation"))
		require.Equal(t, "Sun, 30 Jun 2199 00:00:00 GMT", got.Header.Get("Sunset"))
		_, stderr, code := n.try("api", "deprecate", "shop.echo", "--sunset", "2020-06-30")
		require.Equal(t, 2, code)
		require.Contains(t, stderr, "sunset")
		n.cli("api", "online", "shop.echo")
		get("/v1/echo").passed(t)
	})

	t.Run("all of it outlives a restart", func(t *testing.T) {
		client.CloseIdleConnections()
		n.stop()
		n.run()
		get("/v1/new").passed(t)
		get("/v1/dead").refused(t, http.StatusGone, "api_offline")
		_, audit := n.api(http.MethodGet, "/open_platform/audit?limit=1", nil)
		require.NotContains(t, string(audit), `"actor":"caddy"`, "the file has not changed")
	})
}
