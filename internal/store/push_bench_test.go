package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// pushBench is a store with subscriptions, and messages of 1 KiB for them.
type pushBench struct {
	*Store
	app  uint64
	subs []uint64
	made int64
	body []byte
	// keys is over how many keys deliveries are spread; 0 for none.
	keys int
}

func newPushBench(b *testing.B, e engineTest, subscriptions int) *pushBench {
	b.Helper()
	p := &pushBench{Store: e.empty(b), body: bytes.Repeat([]byte("x"), 1024)}
	app := testApp("bench")
	putApps(b, p.Store, app)
	p.app = app.Number
	put(b, p.Store, func(ctx context.Context, tx platform.Tx) error {
		for i := range subscriptions {
			sub := &platform.Subscription{
				ID: fmt.Sprintf("sub_%05d", i), App: app.ID, AppNumber: app.Number, Environment: platform.Production, URL: "https://example.com/",
				Topics: []string{fmt.Sprint("topic", i)}, Format: platform.EncryptedFormat, Status: platform.SubscriptionActive,
			}
			if err := tx.PutSubscription(ctx, sub); err != nil {
				return err
			}
			p.subs = append(p.subs, sub.Number)
		}
		return nil
	})
	return p
}

// messages are n messages of one delivery each, to the subscriptions in turn.
func (p *pushBench) messages(n int, idempotent bool) pusher.Batch {
	batch := make(pusher.Batch, n)
	for i := range batch {
		p.made++
		m := pusher.Message{
			ID: pusher.MessageID{At: p.now().UnixMicro(), ID: p.made}, Environment: platform.Production, Topic: "trade.order.created",
			User: "u1", Time: testTime, Data: p.body[:500],
		}
		m.Digest = sha256.Sum256(m.Data)
		if idempotent {
			m.Idempotency = fmt.Sprint("message ", p.made)
		}
		if p.keys > 0 {
			m.Key = fmt.Sprint(p.made % int64(p.keys))
		}
		batch[i] = pusher.Publication{Message: m, Deliveries: []pusher.NewDelivery{{
			Subscription: p.subs[int(p.made)%len(p.subs)], App: p.app, Key: m.Key, Body: p.body, KeyNumber: 1,
		}}}
	}
	return batch
}

func (p *pushBench) publish(b *testing.B, n int, idempotent bool) {
	b.Helper()
	r, err := p.Publish(b.Context(), []pusher.Batch{p.messages(n, idempotent)})
	require.NoError(b, err)
	require.NoError(b, r[0].Err)
}

// fill publishes n messages.
func (p *pushBench) fill(b *testing.B, n int) {
	b.Helper()
	for ; n > 0; n -= 1000 {
		p.publish(b, min(n, 1000), false)
	}
}

// drain claims and completes n deliveries in batches.
func (p *pushBench) drain(b *testing.B, n, batch int) (claims, completes time.Duration) {
	b.Helper()
	claim := pusher.Claim{Node: "bench", Lease: time.Minute}
	for _, sub := range p.subs {
		claim.Endpoints = append(claim.Endpoints, pusher.Endpoint{Subscription: sub, Room: max(1, batch/len(p.subs)), Concurrency: 1000, Ordered: p.keys > 0})
	}
	for n > 0 {
		began := time.Now()
		r, err := p.Claim(b.Context(), claim)
		require.NoError(b, err)
		claims += time.Since(began)
		require.NotEmpty(b, r.Work)
		completions := make([]pusher.Completion, len(r.Work))
		for i, w := range r.Work {
			require.Len(b, w.Body, 1024)
			completions[i] = pusher.Completion{
				ID: w.ID, Subscription: w.Subscription, Fence: w.Fence, State: pusher.Delivered,
				Attempt: &pusher.Attempt{
					Number: w.Attempt, Started: testTime, Duration: time.Millisecond, Address: "192.0.2.1:443", Status: 200,
					Response: []byte(`{"ok":true}`), Node: "bench",
				},
			}
		}
		began = time.Now()
		had, err := p.Complete(b.Context(), completions)
		require.NoError(b, err)
		completes += time.Since(began)
		for _, ours := range had {
			require.True(b, ours)
		}
		n -= len(r.Work)
	}
	return claims, completes
}

func onBothEngines(b *testing.B, bench func(*testing.B, engineTest)) {
	b.Helper()
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) { bench(b, e) })
	}
}

// BenchmarkPublish publishes messages of one delivery each.
func BenchmarkPublish(b *testing.B) {
	onBothEngines(b, func(b *testing.B, e engineTest) {
		b.Helper()
		for _, size := range []int{1, 100} {
			for _, idempotent := range []bool{false, true} {
				b.Run(fmt.Sprintf("batch=%d/idempotent=%v", size, idempotent), func(b *testing.B) {
					p := newPushBench(b, e, 10)
					p.publish(b, size, idempotent)
					b.ResetTimer()
					own, servers := ownCPU(b), p.serverCPU(b)
					for range b.N {
						p.publish(b, size, idempotent)
					}
					b.ReportMetric(float64((ownCPU(b)-own).Microseconds())/float64(b.N*size), "cpu-µs/delivery")
					b.ReportMetric(float64((p.serverCPU(b)-servers).Microseconds())/float64(b.N*size), "server-cpu-µs/delivery")
					b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "deliveries/s")
				})
			}
		}
	})
}

// BenchmarkDrain claims and completes what waits, in batches of 256.
func BenchmarkDrain(b *testing.B) {
	onBothEngines(b, func(b *testing.B, e engineTest) {
		b.Helper()
		for _, subscriptions := range []int{1, 100} {
			b.Run(fmt.Sprintf("endpoints=%d", subscriptions), func(b *testing.B) {
				p := newPushBench(b, e, subscriptions)
				const round = 5120
				p.fill(b, round*b.N)
				b.ResetTimer()
				own, servers, logged := ownCPU(b), p.serverCPU(b), p.logged(b)
				claims, completes := p.drain(b, round*b.N, 256)
				n := float64(round * b.N)
				b.ReportMetric(float64((ownCPU(b)-own).Microseconds())/n, "cpu-µs/delivery")
				b.ReportMetric(float64((p.serverCPU(b)-servers).Microseconds())/n, "server-cpu-µs/delivery")
				b.ReportMetric(float64(p.logged(b)-logged)/n, "wal-bytes/delivery")
				b.ReportMetric(n/b.Elapsed().Seconds(), "deliveries/s")
				b.ReportMetric(float64(claims.Microseconds())/n, "claim-µs/delivery")
				b.ReportMetric(float64(completes.Microseconds())/n, "complete-µs/delivery")
			})
		}
	})
}

// logged is how many bytes PostgreSQL has written to its log.
func (p *pushBench) logged(tb testing.TB) (bytes int64) {
	tb.Helper()
	if p.pool != nil {
		require.NoError(tb, p.pool.QueryRow(tb.Context(), `SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&bytes))
	}
	return bytes
}

// ownCPU is the processor time that this process has used.
func ownCPU(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// serverCPU is the processor time that PostgreSQL has used for the connections
// of the database.
func (p *pushBench) serverCPU(tb testing.TB) (total time.Duration) {
	tb.Helper()
	if p.pool == nil {
		return 0
	}
	rows, err := p.pool.Query(tb.Context(), `SELECT pid FROM pg_stat_activity WHERE datname = current_database()`)
	require.NoError(tb, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(tb, err)
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		require.NoError(tb, err)
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):]))
		for _, ticks := range fields[12:14] { // utime and stime, in hundredths of a second
			n, err := strconv.Atoi(ticks)
			require.NoError(tb, err)
			total += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return total
}
