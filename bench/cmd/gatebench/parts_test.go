package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// printed is the output of lines without their lowest and highest runs.
func printed(lines []line) map[string]string {
	found := map[string]string{}
	for _, l := range lines {
		var out bytes.Buffer
		l.print(&out)
		first, _, _ := strings.Cut(out.String(), "\n")
		name, value, _ := strings.Cut(first, ": ")
		found[name] = value
	}
	return found
}

func steadily(cpu time.Duration, scripts float64) sample {
	return sample{
		rate: 5000, gateway: 2 * cpu * time.Microsecond, steady: cpu * time.Microsecond, p50: time.Millisecond, p99: cpu * time.Millisecond,
		redis:       redisCost{scripts: 9, reads: 0.25, cpu: 7 * time.Microsecond},
		steadyRedis: redisCost{scripts: scripts, reads: scripts / 2, cpu: 30 * time.Microsecond},
	}
}

func TestRedisLines(t *testing.T) {
	got := printed(redisLines(series{
		gated:       {steadily(100, 0), steadily(200, 0)},
		shared:      {steadily(150, 1), steadily(300, 1)},
		leased:      {steadily(120, 1.25), steadily(240, 1.25)},
		leasedLocal: {steadily(110, 0.25), steadily(220, 0.25)},
	}))
	require.Len(t, got, 27)
	for name, want := range map[string]string{
		"redis/memory cpu ratio":                                       "1.500",
		"redis/memory cpu ratio in a closed loop":                      "1.500",
		"redis/memory extra cpu µs a request":                          "75.0",
		"redis/memory p99 ratio":                                       "1.500",
		"redis commands a request":                                     "1.00",
		"redis network round trips (reads) a request":                  "0.50",
		"redis network round trips (reads) a request in a closed loop": "0.25",
		"redis-server cpu µs a request":                                "30.0",
		"redis-server cpu µs a request in a closed loop":               "7.0",
		"redis/memory cpu ratio, leased":                               "1.200",
		"redis commands a request, leased":                             "1.25",
		"redis commands a request, leased local":                       "0.25",
	} {
		require.Equal(t, want, got[name], name)
	}
}

func TestNodesLines(t *testing.T) {
	s := series{
		oneNode: {steadily(100, 1)}, threeNodes: {steadily(130, 1)},
		oneNodeLeased: {steadily(80, 0.1)}, threeNodesLeased: {steadily(120, 0.2)},
	}
	s[threeNodes][0].rate = 4000
	got := printed(nodesLines(s))
	require.Len(t, got, 30)
	for name, want := range map[string]string{
		"3 nodes/1 node throughput ratio":                "0.800",
		"3 nodes/1 node cpu ratio":                       "1.300",
		"3 nodes/1 node cpu ratio, leased local":         "1.500",
		"cpu µs a request of all nodes, 3 nodes":         "130.0",
		"redis commands a request, 1 node":               "1.00",
		"redis commands a request, 3 nodes":              "1.00",
		"redis commands a request, 1 node, leased local": "0.10",
	} {
		require.Equal(t, want, got[name], name)
	}
}

func TestMissLines(t *testing.T) {
	got := printed(missLines(series{hit: {steadily(100, 0)}, miss: {steadily(250, 0)}}, " with 9 apps in postgres"))
	require.Equal(t, map[string]string{
		"load on miss p50 ms with 9 apps in postgres": "1.00",
		"load on miss p99 ms with 9 apps in postgres": "250.00",
		"hit p50 ms with 9 apps in postgres":          "1.00",
		"hit p99 ms with 9 apps in postgres":          "100.00",
		"miss/hit cpu ratio with 9 apps in postgres":  "2.50",
	}, got)
}

func TestOutlast(t *testing.T) {
	require.Equal(t, 1500*time.Millisecond, outlast(6000, 3000), "half the pace, twice as long")
	require.Equal(t, held, outlast(2000, 3000))
	require.Equal(t, idle, outlast(6000, 1), "then the rest was given back")
}

// Three nodes and a number of apps that three divides: every app comes to every
// node all the same, and every node has the same load.
func TestLoadIsSpread(t *testing.T) {
	callers, err := activeCallers(6, 6)
	require.NoError(t, err)
	sites := []site{{Scheme: "http", Address: "127.0.0.1:1"}, {Scheme: "http", Address: "127.0.0.1:2"}, {Scheme: "http", Address: "127.0.0.1:3"}}
	next := signer(sites, callers, newNonces(time.Now()), time.Now)
	seen, load := map[string]bool{}, map[string]int{}
	for range 18 {
		var target vegeta.Target
		require.NoError(t, next(&target))
		req, err := target.Request()
		require.NoError(t, err)
		claim, err := verify(req, target.Body, time.Now(), keysOf(t, 1, 2, 3, 4, 5, 6))
		require.NoError(t, err)
		seen[claim.AppKey+" "+req.Host] = true
		load[req.Host]++
	}
	require.Len(t, seen, 18)
	require.Equal(t, map[string]int{"127.0.0.1:1": 6, "127.0.0.1:2": 6, "127.0.0.1:3": 6}, load)
}

func TestCaddyfile(t *testing.T) {
	config := gatewayConfig{
		Dir: "/d", Admin: "127.0.0.1:1", Upstream: "127.0.0.1:2", Tuned: true,
		Sites: []site{{Variant: plain, Scheme: "http", Address: "127.0.0.1:3"}, {Variant: shared, Scheme: "http", Address: "127.0.0.1:4"}},
		Store: &storage{Engine: "postgres", Location: "postgres://h/d?sslmode=disable", MasterKey: "/k"},
		Redis: redisFor(leasedLocal, "redis://h/1"),
	}
	var out bytes.Buffer
	require.NoError(t, caddyfile.Execute(&out, config))
	require.Contains(t, out.String(), `	open_platform {
		storage postgres "postgres://h/d?sslmode=disable"
		master_key {file./k}
		redis "redis://h/1" {
			accuracy leased
			nonces local
		}
	}
`)
	require.Equal(t, 1, strings.Count(out.String(), "open_gate"), "plain has no gate")

	config.Redis = nil
	out.Reset()
	require.NoError(t, caddyfile.Execute(&out, config))
	require.NotContains(t, out.String(), "redis")

	require.Equal(t, &redisOptions{URL: "u", Accuracy: "exact", Nonces: "shared"}, redisFor(shared, "u"))
	require.Equal(t, &redisOptions{URL: "u", Accuracy: "leased", Nonces: "shared"}, redisFor(leased, "u"))
}

func TestWithCopies(t *testing.T) {
	own := []platform.API{{Name: "a.b", Path: "/b"}, {Name: "a.c", Path: "/c"}}
	got := withCopies(own, 5)
	require.Len(t, got, 5)
	names, paths := map[string]bool{}, map[string]bool{}
	for _, api := range got {
		names[api.Name], paths[api.Path] = true, true
	}
	require.Len(t, names, 5)
	require.Len(t, paths, 5)
	require.Equal(t, platform.API{Name: "copy1.a.b", Path: "/copy1/b"}, got[2])
	require.Len(t, withCopies(own, 0), 2, "none is asked for")
	require.Empty(t, withCopies(nil, 5))
}
