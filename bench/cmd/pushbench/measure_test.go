package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseStat(t *testing.T) {
	got, err := parseStat([]byte("7 (odd ) name) S 3 7 7 0 -1 4194560 1 2 3 4 150 50 10 20 20 0 1 0 100\n"))
	require.NoError(t, err)
	require.Equal(t, stat{parent: 3, own: 2 * time.Second, ended: 300 * time.Millisecond}, got)
	for _, bad := range []string{"", "7 (x) S 3", "7 (x) S x 7 7 0 -1 4194560 1 2 3 4 150 50 10 20 20 0"} {
		_, err := parseStat([]byte(bad))
		require.Error(t, err, bad)
	}
}

func TestCPUTime(t *testing.T) {
	used, err := cpuTime()
	require.NoError(t, err)
	require.Positive(t, used)
	_, err = familyTime(os.Getpid())
	require.NoError(t, err)
}

func TestEach(t *testing.T) {
	before := use{wall: time.Second, own: time.Second, database: time.Second}
	after := use{wall: 3 * time.Second, own: 2 * time.Second, database: 1500 * time.Millisecond}
	require.Equal(t, cost{rate: 5000, own: 100, database: 50}, after.minus(before).each(10_000))
	require.Zero(t, after.each(0))
	require.Zero(t, use{}.each(1))
}

func TestSpread(t *testing.T) {
	require.Zero(t, spreadOf(nil))
	require.Equal(t, spread{4, 1, 9}, spreadOf([]float64{9, 1, 4}))
	require.Equal(t, spread{3, 1, 9}, spreadOf([]float64{9, 1, 4, 2}))
}

// The machine was twice as slow in the second run: the ratio of each pair does
// not see it, the ratio of the medians would.
func TestDrainRatio(t *testing.T) {
	d := drained{push: []cost{{rate: 600}, {rate: 300}, {rate: 700}}, bare: []cost{{rate: 1000}, {rate: 500}, {rate: 1000}}}
	require.InDelta(t, 0.6, d.ratio().median, 1e-9)
	require.InDelta(t, 0.7, d.ratio().high, 1e-9)
	require.Equal(t, []float64{2}, ratios([]float64{1, 4}, []float64{0, 2}))
	require.Empty(t, ratios([]float64{1}, nil))
	var out strings.Builder
	d.print(&out, "x")
	require.Contains(t, out.String(), "push/bare drain ratio, x: 0.600\n    runs: 0.600 to 0.700\n")
}

func TestPercentile(t *testing.T) {
	require.Zero(t, percentile(nil, 0.5))
	values := make([]time.Duration, 100)
	for i := range values {
		values[i] = time.Duration(100 - i)
	}
	require.EqualValues(t, 50, percentile(values, 0.5))
	require.EqualValues(t, 99, percentile(values, 0.99))
	require.EqualValues(t, 100, percentile(values, 1))
	require.EqualValues(t, 1, percentile(values, 0))
	require.EqualValues(t, 100, values[0], "the values keep their order")
}

func TestLatencies(t *testing.T) {
	at := time.Unix(1e9, 0)
	seen := newTimes()
	seen.note(seen.received, "a", at.Add(2*time.Millisecond)) // it may arrive before Publish returns
	seen.note(seen.sent, "a", at)
	seen.note(seen.received, "a", at.Add(time.Second)) // once more
	got, err := seen.latencies()
	require.NoError(t, err)
	require.Equal(t, []time.Duration{2 * time.Millisecond}, got)
	seen.note(seen.sent, "b", at)
	_, err = seen.latencies()
	require.ErrorContains(t, err, "was not received")
}

func TestParse(t *testing.T) {
	s, err := parse([]string{"-only", "latency,drain", "-engines", "postgres,sqlite", "-n", "500"}, os.Stderr)
	require.NoError(t, err)
	require.Equal(t, []string{"drain", "latency"}, s.only)
	require.Equal(t, []string{"sqlite", "postgres"}, s.engines, "PostgreSQL is last: its ratio is the last line")
	require.Equal(t, 500, s.n)
	for want, args := range map[string][]string{
		"want some of drain,publish": {"-only", "drains"}, "want some of sqlite,postgres": {"-engines", "mysql"},
		"want flags alone": {"drain"}, "-n: 1 is too few": {"-n", "1"}, "-runs": {"-runs", "0"}, "-sustain": {"-sustain", "1ms"},
	} {
		_, err := parse(args, os.Stderr)
		require.ErrorContains(t, err, want)
	}
}
