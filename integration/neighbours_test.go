package integration

import (
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// neighboursSites has one site for each neighbour of the gate.
const neighboursSites = `
http://127.0.0.1:%forward_auth% {
	open_gate sandbox
	forward_auth 127.0.0.1:%passport% {
		uri /check
		copy_headers X-Passport
	}
	reverse_proxy {http.open_platform.upstream}
}
http://127.0.0.1:%basic_auth% {
	open_gate sandbox
	basic_auth {
		operator $2a$04$0zhB8xd7wdQJuQzuOVsev.zEOI52Un18.BI3LtG6sUFREb9EhXOUi
	}
	reverse_proxy {http.open_platform.upstream}
}
http://127.0.0.1:%custom% {
	open_gate sandbox
	reverse_proxy {http.open_platform.upstream}
	handle_errors {
		respond "own page: {err.status_code} {http.open_platform.error} {http.open_platform.stage}" {err.status_code}
	}
}
http://127.0.0.1:%problem% {
	open_gate sandbox
	error /v1/gold 409
	reverse_proxy {http.open_platform.upstream}
	handle_errors {
		open_problem
	}
}
http://127.0.0.1:%small% {
	request_body {
		max_size 100B
	}
	open_gate sandbox
	reverse_proxy {http.open_platform.upstream}
}
http://127.0.0.1:%encode% {
	encode gzip
	open_gate sandbox
	reverse_proxy {http.open_platform.upstream}
}
http://127.0.0.1:%tracing% {
	tracing {
		span open-platform
	}
	open_gate sandbox
	reverse_proxy {http.open_platform.upstream}
}
http://127.0.0.1:%rewritten% {
	rewrite * /v1{uri}
	open_gate sandbox
	reverse_proxy {http.open_platform.upstream}
}
http://127.0.0.1:%distrusting% {
	open_gate sandbox
	reverse_proxy {http.open_platform.upstream}
}
http://127.0.0.1:%trusting% {
	open_gate sandbox
	reverse_proxy {http.open_platform.upstream}
}
http://127.0.0.1:%office% {
	open_gate {
		environment sandbox
		ip_groups office
	}
	reverse_proxy {http.open_platform.upstream}
}
`

// TestNeighbours runs the gate next to other handlers of Caddy.
func TestNeighbours(t *testing.T) {
	n := newNode(t)
	n.openShop()
	n.env = []string{"OTEL_TRACES_EXPORTER=none"}
	passport := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Signature") != "" || r.Header.Get("X-Open-App-Id") == "" || r.Header.Get("X-Badge") != "good" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.Header().Set("X-Passport", "seen")
	}))
	defer passport.Close()
	_, n.words["passport"], _ = net.SplitHostPort(passport.Listener.Addr().String())
	n.write("shop.openapi.yaml", n.fill(shopCatalog))
	sites := neighboursSites
	six, err := net.Listen("tcp", "[::1]:0")
	if err == nil {
		_, n.words["six"], _ = net.SplitHostPort(six.Addr().String())
		_ = six.Close()
		sites += "http://[::1]:%six% {\n\tbind ::1\n\topen_gate sandbox\n\treverse_proxy {http.open_platform.upstream}\n}\n"
	}
	n.configure(globals(`
	servers 127.0.0.1:%trusting% {
		trusted_proxies static 127.0.0.1/32
	}`) + sites)
	n.run()
	client, a := n.plain(), n.newApp("--package", "trade")
	url := func(site string) string { return n.fill("http://127.0.0.1:%" + site + "%") }

	t.Run("forward_auth", func(t *testing.T) {
		e := send(t, client, a.sign(t, call{url: url("forward_auth") + "/v1/echo", header: http.Header{"X-Badge": {"good"}}})).echoed(t)
		require.Equal(t, []string{"seen"}, e.Header["X-Passport"])
		identified(t, e, a)
		got := send(t, client, a.sign(t, call{url: url("forward_auth") + "/v1/echo"}))
		require.Equal(t, http.StatusTeapot, got.StatusCode)
	})

	t.Run("basic_auth", func(t *testing.T) {
		with := a.sign(t, call{url: url("basic_auth") + "/v1/echo", header: http.Header{"Authorization": {"Basic b3BlcmF0b3I6b3Blbg=="}}})
		send(t, client, with).passed(t)
		got := send(t, client, a.sign(t, call{url: url("basic_auth") + "/v1/echo"}))
		require.Equal(t, http.StatusUnauthorized, got.StatusCode)
		require.Contains(t, got.Header.Get("WWW-Authenticate"), "Basic")
		unsigned, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url("basic_auth")+"/v1/echo", nil)
		require.NoError(t, err)
		unsigned.SetBasicAuth("operator", "open")
		send(t, client, unsigned).refused(t, http.StatusUnauthorized, "signature_missing")
	})

	t.Run("handle_errors of the operator's own", func(t *testing.T) {
		got := send(t, client, a.sign(t, call{url: url("custom") + "/v1/nothing"}))
		require.Equal(t, http.StatusNotFound, got.StatusCode)
		require.Equal(t, "own page: 404 api_unknown scope", string(got.body))
		require.NotEmpty(t, got.Header.Get("X-Open-Request-Id"))
		got = send(t, client, a.sign(t, call{url: url("custom") + "/v1/dead"}))
		require.Equal(t, "own page: 502 upstream_unavailable upstream", string(got.body))
	})

	t.Run("handle_errors with open_problem", func(t *testing.T) {
		send(t, client, a.sign(t, call{url: url("problem") + "/v1/nothing"})).refused(t, http.StatusNotFound, "api_unknown")
		send(t, client, a.sign(t, call{url: url("problem") + "/v1/dead"})).refused(t, http.StatusBadGateway, "upstream_unavailable")
		// A failure that is none of ours gets the same form.
		got := send(t, client, a.sign(t, call{url: url("problem") + "/v1/gold"}))
		require.Equal(t, "http_409", got.code())
		require.Equal(t, "about:blank", got.problem(t).Type)
	})

	t.Run("request_body", func(t *testing.T) {
		send(t, client, a.sign(t, call{url: url("small") + "/v1/echo", body: []byte(strings.Repeat("x", 100))})).passed(t)
		large := call{url: url("small") + "/v1/echo", body: []byte(strings.Repeat("x", 200))}
		unknown := a.sign(t, large)
		unknown.ContentLength = -1
		send(t, client, unknown).refused(t, http.StatusRequestEntityTooLarge, "body_too_large")
		got := send(t, client, a.sign(t, large))
		require.Equal(t, http.StatusRequestEntityTooLarge, got.StatusCode, "%s", got.body)
	})

	t.Run("encode", func(t *testing.T) {
		header := http.Header{"Accept-Encoding": {"gzip"}, "X-Padding": {strings.Repeat("x", 2000)}}
		got := send(t, client, a.sign(t, call{url: url("encode") + "/v1/echo", header: header})).passed(t)
		require.Equal(t, "gzip", got.Header.Get("Content-Encoding"))
		unzipped, err := gzip.NewReader(strings.NewReader(string(got.body)))
		require.NoError(t, err)
		got.body, err = io.ReadAll(unzipped)
		require.NoError(t, err)
		identified(t, got.echoed(t), a)
	})

	t.Run("tracing", func(t *testing.T) {
		identified(t, send(t, client, a.sign(t, call{url: url("tracing") + "/v1/echo"})).echoed(t), a)
	})

	t.Run("rewrite", func(t *testing.T) {
		e := send(t, client, a.sign(t, call{url: url("rewritten") + "/items/1?x=%2F"})).echoed(t)
		require.Equal(t, "/v1/items/1?x=%2F", e.URI, "signed is what the client sent, matched and forwarded what it became")
	})

	t.Run("trusted_proxies", func(t *testing.T) {
		far := n.newApp("--ip", "203.0.113.7")
		for _, c := range []struct{ site, forwarded, code string }{
			{"distrusting", "", "ip_denied"},
			{"distrusting", "203.0.113.7", "ip_denied"},
			{"trusting", "", "ip_denied"},
			{"trusting", "203.0.113.7", ""},
			{"trusting", "203.0.113.8", "ip_denied"},
		} {
			header := http.Header{}
			if c.forwarded != "" {
				header = http.Header{"X-Forwarded-For": {c.forwarded}, "X-Real-Ip": {c.forwarded}, "Forwarded": {"for=" + c.forwarded}}
			}
			got := send(t, client, far.sign(t, call{url: url(c.site) + "/v1/echo", header: header}))
			require.Equal(t, c.code, got.code(), "%+v: %s", c, got.body)
		}
	})

	t.Run("whitelists", func(t *testing.T) {
		own := n.newApp()
		echo := func() answer { return send(t, client, own.sign(t, call{url: url("custom") + "/v1/echo"})) }
		echo().passed(t)
		n.cli("app", "ip", "add", own.Key, "10.0.0.0/8")
		require.Contains(t, string(echo().body), "ip_denied")
		n.cli("app", "ip", "add", own.Key, "127.0.0.1")
		echo().passed(t)
		n.cli("app", "ip", "remove", own.Key, "127.0.0.1")
		require.Contains(t, string(echo().body), "ip_denied")
		n.cli("ip-group", "put", "loop", "127.0.0.0/8")
		n.cli("app", "ip", "add", own.Key, "@loop")
		echo().passed(t)
		if n.words["six"] != "" {
			six := func() answer {
				return send(t, client, own.sign(t, call{url: n.fill("http://[::1]:%six%/v1/echo")}))
			}
			six().refused(t, http.StatusForbidden, "ip_denied")
			n.cli("app", "ip", "add", own.Key, "::1")
			six().passed(t)
		}
	})

	t.Run("address groups of a route", func(t *testing.T) {
		echo := func() answer { return send(t, client, a.sign(t, call{url: url("office") + "/v1/echo"})) }
		echo().refused(t, http.StatusForbidden, "ip_denied")
		n.cli("ip-group", "put", "office", "127.0.0.1")
		echo().passed(t)
		n.cli("ip-group", "put", "office", "203.0.113.0/24")
		echo().refused(t, http.StatusForbidden, "ip_denied")
	})
}
