package limit

import (
	"crypto/rand"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// ErrDown means that Redis does not answer and calls are to be refused then.
var ErrDown = errors.New("the shared ledger does not answer")

// Failure is what happens to calls while Redis does not answer.
type Failure uint8

// The ways to live without Redis.
const (
	// FailShare lets each node allow its share of every limit on its own.
	FailShare Failure = iota
	// FailDeny refuses all calls with ErrDown.
	FailDeny
)

// Accuracy is how closely several nodes keep to one limit.
type Accuracy uint8

// The accuracies of a Redis ledger.
const (
	// Exact asks Redis at each call. Limits that span apps are leased
	// nevertheless, for they live on other servers of a cluster.
	Exact Accuracy = iota
	// Leased takes slices of every limit and spends them from memory.
	Leased
)

// RedisOptions are the settings of a Redis ledger.
type RedisOptions struct {
	// Location is the time zone of days and months. Default UTC.
	Location *time.Location
	// Accuracy is how closely the nodes keep to a limit. Default Exact.
	Accuracy Accuracy
	// LocalNonces keeps nonces in each node's memory alone: a nonce is then
	// accepted once by each node. With Leased, a call then needs no Redis.
	LocalNonces bool
	// OnFailure is what happens while Redis does not answer. Default FailShare.
	OnFailure Failure
	// Timeout bounds what a call waits for Redis. Default 250 ms.
	Timeout time.Duration
	// MaxNonces bounds the nonces remembered for one app in Redis, and those
	// of all apps in this node's memory. Default 10,000,000.
	MaxNonces int
	// Prefix begins all keys. It holds no brace. Default "op:".
	Prefix string
	// Rand is read for the node's name and the key of its nonces. Default
	// crypto/rand.
	Rand io.Reader
	// OnState is told when Redis stops answering and why, and with nil when it
	// answers again: once for each change, never from within Spend.
	OnState func(err error)
	// OnWarning is told what is wrong with the settings of Redis, once.
	OnWarning func(err error)
}

func (o *RedisOptions) setDefaults() {
	if o.Location == nil {
		o.Location = time.UTC
	}
	if o.Timeout <= 0 {
		o.Timeout = 250 * time.Millisecond
	}
	if o.MaxNonces <= 0 {
		o.MaxNonces = 10_000_000
	}
	if o.Prefix == "" {
		o.Prefix = "op:"
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.OnState == nil {
		o.OnState = func(error) {}
	}
	if o.OnWarning == nil {
		o.OnWarning = func(error) {}
	}
}

// RedisStats count what a Redis ledger did since it was opened.
type RedisStats struct {
	Scripts  uint64     // script calls for single calls
	Leases   uint64     // script calls for leases
	Errors   uint64     // calls that Redis failed to answer
	Fallback uint64     // calls decided without Redis, because it was down
	Leased   int        // limits of which this node holds a slice
	Up       bool       // Redis answers
	Nodes    int        // nodes that live, as far as known
	Nonces   NonceStats // this node's own
	Cells    int        // counters that this node holds for itself while Redis is down
}

type redisCounters struct {
	scripts, leases, errors, fallback atomic.Uint64
}

// Stats are the counters at this moment.
func (r *Redis) Stats() RedisStats {
	return RedisStats{
		Scripts:  r.counters.scripts.Load(),
		Leases:   r.counters.leases.Load(),
		Errors:   r.counters.errors.Load(),
		Fallback: r.counters.fallback.Load(),
		Leased:   r.leases.len(),
		Up:       !r.circuit.open.Load(),
		Nodes:    int(r.nodes.known.Load()),
		Nonces:   r.nonces.Stats(),
		Cells:    r.fallback.memory.Len(),
	}
}
