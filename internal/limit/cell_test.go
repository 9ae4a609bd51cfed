package limit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestCell: as much is free as a Memory allows one by one, what is given back
// included, and the first one after the wait.
func TestCell(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, check := NewMemory(MemoryOptions{Shards: 1}), Check{Key: Key{Scope: ScopeApp}, Rate: drawRate.Draw(t, "rate")}
		allowed := func(now time.Time) bool {
			r, err := m.Take(t.Context(), now, []Check{check})
			require.NoError(t, err)
			return r.Allowed
		}
		var c Cell
		now := time.Unix(1_800_000_000, 0)
		for range rapid.IntRange(1, 20).Draw(t, "claims") {
			free, wait := c.Free(check.Rate, now)
			require.Equal(t, free == 0, wait > 0)
			if free == 0 {
				require.False(t, allowed(now.Add(wait-1)))
				now = now.Add(wait)
				free, _ = c.Free(check.Rate, now)
				require.EqualValues(t, 1, free)
			}
			used := rapid.Int64Range(0, free).Draw(t, "used")
			c.Charge(check.Rate, free, now)
			c.Charge(check.Rate, used-free, now)
			for range used {
				require.True(t, allowed(now))
			}
			if used == free {
				require.False(t, allowed(now))
			}
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(2*check.Rate.Period)).Draw(t, "later")))
		}
	})
}

// TestCellOfAnotherRate: what a slower rate was used for does not hold up a faster one.
func TestCellOfAnotherRate(t *testing.T) {
	var c Cell
	now := time.Unix(1_800_000_000, 0)
	c.Charge(Rate{Requests: 1, Period: time.Hour, Burst: 8}, 8, now)
	fast := Rate{Requests: 100, Period: time.Second}
	n, wait := c.Free(fast, now)
	require.Zero(t, n)
	require.Equal(t, 10*time.Millisecond, wait)
	n, _ = c.Free(fast, now.Add(time.Second))
	require.EqualValues(t, 100, n)
}
