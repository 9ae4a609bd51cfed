package limit

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var drawRate = rapid.Custom(func(t *rapid.T) Rate {
	return Rate{
		Requests: rapid.Int64Range(1, 50).Draw(t, "requests"),
		Period:   time.Duration(rapid.Int64Range(1000, int64(3*time.Second)).Draw(t, "period")),
		Burst:    rapid.Int64Range(0, 20).Draw(t, "burst"),
	}
})

// drawChecks gives n keys a limit each, spread over all scopes.
func drawChecks(t *rapid.T, n int, quotas bool) []Check {
	checks := make([]Check, n)
	for i := range checks {
		checks[i].Key = Key{Scope: Scope(1 + i%5), App: uint64(i / 5), Sub: uint64(i)}
		if !quotas || rapid.Bool().Draw(t, "has a rate") {
			checks[i].Rate = drawRate.Draw(t, "rate")
		}
		if quotas && rapid.Bool().Draw(t, "has a quota") {
			checks[i].Quota = Quota{
				Day:   rapid.Int64Range(0, 10).Draw(t, "day"),
				Month: rapid.Int64Range(0, 30).Draw(t, "month"),
			}
		}
	}
	return checks
}

func drawSubset(t *rapid.T, checks []Check) []Check {
	var some []Check
	for _, c := range rapid.Permutation(checks).Draw(t, "order") {
		if rapid.Bool().Draw(t, "applies") {
			some = append(some, c)
		}
	}
	return some
}

// The reference: a leaky bucket that is drained as time passes, and counts by
// calendar date, written the naive way.
type reference struct {
	debt map[Key]time.Duration
	last map[Key]time.Time
	used map[string]int64
}

func (r *reference) take(now time.Time, checks []Check) bool {
	allowed := true
	for _, c := range checks {
		if c.Rate.Requests > 0 {
			r.debt[c.Key] = max(0, r.debt[c.Key]-now.Sub(r.last[c.Key]))
			r.last[c.Key] = now
			burst := c.Rate.Burst
			if burst == 0 {
				burst = c.Rate.Requests
			}
			if r.debt[c.Key]+r.cost(c) > r.cost(c)*time.Duration(burst) {
				allowed = false
			}
		}
		day, month := r.dates(now, c)
		if c.Quota.Day > 0 && r.used[day] >= c.Quota.Day || c.Quota.Month > 0 && r.used[month] >= c.Quota.Month {
			allowed = false
		}
	}
	return allowed
}

func (r *reference) charge(now time.Time, checks []Check) {
	for _, c := range checks {
		if c.Rate.Requests > 0 {
			r.debt[c.Key] += r.cost(c)
		}
		day, month := r.dates(now, c)
		r.used[day]++
		r.used[month]++
	}
}

func (r *reference) cost(c Check) time.Duration {
	each := c.Rate.Period / time.Duration(c.Rate.Requests)
	if each*time.Duration(c.Rate.Requests) < c.Rate.Period {
		each++
	}
	return each
}

func (r *reference) dates(now time.Time, c Check) (day, month string) {
	return fmt.Sprint(c.Key, now.Format("2006-01-02")), fmt.Sprint(c.Key, now.Format("2006-01"))
}

// In sequence, every decision is that of the reference, whenever Sweep runs,
// and RetryAfter is exact to the nanosecond.
func TestTakeMatchesTheReference(t *testing.T) {
	loc, err := time.LoadLocation("America/New_York")
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		m := NewMemory(MemoryOptions{Location: loc, Shards: rapid.SampledFrom([]int{1, 2, 64}).Draw(t, "shards")})
		ref := &reference{map[Key]time.Duration{}, map[Key]time.Time{}, map[string]int64{}}
		checks := drawChecks(t, rapid.IntRange(1, MaxChecks).Draw(t, "keys"), true)
		now := time.Date(2026, 10, 30, 20, 0, 0, 0, loc)
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "pause") {
			case 0:
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(30*time.Hour)).Draw(t, "hours")))
			case 1, 2, 3:
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "ns")))
			case 4:
				m.Sweep(now)
			}
			some := drawSubset(t, checks)
			want := ref.take(now, some)
			res, err := m.Take(context.Background(), now, some)
			require.NoError(t, err)
			require.Equal(t, want, res.Allowed, "%v %+v", now, some)
			if want {
				ref.charge(now, some)
				require.Zero(t, res.RetryAfter)
				continue
			}
			require.Positive(t, res.RetryAfter)
			require.False(t, ref.take(now.Add(res.RetryAfter-1), some), "RetryAfter is too long")
			// Looking ahead has aged the reference's buckets for good, so go there.
			now = now.Add(res.RetryAfter)
			require.True(t, ref.take(now, some), "RetryAfter is too short")
		}
	})
}

// Whatever callers do at the same time and however their clock readings
// interleave, any stretch of time admits at most Burst + Requests*time/Period.
func TestNoInterleavingExceedsTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := NewMemory(MemoryOptions{Shards: rapid.SampledFrom([]int{1, 4, 64}).Draw(t, "shards")})
		checks := drawChecks(t, rapid.IntRange(1, 6).Draw(t, "keys"), false)
		type call struct {
			advance, late time.Duration
			checks        []Check
		}
		duration := func(limit time.Duration, label string) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(limit)).Draw(t, label))
		}
		var clock atomic.Int64
		clock.Store(noon.UnixNano())
		var mu sync.Mutex
		admitted := map[Key][]int64{}
		// Within a round the readings lie less than the permitted skew apart:
		// at most half of it by being late, half by all advances together.
		for range rapid.IntRange(1, 3).Draw(t, "rounds") {
			clock.Add(int64(skew + duration(2*time.Second, "pause")))
			var wg sync.WaitGroup
			for range rapid.IntRange(2, 5).Draw(t, "callers") {
				plan := make([]call, rapid.IntRange(1, 40).Draw(t, "calls"))
				for i := range plan {
					plan[i] = call{duration(skew/500, "advance"), duration(skew/2, "late"), drawSubset(t, checks)}
				}
				wg.Go(func() {
					for i, c := range plan {
						now := clock.Add(int64(c.advance)) - int64(c.late)
						res, err := m.Take(context.Background(), time.Unix(0, now), c.checks)
						if err == nil && res.Allowed {
							mu.Lock()
							for _, check := range c.checks {
								admitted[check.Key] = append(admitted[check.Key], now)
							}
							mu.Unlock()
						}
						if i%8 == 0 {
							m.Sweep(time.Unix(0, clock.Load()))
						}
					}
				})
			}
			wg.Wait()
		}

		for _, c := range checks {
			stamps := admitted[c.Key]
			slices.Sort(stamps)
			burst := c.Rate.Burst
			if burst == 0 {
				burst = c.Rate.Requests
			}
			for i := range stamps {
				for j := i; j < len(stamps); j++ {
					n, elapsed := int64(j-i+1), stamps[j]-stamps[i]
					require.LessOrEqual(t, (n-burst)*int64(c.Rate.Period), c.Rate.Requests*elapsed,
						"%d calls in %v under %+v", n, time.Duration(elapsed), c.Rate)
				}
			}
		}
	})
}

// What parallel calls leave of each limit is exactly what the allowed ones
// have not used: a refused call costs nothing anywhere.
func TestParallelRefusalsCostNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := NewMemory(MemoryOptions{Shards: rapid.SampledFrom([]int{1, 4, 64}).Draw(t, "shards")})
		checks := drawChecks(t, rapid.IntRange(2, 8).Draw(t, "keys"), true)
		plans := make([][][]Check, rapid.IntRange(2, 6).Draw(t, "callers"))
		for g := range plans {
			for range rapid.IntRange(1, 40).Draw(t, "calls") {
				plans[g] = append(plans[g], drawSubset(t, checks))
			}
		}
		admitted := make([]map[Key]int64, len(plans))
		var wg sync.WaitGroup
		for g, plan := range plans {
			admitted[g] = map[Key]int64{}
			wg.Go(func() {
				for _, some := range plan {
					if res, err := m.Take(context.Background(), noon, some); err == nil && res.Allowed {
						for _, c := range some {
							admitted[g][c.Key]++
						}
					}
				}
			})
		}
		wg.Wait()

		for _, c := range checks {
			left := int64(1 << 40)
			if !c.Rate.IsZero() {
				left = c.Rate.capacity()
			}
			if c.Quota.Day > 0 {
				left = min(left, c.Quota.Day)
			}
			if c.Quota.Month > 0 {
				left = min(left, c.Quota.Month)
			}
			if left == 1<<40 {
				continue // no limit at all
			}
			for g := range admitted {
				left -= admitted[g][c.Key]
			}
			for ; left > 0; left-- {
				res, err := m.Take(context.Background(), noon, []Check{c})
				require.NoError(t, err)
				require.True(t, res.Allowed, "%d calls were paid for but not made: %+v", left, c)
			}
			res, err := m.Take(context.Background(), noon, []Check{c})
			require.NoError(t, err)
			require.False(t, res.Allowed, "%+v", c)
		}
	})
}
