package handlers_test

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// TestGateAllocations guards how many allocations a call may cost more than
// through the same reverse_proxy without the gate, with every stage at work:
// whitelist, signature, nonce, package, and a plan that limits rate and quota.
func TestGateAllocations(t *testing.T) {
	address := cannedUpstream(t)
	for _, tc := range []struct {
		name, method, target, body string
		token                      bool
		most                       int
	}{
		{"GET", "GET", "/v1/orders/42?fields=all", "", false, 7},
		{"POST", "POST", "/v1/orders", `{"sku":"A-1","quantity":2}`, false, 5},
		{"GET for a merchant", "GET", "/v1/merchants/42?fields=all", "", true, 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const runs = 1000
			measure := func(site string) float64 {
				w := newWorld(t, address, site)
				app, c := w.app(platform.Production, "trade", "user")
				var header []string
				if tc.token {
					_, token := w.token(app, "")
					header = []string{"Authorization", "Bearer " + token}
				}
				_, err := w.service.AddIP(t.Context(), "test", app.ID, "127.0.0.0/8", "")
				require.NoError(t, err)
				_, err = w.service.PutPlan(t.Context(), "test", platform.Plan{
					Name: platform.DefaultPlan,
					App:  platform.Limits{Rate: limit.Rate{Requests: 1_000_000, Period: 1e9}, Quota: limit.Quota{Day: 1_000_000_000}},
				})
				require.NoError(t, err)
				requests := make([]*http.Request, runs+10)
				for i := range requests {
					requests[i] = c.request(t, tc.method, tc.target, tc.body, header...)
				}
				recorders := make([]httptest.ResponseRecorder, len(requests))
				i := 0
				allocs := testing.AllocsPerRun(runs, func() {
					recorders[i].HeaderMap = make(http.Header, 16) //nolint:staticcheck // saves the recorder's own allocations
					w.server.ServeHTTP(&recorders[i], requests[i])
					i++
				})
				require.Equal(t, http.StatusOK, recorders[0].Code)
				require.Equal(t, http.StatusOK, recorders[i-1].Code)
				return allocs
			}
			proxy := " reverse_proxy UPSTREAM { \n transport http { \n compression off \n } \n }"
			plain := measure(proxy)
			gated := measure("open_gate production \n" + proxy)
			t.Logf("plain %.1f, gated %.1f: gate extra allocations: %.1f", plain, gated, gated-plain)
			require.LessOrEqual(t, gated-plain, float64(tc.most+raceAllocs))
		})
	}
}

// cannedUpstream answers every request alike and allocates nothing for it, so
// that what is measured is the gateway alone.
func cannedUpstream(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}")
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					// A body may come in a write of its own; only a head is answered.
					if !bytes.Contains(buf[:n], []byte(" HTTP/1.1\r\n")) {
						continue
					}
					if _, err := conn.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}
