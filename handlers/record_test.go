package handlers_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// counted reads the counters of calls: "production allowed" -> 2.
func (w *world) counted() map[string]string {
	w.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Host = "gate.test"
	counts := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^caddy_open_platform_(?:calls|refusals)_total\{\w+="(.*?)",\w+="(.*?)"\} (\d+)$`).
		FindAllStringSubmatch(w.do(r).Body.String(), -1) {
		if m[3] != "0" {
			counts[strings.TrimSpace(m[1]+" "+m[2])] = m[3]
		}
	}
	return counts
}

// TestEveryCallIsRecordedOnce: whether it passes, is refused by the gate or
// behind it, or breaks off.
func TestEveryCallIsRecordedOnce(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Cut") != "" {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("half"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(server.Close)
	w := newWorld(t, strings.TrimPrefix(server.URL, "http://"), `route {
		metrics /metrics
		open_gate production
		@dead header X-Route dead
		reverse_proxy @dead 127.0.0.1:1
		@own header X-Route own
		error @own 418
		reverse_proxy UPSTREAM
	}`)
	_, c := w.app(platform.Production)
	for range 3 {
		require.Equal(t, http.StatusOK, w.do(c.request(t, "GET", "/v1/products", "")).Code)
	}
	refused(t, w.do(c.request(t, "GET", "/v1/nothing", "")), http.StatusNotFound, "api_unknown")
	refused(t, w.do(c.request(t, "GET", "/v1/products", "", "X-Route", "dead")), http.StatusBadGateway, "upstream_unavailable")
	r := httptest.NewRequest(http.MethodGet, "/v1/products", nil)
	r.Host = "gate.test"
	refused(t, w.do(r), http.StatusUnauthorized, "signature_missing")
	want := map[string]string{
		"production allowed": "3", "production refused": "3",
		"api_unknown scope": "1", "upstream_unavailable upstream": "1", "signature_missing signature": "1",
	}
	require.Equal(t, want, w.counted())

	require.Equal(t, http.StatusTeapot, w.do(c.request(t, "GET", "/v1/products", "", "X-Route", "own")).Code)
	want["production allowed"] = "4"
	require.Equal(t, want, w.counted(), "an operator's own error is no refusal")

	require.PanicsWithValue(t, http.ErrAbortHandler, func() { w.do(c.request(t, "GET", "/v1/products", "", "X-Cut", "yes")) })
	want["production allowed"] = "5"
	require.Equal(t, want, w.counted(), "a call that breaks off is recorded too")
}
