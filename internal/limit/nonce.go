package limit

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// ErrFull means that the bound on remembered nonces is reached. The call must
// be refused: it cannot be known to be fresh.
var ErrFull = errors.New("nonce store is full")

// NonceOptions are the settings of a MemoryNonces.
type NonceOptions struct {
	// Max is the number of nonces remembered at once. Default 10,000,000; a
	// nonce takes about 22 to 32 bytes.
	Max int
	// Bucket is the granularity of forgetting, in whole seconds. A nonce is
	// remembered until its expiry and up to one Bucket longer. Default 5 min.
	Bucket time.Duration
	// Rand is read once, for the key of the hash. crypto/rand serves when it
	// is nil or fails.
	Rand io.Reader
}

// NonceStats are the size of a MemoryNonces.
type NonceStats struct {
	Entries int   // nonces remembered
	Bytes   int64 // memory of the tables
}

const nonceShards = 64 // a power of two, at most 256

// MemoryNonces remembers the nonces that a single node has seen. A nonce is kept as a 16-byte
// hash in the bucket of its expiry; a bucket is dropped whole.
type MemoryNonces struct {
	key     [16]byte // so short that a usual id leaves the hash with one block
	max     int64
	bucket  int64 // seconds
	entries atomic.Int64
	swept   atomic.Int64 // the bucket of the latest sweep
	shards  [nonceShards]nonceShard
}

type nonceShard struct {
	mu      sync.Mutex
	buckets []nonceBucket // few: the nonces' lifetime divided by the bucket's length
}

type nonceBucket struct {
	end int64 // Unix seconds; nothing in here expires later
	set hashSet
}

// NewMemoryNonces returns an empty store. It starts no goroutine.
func NewMemoryNonces(o NonceOptions) *MemoryNonces {
	if o.Max <= 0 {
		o.Max = 10_000_000
	}
	if o.Bucket <= 0 {
		o.Bucket = 5 * time.Minute
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	n := &MemoryNonces{max: int64(o.Max), bucket: max(1, int64(o.Bucket/time.Second))}
	if _, err := io.ReadFull(o.Rand, n.key[:]); err != nil {
		_, _ = rand.Read(n.key[:]) // documented never to fail
	}
	return n
}

// Use records id for app until expiry. It returns false if that id was used
// before, and ErrFull if it is new but cannot be recorded. An id whose expiry has passed is still recorded, until
// the end of the current bucket: no use goes unrecorded.
func (n *MemoryNonces) Use(_ context.Context, now time.Time, app uint64, id []byte, expiry time.Time) (bool, error) {
	if current := n.current(now); current != n.swept.Load() {
		n.Sweep(now)
		n.swept.Store(current)
	}
	h := n.hash(app, id)
	end := n.end(now, expiry)
	s := &n.shards[h[0]%nonceShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	// Another expiry may come with the same id, so every bucket is searched.
	for i := range s.buckets {
		if s.buckets[i].set.contains(h) {
			return false, nil
		}
	}
	if n.entries.Add(1) > n.max {
		n.entries.Add(-1)
		return false, ErrFull
	}
	s.bucket(end).insert(h)
	return true, nil
}

// Sweep drops the buckets that have expired and returns the number of nonces
// forgotten. Use does so by itself when a bucket ends; an owner may call Sweep
// to free the memory of an idle node.
func (n *MemoryNonces) Sweep(now time.Time) int {
	dropped := 0
	for i := range n.shards {
		dropped += n.shards[i].sweep(lastEnd(now))
	}
	n.entries.Add(-int64(dropped))
	return dropped
}

// Stats locks one shard after the other.
func (n *MemoryNonces) Stats() NonceStats {
	stats := NonceStats{Entries: int(n.entries.Load())}
	for i := range n.shards {
		s := &n.shards[i]
		s.mu.Lock()
		for j := range s.buckets {
			stats.Bytes += s.buckets[j].set.bytes()
		}
		s.mu.Unlock()
	}
	return stats
}

// hash is SHA-256 over key, app and id, cut to 128 bits. The secret key keeps
// an outsider from preparing ids that collide or crowd one part of a table, and
// cutting the output rules out length extension. hash/maphash would be faster,
// but is not made to withstand an adversary, and here a collision refuses a
// good call. The key and the app have a fixed length, so the input is
// unambiguous.
func (n *MemoryNonces) hash(app uint64, id []byte) hash128 {
	var buf [256]byte // enough for ids of 232 bytes; longer ones allocate
	in := append(buf[:0], n.key[:]...)
	in = binary.BigEndian.AppendUint64(in, app)
	in = append(in, id...)
	sum := sha256.Sum256(in)
	return newHash128(sum[:])
}

// end is the end of the bucket for a nonce, at or after expiry and after now.
func (n *MemoryNonces) end(now, expiry time.Time) int64 {
	const farAhead = 1 << 40 // 36,000 years: keeps the sum below within int64
	sec := expiry.Unix()
	if expiry.Nanosecond() > 0 {
		sec++
	}
	sec = min(max(sec, now.Unix()+1), farAhead)
	return (sec + n.bucket - 1) / n.bucket * n.bucket
}

// current numbers the stretches of time in which no bucket ends.
func (n *MemoryNonces) current(now time.Time) int64 { return lastEnd(now) / n.bucket }

// lastEnd is the latest end at which a bucket has expired. A caller that is
// late by the usual skew must still find it.
func lastEnd(now time.Time) int64 { return now.Unix() - int64(skew/time.Second) }

// bucket returns the set of the bucket with that end, a new one if need be.
func (s *nonceShard) bucket(end int64) *hashSet {
	for i := range s.buckets {
		if s.buckets[i].end == end {
			return &s.buckets[i].set
		}
	}
	s.buckets = append(s.buckets, nonceBucket{end: end})
	return &s.buckets[len(s.buckets)-1].set
}

func (s *nonceShard) sweep(lastEnd int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	dropped, kept := 0, 0
	for _, b := range s.buckets {
		if b.end <= lastEnd {
			dropped += b.set.n
			continue
		}
		s.buckets[kept] = b
		kept++
	}
	clear(s.buckets[kept:]) // the array must not hold on to the tables
	s.buckets = s.buckets[:kept]
	return dropped
}
