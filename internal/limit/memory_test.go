package limit

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

var app1 = Key{Scope: ScopeApp, App: 1}

func take(tb testing.TB, l *Memory, now time.Time, checks ...Check) Result {
	tb.Helper()
	res, err := l.Take(context.Background(), now, checks)
	require.NoError(tb, err)
	return res
}

// drain counts the calls that are still allowed at one instant.
func drain(tb testing.TB, l *Memory, now time.Time, c Check) (n int64) {
	tb.Helper()
	for take(tb, l, now, c).Allowed {
		n++
		require.Less(tb, n, int64(1_000_000))
	}
	return n
}

func TestRateKnownAnswers(t *testing.T) {
	type step struct {
		at   time.Duration
		want Result
	}
	const s = time.Second
	yes := func(limit int64, window time.Duration, remaining int64, reset time.Duration) Result {
		return Result{Allowed: true, Scope: ScopeApp, Limit: limit, Window: window, Remaining: remaining, Reset: reset}
	}
	no := func(limit int64, window, reset, retry time.Duration) Result {
		return Result{Scope: ScopeApp, Limit: limit, Window: window, Reset: reset, RetryAfter: retry}
	}
	for name, tc := range map[string]struct {
		rate  Rate
		steps []step
	}{
		"two a second, burst equals requests": {Rate{Requests: 2, Period: s}, []step{
			{0, yes(2, s, 1, s/2)},
			{0, yes(2, s, 0, s)},
			{0, no(2, s, s, s/2)},
			{s/2 - 1, no(2, s, s/2+1, 1)},
			{s / 2, yes(2, s, 0, s)},
			{10 * s, yes(2, s, 1, s/2)},
		}},
		"no burst": {Rate{Requests: 60, Period: 60 * s, Burst: 1}, []step{
			{0, yes(60, 60*s, 0, s)},
			{s - 1, no(60, 60*s, 1, 1)},
			{s, yes(60, 60*s, 0, s)},
		}},
		"burst above requests": {Rate{Requests: 1, Period: s, Burst: 3}, []step{
			{0, yes(1, s, 2, s)},
			{0, yes(1, s, 1, 2*s)},
			{0, yes(1, s, 0, 3*s)},
			{0, no(1, s, 3*s, s)},
			{2 * s, yes(1, s, 1, 2*s)},
		}},
		"a step that is no whole ns is rounded up": {Rate{Requests: 3, Period: s, Burst: 1}, []step{
			{0, yes(3, s, 0, 333333334)},
			{333333333, no(3, s, 1, 1)},
			{333333334, yes(3, s, 0, 333333334)},
		}},
		"the largest period": {Rate{Requests: 1, Period: maxPeriod, Burst: 36}, []step{
			{0, yes(1, maxPeriod, 35, maxPeriod)},
			{0, yes(1, maxPeriod, 34, 2*maxPeriod)},
		}},
		"the largest rate": {Rate{Requests: int64(s), Period: s}, []step{
			{0, yes(int64(s), s, int64(s)-1, 1)},
			{0, yes(int64(s), s, int64(s)-2, 2)},
			{2, yes(int64(s), s, int64(s)-1, 1)},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMemory(MemoryOptions{})
			for i, st := range tc.steps {
				got := take(t, m, noon.Add(st.at), Check{Key: app1, Rate: tc.rate})
				require.Equal(t, st.want, got, "step %d", i)
			}
		})
	}
}

func TestQuotaWindows(t *testing.T) {
	load := func(name string) *time.Location {
		loc, err := time.LoadLocation(name)
		require.NoError(t, err)
		return loc
	}
	at := func(loc *time.Location, v string) time.Time {
		tm, err := time.ParseInLocation("2006-01-02 15:04:05", v, loc)
		require.NoError(t, err)
		return tm
	}
	shanghai, newYork := load("Asia/Shanghai"), load("America/New_York")
	for name, tc := range map[string]struct {
		now           time.Time
		loc           *time.Location
		quota         Quota
		unit          Unit
		window, reset time.Duration
	}{
		"UTC day":             {at(time.UTC, "2026-03-10 18:00:00"), time.UTC, Quota{Day: 1}, UnitDay, 24 * time.Hour, 6 * time.Hour},
		"Shanghai day":        {at(time.UTC, "2026-03-10 15:59:59"), shanghai, Quota{Day: 1}, UnitDay, 24 * time.Hour, time.Second},
		"spring forward":      {at(newYork, "2026-03-08 01:00:00"), newYork, Quota{Day: 1}, UnitDay, 23 * time.Hour, 22 * time.Hour},
		"fall back":           {at(newYork, "2026-11-01 00:30:00"), newYork, Quota{Day: 1}, UnitDay, 25 * time.Hour, 24*time.Hour + 30*time.Minute},
		"leap February":       {at(time.UTC, "2028-02-28 00:00:00"), time.UTC, Quota{Month: 1}, UnitMonth, 29 * 24 * time.Hour, 48 * time.Hour},
		"December":            {at(time.UTC, "2026-12-31 23:59:00"), time.UTC, Quota{Month: 1}, UnitMonth, 31 * 24 * time.Hour, time.Minute},
		"month with a change": {at(newYork, "2026-03-31 23:00:00"), newYork, Quota{Month: 1}, UnitMonth, 31*24*time.Hour - time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMemory(MemoryOptions{Location: tc.loc})
			c := Check{Key: app1, Quota: tc.quota}
			want := Result{
				Allowed: true, Quota: true, Unit: tc.unit, Scope: ScopeApp, Limit: 1,
				Window: tc.window, Reset: tc.reset,
			}
			require.Equal(t, want, take(t, m, tc.now, c))
			want.Allowed, want.RetryAfter = false, tc.reset
			require.Equal(t, want, take(t, m, tc.now, c))
			require.False(t, take(t, m, tc.now.Add(tc.reset-1), c).Allowed, "the last ns of the window")
			require.True(t, take(t, m, tc.now.Add(tc.reset), c).Allowed, "the next window")
		})
	}
}

// Places where midnight is skipped or repeated, or where a whole day is.
func TestWindowsPartitionTime(t *testing.T) {
	for _, tc := range []struct{ zone, from string }{
		{"America/Sao_Paulo", "2018-11-02"},   // midnight skipped
		{"America/Sao_Paulo", "2018-02-15"},   // 23:00 to midnight repeated
		{"America/Havana", "2025-11-01"},      // midnight to 1:00 repeated
		{"Asia/Amman", "2021-10-27"},          // the same, east of Greenwich
		{"America/St_Johns", "2006-10-27"},    // back over midnight, at 0:01
		{"Pacific/Apia", "2011-12-28"},        // 30 December skipped
		{"Asia/Beirut", "2022-03-25"},         // midnight skipped
		{"Australia/Lord_Howe", "2026-04-03"}, // half an hour
	} {
		t.Run(tc.zone+" "+tc.from, func(t *testing.T) {
			loc, err := time.LoadLocation(tc.zone)
			require.NoError(t, err)
			now, err := time.ParseInLocation(time.DateOnly, tc.from, loc)
			require.NoError(t, err)
			var last windows
			for i := range 5 * 24 * 12 {
				cal := calendar{location: loc}
				w := cal.at(now)
				for _, pair := range [][2]span{{last.day, w.day}, {last.month, w.month}} {
					require.True(t, pair[1].contains(now.Unix()), "%v", now)
					if i > 0 && pair[0] != pair[1] {
						require.Equal(t, pair[0].end, pair[1].start, "%v", now)
					}
				}
				require.Less(t, w.day.end-w.day.start, int64(26*3600), "%v", now)
				last, now = w, now.Add(5*time.Minute)
			}
		})
	}
}

func TestResultNamesTheTightestOrTheRefusingLimit(t *testing.T) {
	wide := Check{Key: app1, Rate: Rate{Requests: 100, Period: time.Second}}
	narrow := Check{Key: Key{Scope: ScopeAPI, Sub: Hash("items.get")}, Rate: Rate{Requests: 4, Period: time.Second}}
	both := Check{
		Key:   Key{Scope: ScopeAppUser, App: 1, Sub: Hash("m1")},
		Rate:  Rate{Requests: 1000, Period: time.Second},
		Quota: Quota{Day: 50, Month: 3},
	}
	m := NewMemory(MemoryOptions{})

	require.Equal(t, Result{Allowed: true}, take(t, m, noon), "no limit")

	res := take(t, m, noon, wide, both, narrow)
	require.Equal(t, ScopeAppUser, res.Scope, "2 of 3 is less than 3 of 4 and 99 of 100")
	require.Equal(t, UnitMonth, res.Unit)
	require.EqualValues(t, 2, res.Remaining)

	require.Equal(t, ScopeAPI, take(t, m, noon, wide, narrow).Scope, "2 of 4")
	require.EqualValues(t, 2, drain(t, m, noon, narrow))
	res = take(t, m, noon, wide, both, narrow)
	require.Equal(t, ScopeAPI, res.Scope)
	require.False(t, res.Quota)
	require.Equal(t, 250*time.Millisecond, res.RetryAfter)

	require.EqualValues(t, 2, drain(t, m, noon, both))
	res = take(t, m, noon, narrow, both, wide)
	require.Equal(t, ScopeAppUser, res.Scope, "of two refusals the longer wait counts")
	require.True(t, res.Quota)
	require.EqualValues(t, 98, drain(t, m, noon, wide), "refused calls cost nothing")
}

func TestTakeRefusesWhatItCannotCount(t *testing.T) {
	rate := func(r Rate) []Check { return []Check{{Key: app1, Rate: r}} }
	for name, tc := range map[string]struct {
		checks []Check
		want   string
	}{
		"negative requests": {rate(Rate{Requests: -1, Period: 1}), "app rate: requests: -1"},
		"no requests":       {rate(Rate{Period: time.Second}), "requests: 0"},
		"no period":         {rate(Rate{Requests: 1}), "period: 0s"},
		"negative period":   {rate(Rate{Requests: 1, Period: math.MinInt64}), "period: "},
		"huge period":       {rate(Rate{Requests: 1, Period: math.MaxInt64}), "period: "},
		"huge rate":         {rate(Rate{Requests: math.MaxInt64, Period: time.Hour}), "more than one a nanosecond"},
		"negative burst":    {rate(Rate{Requests: 1, Period: 1, Burst: -1}), "burst: -1"},
		"huge burst":        {rate(Rate{Requests: 1, Period: time.Hour, Burst: math.MaxInt64}), "write at most 320255"},
		"negative day":      {[]Check{{Key: app1, Quota: Quota{Day: -1}}}, "app quota: day"},
		"negative month":    {[]Check{{Key: app1, Quota: Quota{Month: -1}}}, "app quota: month"},
		"same key twice":    {[]Check{{Key: app1}, {Key: app1}}, "two checks for one app key"},
		"too many":          {make([]Check, MaxChecks+1), "at most 16"},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMemory(MemoryOptions{})
			res, err := m.Take(context.Background(), noon, tc.checks)
			require.ErrorContains(t, err, tc.want)
			require.False(t, res.Allowed)
		})
	}
}

func TestTakeCountsMaxChecks(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	checks := make([]Check, MaxChecks)
	for i := range checks {
		checks[i] = Check{Key: Key{Scope: ScopeApp, App: uint64(i)}, Rate: Rate{Requests: 1, Period: time.Second}}
	}
	require.True(t, take(t, m, noon, checks...).Allowed)
	for i := range checks {
		require.False(t, take(t, m, noon, checks[i]).Allowed, "check %d is charged", i)
	}
}

func TestClockJumps(t *testing.T) {
	c := Check{Key: app1, Rate: Rate{Requests: 10, Period: 10 * time.Second}, Quota: Quota{Day: 25}}
	t.Run("back: nothing given away, no long ban", func(t *testing.T) {
		m := NewMemory(MemoryOptions{})
		require.EqualValues(t, 10, drain(t, m, noon, c))
		back := noon.Add(-30 * 24 * time.Hour)
		require.EqualValues(t, 0, drain(t, m, back, c))
		require.EqualValues(t, 3, drain(t, m, back.Add(3*time.Second), c))
		require.EqualValues(t, 10, drain(t, m, back.Add(time.Hour), c))
		require.EqualValues(t, 2, drain(t, m, back.Add(2*time.Hour), c), "the day's count went along")
	})
	t.Run("late callers at midnight count in the new day", func(t *testing.T) {
		m := NewMemory(MemoryOptions{})
		q := Check{Key: app1, Quota: Quota{Day: 2}}
		midnight := time.Date(2026, 3, 11, 0, 0, 0, 0, time.UTC)
		require.True(t, take(t, m, midnight, q).Allowed)
		require.True(t, take(t, m, midnight.Add(-time.Millisecond), q).Allowed)
		require.False(t, take(t, m, midnight.Add(-time.Millisecond), q).Allowed)
		require.False(t, take(t, m, midnight, q).Allowed)
	})
	t.Run("any time", func(t *testing.T) {
		m := NewMemory(MemoryOptions{Location: time.FixedZone("x", 3600)})
		n := NewMemoryNonces(NonceOptions{})
		for i, now := range []time.Time{
			{},
			time.Unix(math.MaxInt64, 0), time.Unix(math.MinInt64, 0), noon, time.Unix(0, math.MaxInt64),
			time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC), noon,
		} {
			_, err := m.Take(context.Background(), now, []Check{c})
			require.NoError(t, err)
			m.Sweep(now)
			m.Quotas(now)
			_, err = n.Use(context.Background(), now, 1, []byte{byte(i)}, now.Add(time.Minute))
			require.NoError(t, err)
		}
	})
}

func TestRateChangeDoesNotBan(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	require.EqualValues(t, 1000, drain(t, m, noon, Check{Key: app1, Rate: Rate{Requests: 1000, Period: 24 * time.Hour}}))
	faster := Check{Key: app1, Rate: Rate{Requests: 10, Period: time.Second}}
	require.EqualValues(t, 0, drain(t, m, noon, faster))
	require.EqualValues(t, 10, drain(t, m, noon.Add(time.Second), faster))
}

func TestSweepFreesWhatIsAtRest(t *testing.T) {
	m := NewMemory(MemoryOptions{Shards: 4})
	const keys = 20_000
	for i := range uint64(keys) {
		take(t, m, noon, Check{
			Key:   Key{Scope: ScopeApp, App: i},
			Rate:  Rate{Requests: 1, Period: time.Minute},
			Quota: Quota{Day: 5 * int64(i%2)},
		})
	}
	require.Zero(t, m.Sweep(noon.Add(time.Minute)), "a late caller may still come")
	require.Equal(t, keys, m.Sweep(noon.Add(time.Minute+skew)))
	require.Zero(t, m.Sweep(noon.Add(11*time.Hour)))
	require.Equal(t, keys/2, m.Sweep(noon.Add(12*time.Hour+skew)), "the counts of the day")
	for i := range m.shards {
		s := &m.shards[i]
		require.Empty(t, s.cells)
		require.Empty(t, s.usage)
		require.Zero(t, s.peakCells, "the map was made anew")
		require.Zero(t, s.peakUsage)
	}
}

func TestQuotasSurviveARestart(t *testing.T) {
	key2 := Key{Scope: ScopeAppUser, App: 1, Sub: Hash("merchant")}
	day := Check{Key: app1, Quota: Quota{Day: 10}}
	month := Check{Key: key2, Quota: Quota{Day: 100, Month: 10}}
	m := NewMemory(MemoryOptions{})
	for range 4 {
		take(t, m, noon, day, month)
	}
	dayStart := time.Date(2026, 3, 10, 0, 0, 0, 0, time.UTC).Unix()
	monthStart := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Unix()
	saved := m.Quotas(noon)
	require.ElementsMatch(t, []QuotaCount{
		{app1, UnitDay, dayStart, 4},
		{key2, UnitDay, dayStart, 4},
		{key2, UnitMonth, monthStart, 4},
	}, saved)
	require.ElementsMatch(t, []QuotaCount{{key2, UnitMonth, monthStart, 4}}, m.Quotas(noon.Add(24*time.Hour)))

	again := NewMemory(MemoryOptions{Shards: 2})
	again.RestoreQuotas(saved)
	again.RestoreQuotas(saved)
	require.ElementsMatch(t, saved, again.Quotas(noon))
	require.EqualValues(t, 6, drain(t, again, noon, day))
	require.EqualValues(t, 6, drain(t, again, noon.Add(24*time.Hour), month))

	again.RestoreQuotas(append(saved, QuotaCount{Key{App: 9}, 77, dayStart, 1}, QuotaCount{Key{App: 8}, UnitDay, dayStart, -1}))
	require.EqualValues(t, 0, drain(t, again, noon, day), "a higher count stays")
	require.Len(t, again.Quotas(noon.Add(24*time.Hour)), 2, "nonsense is not kept")
}

func TestUnsavedQuotas(t *testing.T) {
	other := Key{Scope: ScopeApp, App: 2}
	m := NewMemory(MemoryOptions{})
	m.RestoreQuotas([]QuotaCount{{other, UnitDay, time.Date(2026, 3, 10, 0, 0, 0, 0, time.UTC).Unix(), 3}})
	require.Empty(t, m.UnsavedQuotas(noon), "what was saved is not saved again")
	used := func() (used []int64) {
		for _, q := range m.UnsavedQuotas(noon) {
			used = append(used, q.Used)
		}
		return used
	}
	first, second := Check{Key: app1, Quota: Quota{Day: 10}}, Check{Key: other, Quota: Quota{Day: 10}}
	take(t, m, noon, first)
	require.Equal(t, []int64{1}, used())
	require.Empty(t, used())
	take(t, m, noon, first, second)
	require.ElementsMatch(t, []int64{2, 4}, used())
	take(t, m, noon, first)
	counts := m.UnsavedQuotas(noon)
	m.KeepUnsaved(append(counts, QuotaCount{Key: Key{App: 99}}))
	take(t, m, noon, first)
	require.Equal(t, []int64{4}, used(), "what could not be saved, as it is now")
	require.Len(t, m.Quotas(noon), 2)
}

func TestTakeDoesNotAllocate(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	checks := fiveChecks(1)
	now := noon
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Millisecond)
		_, _ = m.Take(context.Background(), now, checks)
	}))
}

func TestParallelTakesAdmitExactlyTheBurst(t *testing.T) {
	m := NewMemory(MemoryOptions{Shards: 2})
	c := Check{Key: app1, Rate: Rate{Requests: 500, Period: time.Second}}
	var wg sync.WaitGroup
	admitted := make([]int, 8)
	for g := range admitted {
		wg.Go(func() {
			for range 200 {
				if res, err := m.Take(context.Background(), noon, []Check{c}); err == nil && res.Allowed {
					admitted[g]++
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range admitted {
		sum += n
	}
	require.Equal(t, 500, sum)
}

func fiveChecks(app uint64) []Check {
	api, user := Hash("items.get"), Hash("merchant")
	rate := Rate{Requests: 1_000_000_000, Period: time.Second}
	return []Check{
		{Key: Key{ScopeApp, app, 0}, Rate: rate, Quota: Quota{Day: 1 << 50, Month: 1 << 50}},
		{Key: Key{ScopeAppAPI, app, api}, Rate: rate},
		{Key: Key{ScopeAppUser, app, user}, Rate: rate},
		{Key: Key{ScopeAPI, 0, api}, Rate: rate},
		{Key: Key{ScopePlatform, 0, 0}, Rate: rate},
	}
}

func BenchmarkTake(b *testing.B) {
	for _, n := range []int{1, 5} {
		b.Run(fmt.Sprintf("checks=%d", n), func(b *testing.B) {
			m, checks, now := NewMemory(MemoryOptions{}), fiveChecks(1)[:n], noon
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Microsecond)
				_, _ = m.Take(context.Background(), now, checks)
			}
		})
		b.Run(fmt.Sprintf("checks=%d/parallel", n), func(b *testing.B) {
			m := NewMemory(MemoryOptions{})
			var mu sync.Mutex
			app := uint64(0)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				mu.Lock()
				app++
				checks, now := fiveChecks(app)[:n], noon
				mu.Unlock()
				for pb.Next() {
					now = now.Add(time.Microsecond)
					_, _ = m.Take(context.Background(), now, checks)
				}
			})
		})
	}
}

func BenchmarkSweep(b *testing.B) {
	m := NewMemory(MemoryOptions{})
	const apps = 1_000_000
	for i := range uint64(apps) {
		take(b, m, noon, Check{Key: Key{Scope: ScopeApp, App: i}, Rate: Rate{Requests: 1, Period: time.Hour}})
	}
	for b.Loop() {
		m.Sweep(noon)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(m.shards)), "ns/shard")
}
