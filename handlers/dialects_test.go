package handlers_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// TestSecretsStayAtTheGate: signature and token reach the upstream in none of
// the ways in which calls carry them, and all else does; and no call passes
// twice.
func TestSecretsStayAtTheGate(t *testing.T) {
	const token = "token-of-the-merchant"
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	for _, test := range []struct {
		name, dialect, method   string
		verb, target, body, api string
		header                  []string
		wantTarget, wantBody    string   // regular expressions
		gone                    []string // headers
	}{
		{
			"op1 in headers", "op1", "", "POST", "/v1/orders?a=%2f&b", `{"sku":"A-1"}`, "trade.order.add", nil,
			`^/v1/orders\?a=%2f&b$`, `^{"sku":"A-1"}$`,
			[]string{"Signature", "Signature-Input", "Authorization"},
		},
		{
			"top in the query", "top", "hmac-sha256", "GET", "/router/rest?method=product.list&fields=a%20b&v=3.0", "", "product.list", nil,
			`^/router/rest\?method=product\.list&fields=a%20b&v=3\.0&`, `^$`, nil,
		},
		{
			"kuaishou in a form", "kuaishou", "hmac-sha256", "POST", "/open/api", "method=trade.order.add&version=1&param=%7B%22sku%22%3A1%7D", "trade.order.add", form,
			`^/open/api$`, `^method=trade\.order\.add&version=1&param=%7B%22sku%22%3A1%7D&`, nil,
		},
		{
			"dewu in a JSON body", "dewu", "md5", "POST", "/v1/orders", `{"sku":"A-1", "quantity":12345678901234567890}`, "trade.order.add", nil,
			`^/v1/orders$`, `"sku":"A-1", "quantity":12345678901234567890`, nil,
		},
		{
			"lazada by the path after its endpoint", "lazada", "", "GET", "/rest/v1/products?page=1", "", "product.list", nil,
			`^/rest/v1/products\?page=1&`, `^$`, nil,
		},
		{
			"aliexpress by the path", "aliexpress", "", "POST", "/rest/v1/orders", "sku=A-1", "trade.order.add", form,
			`^/rest/v1/orders\?`, `^sku=A-1$`, nil,
		},
		{
			"aop1688 in the path", "aop1688", "", "POST", "/openapi/param2/1/shop/product.list/KEY", "page=1", "product.list", form,
			`^/openapi/param2/1/shop/product\.list/ak_`, `^page=1`, nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			address, got := witness(t)
			w := newWorld(t, address, "open_gate {\n environment production\n dialects op1 top kuaishou dewu aop1688 lazada aliexpress\n}\n reverse_proxy UPSTREAM")
			app, c := w.app(platform.Production, "trade")
			if test.dialect != "op1" {
				c = w.dialect(app, test.dialect, test.method, platform.Production)
				c.cred.Token = token
			} else {
				test.header = []string{"Authorization", "Bearer " + token}
			}
			r := c.request(t, test.verb, strings.Replace(test.target, "KEY", app.Key, 1), test.body, test.header...)
			again := c.request(t, test.verb, strings.Replace(test.target, "KEY", app.Key, 1), test.body, test.header...)
			again.Header, again.RequestURI = r.Header.Clone(), r.RequestURI
			again.URL.RawQuery = r.URL.RawQuery
			data, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			setBody(r, data)
			setBody(again, data)
			if test.dialect != "op1" {
				require.Contains(t, r.RequestURI+string(data), token, "the call carries the token")
			}

			rec := w.do(r)
			require.Equal(t, http.StatusOK, rec.Code, rec.Body)
			s := one(t, got)
			require.Regexp(t, test.wantTarget, s.target)
			require.Regexp(t, test.wantBody, s.body)
			require.Equal(t, test.api, s.header.Get("X-Open-Api"))
			for _, name := range test.gone {
				require.Empty(t, s.header.Values(name), name)
			}
			for _, secret := range []string{token, "sign=", `"sign"`, "_signature", "access_token", "session="} {
				require.NotContains(t, s.target+s.body, secret)
			}
			refused(t, w.do(again), http.StatusUnauthorized, "nonce_reused")
			require.Empty(t, got)
		})
	}
}

// TestTokenOfADialect: a dialect carries the token in a parameter; the header is
// not signed, and counts for nothing.
func TestTokenOfADialect(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, "open_gate {\n environment production\n dialects doudian\n}\n reverse_proxy UPSTREAM")
	app, _ := w.app(platform.Production, "user")
	c := w.dialect(app, "doudian", "hmac-sha256", platform.Production)
	user, token := w.token(app, "")
	const target = "/api?method=user.get&v=2"
	refused(t, w.do(c.request(t, http.MethodPost, target, "{}", "Authorization", "Bearer "+token)), http.StatusUnauthorized, "token_missing")
	require.Empty(t, got)
	c.cred.Token = token
	rec := w.do(c.request(t, http.MethodPost, target, "{}", "Authorization", "Bearer other"))
	require.Equal(t, http.StatusOK, rec.Code, rec.Body)
	s := one(t, got)
	require.Equal(t, user, s.header.Get("X-Open-User-Id"))
	require.NotContains(t, s.header, "Authorization")
}

// TestNameAndPath: who names an interface that it may call does not reach another
// one by the path, which such a dialect does not sign.
func TestNameAndPath(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, "open_gate {\n environment production\n dialects top aop1688\n}\n reverse_proxy UPSTREAM")
	app, _ := w.app(platform.Production)
	top, aop := w.dialect(app, "top", "hmac-sha256", platform.Production), w.dialect(app, "aop1688", "", platform.Production)
	for _, target := range []string{"GET /v1/orders/1", "DELETE /v1/orders/1", "POST /v1/orders", "POST /v1/products", "GET /v1/old", "HEAD /v1/merchants/1"} {
		method, path, _ := strings.Cut(target, " ")
		rec := w.do(top.request(t, method, path+"?method=product.list&v=3.0", ""))
		require.Equal(t, http.StatusBadRequest, rec.Code, target)
		if method != http.MethodHead {
			refused(t, rec, http.StatusBadRequest, "request_malformed")
		}
		require.Empty(t, got, target)
	}
	for _, target := range []string{"GET /v1/products", "HEAD /v1/products", "POST /router/rest"} {
		method, path, _ := strings.Cut(target, " ")
		require.Equal(t, http.StatusOK, w.do(top.request(t, method, path+"?method=product.list&v=3.0&as="+method, "")).Code, target)
		require.Equal(t, "product.list", one(t, got).header.Get("X-Open-Api"))
	}
	require.Equal(t, http.StatusOK, w.do(aop.request(t, http.MethodGet, "/openapi/param2/1/shop/product.list/"+app.Key, "")).Code)
}

// TestUnnamed: who names no interface in a dialect that names them does not
// choose one by the path, unless the path is signed.
func TestUnnamed(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, "open_gate {\n environment production\n dialects aop1688 top jd pdd doudian kuaishou aliexpress\n}\n reverse_proxy UPSTREAM")
	app, _ := w.app(platform.Production)
	for _, test := range []struct{ dialect, method, query, detail string }{
		{"aop1688", "", "client_id=" + app.Key, "a call in the dialect aop1688 names its API: /param2/<version>/<namespace>/<api>/<appKey>"},
		{"top", "hmac-sha256", "method=", "a call in the dialect top names its API: parameter method"},
		{"jd", "md5", "360buy_param_json=%7B%7D", "a call in the dialect jd names its API: parameter method"},
		{"pdd", "md5", "page=1", "a call in the dialect pdd names its API: parameter type"},
		{"doudian", "hmac-sha256", "method=&v=2", "a call in the dialect doudian names its API: parameter method"},
		{"kuaishou", "hmac-sha256", "page=1", "a call in the dialect kuaishou names its API: parameter method"},
		{"aliexpress", "", "page=1", ""},
	} {
		c := w.dialect(app, test.dialect, test.method, platform.Production)
		rec := w.do(c.request(t, http.MethodGet, "/v1/products?"+test.query, ""))
		if test.detail == "" {
			require.Equal(t, http.StatusOK, rec.Code, rec.Body)
			one(t, got)
			continue
		}
		require.Equal(t, test.detail, refused(t, rec, http.StatusNotFound, "api_unknown"))
		require.Empty(t, got)
	}
}

// TestRewrittenQuery: a query that the route changed on the way to the gate
// keeps the change, and loses its secrets all the same.
func TestRewrittenQuery(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, "uri query +added yes\n open_gate {\n environment production\n dialects top\n}\n reverse_proxy UPSTREAM")
	app, _ := w.app(platform.Production)
	c := w.dialect(app, "top", "hmac-sha256", platform.Production)
	c.cred.Token = "token-of-the-merchant"
	rec := w.do(c.request(t, "GET", "/x?method=product.list&v=3.0", ""))
	require.Equal(t, http.StatusOK, rec.Code, rec.Body)
	s := one(t, got)
	require.Contains(t, s.target, "added=yes")
	require.NotContains(t, s.target, "token-of-the-merchant")
	require.NotContains(t, s.target, "sign=")
}

// TestRewrittenEndpoint: a path of which the route leaves nothing behind the
// dialect's endpoint is no API's.
func TestRewrittenEndpoint(t *testing.T) {
	for _, path := range []string{"/rest", "/restaurant", "/"} {
		w := newWorld(t, "127.0.0.1:9", "rewrite * "+path+"\n open_gate {\n environment production\n dialects lazada\n}\n reverse_proxy UPSTREAM")
		app, _ := w.app(platform.Production)
		c := w.dialect(app, "lazada", "", platform.Production)
		refused(t, w.do(c.request(t, http.MethodGet, "/rest/v1/products?page=1", "")), http.StatusNotFound, "api_unknown")
		require.NoError(t, caddy.Stop())
	}
}

// TestAuthorizationOfTheUpstream: what is no token is not the gate's.
func TestAuthorizationOfTheUpstream(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, "open_gate production\n reverse_proxy UPSTREAM")
	_, c := w.app(platform.Production)
	require.Equal(t, http.StatusOK, w.do(c.request(t, "GET", "/v1/products", "", "Authorization", "Basic dXNlcjpwYXNz")).Code)
	require.Equal(t, "Basic dXNlcjpwYXNz", one(t, got).header.Get("Authorization"))
}

func TestCredentials(t *testing.T) {
	w := newWorld(t, business(t), "open_gate {\n environment production\n dialects op1 top\n}\n reverse_proxy UPSTREAM")
	status := func(c *client) int { return w.do(c.request(t, "GET", "/v1/products", "")).Code }
	app, first := w.app(platform.Production)
	secret, err := w.service.AddSecret(t.Context(), "test", app.ID, platform.SecretRequest{Environment: platform.Production})
	require.NoError(t, err)
	second := w.client(app, secret)
	require.Equal(t, 2, secret.Number)
	second.nonce.Store(1000)

	require.Equal(t, http.StatusOK, status(first))
	require.Equal(t, http.StatusOK, status(second))
	second.cred.KeyNumber = 2
	require.Equal(t, http.StatusOK, status(second))
	second.cred.KeyNumber = 1
	refused(t, w.do(second.request(t, "GET", "/v1/products", "")), http.StatusUnauthorized, "signature_invalid")
	_, err = w.service.RevokeCredential(t.Context(), "test", app.ID, 1, 0)
	require.NoError(t, err)
	refused(t, w.do(first.request(t, "GET", "/v1/products", "")), http.StatusUnauthorized, "signature_invalid")
	second.cred.KeyNumber = 2
	require.Equal(t, http.StatusOK, status(second))

	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	added, err := w.service.AddPublicKey(t.Context(), "test", app.ID, platform.Production, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	require.NoError(t, err)
	der, err = x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	key, err := signing.NewSigningPrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	require.NoError(t, err)
	third := &client{dialect: signing.Op1, cred: signing.Credentials{AppKey: app.Key, KeyNumber: added.Number, Key: key}}
	third.nonce.Store(2000)
	require.Equal(t, http.StatusOK, status(third))

	// A dialect's secret is its own, and MD5 has to be asked for.
	_, err = w.service.AllowDialect(t.Context(), "test", app.ID, "dewu", "", platform.Production)
	require.Error(t, err)
	top := w.dialect(app, "top", "hmac-sha256", platform.Production)
	require.Equal(t, http.StatusOK, w.do(top.request(t, "GET", "/x?method=product.list&v=3.0", "")).Code)
	weak, err := signing.NewSigningSecret("top", "md5", []byte("any"))
	require.NoError(t, err)
	top.cred.Key = weak
	refused(t, w.do(top.request(t, "GET", "/x?method=product.list&v=3.0", "")), http.StatusUnauthorized, "dialect_not_allowed")
}

// TestTwoGates: a second gate in the chain agrees, spends nothing and charges
// nothing; and it refuses what it does not take.
func TestTwoGates(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, `route {
		open_gate production
		@sandbox header X-Route sandbox
		open_gate @sandbox sandbox
		@top header X-Route top
		open_gate @top {
			environment production
			dialects top
		}
		open_gate production
		reverse_proxy UPSTREAM
	}`)
	app, c := w.app(platform.Production)
	_, err := w.service.PutPlan(t.Context(), "test", platform.Plan{Name: "two", App: platform.Limits{Rate: limit.Rate{Requests: 2, Period: time.Hour, Burst: 2}}})
	require.NoError(t, err)
	_, err = w.service.SetAppPlan(t.Context(), "test", app.ID, "two")
	require.NoError(t, err)
	for range 2 {
		require.Equal(t, http.StatusOK, w.do(c.request(t, "GET", "/v1/products", "")).Code)
		require.Len(t, reserved(one(t, got).header), 5)
	}
	refused(t, w.do(c.request(t, "GET", "/v1/products", "")), http.StatusTooManyRequests, "rate_limited")
	_, c = w.app(platform.Production)
	require.Equal(t, http.StatusOK, w.do(c.request(t, "GET", "/v1/products", "")).Code, "the nonce is spent once, where no limit applies too")
	one(t, got)
	refused(t, w.do(c.request(t, "GET", "/v1/products", "", "X-Route", "sandbox")), http.StatusForbidden, "environment_mismatch")
	refused(t, w.do(c.request(t, "GET", "/v1/products", "", "X-Route", "top")), http.StatusUnauthorized, "dialect_not_allowed")
	require.Empty(t, got)
}

// TestWhitelistWithOtherDialects: open_ip that does not know the dialect of
// open_sign lets no app around its whitelist.
func TestWhitelistWithOtherDialects(t *testing.T) {
	w := newWorld(t, business(t), "open_ip\n open_sign production {\n dialects op1 top\n}\n open_scope\n reverse_proxy UPSTREAM")
	app, _ := w.app(platform.Production)
	c := w.dialect(app, "top", "hmac-sha256", platform.Production)
	require.Equal(t, http.StatusOK, w.do(c.request(t, "GET", "/x?method=product.list&v=3.0&a=1", "")).Code)
	_, err := w.service.AddIP(t.Context(), "test", app.ID, "192.0.2.0/24", "")
	require.NoError(t, err)
	refused(t, w.do(c.request(t, "GET", "/x?method=product.list&v=3.0&a=2", "")), http.StatusForbidden, "ip_denied")
}

// TestFloodOfForgeries: it neither locks the app out nor uses up anything of it.
func TestFloodOfForgeries(t *testing.T) {
	w := newWorld(t, business(t), "open_gate production\n reverse_proxy UPSTREAM")
	app, c := w.app(platform.Production)
	_, err := w.service.PutPlan(t.Context(), "test", platform.Plan{Name: "one", App: platform.Limits{Rate: limit.Rate{Requests: 1, Period: time.Hour, Burst: 1}}})
	require.NoError(t, err)
	_, err = w.service.SetAppPlan(t.Context(), "test", app.ID, "one")
	require.NoError(t, err)
	_, forger := w.app(platform.Production)
	forger.cred.AppKey = app.Key
	for range 200 {
		forger.nonce.Store(0)
		refused(t, w.do(forger.request(t, "GET", "/v1/products", "")), http.StatusUnauthorized, "signature_invalid")
	}
	rec := w.do(c.request(t, "GET", "/v1/products", ""))
	require.Equal(t, http.StatusOK, rec.Code, rec.Body)
}
