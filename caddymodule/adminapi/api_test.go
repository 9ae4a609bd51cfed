package adminapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi/adminapitest"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// testServer is an admin endpoint that the tests ask.
type testServer struct{ *adminapitest.Server }

func newTestServer(t *testing.T) testServer {
	t.Helper()
	return testServer{adminapitest.NewServer(t)}
}

// ask calls the admin API and decodes the JSON answer.
func (s testServer) ask(t *testing.T, method, path, body string) (int, map[string]any, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+adminapi.PathPrefix+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set(adminapi.ActorHeader, "cli:tester")
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
func (s testServer) do(t *testing.T, method, path, body string) map[string]any {
	t.Helper()
	status, out, _ := s.ask(t, method, path, body)
	require.Less(t, status, 300, "%s %s: %v", method, path, out)
	return out
}

func TestAdminAppLife(t *testing.T) {
	s := newTestServer(t)
	s.do(t, "POST", "/catalog?source=mall.openapi.yaml", adminapitest.Catalog)
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
		require.NotContains(t, s.Logged(), secret)
	}
}

func TestAdminCatalog(t *testing.T) {
	s := newTestServer(t)
	dry := s.do(t, "POST", "/catalog?dry_run=true&source=mall.openapi.yaml", adminapitest.Catalog)
	require.Len(t, dry["changes"], 5, "one package, two APIs, two topics")
	require.Empty(t, s.do(t, "GET", "/apis", "")["apis"])
	s.do(t, "POST", "/catalog?source=mall.openapi.yaml", adminapitest.Catalog)

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
	for _, method := range []string{"PUT", "GET"} {
		require.Equal(t, map[string]any{"name": "nobody", "rules": []any{}}, s.do(t, method, "/ip-groups/nobody", "{}"))
	}
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
		{"unknown field", "POST", "/apps", `{"name":"x","colour":"red"}`, 400, "colour", "colour: unknown field; want one of name, kind, mode, plan, environment, ips, packages"},
		{"wrong type", "POST", "/apps", `{"name":7}`, 400, "name", "a string"},
		{"wrong list", "POST", "/apps", `{"name":"x","ips":"1.2.3.4"}`, 400, "ips", "an array"},
		{"empty body", "POST", "/apps", ``, 400, "body", "empty"},
		{"broken JSON", "POST", "/apps", `{"name":`, 400, "body", ""},
		{"two objects", "POST", "/apps", `{"name":"x"}{}`, 400, "body", "one JSON object"},
		{"bad environment", "POST", "/apps", `{"name":"x","environment":"moon"}`, 400, "environment", "sandbox or production"},
		{"nested unknown field", "PUT", "/plans/x", `{"app":{"rates":{}}}`, 400, "app.rates", "unknown field"},
		{"unknown field of a list", "PUT", "/ip-groups/x", `{"rules":[{"prefix":"1.2.3.0/24"},{"prefiks":"1.2.3.0/24"}]}`, 400, "rules[1].prefiks", "want one of prefix, group, note"},
		{"nested wrong type", "PUT", "/plans/x", `{"app":{"rate":{"requests":"10","period":"1s"}}}`, 400, "app.rate.requests", "a whole number"},
		{"no period", "PUT", "/plans/x", `{"app":{"rate":{"requests":10}}}`, 400, "app.rate.period", `a number with a unit: "1s"`},
		{"no period of an API", "PUT", "/plans/x", `{"apis":{"a.b":{},"a.c":{"rate":{"requests":10}}}}`, 400, "apis.a.c.rate.period", "1m"},
		{"address as network", "PUT", "/ip-groups/x", `{"rules":[{"prefix":"1.2.3.0/24"},{"prefix":"1.2.3.4"}]}`, 400, "rules[1].prefix", `"1.2.3.4" is no network; want a network like 203.0.113.0/24; one address is 203.0.113.7/32`},
		{"number as network", "PUT", "/ip-groups/x", `{"rules":[{"prefix":7}]}`, 400, "rules[0].prefix", "7 is no network"},
		{"day as time", "POST", "/apis/a.b/1.0/deprecate", `{"sunset":"2027-06-30"}`, 400, "sunset", `"2027-06-30" is no time; want RFC 3339: 2027-01-31T00:00:00Z`},
		{"day of a grant", "PUT", "/apps/" + key + "/packages/trade", `{"from":"2027-01-01"}`, 400, "from", "is no time; want RFC 3339"},
		{"number as time", "POST", "/push/jobs", `{"cause":"repush","since":5}`, 400, "since", "5 is no time"},
		{"unknown cause", "POST", "/push/jobs", `{"cause":"boredom"}`, 400, "cause", "manual"},
		{"bad rule", "POST", "/apps/" + key + "/ips", `{"rule":"zz"}`, 400, "rule", "zz"},
		{"bad rule to remove", "DELETE", "/apps/" + key + "/ips?rule=zz", ``, 400, "rule", "zz"},
		{"bad period", "PUT", "/limits", ` {"rate":{"requests":1,"period":"soon"}}`, 400, "rate.period", "soon"},
		{"two names", "PUT", "/plans/x", `{"name":"y"}`, 400, "name", "y"},
		{"unknown query", "GET", "/apps?colour=red", ``, 400, "colour", "unknown query parameter"},
		{"repeated query", "GET", "/apps?kind=isv&kind=isv", ``, 400, "kind", "more than once"},
		{"bad status", "GET", "/apps?status=dead", ``, 400, "status", "active"},
		{"bad limit", "GET", "/apps?limit=many", ``, 400, "limit", "whole number"},
		{"too many apps", "GET", "/apps?limit=1001", ``, 400, "limit", "1001 is too many; want at most 1000"},
		{"too many users", "GET", "/users?limit=1001", ``, 400, "limit", "at most 1000"},
		{"too many jobs", "GET", "/push/jobs?limit=1001", ``, 400, "limit", "at most 1000"},
		{"too many entries", "GET", "/audit?limit=1001", ``, 400, "limit", "at most 1000"},
		{"bad time", "GET", "/audit?since=yesterday", ``, 400, "since", "RFC 3339"},
		{"bad after", "DELETE", "/apps/" + key + "/credentials/1?after=soon", ``, 400, "after", "24h"},
		{"bad number", "DELETE", "/apps/" + key + "/credentials/first", ``, 400, "number", "1, 2"},
		{"no source", "POST", "/catalog", adminapitest.Catalog, 400, "source", "file name"},
		{"path as source", "POST", "/catalog?source=../x.yaml", adminapitest.Catalog, 400, "source", "without folders"},
		{"bad dry_run", "POST", "/catalog?source=x.yaml&dry_run=perhaps", adminapitest.Catalog, 400, "dry_run", "true or false"},
		{"unknown app", "GET", "/apps/ak_00000000000000000000", ``, 404, "", "not found"},
		{"unknown API", "GET", "/apis/nope.get", ``, 404, "", "not found"},
		{"unknown plan", "GET", "/plans/nope", ``, 404, "", "plan"},
		{"unknown state", "POST", "/apis/a.b/1.0/explode", ``, 404, "", "online"},
		{"unknown path", "GET", "/nothing", ``, 404, "", "no such path"},
		{"wrong method", "PATCH", "/apps", ``, 405, "", "GET"},
		{"too large", "POST", "/apps", `{"name":"` + strings.Repeat("x", adminapi.MaxBody) + `"}`, 413, "", "too large"},
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
	bad := strings.Replace(strings.Replace(adminapitest.Catalog, "x-open-name: product.list", "x-open-name: Product List", 1), "x-open-package: trade", "x-open-pkg: trade", 1)
	status, out, _ := s.ask(t, "POST", "/catalog?source=mall.openapi.yaml", bad)
	require.Equal(t, http.StatusBadRequest, status)
	require.GreaterOrEqual(t, len(out["errors"].([]any)), 2, "%v", out)
	for _, line := range out["errors"].([]any) {
		require.Regexp(t, `^mall\.openapi\.yaml:\d+:\d+: /`, line)
	}
}

// What only the store can tell is told of all APIs, topics and packages, each
// with its place.
func TestAdminCatalogMistakesOfTheStore(t *testing.T) {
	s := newTestServer(t)
	lines := func(source, text string) (int, string) {
		status, out, _ := s.ask(t, "POST", "/catalog?source="+source, text)
		return status, strings.Trim(strings.ReplaceAll(fmt.Sprint(out["errors"]), " "+source+":", "\n"+source+":"), "[]")
	}
	status, said := lines("mall.yaml", strings.ReplaceAll(adminapitest.Catalog, "x-open-package: trade", "x-open-package: trada"))
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, `mall.yaml:13:5: /paths/~1v1~1orders~1{order_id}/get: trade.order.get@1.0.package: there is no package "trada"; want a package that the file or the platform has
mall.yaml:21:5: /webhooks/orderCreated/post: trade.order.created.package: there is no package "trada"; want a package that the file or the platform has`, said)

	s.do(t, "POST", "/catalog?source=mall.yaml", adminapitest.Catalog)
	status, said = lines("copy.yaml", strings.Replace(adminapitest.Catalog, "x-open-name: product.list", "x-open-name: product.every", 1))
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, `copy.yaml:5:5: /x-open-packages/0: package trade of copy.yaml is declared in mall.yaml already
copy.yaml:8:5: /paths/~1v1~1products/get: API product.list@1.0 (mall.yaml, GET /v1/products) takes the same calls as product.every@1.0 (copy.yaml, GET /v1/products)
copy.yaml:13:5: /paths/~1v1~1orders~1{order_id}/get: API trade.order.get@1.0 of copy.yaml is declared in mall.yaml already
copy.yaml:21:5: /webhooks/orderCreated/post: topic trade.order.created of copy.yaml is declared in mall.yaml already
copy.yaml:28:5: /webhooks/productChanged/post: topic product.changed of copy.yaml is declared in mall.yaml already`, said)
}

func TestAdminWithoutApp(t *testing.T) {
	api := new(adminapi.AdminAPI).CaddyModule().New().(*adminapi.AdminAPI)
	serve := api.Routes()[0].Handler
	err := serve.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, adminapi.PathPrefix+"/status", nil))
	var apiErr caddy.APIError
	require.ErrorAs(t, err, &apiErr)
	require.Equal(t, http.StatusNotFound, apiErr.HTTPStatus)
	require.ErrorContains(t, apiErr.Err, "open_platform")
}

func TestAdminStoreDown(t *testing.T) {
	s := newTestServer(t)
	s.Platform.Closed = true
	code, out, _ := s.ask(t, "GET", "/apps", "")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, out["error"], "not open yet")
	require.InDelta(t, 0, s.do(t, "GET", "/status", "")["apps"], 0, "the status says so, too")
	s.Platform.Closed = false
	down := fmt.Errorf("opening: %w", platform.ErrUnavailable)
	s.Platform.Rotate = func(context.Context, func(int, int)) error { return down }
	status, _, _ := s.ask(t, "POST", "/master-key/rotate", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
}

func TestAdminHealth(t *testing.T) {
	s := newTestServer(t)
	for status, want := range map[string]int{
		adminapi.Ready: http.StatusOK, adminapi.Degraded: http.StatusOK, adminapi.NotReady: http.StatusServiceUnavailable,
	} {
		s.Platform.Condition = adminapi.HealthReport{Status: status, Dependencies: []adminapi.Dependency{
			{Name: "store", Up: true}, {Name: "redis", Error: "no route to host", Since: adminapitest.Now()},
		}}
		for _, s.Platform.Closed = range []bool{false, true} {
			code, out, _ := s.ask(t, "GET", "/health", "")
			require.Equal(t, want, code)
			require.Equal(t, status, out["status"])
			require.Equal(t, []any{
				map[string]any{"name": "store", "up": true},
				map[string]any{"name": "redis", "up": false, "error": "no route to host", "since": "2027-01-31T08:00:00Z"},
			}, out["dependencies"])
		}
	}
}

func TestAdminRotationStreamsProgress(t *testing.T) {
	s := newTestServer(t)
	next := make(chan struct{})
	s.Platform.Rotate = func(_ context.Context, progress func(done, total int)) error {
		progress(1, 2)
		<-next
		progress(2, 2)
		return nil
	}
	resp, err := http.Post(s.URL+adminapi.PathPrefix+"/master-key/rotate", "", nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	var line adminapi.RotationLine
	require.NoError(t, dec.Decode(&line), "the first line arrives before the work ends")
	require.Equal(t, adminapi.RotationLine{Done: 1, Total: 2}, line)
	close(next)
	require.NoError(t, dec.Decode(&line))
	require.NoError(t, dec.Decode(&line))
	require.Equal(t, adminapi.RotationLine{Done: 2, Total: 2, Finished: true}, line)
}
