package limit

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// closeTimeout bounds Close.
const closeTimeout = 3 * time.Second

// Redis is the Ledger that all nodes share: Redis 6.2 or later, a single server,
// one behind sentinels, or a cluster.
//
// # Exact
//
// One script call does all that one call costs, atomically, by Redis's own
// clock; it comes to the same as Local does. The calls of one moment share
// round trips. A nonce takes about 80 bytes in Redis and is remembered until
// its expiry, at most an hour ahead, and up to 16 minutes longer.
//
// # Leased
//
// A node takes a slice of a limit, charged in advance, and spends it from
// memory. It gives back what it does not use for 3 s, or when it is closed. A
// slice is what half a second takes, or 100 calls where that is more, but at
// most a tenth of the limit divided by the number of nodes, and at least one
// call. So with n nodes, and slices of s,
//
//   - of a rate, any time T sees at most Burst + Requests*T/Period + n*s calls.
//     All slices together are at most a tenth of the burst, or n where that is
//     more, and only for the 2 s in which nodes that were just started are not
//     known to all yet can they be larger;
//   - a quota is never exceeded. A node that is killed takes its slice with it:
//     that much less can be used, of a rate until it is refilled and of a quota
//     until the window ends.
//
// A used-up limit is remembered for up to a second before Redis is asked again.
// Limits that span apps (ScopeAPI, ScopePlatform) are always leased.
//
// # Without Redis
//
// The first call that fails, or waits for longer than the timeout, opens a
// circuit: no call waits from then on, until Redis does its work again. Each
// node meanwhile allows its share of every limit, by the number of nodes last
// known (one, for a node that has never reached Redis), or refuses all calls
// with ErrDown. What it allows of quotas is added to Redis afterwards; each
// outage can therefore exceed a quota by what was used before it, and rates by
// one share. A node refuses at all times what it has seen itself, so a nonce is
// accepted at most once on each node during an outage; the same holds for the
// nonces that a failover or a restart of Redis loses.
//
// # What it needs
//
// maxmemory-policy noeviction: with any other Redis may forget limits and
// nonces. A full Redis refuses nonces, which is ErrFull. A user of its own
// needs no more than
//
//	~op:* -@all +evalsha +eval +time +mget +set +get +pttl +pexpire +sadd
//	+srem +scard +sismember +zadd +zrem +zremrangebyscore +zcard +expire
//	+hello +auth +select +ping
//
// with +cluster|slots in a cluster, and +config|get to be warned of the policy.
type Redis struct {
	options  RedisOptions
	client   redis.UniversalClient
	pipeline *pipeline
	circuit  *circuit
	calendar calendar
	nonces   *MemoryNonces
	fallback fallback
	nodes    *nodes
	leases   *leases
	owing    sync.Mutex
	owed     []QuotaCount // allowed while Redis was down and not yet added to it
	ahead    atomic.Int64 // by how much Redis's clock is ahead of ours, in ns, if it mattered yet
	now      func() time.Time
	injected bool          // the callers' clock counts, not Redis's
	kick     chan struct{} // Redis answers again
	warned   bool          // of tend
	cancel   context.CancelFunc
	wg       sync.WaitGroup // what runs of its own accord
	closing  sync.RWMutex
	closed   bool
	counters redisCounters
}

// OpenRedis opens the ledger at an address (see ParseRedisURL). A server that
// does not answer is no error: the ledger then begins as OnFailure says, and
// heals by itself. It must be closed.
func OpenRedis(address string, o RedisOptions) (*Redis, error) {
	at, err := ParseRedisURL(address)
	if err != nil {
		return nil, err
	}
	o.setDefaults()
	r := &Redis{
		options:  o,
		circuit:  newCircuit(),
		calendar: calendar{location: o.Location},
		nonces:   NewMemoryNonces(NonceOptions{Max: o.MaxNonces, Rand: o.Rand}),
		fallback: fallback{memory: NewMemory(MemoryOptions{Location: o.Location})},
		leases:   newLeases(),
		now:      time.Now,
		kick:     make(chan struct{}, 1),
	}
	if r.nodes, err = newNodes(o.Rand); err != nil {
		return nil, err
	}
	r.client = at.client(o.Timeout)
	r.pipeline = newPipeline(r.client, o.Timeout)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	if err := r.beat(ctx); err != nil {
		r.failed(ctx, err, r.nodesKey())
	}
	r.wg.Go(func() { r.circuit.guard(ctx, r.heal, r.options.OnState) })
	r.wg.Go(func() { r.tend(ctx) })
	return r, nil
}

// Close gives leases back, as far as Redis answers within a few seconds, and
// ends the ledger. Calls under way are answered as if Redis were down.
func (r *Redis) Close() error {
	if !r.halt() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if !r.circuit.open.Load() {
		r.giveBack(ctx, r.leases.retire(math.MaxInt64))
		_ = r.settle(ctx) // what cannot be told to Redis is lost with this node
		r.leave(ctx)
	}
	return r.drop()
}

// halt ends the goroutines that do things of their own accord. It returns
// false if the ledger is closed already.
func (r *Redis) halt() bool {
	r.closing.Lock()
	closed := r.closed
	r.closed = true
	r.closing.Unlock()
	if closed {
		return false
	}
	r.cancel()
	r.wg.Wait()
	return true
}

// drop lets go of Redis.
func (r *Redis) drop() error {
	r.pipeline.close()
	return r.client.Close()
}

// tend does what is to be done from time to time.
func (r *Redis) tend(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	r.warn(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.kick:
			r.warn(ctx)
		}
		r.fallback.memory.Sweep(r.now())
		if r.circuit.open.Load() {
			continue
		}
		if err := r.beat(ctx); err != nil {
			r.failed(ctx, err, r.nodesKey())
			continue
		}
		r.giveBack(ctx, r.leases.retire(r.now().Add(-leaseIdle).UnixNano()))
		if err := r.settle(ctx); err != nil {
			r.failed(ctx, err, r.nodesKey())
		}
	}
}

// failed notes a failure that has to do with the keys of a tag.
func (r *Redis) failed(ctx context.Context, err error, tag string) failure {
	kind := classify(ctx, err)
	if kind == failGone || errors.Is(err, errClosed) {
		return failGone
	}
	r.counters.errors.Add(1)
	if kind == failDown {
		r.circuit.trip(describe(err), tag)
	}
	return kind
}

// call runs a script with one key and one argument.
func (r *Redis) call(ctx context.Context, s *script, key string, arg []byte) (string, error) {
	c := newCommand(s)
	c.names = append(c.names, key...)
	c.packed = append(c.packed, arg...)
	c.seal(ctx, []int{len(c.names)})
	return r.pipeline.do(ctx, c)
}
