package pusher

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	// maxGather is how long a completion waits for others at the most, enough
	// how many are saved without waiting, maxSaved how many at once.
	maxGather = 2 * time.Millisecond
	enough    = 256
	maxSaved  = 512
	// saveTimeout bounds one call of the store.
	saveTimeout = 10 * time.Second
)

// completer saves what became of deliveries, many at a time.
type completer struct {
	kick chan struct{}

	mu      sync.Mutex
	pending []*outcome
	closed  bool
}

func newCompleter() *completer { return &completer{kick: make(chan struct{}, 1)} }

// add takes an outcome. It never blocks: what is pending was claimed, and claims
// are bounded.
func (c *completer) add(outcomes ...*outcome) {
	c.mu.Lock()
	c.pending = append(c.pending, outcomes...)
	n := len(c.pending)
	c.mu.Unlock()
	if n <= len(outcomes) || n >= enough {
		c.nudge()
	}
}

func (c *completer) nudge() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// close lets the completer end once all is saved.
func (c *completer) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.nudge()
}

func (c *completer) size() (n int, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending), c.closed
}

func (c *completer) take() []*outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.pending), maxSaved)
	out := c.pending[:n:n]
	c.pending = c.pending[n:]
	if len(c.pending) == 0 {
		c.pending = nil
	}
	return out
}

// complete saves outcomes until the completer is closed and all are saved. ctx
// bounds it then.
func (p *Pusher) complete(ctx context.Context) {
	c := p.completer
	patience := time.NewTimer(time.Hour)
	defer patience.Stop()
	for {
		n, closed := c.size()
		switch {
		case n > 0:
			p.gather(patience)
			p.save(ctx, c.take())
		case closed:
			return
		default:
			<-c.kick
		}
	}
}

// gather waits for more outcomes while requests are under way, a little.
func (p *Pusher) gather(patience *time.Timer) {
	patience.Reset(maxGather)
	for {
		n, closed := p.completer.size()
		if n >= enough || closed || !p.scheduler.busy() {
			return
		}
		select {
		case <-p.completer.kick:
		case <-patience.C:
			return
		}
	}
}

// save saves outcomes. While the store fails it tries again, until the leases are
// over: then the deliveries are due again, for any node.
func (p *Pusher) save(ctx context.Context, batch []*outcome) {
	pause := time.Duration(0)
	for len(batch) > 0 {
		done := make([]Completion, len(batch))
		for i, o := range batch {
			done[i] = o.Completion
		}
		attempt, cancel := context.WithTimeout(ctx, saveTimeout)
		had, err := p.options.Store.Complete(attempt, done)
		cancel()
		if err == nil && len(had) == len(batch) {
			p.saved(batch, had)
			return
		}
		if err == nil {
			err = errors.New("the store did not tell about all of them")
		}
		p.report("saving what became of deliveries", err)
		if !errors.Is(err, platform.ErrUnavailable) && ctx.Err() == nil {
			if len(batch) == 1 {
				p.saved(batch, []bool{false})
				return
			}
			p.save(ctx, batch[:len(batch)/2]) // one of them is the reason
			batch = batch[len(batch)/2:]
			continue
		}
		pause = min(max(2*pause, firstPause), time.Second)
		sleep(ctx, spread(pause, p.scheduler.random()))
		batch = p.leased(ctx, batch)
	}
}

// leased drops the outcomes whose lease is over; all of them once ctx has ended.
func (p *Pusher) leased(ctx context.Context, batch []*outcome) []*outcome {
	now := p.now()
	var left, over []*outcome
	for _, o := range batch {
		if ctx.Err() == nil && now.Before(o.item.until) {
			left = append(left, o)
		} else {
			over = append(over, o)
		}
	}
	p.saved(over, make([]bool, len(over)))
	return left
}

// saved hears which outcomes the store took; the others had been lost.
func (p *Pusher) saved(batch []*outcome, had []bool) {
	s, now := p.scheduler, p.now()
	s.mu.Lock()
	for i, ours := range had {
		o := batch[i]
		l := o.item.lane
		s.move(l, -1, now)
		// The completion may have let others of its key be due, or itself: a
		// manual push may be owed still.
		if l.due || l.again || o.Ordered || o.item.work.Cause == Manual || o.State == Pending && o.Wait == 0 {
			s.ready(l)
		}
		if l.claimed == 0 {
			l.again = false
		}
		if ours && o.State == Pending && o.Wait > 0 {
			s.timers.add(now.Add(o.Wait+time.Millisecond), l.number)
		}
	}
	s.mu.Unlock()
	s.nudge()
	for i, ours := range had {
		p.count(batch[i], ours)
	}
}

// busy tells whether requests are under way.
func (s *scheduler) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running > 0
}

// sleep waits, or less if ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
