package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/catalog"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
)

var testNow = time.Date(2027, 1, 31, 8, 0, 0, 0, time.UTC)

const testCatalog = `openapi: 3.1.0
info: {title: Mall, version: "1.0"}
x-open-upstream: 127.0.0.1:8181
x-open-packages:
  - {name: trade, title: 交易}
paths:
  /v1/products:
    get:
      x-open-name: product.list
      summary: 商品列表
      responses: {"200": {description: ok, content: {application/json: {example: {items: []}}}}}
  /v1/orders/{order_id}:
    get:
      x-open-name: trade.order.get
      x-open-package: trade
      summary: 订单详情
      parameters: [{name: order_id, in: path, required: true, schema: {type: string}}]
      responses: {"200": {description: ok, content: {application/json: {example: {id: "1001"}}}}}
`

// testPlatform is the management over a real service and store.
type testPlatform struct {
	service  *platform.Service
	rotation func(ctx context.Context, progress func(done, total int)) error
	status   StatusReport
}

func (p *testPlatform) Service() *platform.Service { return p.service }

func (p *testPlatform) PreviewCatalog(ctx context.Context, source string, data []byte) (*platform.CatalogDiff, error) {
	f, err := catalog.Parse(source, data)
	if err != nil {
		return nil, err
	}
	return p.service.PreviewCatalog(ctx, *f)
}

func (p *testPlatform) ApplyCatalog(ctx context.Context, actor, source string, data []byte) (*platform.CatalogDiff, error) {
	f, err := catalog.Parse(source, data)
	if err != nil {
		return nil, err
	}
	return p.service.ApplyCatalog(ctx, actor, *f)
}

func (p *testPlatform) RotateMasterKey(ctx context.Context, progress func(done, total int)) error {
	return p.rotation(ctx, progress)
}

func (p *testPlatform) Status(context.Context) StatusReport { return p.status }

func newTestPlatform(t *testing.T) *testPlatform {
	t.Helper()
	keys, err := store.NewKeyring(bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	random := rand.NewChaCha8([32]byte{1})
	now := func() time.Time { return testNow }
	s, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "open.db"), keys, store.Options{Now: now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return &testPlatform{service: platform.NewService(platform.ServiceOptions{Store: s, Now: now, Rand: random})}
}

// testServer is an admin endpoint that renders errors as Caddy does, and
// remembers what Caddy would log: the request line and the errors.
type testServer struct {
	*httptest.Server
	platform *testPlatform
	mu       sync.Mutex
	log      []string
}

func (s *testServer) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.log, "\n")
}

func newTestServer(t *testing.T) *testServer {
	t.Helper()
	s := &testServer{platform: newTestPlatform(t)}
	api := &AdminAPI{app: s.platform}
	serve := api.Routes()[0].Handler
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := serve.ServeHTTP(w, r)
		s.mu.Lock()
		s.log = append(s.log, fmt.Sprint(r.Method, " ", r.RequestURI, " ", err))
		s.mu.Unlock()
		if err == nil {
			return
		}
		var apiErr caddy.APIError
		if !errors.As(err, &apiErr) {
			apiErr = caddy.APIError{HTTPStatus: http.StatusInternalServerError, Err: err}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(apiErr.HTTPStatus)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": apiErr.Err.Error()})
	}))
	t.Cleanup(s.Close)
	return s
}

// ask calls the admin API and decodes the JSON answer.
func (s *testServer) ask(t *testing.T, method, path, body string) (int, map[string]any, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+adminPrefix+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set(actorHeader, "cli:tester")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var out map[string]any
	if len(data) > 0 {
		require.NoError(t, json.Unmarshal(data, &out), "%s %s: %s", method, path, data)
	}
	return resp.StatusCode, out, resp.Header
}

// do is ask for a call that must succeed.
func (s *testServer) do(t *testing.T, method, path, body string) map[string]any {
	t.Helper()
	status, out, _ := s.ask(t, method, path, body)
	require.Less(t, status, 300, "%s %s: %v", method, path, out)
	return out
}

func TestAdminAppLife(t *testing.T) {
	s := newTestServer(t)
	s.do(t, "POST", "/catalog?source=mall.openapi.yaml", testCatalog)
	s.do(t, "PUT", "/plans/gold", `{"app":{"rate":{"requests":100,"period":"1m"},"quota":{"day":1000}}}`)
	s.do(t, "PUT", "/ip-groups/office", `{"rules":[{"prefix":"203.0.113.0/24"}]}`)

	status, app, header := s.ask(t, "POST", "/apps", `{"name":"演示店","packages":["trade"]}`)
	require.Equal(t, http.StatusCreated, status)
	require.Equal(t, "no-store", header.Get("Cache-Control"))
	key, id := app["app_key"].(string), app["id"].(string)
	require.Regexp(t, `^ak_`, key)
	require.Regexp(t, `^sk_`, app["secret"])
	require.Equal(t, "sandbox", app["environment"])
	require.EqualValues(t, 1, app["number"])

	shown := s.do(t, "GET", "/apps/"+key, "")
	require.Equal(t, id, shown["id"])
	require.NotContains(t, fmt.Sprint(shown), app["secret"])

	require.Equal(t, "suspended", s.do(t, "POST", "/apps/"+id+"/suspend", "")["status"])
	require.Equal(t, "active", s.do(t, "POST", "/apps/"+id+"/resume", "")["status"])
	require.Equal(t, "gold", s.do(t, "PUT", "/apps/"+key+"/plan", `{"plan":"gold"}`)["plan"])

	second := s.do(t, "POST", "/apps/"+key+"/secrets", `{"environment":"sandbox"}`)
	require.EqualValues(t, 2, second["number"])
	status, out, _ := s.ask(t, "POST", "/apps/"+key+"/secrets", "")
	require.Equal(t, http.StatusConflict, status, "a third live secret")
	require.Contains(t, out["error"], "1")
	revoked := s.do(t, "DELETE", "/apps/"+key+"/credentials/1?after=24h", "")
	require.Contains(t, fmt.Sprint(revoked["credentials"]), "2027-02-01T08:00:00Z")

	s.do(t, "POST", "/apps/"+key+"/ips", `{"rule":"198.51.100.7","note":"机房"}`)
	s.do(t, "POST", "/apps/"+key+"/ips", `{"rule":"@office"}`)
	left := s.do(t, "DELETE", "/apps/"+key+"/ips?rule=198.51.100.7", "")
	require.Len(t, left["ips"], 1)

	s.do(t, "PUT", "/apps/"+key+"/packages/trade", `{"until":"2028-01-01T00:00:00Z"}`)
	require.NotContains(t, fmt.Sprint(s.do(t, "DELETE", "/apps/"+key+"/packages/trade", "")["packages"]), "trade")

	dialect := s.do(t, "PUT", "/apps/"+key+"/dialects/aop1688", "")
	require.NotEmpty(t, dialect["secret"])
	require.Nil(t, s.do(t, "DELETE", "/apps/"+key+"/dialects/aop1688", "")["dialects"])

	list := s.do(t, "GET", "/apps?text="+key, "")
	require.Len(t, list["apps"], 1)
	require.Nil(t, list["next"])
	s.do(t, "POST", "/apps", `{"name":"Second"}`)
	require.NotEmpty(t, s.do(t, "GET", "/apps?limit=1", "")["next"])

	status, out, _ = s.ask(t, "DELETE", "/apps/"+key, "")
	require.Equal(t, http.StatusNoContent, status)
	require.Nil(t, out)
	status, _, _ = s.ask(t, "GET", "/apps/"+key, "")
	require.Equal(t, http.StatusNotFound, status)

	entries := s.do(t, "GET", "/audit?actor=cli:tester&limit=1000", "")["entries"].([]any)
	require.Greater(t, len(entries), 12)
	audit := fmt.Sprint(entries)
	for _, secret := range []any{app["secret"], second["secret"], dialect["secret"]} {
		require.NotContains(t, audit, secret)
		require.NotContains(t, s.logged(), secret)
	}
}

func TestAdminCatalog(t *testing.T) {
	s := newTestServer(t)
	dry := s.do(t, "POST", "/catalog?dry_run=true&source=mall.openapi.yaml", testCatalog)
	require.Len(t, dry["changes"], 3, "one package, two APIs")
	require.Empty(t, s.do(t, "GET", "/apis", "")["apis"])
	s.do(t, "POST", "/catalog?source=mall.openapi.yaml", testCatalog)

	apis := s.do(t, "GET", "/apis?package=trade", "")["apis"].([]any)
	require.Len(t, apis, 1)
	require.NotContains(t, apis[0], "spec", "a list leaves the documentation out")
	require.NotContains(t, apis[0], "example")
	api := s.do(t, "GET", "/apis/trade.order.get", "")
	require.Equal(t, "1.0", api["version"])
	require.Contains(t, api, "spec")
	require.Equal(t, "offline", s.do(t, "POST", "/apis/trade.order.get/1.0/offline", "")["status"])
	require.Equal(t, "online", s.do(t, "POST", "/apis/trade.order.get/1.0/online", "")["status"])
	old := s.do(t, "POST", "/apis/trade.order.get/1.0/deprecate", `{"sunset":"2027-06-30T00:00:00Z"}`)
	require.Equal(t, "deprecated", old["status"])
	require.Equal(t, "2027-06-30T00:00:00Z", old["sunset"])

	require.Equal(t, "Reports", s.do(t, "PUT", "/packages/reports", `{"title":"Reports"}`)["title"])
	require.Equal(t, "reports", s.do(t, "GET", "/packages/reports", "")["name"])
	s.do(t, "DELETE", "/packages/reports", "")
	status, _, _ := s.ask(t, "DELETE", "/packages/trade", "")
	require.Equal(t, http.StatusConflict, status, "an API uses it")

	require.Equal(t, map[string]any{"rate": map[string]any{"requests": 5000.0, "period": "1s"}},
		s.do(t, "PUT", "/limits", `{"rate":{"requests":5000,"period":"1s"}}`))
	require.Contains(t, fmt.Sprint(s.do(t, "GET", "/limits", "")), "5000")
	s.do(t, "PUT", "/plans/gold", `{"name":"gold","title":"Gold"}`)
	require.Equal(t, "Gold", s.do(t, "GET", "/plans/gold", "")["title"])
	s.do(t, "DELETE", "/plans/gold", "")
	s.do(t, "PUT", "/ip-groups/office", `{"rules":[{"prefix":"203.0.113.0/24"}]}`)
	require.Equal(t, "office", s.do(t, "GET", "/ip-groups/office", "")["name"])
	s.do(t, "DELETE", "/ip-groups/office", "")
}

func TestAdminRefusals(t *testing.T) {
	s := newTestServer(t)
	key := s.do(t, "POST", "/apps", `{"name":"Demo"}`)["app_key"].(string)
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		field, says              string
	}{
		{"no name", "POST", "/apps", `{}`, 400, "name", "name"},
		{"unknown field", "POST", "/apps", `{"name":"x","colour":"red"}`, 400, "colour", "unknown field"},
		{"wrong type", "POST", "/apps", `{"name":7}`, 400, "name", "a string"},
		{"wrong list", "POST", "/apps", `{"name":"x","ips":"1.2.3.4"}`, 400, "ips", "an array"},
		{"empty body", "POST", "/apps", ``, 400, "body", "empty"},
		{"broken JSON", "POST", "/apps", `{"name":`, 400, "body", ""},
		{"two objects", "POST", "/apps", `{"name":"x"}{}`, 400, "body", "one JSON object"},
		{"bad environment", "POST", "/apps", `{"name":"x","environment":"moon"}`, 400, "environment", "sandbox or production"},
		{"nested unknown field", "PUT", "/plans/x", `{"app":{"rates":{}}}`, 400, "rates", "unknown field"},
		{"bad period", "PUT", "/limits", `{"rate":{"requests":1,"period":"soon"}}`, 400, "rate.period", "soon"},
		{"two names", "PUT", "/plans/x", `{"name":"y"}`, 400, "name", "y"},
		{"unknown query", "GET", "/apps?colour=red", ``, 400, "colour", "unknown query parameter"},
		{"repeated query", "GET", "/apps?kind=isv&kind=isv", ``, 400, "kind", "more than once"},
		{"bad status", "GET", "/apps?status=dead", ``, 400, "status", "active"},
		{"bad limit", "GET", "/apps?limit=many", ``, 400, "limit", "whole number"},
		{"bad time", "GET", "/audit?since=yesterday", ``, 400, "since", "RFC 3339"},
		{"bad after", "DELETE", "/apps/" + key + "/credentials/1?after=soon", ``, 400, "after", "24h"},
		{"bad number", "DELETE", "/apps/" + key + "/credentials/first", ``, 400, "number", "1, 2"},
		{"no source", "POST", "/catalog", testCatalog, 400, "source", "file name"},
		{"path as source", "POST", "/catalog?source=../x.yaml", testCatalog, 400, "source", "without folders"},
		{"bad dry_run", "POST", "/catalog?source=x.yaml&dry_run=perhaps", testCatalog, 400, "dry_run", "true or false"},
		{"unknown app", "GET", "/apps/ak_00000000000000000000", ``, 404, "", "not found"},
		{"unknown API", "GET", "/apis/nope.get", ``, 404, "", "not found"},
		{"unknown plan", "GET", "/plans/nope", ``, 404, "", "plan"},
		{"unknown state", "POST", "/apis/a.b/1.0/explode", ``, 404, "", "online"},
		{"unknown path", "GET", "/nothing", ``, 404, "", "no such path"},
		{"wrong method", "PATCH", "/apps", ``, 405, "", "GET"},
		{"too large", "POST", "/apps", `{"name":"` + strings.Repeat("x", maxAdminBody) + `"}`, 413, "", "too large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, out, header := s.ask(t, c.method, c.path, c.body)
			require.Equal(t, c.status, status, "%v", out)
			require.Contains(t, out["error"], c.says)
			require.Equal(t, "application/json", header.Get("Content-Type"))
			if c.field != "" {
				require.Equal(t, c.field, out["field"])
			}
			if status == http.StatusMethodNotAllowed {
				require.Contains(t, header.Get("Allow"), "POST")
			}
		})
	}
	require.Len(t, s.do(t, "GET", "/apps", "")["apps"], 1, "no refused call created an app")
}

func TestAdminCatalogMistakesListEveryLine(t *testing.T) {
	s := newTestServer(t)
	bad := strings.Replace(strings.Replace(testCatalog, "x-open-name: product.list", "x-open-name: Product List", 1), "x-open-package: trade", "x-open-pkg: trade", 1)
	status, out, _ := s.ask(t, "POST", "/catalog?source=mall.openapi.yaml", bad)
	require.Equal(t, http.StatusBadRequest, status)
	require.GreaterOrEqual(t, len(out["errors"].([]any)), 2, "%v", out)
	for _, line := range out["errors"].([]any) {
		require.Regexp(t, `^mall\.openapi\.yaml:\d+:\d+: /`, line)
	}
}

func TestAdminWithoutApp(t *testing.T) {
	api := new(AdminAPI)
	serve := api.Routes()[0].Handler
	err := serve.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, adminPrefix+"/status", nil))
	var apiErr caddy.APIError
	require.ErrorAs(t, err, &apiErr)
	require.Equal(t, http.StatusNotFound, apiErr.HTTPStatus)
	require.ErrorContains(t, apiErr.Err, "open_platform")
}

func TestAdminStoreDown(t *testing.T) {
	s := newTestServer(t)
	service := s.platform.service
	s.platform.service = nil
	code, out, _ := s.ask(t, "GET", "/apps", "")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, out["error"], "not open yet")
	require.InDelta(t, 0, s.do(t, "GET", "/status", "")["apps"], 0, "the status says so, too")
	s.platform.service = service
	down := fmt.Errorf("opening: %w", platform.ErrUnavailable)
	s.platform.rotation = func(context.Context, func(int, int)) error { return down }
	status, _, _ := s.ask(t, "POST", "/master-key/rotate", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
}

func TestAdminRotationStreamsProgress(t *testing.T) {
	s := newTestServer(t)
	next := make(chan struct{})
	s.platform.rotation = func(_ context.Context, progress func(done, total int)) error {
		progress(1, 2)
		<-next
		progress(2, 2)
		return nil
	}
	resp, err := http.Post(s.URL+adminPrefix+"/master-key/rotate", "", nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	var line rotation
	require.NoError(t, dec.Decode(&line), "the first line arrives before the work ends")
	require.Equal(t, rotation{Done: 1, Total: 2}, line)
	close(next)
	require.NoError(t, dec.Decode(&line))
	require.NoError(t, dec.Decode(&line))
	require.Equal(t, rotation{Done: 2, Total: 2, Finished: true}, line)
}
