package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const redisInfo = "# Stats\r\ntotal_connections_received:3\r\ntotal_commands_processed:900\r\ntotal_reads_processed:250\r\n" +
	"# CPU\r\nused_cpu_sys:0.250000\r\nused_cpu_user:1.500000\r\nused_cpu_sys_main_thread:0.2\r\n" +
	"# Commandstats\r\ncmdstat_evalsha:calls=400,usec=9,usec_per_call=1.00,rejected_calls=0,failed_calls=1\r\n" +
	"cmdstat_eval:calls=2,usec=9,usec_per_call=1.00,rejected_calls=0,failed_calls=0\r\n" +
	"cmdstat_get:calls=500,usec=9,usec_per_call=1.00,rejected_calls=0,failed_calls=0\r\n"

func TestParseRedisInfo(t *testing.T) {
	got, err := parseRedisInfo(redisInfo)
	require.NoError(t, err)
	require.Equal(t, redisUse{scripts: 402, reads: 250, cpu: 1750 * time.Millisecond}, got, "what scripts call is not counted")

	unused, _, _ := strings.Cut(redisInfo, "# Commandstats")
	got, err = parseRedisInfo(unused)
	require.NoError(t, err)
	require.Zero(t, got.scripts, "a command that was never called is not listed")

	_, err = parseRedisInfo(strings.ReplaceAll(redisInfo, "total_reads_processed", "other"))
	require.ErrorContains(t, err, "total_reads_processed")
	_, err = parseRedisInfo(strings.ReplaceAll(redisInfo, "calls=400", "calls=many"))
	require.ErrorContains(t, err, "cmdstat_evalsha")
}

func TestRedisCost(t *testing.T) {
	before := redisUse{scripts: 10, reads: 100, cpu: time.Second}
	after := redisUse{scripts: 210, reads: 151, cpu: 3 * time.Second}
	require.Equal(t, redisCost{scripts: 2, reads: 0.5, cpu: 20 * time.Millisecond}, after.since(before, 100))
}
