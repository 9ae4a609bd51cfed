package limit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Whatever is spent in whatever order, by whichever node, Redis answers as
// Memory does, to the nanosecond.
func TestRedisSpendsAsMemoryDoes(t *testing.T) {
	loc, err := time.LoadLocation("America/New_York")
	require.NoError(t, err)
	all := prefix()
	var nodes []*Redis
	for range 3 {
		r, _ := openRedis(t, server(t).URL(), RedisOptions{Prefix: all, Location: loc})
		r.injected = true
		nodes = append(nodes, r)
	}
	round := uint64(0)
	rapid.Check(t, func(t *rapid.T) {
		round++
		local := &Local{
			Limits: NewMemory(MemoryOptions{Location: loc}),
			Nonces: NewMemoryNonces(NonceOptions{}),
		}
		checks := drawChecks(t, rapid.IntRange(1, 8).Draw(t, "keys"), true)
		for i := range checks {
			checks[i].Key = Key{Scope: Scope(1 + i%3), App: round, Sub: uint64(i)}
		}
		now := time.Date(2026, 10, 30, 20, 0, 0, 0, loc)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "pause") {
			case 0:
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(30*time.Hour)).Draw(t, "hours")))
			case 1, 2, 3:
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "ns")))
			case 4:
				now = now.Add(-time.Duration(rapid.Int64Range(0, int64(3*time.Hour)).Draw(t, "back")))
			case 5:
				i := rapid.IntRange(0, len(checks)-1).Draw(t, "changed")
				checks[i].Rate = drawRate.Draw(t, "new rate")
			}
			s := Spend{App: round, Checks: drawSubset(t, checks)}
			if rapid.Bool().Draw(t, "has a nonce") {
				s.Nonce = fmt.Appendf(nil, "nonce %d", rapid.IntRange(0, 9).Draw(t, "nonce"))
				s.Expiry = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "life")))
			}
			if s.Nonce != nil {
				// The nonces' own clocks differ: Memory forgets by buckets of
				// its own. Their agreement is tested apart.
				s.Nonce = fmt.Appendf(s.Nonce, " at %d", now.UnixNano())
			}
			want, wantErr := local.Spend(context.Background(), now, &s)
			got, err := rapid.SampledFrom(nodes).Draw(t, "node").Spend(context.Background(), now, &s)
			if wantErr != nil {
				require.ErrorIs(t, err, ErrUsed)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, want, got, "%v %+v", now, s.Checks)
		}
	})
	for _, r := range nodes {
		require.True(t, r.Stats().Up)
		require.Zero(t, r.Stats().Fallback)
	}
}

// Among any number of calls on several nodes, a nonce is accepted once.
func TestRedisAcceptsANonceOnce(t *testing.T) {
	all := prefix()
	var nodes []*Redis
	for range 3 {
		r, _ := openRedis(t, server(t).URL(), RedisOptions{Prefix: all})
		nodes = append(nodes, r)
	}
	now := time.Now()
	for round := range 30 {
		var accepted, used atomic.Int64
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				// The same nonce may come with another expiry.
				s := Spend{App: 7, Nonce: fmt.Append(nil, round), Expiry: now.Add(time.Duration(i*5) * time.Minute)}
				_, err := nodes[i%3].Spend(context.Background(), now, &s)
				switch {
				case err == nil:
					accepted.Add(1)
				case errors.Is(err, ErrUsed):
					used.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, accepted.Load())
		require.EqualValues(t, 11, used.Load())
	}
}

// A nonce counts for its app alone, is spent by a refused call too, and is
// refused by the bound when it is new.
func TestRedisNonceRules(t *testing.T) {
	all := prefix()
	a, _ := openRedis(t, server(t).URL(), RedisOptions{Prefix: all, MaxNonces: 2})
	b, _ := openRedis(t, server(t).URL(), RedisOptions{Prefix: all, MaxNonces: 2})
	now := time.Now()
	in := now.Add
	one := Check{Key: app1, Rate: Rate{Requests: 1, Period: time.Hour}}

	res, err := spend(t, a, now, Spend{App: 1, Nonce: []byte("x"), Expiry: in(time.Minute), Checks: []Check{one}})
	require.NoError(t, err)
	require.True(t, res.Allowed)
	res, err = spend(t, a, now, Spend{App: 1, Nonce: []byte("y"), Expiry: in(time.Minute), Checks: []Check{one}})
	require.NoError(t, err)
	require.False(t, res.Allowed)
	_, err = spend(t, b, now, Spend{App: 1, Nonce: []byte("y"), Expiry: in(time.Minute), Checks: []Check{one}})
	require.ErrorIs(t, err, ErrUsed)

	_, err = spend(t, b, now, Spend{App: 1, Nonce: []byte("z"), Expiry: in(40 * time.Minute)})
	require.ErrorIs(t, err, ErrFull)
	other, _ := openRedis(t, server(t).URL(), RedisOptions{Prefix: all, MaxNonces: 2})
	_, err = spend(t, other, now, Spend{App: 1, Nonce: []byte("z"), Expiry: in(40 * time.Minute)})
	require.ErrorIs(t, err, ErrFull, "what was refused is not remembered")
	_, err = spend(t, other, now, Spend{App: 2, Nonce: []byte("y"), Expiry: in(40 * time.Minute)})
	require.NoError(t, err)

	_, err = spend(t, a, now, Spend{App: 3, Nonce: []byte("x"), Expiry: in(2 * time.Hour)})
	require.ErrorContains(t, err, "at most 1h0m0s")
	require.True(t, a.Stats().Up)
}

// Three nodes together allow no more than one limit.
func TestRedisLimitsHoldTogether(t *testing.T) {
	all := prefix()
	checks := []Check{
		{Key: app1, Rate: Rate{Requests: 100, Period: time.Hour}, Quota: Quota{Day: 1000}},
		{Key: Key{Scope: ScopeAppAPI, App: 1, Sub: 9}, Quota: Quota{Month: 80}},
	}
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		r, _ := openRedis(t, server(t).URL(), RedisOptions{Prefix: all})
		for range 8 {
			wg.Go(func() {
				for range 20 {
					res, err := spend(t, r, time.Now(), Spend{App: 1, Checks: checks})
					if err == nil && res.Allowed {
						allowed.Add(1)
					}
				}
			})
		}
	}
	wg.Wait()
	require.EqualValues(t, 80, allowed.Load())
}

// A window that the node's clock is not in: Redis's clock decides.
func TestRedisClockDecides(t *testing.T) {
	r, _ := openRedis(t, server(t).URL(), RedisOptions{})
	wrong := time.Now().Add(-72 * time.Hour)
	check := Check{Key: app1, Quota: Quota{Day: 2}}
	for range 2 {
		res, err := spend(t, r, wrong, Spend{App: 1, Checks: []Check{check}})
		require.NoError(t, err)
		require.True(t, res.Allowed)
	}
	res, err := spend(t, r, time.Now(), Spend{App: 1, Checks: []Check{check}})
	require.NoError(t, err)
	require.False(t, res.Allowed)
	require.LessOrEqual(t, res.RetryAfter, 24*time.Hour)
}

// A clock that is set back across midnight does not empty a quota.
func TestRedisClockSetBack(t *testing.T) {
	r, _ := openRedis(t, server(t).URL(), RedisOptions{})
	r.injected = true
	local := &Local{Limits: NewMemory(MemoryOptions{})}
	s := Spend{App: 1, Checks: []Check{{Key: app1, Quota: Quota{Day: 5, Month: 8}}}}
	midnight := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	for _, at := range []time.Duration{-time.Hour, time.Minute, time.Minute, -time.Minute, -time.Second, time.Second, -time.Hour, time.Hour} {
		want, err := spend(t, local, midnight.Add(at), s)
		require.NoError(t, err)
		got, err := spend(t, r, midnight.Add(at), s)
		require.NoError(t, err)
		require.Equal(t, want, got, at)
	}
}

func TestRedisKeysExpireAndShareASlot(t *testing.T) {
	p := prefix()
	r, _ := openRedis(t, server(t).URL(), RedisOptions{Prefix: p})
	now := time.Now()
	_, err := spend(t, r, now, Spend{App: 42, Nonce: []byte("n"), Expiry: now.Add(time.Minute), Checks: []Check{
		perSecond(Key{Scope: ScopeApp, App: 42}, 10),
		{Key: Key{Scope: ScopeAppAPI, App: 42, Sub: 0x9f}, Quota: Quota{Day: 5}},
		{Key: Key{Scope: ScopeAppUser, App: 42, Sub: 3}, Quota: Quota{Month: 5}},
	}})
	require.NoError(t, err)
	c := server(t).Client(t)
	keys, err := c.Keys(t.Context(), p+"{42}*").Result()
	require.NoError(t, err)
	require.Len(t, keys, 4)
	for _, key := range keys {
		ttl, err := c.PTTL(t.Context(), key).Result()
		require.NoError(t, err)
		require.Positive(t, ttl, key)
		require.LessOrEqual(t, ttl, 32*24*time.Hour, key)
	}
}
