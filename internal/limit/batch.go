package limit

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// batchers is the number of pipelines under way at once. Fewer make larger
	// batches, which cost both sides less for each command.
	batchers = 2
	// maxBatch bounds the commands of one pipeline.
	maxBatch = 256
	// maxQueued bounds the commands that wait for a pipeline.
	maxQueued = 1 << 16
)

var (
	errTimeout = errors.New("redis did not answer in time")
	errQueue   = errors.New("too many calls wait for redis")
	errClosed  = errors.New("the ledger is closed")
)

// command is a script call on its way. go-redis must never send it twice.
type command struct {
	*redis.StringCmd
	script *script
	args   []any
	number int64           // of keys
	keys   [maxKeys]string // args point into it
	names  []byte
	packed packed
	done   chan struct{}
	timer  *time.Timer
}

// NoRetry implements redis.Cmder.
func (*command) NoRetry() bool { return true }

// packed is a script's argument. Its pointer is handed over, for an interface
// that holds a slice costs an allocation.
type packed []byte

// MarshalBinary implements encoding.BinaryMarshaler.
func (p *packed) MarshalBinary() ([]byte, error) { return *p, nil }

var commands = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &command{done: make(chan struct{}, 1), timer: t}
}}

func newCommand(s *script) *command {
	c := commands.Get().(*command)
	c.script, c.names, c.packed = s, c.names[:0], c.packed[:0]
	return c
}

// seal makes the command of the keys, whose names end at the given places in
// c.names, and of c.packed.
func (c *command) seal(ctx context.Context, ends []int) {
	names, start := string(c.names), 0
	c.number = int64(len(ends))
	c.args = append(c.args[:0], "evalsha", c.script.sha, &c.number)
	for i, end := range ends {
		c.keys[i] = names[start:end]
		c.args = append(c.args, &c.keys[i])
		start = end
	}
	c.args = append(c.args, &c.packed)
	c.StringCmd = redis.NewStringCmd(ctx, c.args...)
}

// pipeline puts the commands of concurrent calls into common round trips.
//
// It is our own, and not go-redis's experimental auto-pipelining, because of
// what calls need when Redis does not answer: a call stops waiting after the
// timeout while its command stays under way, a client that went away disturbs
// nobody, and nothing is sent twice. It also takes half the time of the
// processor and a quarter of the allocations.
type pipeline struct {
	client  redis.UniversalClient
	timeout time.Duration
	queue   chan *command
	closed  chan struct{}
	wg      sync.WaitGroup
}

func newPipeline(client redis.UniversalClient, timeout time.Duration) *pipeline {
	p := &pipeline{client: client, timeout: timeout, queue: make(chan *command, maxQueued), closed: make(chan struct{})}
	for range batchers {
		p.wg.Go(p.run)
	}
	return p
}

func (p *pipeline) close() {
	close(p.closed)
	p.wg.Wait()
}

// do runs the command and returns its reply. It gives the command back, and
// waits no longer than the timeout.
func (p *pipeline) do(ctx context.Context, c *command) (string, error) {
	select {
	case p.queue <- c:
	default:
		return "", errQueue
	}
	c.timer.Reset(p.timeout)
	select {
	case <-c.done:
		c.timer.Stop()
		reply, err := c.Val(), c.Err()
		c.StringCmd = nil
		commands.Put(c)
		return reply, err
	case <-c.timer.C:
		return "", errTimeout
	case <-ctx.Done():
		return "", ctx.Err()
	case <-p.closed:
		return "", errClosed
	}
}

func (p *pipeline) run() {
	batch := make([]*command, 0, maxBatch)
	for {
		select {
		case <-p.closed:
			return
		case c := <-p.queue:
			batch = append(batch[:0], c)
		}
		for more := true; more && len(batch) < maxBatch; {
			select {
			case c := <-p.queue:
				batch = append(batch, c)
			default:
				more = false
			}
		}
		p.exec(batch)
		for i, c := range batch {
			batch[i] = nil
			c.done <- struct{}{}
		}
	}
}

// exec runs the commands in one round trip. Those whose script the server does
// not know, and has not run, it runs once more with the source.
func (p *pipeline) exec(batch []*command) {
	ctx, cancel := context.WithTimeout(context.Background(), p.timeout)
	defer cancel()
	if p.send(ctx, batch) == nil {
		return
	}
	var again []*command
	for _, c := range batch {
		if err := c.Err(); err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
			c.args[0], c.args[1] = "eval", c.script.source
			c.SetErr(nil)
			again = append(again, c)
		}
	}
	if len(again) > 0 {
		_ = p.send(ctx, again) // each command has its error
	}
}

func (p *pipeline) send(ctx context.Context, batch []*command) error {
	pipe := p.client.Pipeline()
	for _, c := range batch {
		_ = pipe.Process(ctx, c) // only puts it into the pipeline
	}
	_, err := pipe.Exec(ctx)
	if err != nil && !slices.ContainsFunc(batch, func(c *command) bool { return c.Err() != nil }) {
		// A connection that is refused leaves the commands as they were.
		for _, c := range batch {
			c.SetErr(err)
		}
	}
	return err
}
