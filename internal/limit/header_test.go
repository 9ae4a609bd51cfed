package limit

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRateLimitFields(t *testing.T) {
	for name, tc := range map[string]struct {
		in                        Result
		limit, policy, policyName string
	}{
		"rate": {
			in:    Result{Allowed: true, Scope: ScopeApp, Limit: 100, Window: time.Minute, Remaining: 99, Reset: 12 * time.Second},
			limit: `"app";r=99;t=12`, policy: `"app";q=100;w=60`, policyName: "app",
		},
		"times are rounded up": {
			in:    Result{Allowed: true, Scope: ScopeAppAPI, Limit: 3, Window: 1500 * time.Millisecond, Reset: 1},
			limit: `"app-api";r=0;t=1`, policy: `"app-api";q=3;w=2`, policyName: "app-api",
		},
		"refused: t does not end after Retry-After": {
			in: Result{
				Scope: ScopeAPI, Limit: 60, Window: time.Minute, Reset: time.Minute, RetryAfter: 1001 * time.Millisecond,
			},
			limit: `"api";r=0;t=2`, policy: `"api";q=60;w=60`, policyName: "api",
		},
		"daily quota": {
			in: Result{
				Quota: true, Unit: UnitDay, Scope: ScopeApp, Limit: 1000,
				Window: 24 * time.Hour, Reset: time.Hour, RetryAfter: time.Hour,
			},
			limit: `"app-day";r=0;t=3600`, policy: `"app-day";q=1000;w=86400`, policyName: "app-day",
		},
		"monthly quota": {
			in: Result{
				Allowed: true, Quota: true, Unit: UnitMonth, Scope: ScopePlatform, Limit: 5,
				Window: 31 * 24 * time.Hour, Remaining: 4, Reset: time.Hour,
			},
			limit: `"platform-month";r=4;t=3600`, policy: `"platform-month";q=5;w=2678400`, policyName: "platform-month",
		},
		"a burst shows no more than q": {
			in:    Result{Allowed: true, Scope: ScopeAppUser, Limit: 10, Window: time.Second, Remaining: 49, Reset: time.Second},
			limit: `"app-user";r=10;t=1`, policy: `"app-user";q=10;w=1`, policyName: "app-user",
		},
		"integers have 15 digits": {
			in: Result{
				Allowed: true, Scope: ScopeApp, Limit: math.MaxInt64, Window: 1, Remaining: math.MaxInt64 - 1, Reset: math.MaxInt64,
			},
			limit: `"app";r=999999999999999;t=9223372037`, policy: `"app";q=999999999999999;w=1`, policyName: "app",
		},
		"no limit": {in: Result{Allowed: true}, policyName: "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, "x"+tc.limit, string(AppendRateLimit([]byte("x"), tc.in)))
			require.Equal(t, "x"+tc.policy, string(AppendRateLimitPolicy([]byte("x"), tc.in)))
			require.Equal(t, tc.policyName, tc.in.Policy())
		})
	}
}

func TestHashIsStable(t *testing.T) {
	// The value of XXH64 with seed 0: other nodes and Redis keys depend on it.
	require.Equal(t, uint64(0xef46db3751d8e999), Hash(""))
	require.Equal(t, uint64(0xd24ec4f1a98c6e5b), Hash("a"))
}
