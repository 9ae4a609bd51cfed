package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLines(t *testing.T) {
	run := func(cpu time.Duration, allocs float64) sample {
		return sample{rate: 5000, gateway: cpu * time.Microsecond, steady: (100 + cpu) * time.Microsecond, generator: 50 * time.Microsecond, allocs: allocs, p99: time.Millisecond}
	}
	s := series{
		plain:    {run(100, 209), run(200, 209), run(100, 209)},
		gated:    {run(104, 216), run(210, 217), run(105, 217)},
		defaults: {run(125, 222), run(250, 222), run(125, 222)},
	}
	var out bytes.Buffer
	for _, l := range lines(s, "") {
		l.print(&out)
	}
	require.Equal(t, `gate/plain cpu ratio: 1.025
    runs: 1.020 to 1.033
gate/plain cpu ratio in a closed loop: 1.050
    runs: 1.040 to 1.050
gate/plain p99 ratio: 1.000
    runs: 1.000 to 1.000
gate extra cpu µs: 5.0
    runs: 4.0 to 10.0
gate extra allocations: 8.0
    runs: 7.0 to 8.0
gate/default cpu ratio: 0.907
    runs: 0.886 to 0.911
gate/default cpu ratio in a closed loop: 0.840
    runs: 0.832 to 0.840
plain/default cpu ratio: 0.889
    runs: 0.857 to 0.889
plain/default cpu ratio in a closed loop: 0.800
    runs: 0.800 to 0.800
load generator/gateway cpu ratio: 0.50
    runs: 0.25 to 0.50
`, out.String())

	out.Reset()
	require.NoError(t, table(&out, "http", s, []variant{defaults, gated, plain}))
	require.Regexp(t, `gate\s+5000\s+105\.0\s+217\.0`, out.String())
	require.NotContains(t, lines(series{plain: s[plain]}, ""), "gate/plain cpu ratio", "what was not measured is not printed")
}

func TestFloodLines(t *testing.T) {
	run := func(cpu time.Duration, allocs float64) sample {
		return sample{gateway: cpu * time.Microsecond, allocs: allocs}
	}
	var out bytes.Buffer
	for _, l := range floodLines(series{gated: {run(100, 190), run(200, 190)}, refused: {run(50, 90), run(90, 92)}}, " over tls") {
		l.print(&out)
	}
	require.Equal(t, `refused/good cpu ratio over tls: 0.475
    runs: 0.450 to 0.500
refused call cpu µs over tls: 70.0
    runs: 50.0 to 90.0
refused call allocations over tls: 91.0
    runs: 90.0 to 92.0
`, out.String())
}

func TestTurns(t *testing.T) {
	variants := []variant{defaults, gated, plain, control}
	places := map[variant]map[int]int{}
	for round := range 8 {
		for place, v := range turns(variants, round) {
			if places[v] == nil {
				places[v] = map[int]int{}
			}
			places[v][place]++
		}
	}
	for _, v := range variants {
		require.Equal(t, map[int]int{0: 2, 1: 2, 2: 2, 3: 2}, places[v], "%s has every place equally often", v)
	}
	require.Equal(t, []variant{defaults, gated, plain, control}, variants)
}

func TestInRuns(t *testing.T) {
	turn := func(n int) sample {
		d := time.Duration(n) * time.Microsecond
		return sample{rate: float64(n), gateway: d, generator: d, upstream: d, allocs: float64(n), steady: d, p50: d, p99: d}
	}
	got := series{gated: {turn(1), turn(2), turn(6), turn(4), turn(4), turn(10)}, plain: {turn(8), turn(8), turn(8)}}.inRuns(3)
	require.Equal(t, series{gated: {turn(3), turn(6)}, plain: {turn(8)}}, got)
}

func TestParse(t *testing.T) {
	s, err := parse([]string{"-only", "tls,big", "-runs", "3"}, new(bytes.Buffer))
	require.NoError(t, err)
	require.Equal(t, []string{"tls", "big"}, s.only)
	require.Equal(t, 3, s.runs)
	require.Equal(t, 2, s.fewerRuns())
	s, err = parse(nil, new(bytes.Buffer))
	require.NoError(t, err)
	require.Equal(t, parts, s.only)
	s, err = parse([]string{"-without-gate"}, new(bytes.Buffer))
	require.NoError(t, err)
	require.Equal(t, []string{"http", "tls", "big"}, s.only, "the other parts are of the gate alone")
	for _, args := range [][]string{
		{"-without-gate", "-only", "redis"}, {"-only", "https"}, {"-runs", "0"}, {"-connections", "-1"}, {"-rate", "-1"}, {"-duration", "1ms"}, {"-nonsense"}, {"more"},
	} {
		_, err := parse(args, new(bytes.Buffer))
		require.Error(t, err, args)
	}
}
