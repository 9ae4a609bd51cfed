package handlers

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/caddy-openplatform/openplatform/internal/gate"
)

// TestRefusalLogIsThinnedOut: of each code the first hundred of a second are told,
// and then each hundredth; of outages one in ten seconds.
func TestRefusalLogIsThinnedOut(t *testing.T) {
	l, now := newRefusalLog(zap.NewNop()), time.Unix(1_900_000_000, 0)
	told := func(code *gate.Code, calls int) (n int) {
		for range calls {
			if l.tells(code, now) {
				n++
			}
		}
		return n
	}
	require.Equal(t, 100, told(gate.IPDenied, 199))
	require.Equal(t, 1, told(gate.IPDenied, 1))
	require.Equal(t, 100, told(gate.RateLimited, 100), "another code")
	require.Equal(t, 1, told(gate.StoreUnavailable, 1000))
	now = now.Add(999 * time.Millisecond)
	require.Equal(t, 3, told(gate.IPDenied, 300))
	now = now.Add(time.Millisecond)
	require.Equal(t, 100, told(gate.IPDenied, 100))
	require.Zero(t, told(gate.StoreUnavailable, 1000))
	now = now.Add(9 * time.Second)
	require.Equal(t, 1, told(gate.StoreUnavailable, 1000))
}
