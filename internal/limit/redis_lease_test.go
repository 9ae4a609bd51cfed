package limit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

var leasedAlone = RedisOptions{Accuracy: Leased, LocalNonces: true}

// openNodes opens ledgers that know of each other.
func openNodes(tb testing.TB, url string, n int, o RedisOptions) []*Redis {
	tb.Helper()
	o.Prefix = prefix()
	nodes := make([]*Redis, n)
	for i := range nodes {
		nodes[i], _ = openRedis(tb, url, o)
	}
	for _, r := range nodes {
		require.NoError(tb, r.beat(context.Background()))
		require.Equal(tb, n, r.Stats().Nodes)
	}
	return nodes
}

// abandon ends a ledger as kill -9 ends a node: nothing is given back.
func abandon(tb testing.TB, r *Redis) {
	tb.Helper()
	require.True(tb, r.halt())
	require.NoError(tb, r.drop())
}

func allows(tb testing.TB, l Ledger, checks ...Check) bool {
	tb.Helper()
	res, err := l.Spend(context.Background(), time.Now(), &Spend{App: checks[0].Key.App, Checks: checks})
	require.NoError(tb, err)
	if !res.Allowed {
		require.Positive(tb, res.RetryAfter)
	}
	return res.Allowed
}

// In any stretch of time, all nodes together allow no more than the burst, the
// rate and a slice each, a node that was killed included.
func TestLeasedRatesHoldTogether(t *testing.T) {
	nodes := openNodes(t, server(t).URL(), 4, leasedAlone)
	check := Check{Key: app1, Rate: Rate{Requests: 20_000, Period: time.Second, Burst: 2000}}
	var mu sync.Mutex
	type stamp struct{ before, after time.Duration }
	var stamps []stamp
	start := time.Now()
	burn := func(r *Redis, calls int) {
		var mine []stamp
		for range calls {
			before := time.Since(start)
			if allows(t, r, check) {
				mine = append(mine, stamp{before, time.Since(start)})
			}
		}
		mu.Lock()
		defer mu.Unlock()
		stamps = append(stamps, mine...)
	}
	burn(nodes[3], 40)
	abandon(t, nodes[3])
	var wg sync.WaitGroup
	for _, r := range nodes[:3] {
		for range 2 {
			wg.Go(func() { burn(r, 30_000) })
		}
	}
	wg.Wait()
	slice := check.bound(4)
	require.EqualValues(t, 50, slice)
	slices.SortFunc(stamps, func(a, b stamp) int { return cmp.Compare(a.before, b.before) })
	require.Greater(t, len(stamps), 2000, "the burst is there to be used")
	for i := 0; i < len(stamps); i += 97 {
		var end time.Duration // of all calls from i to j
		for j := i; j < len(stamps); j++ {
			end = max(end, stamps[j].after)
			bound := 2000 + int64(end-stamps[i].before)*20_000/int64(time.Second) + 4*slice
			if int64(j-i+1) > bound {
				require.LessOrEqual(t, int64(j-i+1), bound, "in %v", end-stamps[i].before)
			}
		}
	}
}

// A quota is never exceeded, and all of it can be used but what a killed node
// held.
func TestLeasedQuotasHoldTogether(t *testing.T) {
	nodes := openNodes(t, server(t).URL(), 3, leasedAlone)
	check := Check{Key: app1, Quota: Quota{Day: 3000, Month: 5000}}
	var allowed atomic.Int64
	for range 100 {
		if allows(t, nodes[2], check) {
			allowed.Add(1)
		}
	}
	abandon(t, nodes[2])
	var wg sync.WaitGroup
	for _, r := range nodes[:2] {
		for range 4 {
			wg.Go(func() {
				for range 1000 {
					if allows(t, r, check) {
						allowed.Add(1)
					}
				}
			})
		}
	}
	wg.Wait()
	// What one node still holds, the other may not have got.
	for _, r := range nodes[:2] {
		for allows(t, r, check) {
			allowed.Add(1)
		}
	}
	require.LessOrEqual(t, allowed.Load(), int64(3000))
	require.GreaterOrEqual(t, allowed.Load(), 3000-check.bound(3))
}

// What a node does not use comes back: when it closes, and when it is idle.
func TestLeasesAreGivenBack(t *testing.T) {
	for name, end := range map[string]func(*Redis){
		"closed": func(r *Redis) { require.NoError(t, r.Close()) },
		"idle":   func(r *Redis) { r.giveBack(t.Context(), r.leases.retire(time.Now().UnixNano())) },
	} {
		t.Run(name, func(t *testing.T) {
			nodes := openNodes(t, server(t).URL(), 2, leasedAlone)
			check := Check{Key: app1, Rate: Rate{Requests: 1000, Period: 300 * time.Hour}, Quota: Quota{Day: 1000, Month: 1000}}
			for range 10 {
				require.True(t, allows(t, nodes[0], check))
			}
			n := 10
			for allows(t, nodes[1], check) {
				n++
			}
			require.Less(t, n, 1000, "the first node holds some")
			end(nodes[0])
			require.Zero(t, nodes[0].Stats().Leased)
			l := nodes[1].leases.of(check.Key)
			l.mu.Lock()
			l.blocked = 0 // the refusal that it remembers
			l.mu.Unlock()
			for allows(t, nodes[1], check) {
				n++
			}
			require.Equal(t, 1000, n)
		})
	}
}

// Calls that are refused cost Redis next to nothing.
func TestLeasedRefusalsStayLocal(t *testing.T) {
	r := openNodes(t, server(t).URL(), 1, leasedAlone)[0]
	check := Check{Key: app1, Rate: Rate{Requests: 10, Period: time.Hour}}
	for range 10 {
		require.True(t, allows(t, r, check))
	}
	require.False(t, allows(t, r, check))
	before := r.Stats().Leases
	began := time.Now()
	for range 20_000 {
		require.False(t, allows(t, r, check))
	}
	require.LessOrEqual(t, r.Stats().Leases-before, 1+uint64(time.Since(began)/maxRefusal))
	require.Zero(t, r.Stats().Scripts)
}

// A call that one limit refuses costs the others nothing; and the nonce it
// came with is spent on every node.
func TestLeasedRefusalCostsNothing(t *testing.T) {
	for name, o := range map[string]RedisOptions{"exact": {}, "leased": {Accuracy: Leased}} {
		t.Run(name, func(t *testing.T) {
			nodes := openNodes(t, server(t).URL(), 2, o)
			mine := Check{Key: app1, Quota: Quota{Day: 20}}
			api := Check{Key: Key{Scope: ScopeAPI, Sub: 5}, Rate: Rate{Requests: 7, Period: time.Hour}}
			whole := Check{Key: Key{Scope: ScopePlatform}, Quota: Quota{Month: 100}}
			used := 0
			for range 50 {
				for _, r := range nodes {
					if allows(t, r, mine, api, whole) {
						used++
					}
				}
			}
			require.Equal(t, 7, used)
			now := time.Now()
			s := Spend{App: 1, Nonce: []byte("n"), Expiry: now.Add(time.Minute), Checks: []Check{mine, api}}
			res, err := spend(t, nodes[0], now, s)
			require.NoError(t, err)
			require.False(t, res.Allowed)
			require.Equal(t, ScopeAPI, res.Scope)
			_, err = spend(t, nodes[1], now, s)
			require.ErrorIs(t, err, ErrUsed)
			for range 2 {
				for _, r := range nodes {
					for allows(t, r, mine) {
						used++
					}
				}
			}
			require.Equal(t, 20, used)
		})
	}
}

// A limit that changes takes effect at once, and so does a new day.
func TestLeasedLimitChanges(t *testing.T) {
	r := openNodes(t, server(t).URL(), 1, leasedAlone)[0]
	check := Check{Key: app1, Quota: Quota{Day: 1000}}
	for range 50 {
		require.True(t, allows(t, r, check))
	}
	check.Quota.Day = 50
	require.Eventually(t, func() bool { return !allows(t, r, check) }, 10*time.Second, time.Millisecond)
	check.Quota.Day = 1000
	require.Eventually(t, func() bool { return allows(t, r, check) }, 10*time.Second, time.Millisecond)
	holds := func() bool {
		l := r.leases.of(check.Key)
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.tokens > 0 && l.fetch == nil
	}
	for !holds() {
		require.True(t, allows(t, r, check))
	}
	r.injected = true
	tomorrow := time.Now().Add(24 * time.Hour)
	res, err := spend(t, r, tomorrow, Spend{Checks: []Check{check}})
	require.NoError(t, err)
	require.True(t, res.Allowed)
	require.EqualValues(t, 999, res.Remaining)
}

// With leases and nonces of its own, a node calls without garbage.
func TestLeasedDoesNotAllocate(t *testing.T) {
	r := openNodes(t, server(t).URL(), 1, leasedAlone)[0]
	now := time.Now()
	s := &Spend{App: 1, Checks: []Check{
		{Key: app1, Quota: Quota{Day: 1 << 40}},
		{Key: Key{Scope: ScopeAPI, Sub: 1}, Quota: Quota{Day: 1 << 40}},
	}}
	call := func() {
		if res, err := r.Spend(context.Background(), now, s); err != nil || !res.Allowed {
			t.Error(res, err)
		}
	}
	for range 1000 {
		call()
	}
	for _, k := range []Key{app1, s.Checks[1].Key} {
		l := r.leases.of(k)
		l.mu.Lock()
		l.tokens, l.slice = 1<<30, 1 // enough for the measurement, so that none is fetched meanwhile
		l.mu.Unlock()
	}
	require.Zero(t, testing.AllocsPerRun(1000, call))
}

func TestLeasedOutages(t *testing.T) {
	s := testserver.NewRedis(t)
	o := leasedAlone
	o.Timeout = impatient
	r, changes := openRedis(t, s.URL(), o)
	g := startLoad(r)
	defer g.end(t)
	g.more(t)
	s.Pause()
	changes.down(t)
	g.more(t)
	s.Resume()
	changes.up(t)
	g.more(t)
	s.Kill()
	changes.down(t)
	g.more(t)
	require.NoError(t, s.Start())
	changes.up(t)
	g.more(t)
}

func TestLeasedCluster(t *testing.T) {
	masters := testserver.NewRedisCluster(t)
	nodes := openNodes(t, fmt.Sprintf("redis://%s?cluster=true", masters[1].Address()), 2, RedisOptions{Accuracy: Leased})
	for app := range uint64(20) {
		n := 0
		check := Check{Key: Key{Scope: ScopeApp, App: app}, Quota: Quota{Month: 30}}
		api := Check{Key: Key{Scope: ScopeAPI, Sub: app}, Quota: Quota{Month: 1000}}
		for _, r := range nodes {
			for allows(t, r, check, api) {
				n++
			}
		}
		require.LessOrEqual(t, n, 30)
		require.Positive(t, n)
	}
	for _, r := range nodes {
		require.True(t, r.Stats().Up)
	}
}
