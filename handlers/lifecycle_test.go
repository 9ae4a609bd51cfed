package handlers_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
	_ "github.com/caddy-openplatform/openplatform/oauth"
)

const gated = "open_gate production\n reverse_proxy UPSTREAM"

// TestReload: what is in memory survives, and a replay stays a replay.
func TestReload(t *testing.T) {
	s := setup{upstream: business(t), site: gated}
	w := s.run(t)
	app, c := w.app(platform.Production, "trade")
	_, err := w.service.PutPlan(t.Context(), "test", platform.Plan{Name: "three", App: platform.Limits{Rate: limit.Rate{Requests: 3, Period: time.Hour, Burst: 3}}})
	require.NoError(t, err)
	_, err = w.service.SetAppPlan(t.Context(), "test", app.ID, "three")
	require.NoError(t, err)
	for reload := range 3 {
		r := c.request(t, "GET", "/v1/products", "")
		replay := r.Clone(t.Context())
		require.Equal(t, http.StatusOK, w.do(r).Code)
		require.NoError(t, w.load(s), "reload %d", reload)
		replay.RemoteAddr = r.RemoteAddr
		refused(t, w.do(replay), http.StatusUnauthorized, "nonce_reused")
	}
	refused(t, w.do(c.request(t, "GET", "/v1/products", "")), http.StatusTooManyRequests, "rate_limited")
}

// TestReloadAppliesCatalogs: a changed file is in force when the load returns.
func TestReloadAppliesCatalogs(t *testing.T) {
	s := setup{upstream: business(t), site: gated}
	w := s.run(t)
	_, c := w.app(platform.Production)
	refused(t, w.do(c.request(t, "GET", "/v1/goods", "")), http.StatusNotFound, "api_unknown")
	s.catalog = strings.Replace(catalogFile, "/v1/products", "/v1/goods", 1)
	require.NoError(t, w.load(s))
	require.Equal(t, http.StatusOK, w.do(c.request(t, "GET", "/v1/goods", "")).Code)
}

// TestRefusedReload: a configuration that does not start leaves the running one,
// and what is in the store, as they were.
func TestRefusedReload(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	s := setup{upstream: business(t), site: gated}
	w := s.run(t)
	app, c := w.app(platform.Production, "trade")
	changed := strings.Replace(catalogFile, "/v1/products", "/v1/goods", 1)
	for name, bad := range map[string]setup{
		"address in use":    {more: "http://" + taken.Addr().String() + " {\n respond no\n}", catalog: changed},
		"bad catalog":       {catalog: "openapi: 3.1.0\npaths: 7"},
		"unset key":         {global: "master_key {env.OPEN_PLATFORM_NO_SUCH_VARIABLE}", catalog: changed},
		"no key":            {global: "master_key tooshort", catalog: changed},
		"foreign key":       {global: "master_key " + strings.Repeat("ab", 32), catalog: changed},
		"unknown time zone": {global: "time_zone Mars/Olympus", catalog: changed},
		"contradiction":     {site: "open_gate production {\n buffer 2MiB\n max_body 1MiB\n}", catalog: changed},
	} {
		t.Run(name, func(t *testing.T) {
			bad.upstream = s.upstream
			if bad.site == "" {
				bad.site = gated
			}
			require.Error(t, w.load(bad))
			w.attach()
			require.Equal(t, http.StatusOK, w.do(c.request(t, "GET", "/v1/products", "")).Code)
			refused(t, w.do(c.request(t, "GET", "/v1/goods", "")), http.StatusNotFound, "api_unknown")
			got, err := w.service.App(t.Context(), app.ID)
			require.NoError(t, err)
			require.Equal(t, app.Key, got.Key)
		})
	}
	require.NoError(t, w.load(s), "the next good configuration loads")
	require.Equal(t, http.StatusOK, w.do(c.request(t, "GET", "/v1/orders/1", "")).Code)
}

// TestDamagedStore: what the pusher cannot read keeps the platform from starting,
// with an error that names it.
func TestDamagedStore(t *testing.T) {
	s := setup{upstream: "127.0.0.1:9", site: gated}
	w := s.run(t)
	app, _ := w.app(platform.Production)
	_, err := w.service.AddPushKey(t.Context(), "test", app.ID, platform.PushKeyRequest{Environment: platform.Production, Kind: platform.SigningKey})
	require.NoError(t, err)
	require.NoError(t, caddy.Stop())
	damage(t, w, `UPDATE push_keys SET sealed = x'00'`)
	require.ErrorContains(t, w.load(s), "push key 1 of app "+app.ID)
	damage(t, w, `DELETE FROM push_keys`)
	require.NoError(t, w.load(s))
}

// damage changes the store of a world that does not run.
func damage(t *testing.T, w *world, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(w.dir, "op.db"))
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), statement)
	require.NoError(t, errors.Join(err, db.Close()))
}

func TestMasterKeyMustBeSet(t *testing.T) {
	w := &world{t: t, dir: t.TempDir()}
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	up := "127.0.0.1:1"
	err := w.load(setup{upstream: up, site: "respond ok", global: "master_key {env.OPEN_PLATFORM_NO_SUCH_VARIABLE}"})
	require.ErrorContains(t, err, "master key 1")
	require.ErrorContains(t, err, "OPEN_PLATFORM_NO_SUCH_VARIABLE")
	_, err = os.Stat(filepath.Join(w.dir, "op.db"))
	require.ErrorIs(t, err, fs.ErrNotExist, "a configuration that is refused makes no store")

	t.Setenv("OPEN_PLATFORM_KEY", strings.Repeat("ab", 32))
	require.NoError(t, w.load(setup{upstream: up, site: "respond ok", global: "master_key {env.OPEN_PLATFORM_KEY}"}))
	_, err = os.Stat(filepath.Join(w.dir, "master.key"))
	require.ErrorIs(t, err, fs.ErrNotExist, "no key is made where one is given")
}

// TestHandlersNeedTheApp: a configuration without the global option says so.
func TestHandlersNeedTheApp(t *testing.T) {
	for _, handler := range []string{
		`"open_gate","stages":[{"handler":"open_ip"}]`, `"open_ip"`, `"open_sign","environment":"sandbox"`, `"open_scope"`, `"open_rate"`,
		`"open_publish"`, `"open_messages"`, `"open_health"`, `"open_oauth"`,
	} {
		err := caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}},"logging":{"logs":{"default":{"writer":{"output":"discard"}}}},
			"apps":{"http":{"servers":{"s":{"listen":["127.0.0.1:0"],"routes":[{"handle":[{"handler":`+handler+`}]}]}}}}}`), true)
		require.ErrorContains(t, err, "add the global option open_platform", handler)
	}
	require.NoError(t, caddy.Stop())
}

// TestFailureOfTheApp: what is wrong with the app is told once, and not blamed on
// its absence, whether Caddy comes to it first or to a handler.
func TestFailureOfTheApp(t *testing.T) {
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	for global, want := range map[string]string{
		"time_zone Mars/X":     "time_zone",
		"master_key tooshort":  "master key",
		"redis http://cache:1": "redis",
		"catalog nope.yaml":    "nope.yaml",
	} {
		for _, site := range []string{gated, "open_health", "open_oauth"} {
			w := &world{t: t, dir: t.TempDir()}
			err := w.load(setup{upstream: "127.0.0.1:1", site: site, global: global})
			require.ErrorContains(t, err, want)
			require.NotContains(t, err.Error(), "add the global option")
			require.LessOrEqual(t, strings.Count(err.Error(), "reading catalog"), 1, err)
		}
	}
}

// TestGateStages: a list that is empty, or names what is no check, says so.
func TestGateStages(t *testing.T) {
	for stages, want := range map[string]string{
		`[]`:                            "open_gate has no stages",
		`[{"handler":"open_mock"}]`:     "open_mock is no stage of open_gate: list open_ip, open_sign, open_scope, open_rate",
		`[{"handler":"open_messages"}]`: "open_messages is no stage",
		`[{"handler":"open_scope"},{"handler":"open_sign","environment":"sandbox"}]`: "the stages of open_gate are open_scope, open_sign: list each once, in this order: open_sign, open_scope",
		`[{"handler":"open_ip"},{"handler":"open_ip"}]`:                              "list each once, in this order: open_ip",
		`[{"handler":"open_sign"}]`:                                                  "open_sign needs an environment",
		`[{"handler":"open_sign","environment":"sandbox","buffer":-1}]`:              "must not be negative",
		`[{"handler":"open_sign","environment":"sandbox","max_body":-1}]`:            "must not be negative",
		`[{"handler":"open_sign","environment":"sandbox","skew":-1}]`:                "must not be negative",
		`[{"handler":"open_sign","environment":"sandbox","skew":"25m1ns"}]`:          "skew must be at most 25m0s",
	} {
		err := caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}},"logging":{"logs":{"default":{"writer":{"output":"discard"}}}},
			"apps":{"open_platform":{"storage":{"path":"`+t.TempDir()+`/op.db"}},
			"http":{"servers":{"s":{"listen":["127.0.0.1:0"],"routes":[{"handle":[{"handler":"open_gate","stages":`+stages+`}]}]}}}}}`), true)
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, caddy.Stop())
}

// TestGateWithoutRate: a gate that has no limits spends the nonce all the same.
func TestGateWithoutRate(t *testing.T) {
	w := setup{upstream: business(t), site: gated, without: `,{"handler":"open_rate"}`}.run(t)
	_, c := w.app(platform.Production)
	r := c.request(t, http.MethodGet, "/v1/products", "")
	again := r.Clone(t.Context())
	require.Equal(t, http.StatusOK, w.do(r).Code)
	refused(t, w.do(again), http.StatusUnauthorized, "nonce_reused")
}

// TestZeroValues: Caddy cleans up modules that it never provisioned.
func TestZeroValues(t *testing.T) {
	found := 0
	for _, id := range caddy.Modules() {
		if !strings.Contains(id, "open_") {
			continue
		}
		found++
		info, err := caddy.GetModule(id)
		require.NoError(t, err)
		module := info.New()
		require.NotPanics(t, func() {
			if m, ok := module.(caddy.App); ok {
				require.NoError(t, m.Stop())
			}
			if m, ok := module.(caddy.CleanerUpper); ok {
				require.NoError(t, m.Cleanup())
				require.NoError(t, m.Cleanup())
			}
			_ = json.Unmarshal([]byte("{}"), module)
		}, id)
	}
	require.GreaterOrEqual(t, found, 9)
}

// TestSandboxMerchant: the first start makes a merchant who can log in, and only
// that one; the app has the redirect URI.
func TestSandboxMerchant(t *testing.T) {
	s := setup{upstream: business(t), site: "open_gate sandbox\n open_mock", global: "sandbox_app DIR/sandbox.json https://localhost/callback\n sandbox_merchant DIR/made/merchant.json"}
	w := s.run(t)
	path := filepath.Join(w.dir, "made", "merchant.json")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var made struct{ Login, Password string }
	require.NoError(t, json.Unmarshal(data, &made))
	require.GreaterOrEqual(t, len(made.Password), 26)
	_, err = w.service.CheckPassword(t.Context(), netip.Addr{}, made.Login, made.Password)
	require.NoError(t, err)
	credentials, err := os.ReadFile(filepath.Join(w.dir, "sandbox.json"))
	require.NoError(t, err)
	var app struct {
		ID          string `json:"id"`
		RedirectURI string `json:"redirect_uri"`
	}
	require.NoError(t, json.Unmarshal(credentials, &app))
	require.Equal(t, "https://localhost/callback", app.RedirectURI)
	found, err := w.service.App(t.Context(), app.ID)
	require.NoError(t, err)
	require.Equal(t, []string{app.RedirectURI}, found.OAuth.RedirectURIs)

	require.NoError(t, w.load(s))
	users, err := w.service.Users(t.Context(), platform.UserFilter{}, platform.Page{})
	require.NoError(t, err)
	require.Len(t, users, 1)
	again, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, data, again)
}

// TestSandboxApp: the first start makes an app that can call, and only that one.
func TestSandboxApp(t *testing.T) {
	s := setup{upstream: business(t), site: "open_gate sandbox\n open_mock", global: "sandbox_app DIR/made/sandbox.json"}
	w := s.run(t)
	path := filepath.Join(w.dir, "made", "sandbox.json")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var made struct {
		ID          string `json:"id"`
		AppKey      string `json:"app_key"`
		Secret      string `json:"secret"`
		Environment string `json:"environment"`
	}
	require.NoError(t, json.Unmarshal(data, &made))
	require.Equal(t, "sandbox", made.Environment)
	key, err := signing.NewSigningSecret(signing.Op1, "", []byte(made.Secret))
	require.NoError(t, err)
	c := &client{dialect: signing.Op1, cred: signing.Credentials{AppKey: made.AppKey, Key: key}}
	require.Equal(t, http.StatusOK, w.do(c.request(t, "GET", "/v1/orders/1", "")).Code)

	require.NoError(t, w.load(s))
	n, err := w.service.CountApps(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	again, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, data, again)
}

// TestJSONAlone: all that the Caddyfile can say, JSON can.
func TestJSONAlone(t *testing.T) {
	address, got := witness(t)
	w := &world{t: t, dir: t.TempDir()}
	catalog := filepath.Join(w.dir, "test.openapi.yaml")
	require.NoError(t, os.WriteFile(catalog, []byte(strings.ReplaceAll(catalogFile, "UPSTREAM", address)), 0o600))
	config := `{
	"admin": {"disabled": true, "config": {"persist": false}},
	"logging": {"logs": {"default": {"writer": {"output": "discard"}, "encoder": {"format": "open_platform", "wrap": {"format": "json"}}}}},
	"apps": {
		"open_platform": {
			"storage": {"engine": "sqlite", "path": "DIR/op.db"}, "catalogs": ["DIR/test.openapi.yaml"], "master_keys": ["` + strings.Repeat("cd", 32) + `"],
			"sandbox_app": "DIR/sandbox.json", "time_zone": "Asia/Shanghai", "app_cache": 100, "nonces": 1000, "staleness": "1m"
		},
		"http": {"servers": {"srv0": {
			"listen": ["127.0.0.1:0"], "automatic_https": {"disable": true},
			"routes": [
				{"match": [{"header": {"X-Route": ["mock"]}}], "terminal": true, "handle": [
					{"handler": "open_ip"}, {"handler": "open_sign", "environment": "production"}, {"handler": "open_scope"}, {"handler": "open_rate"}, {"handler": "open_mock"}
				]},
				{"handle": [
					{"handler": "open_ip", "groups": ["office"], "dialects": ["op1", "top"], "buffer": 2048},
					{"handler": "open_sign", "environment": "production", "dialects": ["op1", "top"], "buffer": 2048, "max_body": 4096, "skew": "1m"},
					{"handler": "open_scope"}, {"handler": "open_rate"},
					{"handler": "reverse_proxy", "upstreams": [{"dial": "{http.open_platform.upstream}"}]}
				]}
			],
			"errors": {"routes": [{"handle": [{"handler": "open_problem"}]}]}
		}}}
	}
}`
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	require.NoError(t, caddy.Load([]byte(strings.ReplaceAll(config, "DIR", w.dir)), true))
	w.attach()
	app, c := w.app(platform.Production, "trade")
	refused(t, w.do(c.request(t, "GET", "/v1/orders/1", "")), http.StatusForbidden, "ip_denied")
	_, err := w.service.PutIPGroup(t.Context(), "test", platform.IPGroup{Name: "office", Rules: []platform.IPRule{{Prefix: mustPrefix("127.0.0.0/8")}}})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, w.do(c.request(t, "GET", "/v1/orders/1", "")).Code)
	require.Equal(t, app.ID, one(t, got).header.Get("X-Open-App-Id"))
	require.JSONEq(t, `{"id":"1"}`, w.do(c.request(t, "GET", "/v1/orders/1", "", "X-Route", "mock")).Body.String())
	refused(t, w.do(c.request(t, "POST", "/v1/orders", strings.Repeat("x", 5000))), http.StatusRequestEntityTooLarge, "body_too_large")
	c.late = 2 * time.Minute
	refused(t, w.do(c.request(t, "GET", "/v1/orders/1", "")), http.StatusUnauthorized, "timestamp_out_of_range")
	require.FileExists(t, filepath.Join(w.dir, "sandbox.json"))

	var syntax *json.SyntaxError
	require.NotErrorAs(t, caddy.Validate(&caddy.Config{}), &syntax)
	err = caddy.Load([]byte(strings.ReplaceAll(strings.Replace(config, `"groups"`, `"group"`, 1), "DIR", w.dir)), true)
	require.ErrorContains(t, err, `unknown field "group"`)
	err = caddy.Load([]byte(strings.ReplaceAll(strings.Replace(config, `"environment": "production"`, `"environment": "prod"`, 1), "DIR", w.dir)), true)
	require.ErrorContains(t, err, "sandbox or production")
}

// TestLogsHoldNoSecrets: the access log names the call, and masks what it
// carries in its URL and headers.
func TestLogsHoldNoSecrets(t *testing.T) {
	w := setup{
		upstream: business(t),
		site: `log {
		output file DIR/access.log {
			roll_disabled
		}
		format open_platform
	}
	open_gate {
		environment production
		dialects op1 top
	}
	reverse_proxy UPSTREAM`,
		options: "servers {\n log_credentials \n}",
	}.run(t)
	app, op1 := w.app(platform.Production)
	top := w.dialect(app, "top", "hmac-sha256", platform.Production)
	top.cred.Token = "session-of-the-merchant"
	var secrets []string
	send := func(r *http.Request) *httptest.ResponseRecorder {
		secrets = append(secrets, r.Header.Get("Signature"), r.URL.Query().Get("sign"), r.URL.Query().Get("session"), r.Header.Get("X-Sign"))
		return w.do(r)
	}
	r := op1.request(t, "GET", "/v1/products?access_token=in-the-query&code=authorization-code", "", "X-Sign", "in-a-header", "Dpop", "a-proof", "Referer", "https://shop.test/?token=in-the-referer&page=2")
	require.Equal(t, http.StatusOK, send(r).Code)
	require.Equal(t, http.StatusOK, send(top.request(t, "GET", "/x?method=product.list&v=3.0", "")).Code)
	refused(t, send(op1.request(t, "GET", "/v1/nothing?sign=guessed", "")), http.StatusNotFound, "api_unknown")
	require.NoError(t, caddy.Stop())

	data, err := os.ReadFile(filepath.Join(w.dir, "access.log"))
	require.NoError(t, err)
	log := string(data)
	for _, s := range append(secrets, "in-the-query", "authorization-code", "a-proof", "in-the-referer", "guessed") {
		if s != "" {
			require.NotContains(t, log, s)
		}
	}
	require.Contains(t, log, "REDACTED")
	lines := strings.Split(strings.TrimSpace(log), "\n")
	require.Len(t, lines, 3)
	for _, line := range lines {
		require.Contains(t, line, `"app_key":"`+app.Key+`"`)
		require.Contains(t, line, `"environment":"production"`)
		require.Contains(t, line, `"request_id":`)
	}
	require.Contains(t, lines[0], "page=2")
	require.Contains(t, lines[0], `"api":"product.list"`)
	require.Contains(t, lines[1], "method=product.list")
	require.Contains(t, lines[2], `"code":"api_unknown"`)
	require.Contains(t, lines[2], `"stage":"scope"`)
}
