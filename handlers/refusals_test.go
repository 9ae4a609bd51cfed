package handlers_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/gate"
	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// gates is a site with a gate of each kind that the refusals need, told apart
// by a header.
const gates = `
	route {
		@sandbox header X-Route sandbox
		handle @sandbox {
			open_gate sandbox
			open_mock
		}
		@dead header X-Route dead
		handle @dead {
			open_gate production
			reverse_proxy 127.0.0.1:1
		}
		@slow header X-Route slow
		handle @slow {
			open_gate production
			reverse_proxy UPSTREAM {
				transport http {
					response_header_timeout 30ms
				}
			}
		}
		@office header X-Route office
		handle @office {
			open_gate production {
				ip_groups office
			}
		}
		handle {
			open_gate {
				environment production
				dialects op1 top
				buffer 1KiB
				max_body 4KiB
			}
			reverse_proxy {http.open_platform.upstream}
		}
	}
`

// refusalCase makes one call that must be refused with the code.
type refusalCase struct {
	code, stage string
	do          func(t *testing.T, w *world) *httptest.ResponseRecorder
	header      map[string]string
}

// send signs a call of a fresh app and sends it.
func send(method, target, body string, header ...string) func(*testing.T, *world) *httptest.ResponseRecorder {
	return func(t *testing.T, w *world) *httptest.ResponseRecorder {
		_, c := w.app(platform.Production, "trade", "user")
		return w.do(c.request(t, method, target, body, header...))
	}
}

var refusalCases = []refusalCase{
	{"ip_denied", "ip", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		app, c := w.app(platform.Production)
		_, err := w.service.AddIP(t.Context(), "test", app.ID, "192.0.2.0/24", "")
		require.NoError(t, err)
		return w.do(c.request(t, "GET", "/v1/products", ""))
	}, nil},
	{"ip_denied", "ip", send("GET", "/v1/products", "", "X-Route", "office"), nil},
	{"app_unknown", "signature", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		_, c := w.app(platform.Production)
		c.cred.AppKey = "ak_00000000000000000000"
		return w.do(c.request(t, "GET", "/v1/products", ""))
	}, nil},
	{"app_suspended", "signature", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		app, c := w.app(platform.Production)
		_, err := w.service.SuspendApp(t.Context(), "test", app.ID)
		require.NoError(t, err)
		return w.do(c.request(t, "GET", "/v1/products", ""))
	}, nil},
	{"environment_mismatch", "signature", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		_, c := w.app(platform.Sandbox)
		return w.do(c.request(t, "GET", "/v1/products", ""))
	}, nil},
	{"environment_mismatch", "signature", send("GET", "/v1/products", "", "X-Route", "sandbox"), nil},
	{"signature_missing", "signature", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/v1/products", nil)
		r.Host = "gate.test"
		return w.do(r)
	}, nil},
	{"signature_invalid", "signature", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		_, c := w.app(platform.Production)
		_, other := w.app(platform.Production)
		c.cred.Key = other.cred.Key
		return w.do(c.request(t, "GET", "/v1/products", ""))
	}, nil},
	{"timestamp_out_of_range", "signature", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		_, c := w.app(platform.Production)
		c.late = 10 * time.Minute
		return w.do(c.request(t, "GET", "/v1/products", ""))
	}, nil},
	{"nonce_reused", "signature", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		_, c := w.app(platform.Production, "trade")
		require.Equal(t, http.StatusOK, w.do(c.request(t, "GET", "/v1/orders/1", "")).Code)
		c.nonce.Add(-1)
		return w.do(c.request(t, "GET", "/v1/orders/1", ""))
	}, nil},
	{"dialect_not_allowed", "signature", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		app, _ := w.app(platform.Production)
		c := w.dialect(app, "top", "hmac-sha256", platform.Production)
		_, err := w.service.DisallowDialect(t.Context(), "test", app.ID, "top")
		require.NoError(t, err)
		return w.do(c.request(t, "GET", "/v1/products?method=product.list&v=3.0", ""))
	}, nil},
	{"digest_mismatch", "signature", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		_, c := w.app(platform.Production, "trade")
		r := c.request(t, "POST", "/v1/orders", `{"quantity":1}`)
		setBody(r, []byte(`{"quantity":9}`))
		return w.do(r)
	}, nil},
	{"api_unknown", "scope", send("GET", "/v1/nothing", ""), nil},
	{"api_offline", "scope", send("GET", "/v1/old", ""), nil},
	{"method_not_allowed", "scope", send("DELETE", "/v1/orders/1", ""), map[string]string{"Allow": "GET, HEAD"}},
	{"package_not_granted", "scope", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		_, c := w.app(platform.Production)
		return w.do(c.request(t, "GET", "/v1/orders/1", ""))
	}, nil},
	{"package_expired", "scope", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		app, c := w.app(platform.Production)
		_, err := w.service.GrantPackage(t.Context(), "test", app.ID, "trade", platform.Period{From: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		return w.do(c.request(t, "GET", "/v1/orders/1", ""))
	}, nil},
	{"token_missing", "scope", send("GET", "/v1/merchants/1", ""), map[string]string{"WWW-Authenticate": `Bearer realm="open_platform"`}},
	{"rate_limited", "rate", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		return w.limited(t, platform.Limits{Rate: limit.Rate{Requests: 1, Period: time.Hour, Burst: 1}})
	}, map[string]string{"Retry-After": "3600"}},
	{"quota_exceeded", "rate", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		return w.limited(t, platform.Limits{Quota: limit.Quota{Day: 1}})
	}, map[string]string{"Retry-After": "*"}},
	{"request_malformed", "scope", send("GET", "/v1//orders", ""), nil},
	{"request_malformed", "signature", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		_, c := w.app(platform.Production)
		r := c.request(t, "GET", "/v1/products", "")
		r.Header["Signature"] = append(r.Header["Signature"], r.Header["Signature"][0])
		return w.do(r)
	}, nil},
	{"body_too_large", "signature", send("POST", "/v1/orders", strings.Repeat("x", 5000)), nil},
	{"upstream_unavailable", "upstream", send("GET", "/v1/products", "", "X-Route", "dead"), nil},
	{"upstream_timeout", "upstream", send("GET", "/v1/products", "", "X-Route", "slow"), nil},
	// The last one: it has a world of its own.
	{"store_unavailable", "signature", func(t *testing.T, w *world) *httptest.ResponseRecorder {
		_, c := w.app(platform.Production)
		for range 10_000 {
			if rec := w.do(c.request(t, "GET", "/v1/products", "", "X-Route", "dead")); rec.Code == http.StatusServiceUnavailable {
				return rec
			}
		}
		t.Fatal("the memory of nonces is never full")
		return nil
	}, map[string]string{"Retry-After": "*"}},
}

// limited makes two calls under limits that allow one.
func (w *world) limited(t *testing.T, l platform.Limits) *httptest.ResponseRecorder {
	app, c := w.app(platform.Production)
	_, err := w.service.PutPlan(t.Context(), "test", platform.Plan{Name: "tight", App: l})
	require.NoError(t, err)
	_, err = w.service.SetAppPlan(t.Context(), "test", app.ID, "tight")
	require.NoError(t, err)
	rec := w.do(c.request(t, "GET", "/v1/products", ""))
	require.Equal(t, http.StatusOK, rec.Code)
	require.NotEmpty(t, rec.Header().Get("RateLimit"))
	require.NotEmpty(t, rec.Header().Get("RateLimit-Policy"))
	rec = w.do(c.request(t, "GET", "/v1/products", ""))
	require.NotEmpty(t, rec.Header().Get("RateLimit"))
	require.NotEmpty(t, rec.Header().Get("RateLimit-Policy"))
	return rec
}

// TestUnescapedPath: what would go on in other bytes than were signed is refused,
// and all else goes on as it is.
func TestUnescapedPath(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, "handle_path /open/* {\n open_gate production\n reverse_proxy UPSTREAM \n}")
	_, c := w.app(platform.Production, "trade")
	ask := func(path string) *httptest.ResponseRecorder {
		r := c.request(t, "GET", "/open/v1/orders/"+path, "")
		r.RequestURI = "/open/v1/orders/" + path
		return w.do(r)
	}
	for _, char := range []string{`"`, "<", ">", "^", "{", "}", "|", "`", "#", "中", "\xff"} {
		detail := refused(t, ask("a"+char+"%2Fb"), http.StatusBadRequest, "request_malformed")
		require.Contains(t, detail, "percent-escape")
		require.Empty(t, got)
	}
	for _, path := range []string{"a%7b%2Fb", "-._~!$&'()*+,;=:@", "%e4%B8%AD"} {
		require.Equal(t, http.StatusOK, ask(path).Code, path)
		require.Equal(t, "/v1/orders/"+path, one(t, got).target)
	}
}

// TestLimitsOfTheUpstream: an answer tells the gate's limit, or the upstream's
// where the gate has none; never both.
func TestLimitsOfTheUpstream(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("RateLimit", `"own";r=1;t=1`)
		w.Header().Add("RateLimit-Policy", `"own";q=1;w=1`)
	}))
	defer server.Close()
	w := newWorld(t, strings.TrimPrefix(server.URL, "http://"), "open_gate production\n reverse_proxy UPSTREAM")
	app, c := w.app(platform.Production)
	for _, name := range []string{"own", "app"} {
		if name == "app" {
			_, err := w.service.PutPlan(t.Context(), "test", platform.Plan{Name: "some", App: platform.Limits{Quota: limit.Quota{Day: 9}}})
			require.NoError(t, err)
			_, err = w.service.SetAppPlan(t.Context(), "test", app.ID, "some")
			require.NoError(t, err)
		}
		rec := w.do(c.request(t, "GET", "/v1/products", ""))
		for _, header := range []string{"RateLimit", "RateLimit-Policy"} {
			require.Len(t, rec.Header().Values(header), 1)
			require.Contains(t, rec.Header().Get(header), `"`+name)
		}
	}
}

// business is an upstream that answers, except where it is asked to be slow.
func business(t *testing.T) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header.Get("X-Route") == "slow" {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"ok":true}`)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// withoutAuthority are the codes for which there has to be an authorization
// server; package gate produces them over a verifier of its own.
var withoutAuthority = []string{"token_invalid", "token_expired", "scope_insufficient"}

// TestEveryRefusal produces every code of the dictionary, and asks for the same
// answer with and without error routes.
func TestEveryRefusal(t *testing.T) {
	statuses, produced := map[string]int{}, map[string]bool{}
	for _, c := range gate.Codes {
		statuses[c.Name] = c.Status
	}
	for _, name := range append(publishCodes, withoutAuthority...) {
		produced[name] = true
	}
	for _, c := range refusalCases {
		produced[c.code] = true
	}
	for name := range statuses {
		require.True(t, produced[name], "no test produces %s", name)
	}

	for mode, errors := range map[string]string{
		"no error routes": "",
		"open_problem":    "handle_errors {\n open_problem \n}",
		"own errors":      "handle_errors {\n respond \"{http.open_platform.error} {http.open_platform.stage} {http.open_platform.request_id}\" {err.status_code}\n}",
	} {
		t.Run(mode, func(t *testing.T) {
			w := setup{upstream: business(t), site: gates + errors, global: "nonces 100"}.run(t)
			_, err := w.service.PutIPGroup(t.Context(), "test", platform.IPGroup{Name: "office", Rules: []platform.IPRule{{Prefix: mustPrefix("192.0.2.0/24")}}})
			require.NoError(t, err)
			for i, test := range refusalCases {
				t.Run(fmt.Sprintf("%d %s", i, test.code), func(t *testing.T) {
					if test.code == "store_unavailable" {
						w = setup{upstream: w.setup.upstream, site: gates + errors, global: "nonces 1"}.run(t)
					}
					rec := test.do(t, w)
					if mode == "own errors" {
						require.Equal(t, statuses[test.code], rec.Code, rec.Body)
						require.Equal(t, test.code+" "+test.stage+" "+rec.Header().Get("X-Open-Request-Id"), rec.Body.String())
					} else {
						refused(t, rec, statuses[test.code], test.code)
						require.Equal(t, "no-store", rec.Header().Get("Cache-Control"))
					}
					for name, want := range test.header {
						if want == "*" {
							require.NotEmpty(t, rec.Header().Get(name))
						} else {
							require.Equal(t, want, rec.Header().Get(name), name)
						}
					}
				})
			}
		})
	}
}

// TestRefusedHEAD: the answer to HEAD has no body, but all that goes with one.
func TestRefusedHEAD(t *testing.T) {
	for _, errors := range []string{"", "handle_errors {\n open_problem \n}"} {
		w := newWorld(t, business(t), "open_gate production\n reverse_proxy UPSTREAM\n"+errors)
		_, c := w.app(platform.Production)
		rec := w.do(c.request(t, "HEAD", "/v1/nothing", ""))
		require.Equal(t, http.StatusNotFound, rec.Code)
		require.Empty(t, rec.Body.String())
		require.Equal(t, "application/problem+json", rec.Header().Get("Content-Type"))
		require.NotEqual(t, "0", rec.Header().Get("Content-Length"))
		require.Equal(t, http.StatusOK, w.do(c.request(t, "HEAD", "/v1/products", "")).Code)
	}
}

// TestErrorRoutesOfAnotherSite: error routes stand in the server, but belong to
// one site; they must not swallow the refusals of the others.
func TestErrorRoutesOfAnotherSite(t *testing.T) {
	w := newWorld(t, business(t), "open_gate production\n reverse_proxy UPSTREAM", `
http://other.test:1 {
	bind 127.0.0.1
	respond hello
	handle_errors {
		respond "other" 418
	}
}`)
	_, c := w.app(platform.Production)
	refused(t, w.do(c.request(t, "GET", "/v1/nothing", "")), http.StatusNotFound, "api_unknown")
}

// TestErrorRoutesForOtherErrors: error routes for some statuses leave the rest
// to the gate.
func TestErrorRoutesForOtherErrors(t *testing.T) {
	w := newWorld(t, business(t), "open_gate production\n reverse_proxy UPSTREAM\n handle_errors 404 {\n respond mine 404 \n}")
	_, c := w.app(platform.Production)
	rec := w.do(c.request(t, "GET", "/v1/nothing", ""))
	require.Equal(t, "mine", rec.Body.String())
	refused(t, w.do(c.request(t, "DELETE", "/v1/products", "")), http.StatusMethodNotAllowed, "method_not_allowed")
}

// TestOtherErrorsThroughOpenProblem: what is no refusal has the same form.
func TestOtherErrorsThroughOpenProblem(t *testing.T) {
	w := newWorld(t, business(t), "route {\n error /teapot 418\n open_gate production\n open_problem\n respond through\n }\n handle_errors {\n open_problem \n}")
	r := httptest.NewRequest(http.MethodGet, "/teapot", nil)
	r.Host = "gate.test"
	rec := w.do(r)
	require.Equal(t, http.StatusTeapot, rec.Code)
	require.Equal(t, "application/problem+json", rec.Header().Get("Content-Type"))
	var p map[string]any
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &p))
	require.Equal(t, "about:blank", p["type"])
	require.Equal(t, "http_418", p["code"])

	_, c := w.app(platform.Production)
	require.Equal(t, "through", w.do(c.request(t, "GET", "/v1/products", "")).Body.String(), "outside of error routes it does nothing")
}
