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
	t       *testing.T
	service *platform.Service
	server  *caddyhttp.Server
}

// newWorld runs a site whose route is the given Caddyfile lines. UPSTREAM in
// them stands for the address of upstream.
func newWorld(t *testing.T, upstream string, site string, more ...string) *world {
	t.Helper()
	dir := t.TempDir()
	catalog := filepath.Join(dir, "test.openapi.yaml")
	require.NoError(t, os.WriteFile(catalog, []byte(strings.ReplaceAll(catalogFile, "UPSTREAM", upstream)), 0o600))
	text := fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	log {
		output discard
	}
	open_platform {
		storage sqlite %s
		catalog %s
	}
}
http://gate.test:1 {
	bind 127.0.0.1
	%s
}
%s
`, filepath.Join(dir, "op.db"), catalog, strings.ReplaceAll(site, "UPSTREAM", upstream), strings.Join(more, "\n"))
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	require.NoError(t, err)
	// The server is called directly, so any free port will do.
	config = bytes.ReplaceAll(config, []byte(`"127.0.0.1:1"`), []byte(`"127.0.0.1:0"`))
	require.NoError(t, caddy.Load(config, true))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })

	app, err := caddy.ActiveContext().App("open_platform")
	require.NoError(t, err)
	web, err := caddy.ActiveContext().App("http")
	require.NoError(t, err)
	return &world{t: t, service: app.(*caddymodule.App).Service(), server: web.(*caddyhttp.App).Servers["srv0"]}
}

// client signs calls with one credential.
type client struct {
	dialect string
	cred    signing.Credentials
	nonce   atomic.Int64
}

func (w *world) app(env platform.Environment, packages ...string) (*platform.App, *client) {
	w.t.Helper()
	app, secret, err := w.service.CreateApp(context.Background(), "test", platform.NewApp{Name: "test", Environment: env, Packages: packages})
	require.NoError(w.t, err)
	key, err := signing.NewSigningSecret(signing.Op1, "", []byte(secret.Secret))
	require.NoError(w.t, err)
	return app, &client{dialect: signing.Op1, cred: signing.Credentials{AppKey: app.Key, Key: key}}
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
	}, c.cred, time.Now(), fmt.Sprintf("nonce-%010d", c.nonce.Add(1)))
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
