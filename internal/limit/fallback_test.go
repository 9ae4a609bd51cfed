package limit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestShareKnownAnswers(t *testing.T) {
	for want, c := range map[Check]struct {
		check Check
		n     int64
	}{
		{Rate: Rate{Requests: 100, Period: 4 * time.Second, Burst: 25}}:                {Check{Rate: Rate{Requests: 100, Period: time.Second}}, 4},
		{Rate: Rate{Requests: 1, Period: 3 * time.Second, Burst: 1}}:                   {Check{Rate: Rate{Requests: 1, Period: time.Second}}, 3},
		{Rate: Rate{Requests: 5, Period: 300 * 24 * time.Hour, Burst: 2}}:              {Check{Rate: Rate{Requests: 10, Period: 300 * 24 * time.Hour, Burst: 4}}, 2},
		{Quota: Quota{Day: 4, Month: 34}}:                                              {Check{Quota: Quota{Day: 10, Month: 100}}, 3},
		{Quota: Quota{Month: 1}}:                                                       {Check{Quota: Quota{Month: 1}}, 9},
		{Rate: Rate{Requests: 7, Period: time.Second, Burst: 2}, Quota: Quota{Day: 3}}: {Check{Rate: Rate{Requests: 7, Period: time.Second, Burst: 2}, Quota: Quota{Day: 3}}, 1},
	} {
		require.Equal(t, want, c.check.share(c.n))
	}
}

// All shares together allow no more than the limit, but where that would leave
// a node with nothing; and each is a limit that can be enforced.
func TestSharesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rate{
			Requests: rapid.Int64Range(1, 1_000_000).Draw(t, "requests"),
			Period:   time.Duration(rapid.Int64Range(1_000_000, int64(24*time.Hour)).Draw(t, "period")),
			Burst:    rapid.Int64Range(0, 1000).Draw(t, "burst"),
		}
		require.NoError(t, r.Validate())
		n := rapid.Int64Range(1, 1000).Draw(t, "nodes")
		part := r.share(n)
		require.NoError(t, part.Validate())
		require.LessOrEqual(t, part.capacity()*n, max(r.capacity(), n))
		if r.Period <= maxPeriod/time.Duration(n) {
			require.GreaterOrEqual(t, part.step(), (r.step()-1)*n)
		}
	})
}

// Every key of an app has its tag, and no two counters share a key.
func TestKeys(t *testing.T) {
	seen := map[string]Key{}
	rapid.Check(t, func(t *rapid.T) {
		k := Key{
			Scope: Scope(rapid.IntRange(1, 5).Draw(t, "scope")),
			App:   rapid.Uint64Range(0, 20).Draw(t, "app"),
			Sub:   rapid.Uint64Range(0, 20).Draw(t, "sub"),
		}
		key := string(appendKey(nil, "op:", k))
		if other, ok := seen[key]; ok {
			require.Equal(t, other, k)
		}
		seen[key] = k
	})
	require.Equal(t, "op:{42}:1", string(appendKey(nil, "op:", Key{Scope: ScopeApp, App: 42})))
	require.Equal(t, "op:{42}:2:9f", string(appendKey(nil, "op:", Key{Scope: ScopeAppAPI, App: 42, Sub: 0x9f})))
	require.Equal(t, "op:{4:9f}", string(appendKey(nil, "op:", Key{Scope: ScopeAPI, Sub: 0x9f})))
	require.Equal(t, "op:{5}", string(appendKey(nil, "op:", Key{Scope: ScopePlatform})))
	require.Equal(t, "op:{42}:n:1789200", string(appendNonceKey(nil, "op:", 42, 1789200)))
}

// Whatever the expiries of two uses of one nonce, the later one searches the
// bucket of the earlier.
func TestLiveBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(1e9, 1e9+10_000).Draw(t, "now"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
		life := func(label string) time.Duration {
			return time.Duration(rapid.Int64Range(0, longestLife*1e9).Draw(t, label))
		}
		expiry := at.Add(life("first"))
		first, err := liveBuckets(at, expiry)
		require.NoError(t, err)
		later := at.Add(time.Duration(rapid.Int64Range(0, int64(expiry.Sub(at))).Draw(t, "later")))
		second, err := liveBuckets(later, later.Add(life("second")))
		require.NoError(t, err)
		require.Contains(t, second.ends[:second.n], first.ends[0])
		require.GreaterOrEqual(t, first.ends[0], expiry.Unix())
	})
}
