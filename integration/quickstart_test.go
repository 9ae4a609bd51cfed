package integration

import (
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// example starts the configuration that the project ships, on free ports.
func example(t *testing.T) *node {
	t.Helper()
	n := newNode(t)
	caddyfile, err := os.ReadFile("../Caddyfile.example")
	require.NoError(t, err)
	mall, err := os.ReadFile("../examples/mall.openapi.yaml")
	require.NoError(t, err)
	n.configure(ported(t, string(caddyfile)))
	n.write("examples/mall.openapi.yaml", n.fill(ported(t, string(mall))))
	return n
}

// ported replaces the ports of the example by words.
func ported(t *testing.T, text string) string {
	t.Helper()
	for _, r := range [][2]string{
		{"admin localhost:2019", "admin 127.0.0.1:%admin%"},
		{"http_port 8180", "http_port %http%"},
		{"https_port 8443", "https_port %sandbox%"},
		{"https://localhost:8443", "https://localhost:%sandbox%"}, // also the redirect URI
		{"https://localhost:9443", "https://localhost:%production%"},
		{"http://:8181", "http://:%upstream%"},
		{"http://127.0.0.1:8182", "http://127.0.0.1:%publish%"},
		{"x-open-upstream: 127.0.0.1:8181", "x-open-upstream: 127.0.0.1:%upstream%"},
	} {
		text = strings.ReplaceAll(text, r[0], r[1])
	}
	return text
}

func TestQuickstart(t *testing.T) {
	n := example(t)
	n.run()
	sandbox, production := n.fill("https://localhost:%sandbox%"), n.fill("https://localhost:%production%")
	eventually(t, "the sandbox app is there", func() error {
		_, err := os.Stat(n.dir + "/data/sandbox-app.json")
		return err
	})

	t.Run("the command line signs and shows", func(t *testing.T) {
		out := n.cli("curl", sandbox+"/v1/products")
		require.Contains(t, out, "< HTTP/2.0 200 OK")
		require.Contains(t, out, `"items"`)
		require.Contains(t, out, "Signature-Input: ")
		stdout, _, code := n.try("curl", sandbox+"/v1/nothing")
		require.Equal(t, 1, code, "a refused call is a failure")
		require.Contains(t, stdout, "api_unknown")
	})

	t.Run("messages are posted to one path", func(t *testing.T) {
		for path, want := range map[string]int{"/messages": http.StatusBadRequest, "/message": http.StatusNotFound, "/": http.StatusNotFound} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.fill("http://127.0.0.1:%publish%")+path, strings.NewReader("{}"))
			require.NoError(t, err)
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, want, resp.StatusCode, path)
		}
	})

	t.Run("curl and openssl sign too", func(t *testing.T) {
		out := n.cli("quickstart", "--url", sandbox+"/v1/products?category=handset&page=1", "--wait", patience.String())
		steps := strings.Split(out, "\n\n")
		require.Len(t, steps, 6, "five, and nothing after the last: %s", out)
		for i, want := range []string{"< HTTP/2.0 200 OK", `"items"`, "HTTP/2 401"} {
			cmd := exec.CommandContext(t.Context(), "sh", "-c", steps[i])
			cmd.Dir = n.dir
			got, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s\n%s", steps[i], got)
			require.Contains(t, string(got), want, "%s", steps[i])
		}
	})

	t.Run("a merchant authorizes the demo app", func(t *testing.T) {
		out := n.cli("quickstart", "--url", sandbox+"/v1/products")
		steps := strings.Split(out, "\n\n")
		require.Len(t, steps, 6, "%s", out)
		shell := func(script string) string {
			cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
			cmd.Dir = n.dir
			got, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s\n%s", script, got)
			return string(got)
		}
		shown := shell(steps[3])
		login := regexp.MustCompile(`"login": "(.+)"`).FindStringSubmatch(shown)
		password := regexp.MustCompile(`"password": "(.+)"`).FindStringSubmatch(shown)
		address := regexp.MustCompile(`https://localhost:\d+/oauth/authorize\S+`).FindString(shown)
		require.NotNil(t, login, shown)
		require.NotNil(t, password, shown)

		p := newPerson(t)
		p.goes(address)
		p.picture("quickstart-login")
		p.does(fill("#login", login[1]), fill("#password", password[1]), press("main button"))
		require.Contains(t, p.text(), "Demo shop")
		p.does(press("button[value=approve]"))
		line := strings.TrimSpace(p.text())
		require.Regexp(t, `^CODE=oc_[0-9A-Za-z_-]+$`, line, "a line for the shell")
		require.Contains(t, shell(line+"\n"+steps[4]), "< HTTP/2.0 200 OK")
		stdout, _, code := n.try("curl", sandbox+"/v1/orders/2026011610001234/idcard-picture?side=front")
		require.Equal(t, 1, code, "it is the token that opens it")
		require.Contains(t, stdout, "token_missing")
	})

	client := n.client(2)
	all := n.newApp("--package", "trade")
	live := n.newApp("--package", "trade", "--environment", "production")
	poor := n.newApp("--environment", "production")

	t.Run("without a signature", func(t *testing.T) {
		for _, base := range []string{sandbox, production} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/v1/products", nil)
			require.NoError(t, err)
			got := send(t, client, req)
			got.refused(t, http.StatusUnauthorized, "signature_missing")
			p := got.problem(t)
			require.True(t, strings.HasSuffix(p.Type, "errors.md#signature_missing"), p.Type)
			require.NotEmpty(t, p.Title)
			require.NotEmpty(t, p.Detail)
			require.Len(t, p.RequestID, 26)
			require.Equal(t, p.RequestID, got.Header.Get("X-Open-Request-Id"))
			require.Equal(t, "no-store", got.Header.Get("Cache-Control"))
		}
	})

	t.Run("credentials open their own environment only", func(t *testing.T) {
		send(t, client, all.sign(t, call{url: sandbox + "/v1/orders"})).passed(t)
		send(t, client, all.sign(t, call{url: production + "/v1/orders"})).refused(t, http.StatusForbidden, "environment_mismatch")
		send(t, client, live.sign(t, call{url: sandbox + "/v1/orders"})).refused(t, http.StatusForbidden, "environment_mismatch")
	})

	t.Run("the service is told who calls", func(t *testing.T) {
		got := send(t, client, live.sign(t, call{url: production + "/v1/orders/1001?full=1"})).passed(t)
		for field, want := range map[string]string{
			"service": "demo upstream", "method": "GET", "app_id": live.ID, "app_key": live.Key, "environment": "production",
			"api": "trade.order.get", "user_id": "", "request_id": got.Header.Get("X-Open-Request-Id"),
		} {
			require.Contains(t, string(got.body), `"`+field+`": "`+want+`"`)
		}
	})

	t.Run("what is not granted is refused", func(t *testing.T) {
		send(t, client, poor.sign(t, call{url: production + "/v1/products"})).passed(t)
		send(t, client, poor.sign(t, call{url: production + "/v1/orders"})).refused(t, http.StatusForbidden, "package_not_granted")
		n.cli("app", "grant", poor.Key, "trade")
		send(t, client, poor.sign(t, call{url: production + "/v1/orders"})).passed(t)
		n.cli("app", "revoke", poor.Key, "trade")
		send(t, client, poor.sign(t, call{url: production + "/v1/orders"})).refused(t, http.StatusForbidden, "package_not_granted")
		n.cli("app", "grant", poor.Key, "trade", "--until", "2020-01-01")
		send(t, client, poor.sign(t, call{url: production + "/v1/orders"})).refused(t, http.StatusForbidden, "package_expired")
		got := send(t, client, live.sign(t, call{url: production + "/v1/orders", method: http.MethodDelete}))
		got.refused(t, http.StatusMethodNotAllowed, "method_not_allowed")
		require.Equal(t, "GET, HEAD", got.Header.Get("Allow"))
	})

	t.Run("a call is made once", func(t *testing.T) {
		c := call{url: sandbox + "/v1/orders", nonce: "nonce-0123456789", at: time.Now()}
		send(t, client, all.sign(t, c)).passed(t)
		send(t, client, all.sign(t, c)).refused(t, http.StatusUnauthorized, "nonce_reused")
	})

	t.Run("a suspended app is refused, at once", func(t *testing.T) {
		n.cli("app", "suspend", all.Key)
		send(t, client, all.sign(t, call{url: sandbox + "/v1/orders"})).refused(t, http.StatusForbidden, "app_suspended")
		n.cli("app", "resume", all.Key)
		send(t, client, all.sign(t, call{url: sandbox + "/v1/orders"})).passed(t)
	})
}
