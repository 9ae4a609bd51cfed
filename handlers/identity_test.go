package handlers_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// seen is what an upstream got.
type seen struct {
	method, target, body string
	header, trailer      http.Header
	err                  error // why the body ended early
}

// witness is an upstream that tells what it got.
func witness(t *testing.T) (string, <-chan seen) {
	got := make(chan seen, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		got <- seen{r.Method, r.RequestURI, string(body), r.Header.Clone(), r.Trailer.Clone(), err}
		_, _ = io.WriteString(w, `{"ok":true}`)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), got
}

// one receives what the upstream got, which must have got it.
func one(t *testing.T, got <-chan seen) seen {
	t.Helper()
	select {
	case s := <-got:
		return s
	case <-time.After(10 * time.Second):
		t.Fatal("the upstream got nothing")
		return seen{}
	}
}

// listen serves the world over TCP and returns its address.
func (w *world) listen() string {
	server := httptest.NewServer(w.server)
	w.t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// raw sends the bytes of a request and reads the response. With half the
// sending side is closed then.
func (w *world) raw(text string, half bool) (status int, answer string) {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.listen())
	require.NoError(w.t, err)
	defer conn.Close()
	require.NoError(w.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, text)
	require.NoError(w.t, err)
	if half {
		require.NoError(w.t, conn.(*net.TCPConn).CloseWrite())
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	return resp.StatusCode, string(body)
}

// head writes a request's line and header fields.
func head(r *http.Request, more ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.RequestURI, r.Host)
	_ = r.Header.Write(&b)
	for _, line := range more {
		b.WriteString(line + "\r\n")
	}
	return b.String() + "\r\n"
}

// reserved lists the X-Open-* names of a header.
func reserved(h http.Header) (names []string) {
	for name := range h {
		if strings.HasPrefix(strings.ToLower(strings.ReplaceAll(name, "_", "-")), "x-open") {
			names = append(names, name)
		}
	}
	return names
}

// TestIdentityOfTheUpstream: it gets exactly the gate's headers, whatever the
// client sends under their names.
func TestIdentityOfTheUpstream(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, "open_gate production\n reverse_proxy UPSTREAM")
	app, c := w.app(platform.Production, "trade")
	rec := w.do(c.request(t, "GET", "/v1/orders/7?fields=all", "", "X-Kept", "yes",
		"X-Open-App-Id", "forged", "x-open-user-id", "forged", "X-OPEN-ANYTHING", "forged", "X-Open-", "forged", "X_Open_User_Id", "forged", "X-Open_Scopes", "forged",
		"Connection", "X-Open-App-Id, x-open-user-id, X-Hop", "X-Hop", "gone", "Connection", "X-Open-Request-Id"))
	require.Equal(t, http.StatusOK, rec.Code, rec.Body)
	s := one(t, got)
	require.Equal(t, "/v1/orders/7?fields=all", s.target)
	require.ElementsMatch(t, []string{"X-Open-App-Id", "X-Open-App-Key", "X-Open-Environment", "X-Open-Api", "X-Open-Request-Id"}, reserved(s.header))
	require.Equal(t, []string{app.ID}, s.header["X-Open-App-Id"])
	require.Equal(t, []string{app.Key}, s.header["X-Open-App-Key"])
	require.Equal(t, []string{"production"}, s.header["X-Open-Environment"])
	require.Equal(t, []string{"trade.order.get"}, s.header["X-Open-Api"])
	require.Equal(t, []string{rec.Header().Get("X-Open-Request-Id")}, s.header["X-Open-Request-Id"])
	require.Equal(t, "yes", s.header.Get("X-Kept"))
	require.NotContains(t, rec.Header(), "Ratelimit", "no limit applies")
	require.NotContains(t, rec.Header(), "Ratelimit-Policy")
	require.Empty(t, s.header.Get("X-Hop"), "the client's other hop-by-hop headers stay its own affair")
}

// TestForgedTrailers: neither announced nor unannounced trailers of the gate's
// names reach the upstream, whether the body is read first or streams.
func TestForgedTrailers(t *testing.T) {
	for _, buffer := range []string{"1MiB", "4"} {
		for _, announced := range []string{"", "X-Sum", "X-Open-User-Id, X-Sum", "x-open-user-id", "X_Open-User-Id, X-Sum, signature, Signature_Input, Authorization", "X.Open.user.id, X-Sum, X-Open.Scopes, x_open.app-id, Signature.Input"} {
			t.Run(buffer+" "+announced, func(t *testing.T) {
				address, got := witness(t)
				w := newWorld(t, address, "open_gate production {\n buffer "+buffer+"\n}\n reverse_proxy UPSTREAM")
				_, c := w.app(platform.Production, "trade")
				body := `{"sku":"A-1"}`
				r := c.request(t, "POST", "/v1/orders", body)
				status, answer := w.raw(head(r, "Transfer-Encoding: chunked", "Connection: close", "Trailer: "+announced)+
					fmt.Sprintf("%x\r\n%s\r\n0\r\nX-Sum: 1\r\nX-Open-User-Id: forged\r\nX-Open-Scopes: forged\r\n"+
						"X_Open-User-Id: forged\r\nx_open_app_id: forged\r\nX.Open.user.id: forged\r\nX-Open.Scopes: forged\r\nx_open.app-id: forged\r\nSignature.Input: op=()\r\nSignature: op=:AAAA:\r\nSignature_Input: op=()\r\nAuthorization: Bearer x\r\n\r\n", len(body), body), false)
				require.Equal(t, http.StatusOK, status, answer)
				s := one(t, got)
				require.NoError(t, s.err)
				require.Equal(t, body, s.body)
				require.Empty(t, reserved(s.trailer))
				for name := range s.trailer {
					require.Equal(t, "X-Sum", name, "whatever a service reads as the gate's own, or as a signature")
				}
				if strings.Contains(announced, "X-Sum") {
					require.Equal(t, "1", s.trailer.Get("X-Sum"), "other trailers go on")
				}
				require.NotContains(t, reserved(s.header), "X-Open-User-Id")
			})
		}
	}
}

// TestIdentityIsToldOnlyOfVerifiedCalls: a route with a part of the gate never
// passes on what the client says.
func TestIdentityOnPartsOfTheGate(t *testing.T) {
	for name, site := range map[string]string{
		"open_ip alone":   "open_ip",
		"open_sign alone": "open_sign production",
	} {
		t.Run(name, func(t *testing.T) {
			address, got := witness(t)
			w := newWorld(t, address, site+"\n reverse_proxy UPSTREAM")
			_, c := w.app(platform.Production)
			rec := w.do(c.request(t, "GET", "/anything", "", "X-Open-App-Id", "forged"))
			require.Equal(t, http.StatusOK, rec.Code)
			require.Empty(t, reserved(one(t, got).header))
		})
	}
}

// TestGateOfSingleDirectives: open_ip may be left out, and what stays checks all
// the same.
func TestGateOfSingleDirectives(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, "open_sign production\n open_scope\n open_rate\n reverse_proxy UPSTREAM")
	app, c := w.app(platform.Production, "trade")
	require.Equal(t, http.StatusOK, w.do(c.request(t, "GET", "/v1/orders/7", "")).Code)
	require.Len(t, reserved(one(t, got).header), 5)
	refused(t, w.do(c.request(t, "GET", "/v1/merchants/7", "")), http.StatusForbidden, "package_not_granted")
	_, err := w.service.AddIP(t.Context(), "test", app.ID, "192.0.2.0/24", "")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, w.do(c.request(t, "GET", "/v1/products", "")).Code, "a whitelist is open_ip's to check")
}

func TestStagesFailClosed(t *testing.T) {
	for name, site := range map[string]string{
		"open_scope without open_sign": "open_scope",
		"open_rate without open_scope": "open_sign production\n open_rate",
		"open_rate alone":              "open_rate",
	} {
		t.Run(name, func(t *testing.T) {
			address, got := witness(t)
			w := newWorld(t, address, site+"\n reverse_proxy UPSTREAM")
			_, c := w.app(platform.Production)
			refused(t, w.do(c.request(t, "GET", "/v1/products", "")), http.StatusUnauthorized, "signature_missing")
			require.Empty(t, got)
		})
	}
}

func TestPlaceholders(t *testing.T) {
	const all = "{http.open_platform.app.id}|{http.open_platform.app.key}|{http.open_platform.app.name}|{http.open_platform.app.kind}|" +
		"{http.open_platform.environment}|{http.open_platform.api.name}|{http.open_platform.api.version}|{http.open_platform.upstream}|" +
		"{http.open_platform.user.id}|{http.open_platform.error}|{http.open_platform.request_id}"
	w := newWorld(t, "127.0.0.1:7777", "open_gate production\n header >X-App {http.open_platform.app.name}\n respond \""+all+"\"\n handle_errors {\n respond \"refused:"+all+"\" \n}")
	app, c := w.app(platform.Production, "trade")
	rec := w.do(c.request(t, "GET", "/v1/orders/7", ""))
	require.Equal(t, strings.Join([]string{
		app.ID, app.Key, "test", "merchant", "production", "trade.order.get", "1.0", "127.0.0.1:7777", "", "", rec.Header().Get("X-Open-Request-Id"),
	}, "|"), rec.Body.String())
	require.Equal(t, "test", rec.Header().Get("X-App"))

	r := c.request(t, "GET", "/v1/orders/8", "")
	r.Header.Set("Signature", "op=:AAAA:")
	rec = w.do(r)
	require.Regexp(t, `^refused:\|\|\|\|production\|\|\|\|\|signature_invalid\|[0-9a-f]{26}$`, rec.Body.String(), "a claimed app is not told")
}

func TestMock(t *testing.T) {
	w := newWorld(t, "127.0.0.1:1", "route {\n @gated path /v1/*\n handle @gated {\n open_gate sandbox\n open_mock \n}\n open_mock\n respond ungated\n}")
	_, c := w.app(platform.Sandbox, "trade", "user")
	rec := w.do(c.request(t, "GET", "/v1/products", ""))
	require.Equal(t, http.StatusOK, rec.Code)
	require.Equal(t, "application/json", rec.Header().Get("Content-Type"))
	require.JSONEq(t, `{"items":[1]}`, rec.Body.String())
	require.NotEmpty(t, rec.Header().Get("X-Open-Request-Id"))
	rec = w.do(c.request(t, "HEAD", "/v1/products", ""))
	require.Equal(t, http.StatusOK, rec.Code)
	require.Empty(t, rec.Body.String())
	require.JSONEq(t, `{"id":"1"}`, w.do(c.request(t, "POST", "/v1/orders", "{}")).Body.String())
	rec = w.do(c.request(t, "GET", "/v1/aging", ""))
	require.Less(t, rec.Code, 300)
	refused(t, w.do(c.request(t, "GET", "/v1/nothing", "")), http.StatusNotFound, "api_unknown")
	r := httptest.NewRequest(http.MethodGet, "/free", nil)
	r.Host = "gate.test"
	require.Equal(t, "ungated", w.do(r).Body.String())
}

func TestDeprecatedAPI(t *testing.T) {
	w := newWorld(t, business(t), "open_gate production\n reverse_proxy UPSTREAM")
	_, c := w.app(platform.Production)
	rec := w.do(c.request(t, "GET", "/v1/aging", ""))
	require.Equal(t, http.StatusOK, rec.Code)
	require.Regexp(t, `^@\d+$`, rec.Header().Get("Deprecation"))
	require.Equal(t, "Thu, 01 Jan 2099 00:00:00 GMT", rec.Header().Get("Sunset"))
	rec = w.do(c.request(t, "GET", "/v1/products", ""))
	require.Empty(t, rec.Header().Get("Deprecation"))
	require.Empty(t, rec.Header().Get("Sunset"))
	_, err := w.service.SetAPIStatus(t.Context(), "test", "product.list", "", platform.Deprecated, time.Time{})
	require.NoError(t, err)
	require.NotEmpty(t, w.do(c.request(t, "GET", "/v1/products", "")).Header().Get("Deprecation"), "a change takes effect at once")
}

// TestStrippedPrefix: the signature covers the path on the wire, the API is
// found by the path as it goes on.
func TestStrippedPrefix(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, "handle_path /open/* {\n open_gate production\n reverse_proxy {http.open_platform.upstream} \n}")
	_, c := w.app(platform.Production, "trade")
	rec := w.do(c.request(t, "GET", "/open/v1/orders/a%2Fb?x=1", ""))
	require.Equal(t, http.StatusOK, rec.Code, rec.Body)
	s := one(t, got)
	require.Equal(t, "/v1/orders/a%2Fb?x=1", s.target)
	require.Equal(t, "trade.order.get", s.header.Get("X-Open-Api"))

	r := c.request(t, "GET", "/v1/orders/1", "")
	r.URL.Path, r.RequestURI = "/open/v1/orders/1", "/open/v1/orders/1"
	refused(t, w.do(r), http.StatusUnauthorized, "signature_invalid")
}

// TestSchemeAsSent: where a trusted proxy ends TLS, the scheme that was signed is
// https, and so is the default port that is left out of the authority.
func TestSchemeAsSent(t *testing.T) {
	for name, test := range map[string]struct{ trusted, forwarded, port string }{
		"no proxy":        {"", "", ":80"},
		"trusted proxy":   {"127.0.0.0/8", "https", ":443"},
		"its plain calls": {"127.0.0.0/8", "http", ":80"},
		"anybody":         {"192.0.2.1", "https", ":80"},
	} {
		t.Run(name, func(t *testing.T) {
			s := setup{upstream: business(t), site: "open_gate production\n reverse_proxy UPSTREAM"}
			if test.trusted != "" {
				s.options = "servers {\n trusted_proxies static " + test.trusted + "\n}"
			}
			w := s.run(t)
			_, c := w.app(platform.Production)
			for _, port := range []string{":80", ":443"} {
				r := c.request(t, "GET", "/v1/products", "")
				r.Host += port
				if test.forwarded != "" {
					r.Header.Set("X-Forwarded-Proto", test.forwarded)
				}
				require.Equal(t, port == test.port, w.do(r).Code == http.StatusOK, port)
			}
		})
	}
}
