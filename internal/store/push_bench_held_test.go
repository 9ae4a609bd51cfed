package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// BenchmarkHeldTransaction drains while a transaction is open that began before:
// nothing that a delivery leaves in the indexes can be removed. The last tenth
// must not be slower than the first.
func BenchmarkHeldTransaction(b *testing.B) {
	for _, ordered := range []bool{false, true} {
		b.Run(fmt.Sprintf("ordered=%v", ordered), func(b *testing.B) {
			p := newPushBench(b, engines[1], 1)
			p.keys = map[bool]int{true: 5000}[ordered]
			const part = 5120
			p.fill(b, 10*part*b.N)
			old, err := p.pool.Begin(b.Context())
			require.NoError(b, err)
			_, err = old.Exec(b.Context(), `SET LOCAL idle_in_transaction_session_timeout = 0; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM push_queue LIMIT 1`)
			require.NoError(b, err)
			b.ResetTimer()
			for i := range 10 {
				before := p.serverCPU(b)
				claims, completes := p.drain(b, part*b.N, 256)
				per := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(part*b.N) }
				b.Logf("part %d: claim %.1f µs, complete %.1f µs, server's processor %.1f µs a delivery", i, per(claims), per(completes), per(p.serverCPU(b)-before))
			}
			require.NoError(b, old.Rollback(b.Context()))
		})
	}
}

// BenchmarkManyEndpoints claims from 10,000 endpoints at once, of which each has
// something, and from one with very much.
func BenchmarkManyEndpoints(b *testing.B) {
	p := newPushBench(b, engines[1], 10_000)
	p.fill(b, 20_000)
	claim := pusher.Claim{Node: "bench", Lease: time.Minute}
	for _, sub := range p.subs {
		claim.Endpoints = append(claim.Endpoints, pusher.Endpoint{Subscription: sub, Room: 1, Concurrency: 1})
	}
	b.ResetTimer()
	for range b.N {
		r, err := p.Claim(b.Context(), claim)
		require.NoError(b, err)
		b.Logf("%d deliveries, %d with more, after %v", len(r.Work), len(r.More), b.Elapsed())
	}
}
