package handlers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule"
	_ "github.com/caddy-openplatform/openplatform/handlers"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// catalogFile describes the APIs that the tests call.
const catalogFile = `openapi: 3.1.0
info: {title: Test, version: "1.0"}
x-open-packages:
  - {name: trade, title: Trade}
  - {name: user, title: User}
x-open-upstream: UPSTREAM
paths:
  /v1/products:
    get:
      x-open-name: product.list
      responses: {"200": {description: ok, content: {application/json: {example: {items: [1]}}}}}
  /v1/orders:
    post:
      x-open-name: trade.order.add
      x-open-package: trade
      responses: {"200": {description: ok, content: {application/json: {example: {id: "1"}}}}}
  /v1/orders/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string}}]
    get:
      x-open-name: trade.order.get
      x-open-package: trade
      responses: {"200": {description: ok, content: {application/json: {example: {id: "1"}}}}}
  /v1/merchants/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string}}]
    get:
      x-open-name: user.get
      x-open-package: user
      x-open-user-token: true
      responses: {"200": {description: ok}}
  /v1/old:
    get:
      x-open-name: old.get
      x-open-status: offline
      responses: {"200": {description: ok}}
  /v1/aging:
    get:
      x-open-name: aging.get
      x-open-status: deprecated
      x-open-sunset: 2099-01-01
      responses: {"200": {description: ok}}
`

// world is a Caddy that runs in this process, with a store of its own.
type world struct {
	t       testing.TB
	dir     string
	setup   setup
	service *platform.Service
	server  *caddyhttp.Server
}

// setup is what a world is made of.
type setup struct {
	// upstream is the address that UPSTREAM stands for.
	upstream string
	// global are lines of the global option open_platform, and options those
	// beside it.
	global, options string
	// site are the lines of the site http://gate.test, and more stands after it.
	site, more string
	// catalog is the OpenAPI file; "" is catalogFile.
	catalog string
	// without is cut out of the JSON configuration.
	without string
}

// newWorld runs a site whose route is the given Caddyfile lines. UPSTREAM in
// them stands for the address of upstream.
func newWorld(t testing.TB, upstream string, site string, more ...string) *world {
	t.Helper()
	return setup{upstream: upstream, site: site, more: strings.Join(more, "\n")}.run(t)
}

// run starts the world.
func (s setup) run(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), setup: s}
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	require.NoError(t, w.load(s))
	return w
}

// load puts another configuration in force, over the same store.
func (w *world) load(s setup) error {
	w.t.Helper()
	catalog := filepath.Join(w.dir, "test.openapi.yaml")
	if s.catalog == "" {
		s.catalog = catalogFile
	}
	require.NoError(w.t, os.WriteFile(catalog, []byte(strings.ReplaceAll(s.catalog, "UPSTREAM", s.upstream)), 0o600))
	text := fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage file_system DIR/caddy
	log {
		output discard
	}
	%s
	open_platform {
		storage sqlite %s
		catalog %s
		%s
	}
}
http://gate.test:1 {
	bind 127.0.0.1
	%s
}
%s
`, s.options, filepath.Join(w.dir, "op.db"), catalog, s.global, s.site, s.more)
	text = strings.ReplaceAll(strings.ReplaceAll(text, "UPSTREAM", s.upstream), "DIR", w.dir)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	require.NoError(w.t, err)
	// The server is called directly, so any free port will do.
	config = bytes.ReplaceAll(config, []byte(`"127.0.0.1:1"`), []byte(`"127.0.0.1:0"`))
	require.Contains(w.t, string(config), s.without)
	config = bytes.ReplaceAll(config, []byte(s.without), nil)
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	w.attach()
	return nil
}

// attach finds the apps of the configuration that runs.
func (w *world) attach() {
	w.t.Helper()
	app, err := caddy.ActiveContext().App("open_platform")
	require.NoError(w.t, err)
	web, err := caddy.ActiveContext().App("http")
	require.NoError(w.t, err)
	w.service, w.server = app.(*caddymodule.App).Service(), web.(*caddyhttp.App).Servers["srv0"]
}

// client signs calls with one credential.
type client struct {
	dialect string
	cred    signing.Credentials
	nonce   atomic.Int64
	// late moves the signing time into the past.
	late time.Duration
}

// dialect allows the app a dialect and returns a client that speaks it.
func (w *world) dialect(app *platform.App, dialect, method string, env platform.Environment) *client {
	w.t.Helper()
	secret, err := w.service.AllowDialect(context.Background(), "test", app.ID, dialect, method, env)
	require.NoError(w.t, err)
	return w.client(app, secret)
}

// client signs with an issued secret.
func (w *world) client(app *platform.App, secret *platform.IssuedSecret) *client {
	w.t.Helper()
	key, err := signing.NewSigningSecret(secret.Dialect, secret.Method, []byte(secret.Secret))
	require.NoError(w.t, err)
	return &client{dialect: secret.Dialect, cred: signing.Credentials{AppKey: app.Key, Key: key}}
}

func (w *world) app(env platform.Environment, packages ...string) (*platform.App, *client) {
	w.t.Helper()
	app, secret, err := w.service.CreateApp(context.Background(), "test", platform.NewApp{Name: "test", Environment: env, Packages: packages})
	require.NoError(w.t, err)
	return app, w.client(app, secret)
}

// request makes a signed request, as the server sees it.
func (c *client) request(t testing.TB, method, target, body string, header ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	r.Host, r.RemoteAddr = "gate.test", "127.0.0.1:4711"
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	path, query, _ := strings.Cut(target, "?")
	if body != "" && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	signed, err := signing.Sign(c.dialect, &signing.Request{
		Method: method, Scheme: "http", Authority: r.Host, Path: path, RawQuery: query, Header: r.Header,
		ContentLength: int64(len(body)), Body: []byte(body), BodyRead: true,
	}, c.cred, time.Now().Add(-c.late), fmt.Sprintf("nonce-%010d", c.nonce.Add(1)))
	require.NoError(t, err)
	r.Header = signed.Header
	r.URL.RawQuery = signed.RawQuery
	r.RequestURI = r.URL.RequestURI()
	setBody(r, signed.Body)
	return r
}

func setBody(r *http.Request, body []byte) {
	r.ContentLength = int64(len(body))
	r.Body = http.NoBody
	if len(body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
}

// do sends the request through the whole server.
func (w *world) do(r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	w.server.ServeHTTP(rec, r)
	return rec
}

// refused asserts a refusal and returns its detail.
func refused(t *testing.T, rec *httptest.ResponseRecorder, status int, code string) string {
	t.Helper()
	var p struct {
		Type, Title, Detail, Code string
		Status                    int
		RequestID                 string `json:"request_id"`
	}
	require.Equal(t, "application/problem+json", rec.Header().Get("Content-Type"), "status %d body %s", rec.Code, rec.Body)
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &p))
	require.Equal(t, code, p.Code, p.Detail)
	require.Equal(t, status, rec.Code)
	require.Equal(t, status, p.Status)
	require.NotEmpty(t, p.Title)
	require.Contains(t, p.Type, "#"+code)
	require.Equal(t, rec.Header().Get("X-Open-Request-Id"), p.RequestID)
	require.NotEmpty(t, p.RequestID)
	return p.Detail
}
