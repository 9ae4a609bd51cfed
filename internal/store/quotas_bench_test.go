package store

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
)

// BenchmarkSaveQuotas saves the counts of 10,000 apps that go on calling.
func BenchmarkSaveQuotas(b *testing.B) {
	onBothEngines(b, func(b *testing.B, e engineTest) {
		b.Helper()
		s := e.empty(b)
		counts := make([]limit.QuotaCount, 10_000)
		for i := range counts {
			counts[i] = limit.QuotaCount{Key: limit.Key{Scope: limit.ScopeApp, App: uint64(i)}, Unit: limit.UnitDay, Start: 100}
		}
		for b.Loop() {
			for i := range counts {
				counts[i].Used++
			}
			require.NoError(b, s.SaveQuotas(b.Context(), counts))
		}
	})
}
