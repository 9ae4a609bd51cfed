package handlers_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// BenchmarkGate is the cost of the whole gate on the server's side, without
// network and upstream: what is above "plain" is the gate. A call with a bad
// signature must cost less than a good one does with its upstream.
func BenchmarkGate(b *testing.B) {
	const batch = 100
	const answer = "\n respond OK"
	cases := []struct {
		name, site string
		status     int
		spoil      func(*http.Request)
	}{
		{"plain", answer, http.StatusOK, func(*http.Request) {}},
		{"good", "open_gate production" + answer, http.StatusOK, func(*http.Request) {}},
		{"bad_signature", "open_gate production" + answer, http.StatusUnauthorized, func(r *http.Request) { r.Method = http.MethodPut }},
		{"unsigned", "open_gate production" + answer, http.StatusUnauthorized, func(r *http.Request) {
			r.Header.Del("Signature-Input")
			r.Header.Del("Signature")
		}},
	}
	for _, tc := range cases {
		b.Run(tc.name, func(b *testing.B) {
			w := newWorld(b, "127.0.0.1:1", tc.site)
			app, c := w.app(platform.Production, "trade")
			_, err := w.service.AddIP(b.Context(), "test", app.ID, "127.0.0.0/8", "")
			require.NoError(b, err)
			_, err = w.service.PutPlan(b.Context(), "test", platform.Plan{
				Name: platform.DefaultPlan,
				App:  platform.Limits{Rate: limit.Rate{Requests: 10_000_000, Period: 1e9}, Quota: limit.Quota{Day: 1_000_000_000}},
			})
			require.NoError(b, err)
			var code int
			b.ReportAllocs()
			b.ResetTimer()
			// In batches, since nobody serves requests from a cold memory.
			for left := b.N; left > 0; left -= batch {
				b.StopTimer()
				requests := make([]*http.Request, min(left, batch))
				recorders := make([]httptest.ResponseRecorder, len(requests))
				for i := range requests {
					requests[i] = c.request(b, http.MethodGet, "/v1/orders/42?fields=all", "")
					tc.spoil(requests[i])
					recorders[i].HeaderMap = make(http.Header, 16) //nolint:staticcheck // saves the recorder's own allocations
				}
				b.StartTimer()
				for i := range requests {
					w.server.ServeHTTP(&recorders[i], requests[i])
				}
				code = recorders[0].Code
			}
			b.StopTimer()
			require.Equal(b, tc.status, code)
		})
	}
}
