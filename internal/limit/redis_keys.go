package limit

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"
)

const (
	// bucketLength is the granularity of forgetting nonces in Redis, in seconds.
	bucketLength = 900
	// longestLife is the longest time a nonce can be remembered, in seconds:
	// every bucket that may be live by then is searched by each call.
	longestLife = 3600
	// bucketMargin is how long a bucket outlives its end, for nodes whose
	// clocks run behind that of the node which began it.
	bucketMargin = 60
	// maxKeys is the most keys one call names.
	maxKeys = MaxChecks + longestLife/bucketLength + 2
)

// A key is the prefix, the app's number as the hash tag, so that all keys of an
// app share a slot, and what it holds:
//
//	op:{42}:1          the app's own rate and quotas (Scope 1)
//	op:{42}:2:9f3c01   the app's use of one API
//	op:{42}:n:1789200  the nonces whose bucket ends then
//
// Limits that span apps have a tag of their own, for they live anywhere:
// op:{4:9f3c01}.

// appendKey appends the key of a counter.
func appendKey(dst []byte, prefix string, k Key) []byte {
	dst = append(append(dst, prefix...), '{')
	if k.Scope.spansApps() {
		dst = strconv.AppendUint(dst, uint64(k.Scope), 10)
		if k.Sub != 0 || k.App != 0 {
			dst = strconv.AppendUint(append(dst, ':'), k.Sub, 16)
		}
		if k.App != 0 {
			dst = strconv.AppendUint(append(dst, ':'), k.App, 10)
		}
		return append(dst, '}')
	}
	dst = strconv.AppendUint(dst, k.App, 10)
	dst = strconv.AppendUint(append(dst, "}:"...), uint64(k.Scope), 10)
	if k.Sub != 0 {
		dst = strconv.AppendUint(append(dst, ':'), k.Sub, 16)
	}
	return dst
}

// spansApps tells the scopes whose counters many apps share.
func (s Scope) spansApps() bool { return s == ScopeAPI || s == ScopePlatform }

// appendNonceKey appends the key of the bucket with that end.
func appendNonceKey(dst []byte, prefix string, app uint64, end int64) []byte {
	dst = append(append(dst, prefix...), '{')
	dst = strconv.AppendUint(dst, app, 10)
	return strconv.AppendInt(append(dst, "}:n:"...), end, 10)
}

// buckets are the ends of the buckets that one call searches: its own first.
type buckets struct {
	ends [longestLife/bucketLength + 2]int64
	n    int
}

// liveBuckets finds the bucket of a nonce and all others that may hold it: a
// repetition may come with another expiry.
func liveBuckets(now, expiry time.Time) (b buckets, err error) {
	sec := expiry.Unix()
	if expiry.Nanosecond() > 0 {
		sec++
	}
	first := now.Unix() - int64(skew/time.Second) + 1 // as MemoryNonces keeps them
	sec = max(sec, now.Unix()+1)
	last := now.Unix() + longestLife + 1 // clocks have fractions
	if sec > last {
		return b, fmt.Errorf("a nonce is to be remembered for %v; at most %v can be promised",
			expiry.Sub(now).Round(time.Second), longestLife*time.Second)
	}
	own := bucketEnd(sec)
	b.ends[0], b.n = own, 1
	for end := bucketEnd(first); end <= bucketEnd(last); end += bucketLength {
		if end != own {
			b.ends[b.n] = end
			b.n++
		}
	}
	return b, nil
}

func bucketEnd(sec int64) int64 { return (sec + bucketLength - 1) / bucketLength * bucketLength }

// nonceMember is what stands for a nonce in its set: SHA-256 over app and id,
// cut to 128 bits. It needs no secret key, unlike the tables of MemoryNonces: a
// set belongs to one app, an id gets in only with that app's valid signature,
// and Redis hashes members with a key of its own. An app that finds two ids
// that collide can only refuse itself one call.
func nonceMember(app uint64, id []byte) [16]byte {
	var buf [256]byte // enough for ids of 248 bytes; longer ones allocate
	in := binary.BigEndian.AppendUint64(buf[:0], app)
	in = append(in, id...)
	sum := sha256.Sum256(in)
	return [16]byte(sum[:16])
}
