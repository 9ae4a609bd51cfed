package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStatusBytes(t *testing.T) {
	const text = "Name:\tcaddy\nVmHWM:\t   2048 kB\nVmRSS:\t    1024 kB\nVmSwap:\t 0 MB\n"
	got, err := statusBytes(text, "VmRSS")
	require.NoError(t, err)
	require.EqualValues(t, 1<<20, got)
	_, err = statusBytes(text, "VmPeak")
	require.ErrorContains(t, err, "VmPeak")
	_, err = statusBytes(text, "VmSwap")
	require.ErrorContains(t, err, "kB")
}

func TestOwnProcess(t *testing.T) {
	used, err := cpuTime(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, used)
	later, err := cpuTime(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, later, used)
	_, err = cpuTime(1 << 27)
	require.Error(t, err)
	resident, peak, err := memory(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, resident)
	require.GreaterOrEqual(t, peak, resident)
}

func TestParseMetric(t *testing.T) {
	const text = "# TYPE go_memstats_mallocs_total counter\ngo_memstats_mallocs_total_other 1\ngo_memstats_mallocs_total 1.51496e+06\n"
	got, err := parseMetric(strings.NewReader(text), "go_memstats_mallocs_total")
	require.NoError(t, err)
	require.InDelta(t, 1_514_960, got, 0)
	_, err = parseMetric(strings.NewReader(text), "go_gc")
	require.ErrorContains(t, err, "no go_gc")
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{7}, spread{7, 7, 7}},
		{[]float64{9, 1, 4}, spread{4, 1, 9}},
		{[]float64{9, 1, 4, 2}, spread{3, 1, 9}},
	} {
		require.Equal(t, c.want, spreadOf(c.values))
	}
	values := []float64{3, 1, 2}
	spreadOf(values)
	require.Equal(t, []float64{3, 1, 2}, values, "the runs keep their order")
}

// The machine was twice as slow in the second round: the ratio of each pair
// does not see it, the ratio of the medians would.
func TestPairs(t *testing.T) {
	gate, without := []float64{110, 220, 99}, []float64{100, 200, 90}
	require.InDeltaSlice(t, []float64{1.1, 1.1, 1.1}, ratios(gate, without), 1e-9)
	require.InDeltaSlice(t, []float64{10, 20, 9}, differences(gate, without), 1e-9)
	require.Equal(t, []float64{2}, ratios([]float64{1, 4}, []float64{0, 2}))
	require.Empty(t, ratios([]float64{1}, nil))
}
