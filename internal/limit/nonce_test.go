package limit

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func use(t require.TestingT, n *MemoryNonces, now time.Time, app uint64, id string, expiry time.Time) bool {
	fresh, err := n.Use(context.Background(), now, app, []byte(id), expiry)
	require.NoError(t, err)
	return fresh
}

func TestNonceIsAcceptedOnce(t *testing.T) {
	n := NewMemoryNonces(NonceOptions{})
	expiry := noon.Add(10 * time.Minute)
	require.True(t, use(t, n, noon, 1, "a", expiry))
	require.False(t, use(t, n, noon, 1, "a", expiry))
	require.False(t, use(t, n, noon, 1, "a", expiry.Add(time.Hour)), "another expiry")
	require.False(t, use(t, n, noon.Add(9*time.Minute), 1, "a", expiry.Add(-9*time.Minute)), "another expiry")
	require.True(t, use(t, n, noon, 2, "a", expiry), "another app")
	require.True(t, use(t, n, noon, 1, "b", expiry))
	require.True(t, use(t, n, noon, 1, "", expiry))
	require.False(t, use(t, n, noon, 1, "", expiry))

	long := string(bytes.Repeat([]byte("x"), 5000))
	require.True(t, use(t, n, noon, 1, long, expiry))
	require.False(t, use(t, n, noon, 1, long, expiry))
	require.True(t, use(t, n, noon, 1, long+"y", expiry))

	require.False(t, use(t, n, expiry.Add(-1), 1, "b", expiry), "the last ns")
	require.True(t, use(t, n, expiry.Add(5*time.Minute+skew), 1, "b", expiry.Add(time.Hour)), "a bucket later")
}

func TestNonceAfterItsExpiryIsRecordedToo(t *testing.T) {
	n := NewMemoryNonces(NonceOptions{})
	require.True(t, use(t, n, noon, 1, "a", noon.Add(-time.Hour)))
	require.False(t, use(t, n, noon, 1, "a", noon.Add(-time.Hour)))
	require.False(t, use(t, n, noon.Add(2*skew), 1, "a", noon.Add(-time.Hour)))
}

func TestLateCallerFindsItsNonce(t *testing.T) {
	n := NewMemoryNonces(NonceOptions{Bucket: time.Second})
	expiry := noon.Add(10500 * time.Millisecond)
	require.True(t, use(t, n, noon, 1, "a", expiry))
	require.True(t, use(t, n, expiry.Add(skew-2), 1, "b", expiry.Add(time.Minute)))
	require.False(t, use(t, n, expiry.Add(-1), 1, "a", expiry))
}

func TestNonceBound(t *testing.T) {
	n := NewMemoryNonces(NonceOptions{Max: 1000, Bucket: time.Minute})
	id := func(i int) string { return fmt.Sprint("nonce ", i) }
	for i := range 1000 {
		require.True(t, use(t, n, noon, 1, id(i), noon.Add(time.Duration(1+i%2)*time.Minute)))
	}
	fresh, err := n.Use(context.Background(), noon, 1, []byte("one more"), noon.Add(time.Minute))
	require.ErrorIs(t, err, ErrFull)
	require.False(t, fresh)
	require.False(t, use(t, n, noon, 1, id(7), noon.Add(time.Minute)), "full, yet a repeated id is told as such")
	require.Equal(t, 1000, n.Stats().Entries)

	later := noon.Add(time.Minute + skew)
	for i := range 500 {
		require.True(t, use(t, n, later, 2, id(i), later.Add(time.Minute)), "half have expired")
	}
	_, err = n.Use(context.Background(), later, 2, []byte("one more"), later.Add(time.Minute))
	require.ErrorIs(t, err, ErrFull)

	require.Equal(t, 1000, n.Sweep(noon.Add(time.Hour)))
	require.Equal(t, NonceStats{}, n.Stats())
}

func TestNonceHashIsKeyed(t *testing.T) {
	hash := func(key byte) hash128 {
		n := NewMemoryNonces(NonceOptions{Rand: bytes.NewReader(bytes.Repeat([]byte{key}, 32))})
		return n.hash(1, []byte("id"))
	}
	first, again := hash(1), hash(1)
	require.Equal(t, first, again, "one key, one hash")
	require.NotEqual(t, hash(1), hash(2))
	broken := NewMemoryNonces(NonceOptions{Rand: iotest.ErrReader(errors.New("no entropy"))})
	require.NotEqual(t, [16]byte{}, broken.key)
}

// In sequence: never accepted twice before its expiry, always accepted when it
// is new or a bucket past its expiry.
func TestNoncesMatchTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bucket := time.Duration(rapid.IntRange(1, 100).Draw(t, "bucket")) * time.Second
		n := NewMemoryNonces(NonceOptions{Bucket: bucket})
		type name struct {
			app uint64
			id  string
		}
		expires := map[name]time.Time{}
		now := noon
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "pause")))
			who := name{rapid.Uint64Range(1, 2).Draw(t, "app"), rapid.StringMatching("[ab]{0,3}").Draw(t, "id")}
			expiry := now.Add(time.Duration(rapid.Int64Range(1, int64(3*time.Minute)).Draw(t, "life")))
			fresh := use(t, n, now, who.app, who.id, expiry)
			before, seen := expires[who]
			switch {
			case !seen || !now.Before(before.Add(bucket+skew)):
				require.True(t, fresh, "%v: new, or a bucket past %v", now, before)
			case now.Before(before):
				require.False(t, fresh, "%v: used, and good until %v", now, before)
			}
			if fresh {
				expires[who] = expiry
			}
		}
	})
}

func TestParallelUseAcceptsEachNonceOnce(t *testing.T) {
	n := NewMemoryNonces(NonceOptions{Bucket: time.Second})
	const ids = 3000
	accepted := make([]atomic.Int32, ids)
	var clock atomic.Int64
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			for i := range ids {
				i = (i + g*ids/7) % ids
				// Buckets end meanwhile, but no nonce expires.
				now := noon.Add(time.Duration(clock.Add(int64(time.Millisecond))))
				expiry := noon.Add(time.Minute + time.Duration(i%40+g)*time.Second)
				if fresh, err := n.Use(context.Background(), now, 1, fmt.Append(nil, i), expiry); err == nil && fresh {
					accepted[i].Add(1)
				}
			}
		})
	}
	wg.Wait()
	for i := range accepted {
		require.EqualValues(t, 1, accepted[i].Load(), "id %d", i)
	}
	require.Equal(t, ids, n.Stats().Entries)
}

func TestParallelUseKeepsTheBound(t *testing.T) {
	n := NewMemoryNonces(NonceOptions{Max: 500})
	var accepted atomic.Int64
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 400 {
				if fresh, err := n.Use(context.Background(), noon, uint64(g), fmt.Append(nil, i), noon.Add(time.Minute)); err == nil && fresh {
					accepted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, accepted.Load(), int64(500))
	require.GreaterOrEqual(t, accepted.Load(), int64(500-4), "a refusal may race with the last places")
	require.EqualValues(t, accepted.Load(), n.Stats().Entries)
}

func TestHashSet(t *testing.T) {
	n := NewMemoryNonces(NonceOptions{})
	var s hashSet
	for i := range 5000 {
		h := n.hash(0, fmt.Append(nil, i))
		require.False(t, s.contains(h))
		s.insert(h)
		require.True(t, s.contains(h))
		require.Less(t, s.n, len(s.slots), "a slot is free")
	}
	for i := range 5000 {
		require.True(t, s.contains(n.hash(0, fmt.Append(nil, i))))
		require.False(t, s.contains(n.hash(1, fmt.Append(nil, i))))
	}
	require.NotEqual(t, hash128{}, newHash128(make([]byte, 32)), "the zero value marks a free slot")

	// Hashes that all belong in the last slot wrap around.
	var w hashSet
	for i := range 100 {
		h := hash128{byte(i), 1, 2, 3, 4, 5, 6, 7, 255, 255, 255, 255, 255, 255, 255, 255}
		require.False(t, w.contains(h))
		w.insert(h)
		require.True(t, w.contains(h))
	}
}

func TestNonceDoesNotAllocate(t *testing.T) {
	n := NewMemoryNonces(NonceOptions{})
	id := []byte("0123456789abcdef0123456789abcdef")
	require.True(t, use(t, n, noon, 1, string(id), noon.Add(time.Minute)))
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		_, _ = n.Use(context.Background(), noon, 1, id, noon.Add(time.Minute))
	}))
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestMemoryANonce(t *testing.T) {
	for _, entries := range []int{50_000, 150_000} {
		before := heap()
		n := NewMemoryNonces(NonceOptions{})
		var id [8]byte
		for i := range entries {
			binary.BigEndian.PutUint64(id[:], uint64(i))
			_, err := n.Use(context.Background(), noon, 1, id[:], noon.Add(time.Duration(i%10)*time.Minute))
			require.NoError(t, err)
		}
		stats := n.Stats()
		require.Equal(t, entries, stats.Entries)
		perEntry := float64(heap()-before) / float64(entries)
		t.Logf("%d nonces: %.1f bytes each by the heap, %.1f by Stats", entries, perEntry, float64(stats.Bytes)/float64(entries))
		require.Less(t, perEntry, 40.0)
		require.InEpsilon(t, perEntry*float64(entries), stats.Bytes, 0.2)
		require.Equal(t, entries, n.Sweep(noon.Add(time.Hour)))
		require.Less(t, heap()-before, int64(200_000), "expired nonces keep no memory")
		runtime.KeepAlive(n)
	}
}

func TestMemoryARateCell(t *testing.T) {
	const apps = 1_000_000
	before := heap()
	m := NewMemory(MemoryOptions{})
	checks := []Check{{Rate: Rate{Requests: 1, Period: time.Minute}}}
	for i := range uint64(apps) {
		checks[0].Key = Key{Scope: ScopeApp, App: i}
		_, err := m.Take(context.Background(), noon, checks)
		require.NoError(t, err)
	}
	perCell := float64(heap()-before) / apps
	t.Logf("%d apps: %.1f bytes a cell", apps, perCell)
	require.Less(t, perCell, 100.0)
	require.Equal(t, apps, m.Sweep(noon.Add(time.Hour)))
	require.Less(t, heap()-before, int64(1_000_000), "cells at rest keep no memory")
	runtime.KeepAlive(m)
}

func BenchmarkNonce(b *testing.B) {
	ids := func(n *MemoryNonces, worker uint64, next func() bool) {
		var id [32]byte
		now := noon
		for i := uint64(0); next(); i++ {
			binary.BigEndian.PutUint64(id[:], i)
			now = now.Add(100 * time.Microsecond)
			_, _ = n.Use(context.Background(), now, worker, id[:], now.Add(10*time.Minute))
		}
	}
	b.Run("fresh", func(b *testing.B) {
		b.ReportAllocs()
		n := NewMemoryNonces(NonceOptions{Max: 1 << 30})
		ids(n, 1, b.Loop)
		s := n.Stats()
		b.ReportMetric(float64(s.Bytes)/float64(s.Entries), "B/nonce")
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		n := NewMemoryNonces(NonceOptions{Max: 1 << 30})
		var worker atomic.Uint64
		b.RunParallel(func(pb *testing.PB) { ids(n, worker.Add(1), pb.Next) })
	})
	b.Run("replay", func(b *testing.B) {
		b.ReportAllocs()
		n := NewMemoryNonces(NonceOptions{})
		id := []byte("0123456789abcdef0123456789abcdef")
		for b.Loop() {
			_, _ = n.Use(context.Background(), noon, 1, id, noon.Add(10*time.Minute))
		}
	})
}
