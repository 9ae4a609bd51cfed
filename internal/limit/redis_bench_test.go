package limit

import (
	"context"
	"encoding/binary"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// cpu is what this process alone has spent, in µs: the server's is not in it.
func cpu(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return float64(u.Utime.Sec+u.Stime.Sec)*1e6 + float64(u.Utime.Usec+u.Stime.Usec)
}

// BenchmarkRedisSpend is a whole call: a nonce, the app's rate and quotas, and
// the rate of the app on one API.
func BenchmarkRedisSpend(b *testing.B) {
	var serial atomic.Uint64
	call := func(b *testing.B, r *Redis, s *Spend, nonce []byte) {
		b.Helper()
		now := time.Now()
		n := serial.Add(1)
		s.App = n % 1000
		s.Expiry = now.Add(time.Minute)
		if nonce != nil {
			s.Nonce = binary.BigEndian.AppendUint64(nonce[:0], n)
		}
		s.Checks[0].Key.App, s.Checks[1].Key.App = s.App, s.App
		if _, err := r.Spend(context.Background(), now, s); err != nil {
			b.Error(err)
		}
	}
	checks := func() []Check {
		return []Check{
			{Key: Key{Scope: ScopeApp}, Rate: Rate{Requests: 1_000_000, Period: time.Second}, Quota: Quota{Day: 1 << 40, Month: 1 << 40}},
			{Key: Key{Scope: ScopeAppAPI, Sub: 9}, Rate: Rate{Requests: 1_000_000, Period: time.Second}},
		}
	}
	for _, mode := range []struct {
		name string
		o    RedisOptions
	}{
		{"exact", RedisOptions{}},
		{"leased", leasedAlone},
	} {
		b.Run(mode.name+"/serial", func(b *testing.B) {
			r, _ := openRedis(b, server(b).URL(), mode.o)
			s := &Spend{Checks: checks()}
			nonce := make([]byte, 8)
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				call(b, r, s, nonce)
			}
			b.ReportMetric((cpu(b)-before)/float64(b.N), "cpu-µs/op")
		})
		b.Run(mode.name+"/parallel", func(b *testing.B) {
			r, _ := openRedis(b, server(b).URL(), mode.o)
			b.ReportAllocs()
			b.SetParallelism(32)
			redis := serverCPU(b)
			before := cpu(b)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				s := &Spend{Checks: checks()}
				nonce := make([]byte, 8)
				for pb.Next() {
					call(b, r, s, nonce)
				}
			})
			b.ReportMetric((cpu(b)-before)/float64(b.N), "cpu-µs/op")
			b.ReportMetric((serverCPU(b)-redis)/float64(b.N), "redis-µs/op")
			stats := r.Stats()
			b.ReportMetric(float64(stats.Scripts+stats.Leases)/float64(b.N), "commands/op")
		})
	}
}

// serverCPU is what the server has spent, in µs.
func serverCPU(b *testing.B) (sum float64) {
	b.Helper()
	info, err := server(b).Client(b).Info(b.Context(), "cpu").Result()
	require.NoError(b, err)
	for line := range strings.SplitSeq(info, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			seconds, err := strconv.ParseFloat(value, 64)
			require.NoError(b, err)
			sum += seconds * 1e6
		}
	}
	return sum
}
