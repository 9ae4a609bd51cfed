package limit

import (
	"context"
	_ "embed"
	"fmt"
	"sync"
	"time"
)

//go:embed lease.lua
var leaseSource string

var leaseScript = newScript(valueSource + leaseSource)

// leased takes one call from the lease of a check. It allocates nothing and
// waits for nothing while the lease lasts.
func (r *Redis) leased(ctx context.Context, now time.Time, check *Check, t *tally) (ticket, bool, error) {
	nano := clamp(now).UnixNano()
	var timeout *time.Timer
	denied := false // Redis was asked on behalf of this call
	for {
		l := r.leases.of(check.Key)
		l.mu.Lock()
		if l.dead {
			l.mu.Unlock()
			continue
		}
		l.fit(ctx, r, check, nano)
		if l.tokens > 0 {
			l.tokens--
			l.used++
			l.latest = nano
			l.tally(t, nano)
			if l.slice >= 4 && l.tokens < l.slice/2 && l.fetch == nil && nano >= l.blocked {
				r.startFetch(ctx, l, nano)
			}
			paid := ticket{l, l.epoch}
			l.mu.Unlock()
			return paid, true, nil
		}
		if nano < l.blocked || denied {
			l.latest = nano
			l.refuse(t, nano)
			l.mu.Unlock()
			return ticket{}, false, nil
		}
		l.waiting++
		f := l.fetch
		if f == nil {
			f = r.startFetch(ctx, l, nano)
		}
		l.mu.Unlock()
		if timeout == nil {
			timeout = time.NewTimer(r.options.Timeout)
			defer timeout.Stop()
		}
		var err error
		select {
		case <-f.done:
			err, denied = f.err, f.denied
		case <-timeout.C:
			err = errTimeout
		case <-ctx.Done():
			err = ctx.Err()
		}
		l.mu.Lock()
		l.waiting--
		l.mu.Unlock()
		if err != nil {
			return ticket{}, false, fmt.Errorf("taking a lease: %w", err)
		}
		if !r.injected {
			nano = clamp(r.now()).UnixNano()
		}
	}
}

// fit drops what a lease holds of a limit that was changed, or of a window
// that is over.
func (l *lease) fit(ctx context.Context, r *Redis, check *Check, now int64) {
	if l.check != *check {
		if l.tokens > 0 {
			back := rest{l.check, l.tokens, l.windows}
			r.background(func() { r.giveBack(context.WithoutCancel(ctx), []rest{back}) })
		}
		l.check, l.tokens, l.ends, l.blocked, l.slice = *check, 0, 0, 0, 0
		l.epoch++
	}
	if l.ends != 0 && now >= l.ends {
		l.tokens, l.ends, l.blocked = 0, 0, 0
		l.epoch++
	}
}

// startFetch asks Redis for more in the background. l is locked.
func (r *Redis) startFetch(ctx context.Context, l *lease, now int64) *fetch {
	ctx = context.WithoutCancel(ctx) // a fetch belongs to no single caller: it ends with the timeout
	bound := l.check.bound(r.nodes.known.Load())
	l.slice = l.want(now, bound)
	ask := max(l.slice-l.tokens, 0) + l.waiting
	f := &fetch{done: make(chan struct{})}
	l.fetch = f
	check, epoch := l.check, l.epoch
	started := r.background(func() {
		var g grant
		g, f.err = r.take(ctx, time.Unix(0, now), &check, max(ask, 1))
		if f.err != nil {
			r.failed(ctx, f.err, r.counterTag(check.Key))
		}
		l.mu.Lock()
		current := l.epoch == epoch
		if f.err == nil && current {
			l.accept(&g, now)
			f.denied = g.tokens == 0
		}
		l.fetch = nil
		l.mu.Unlock()
		close(f.done)
		if !current && g.tokens > 0 {
			r.giveBack(ctx, []rest{{check, g.tokens, g.windows}})
		}
	})
	if !started {
		l.fetch, f.err = nil, errClosed
		close(f.done)
	}
	return f
}

// background runs f in a goroutine that Close waits for; not after Close.
func (r *Redis) background(f func()) bool {
	r.closing.RLock()
	defer r.closing.RUnlock()
	if r.closed {
		return false
	}
	r.wg.Go(f)
	return true
}

// accept adds what was granted. asked is when the shared state was that of g.
func (l *lease) accept(g *grant, asked int64) {
	if l.check.Quota.Day == 0 {
		g.windows.day = span{}
	}
	if l.check.Quota.Month == 0 {
		g.windows.month = span{}
	}
	if g.windows != l.windows {
		// The tokens of the window before are worthless in this one.
		if l.windows != (windows{}) {
			l.tokens = 0
			l.epoch++
		}
		l.windows = g.windows
	}
	l.ends = 0
	if l.check.Quota.Day > 0 {
		l.ends = asked + (g.windows.day.end-g.now.Unix())*int64(time.Second) - int64(g.now.Nanosecond())
	} else if l.check.Quota.Month > 0 {
		l.ends = asked + (g.windows.month.end-g.now.Unix())*int64(time.Second) - int64(g.now.Nanosecond())
	}
	l.tokens += g.tokens
	l.seen, l.found, l.used = asked, g.found, 0
	if g.tokens == 0 {
		l.deny(asked)
	}
}

// grant is a reply of lease.lua.
type grant struct {
	now     time.Time
	windows windows
	tokens  int64
	found   found // after them
}

// take takes up to n calls of a limit.
func (r *Redis) take(ctx context.Context, now time.Time, check *Check, n int64) (g grant, err error) {
	ahead := r.ahead.Load()
	for range maxWindows {
		w := r.calendar.at(clamp(now.Add(time.Duration(ahead))))
		reply, err := r.leaseCall(ctx, now, check, n, &w)
		if err != nil {
			return g, err
		}
		var o outcome
		if err := o.parse(reply, 0); err == nil && o.verdict == verdictWindow {
			ahead = int64(o.now.Sub(now))
			r.ahead.Store(ahead)
			continue
		}
		if len(reply) != 7*8 || o.parse(reply[:24], 0) != nil {
			return g, fmt.Errorf("%w: a lease", errReply)
		}
		number := func(i int) int64 { return int64(double(reply, i)) }
		return grant{o.now, w, number(3), found{number(4), number(5), number(6)}}, nil
	}
	return g, fmt.Errorf("%w: its clock is in no window", errReply)
}

func (r *Redis) leaseCall(ctx context.Context, now time.Time, check *Check, n int64, w *windows) (string, error) {
	r.counters.leases.Add(1)
	sec, nano := 0.0, 0.0
	if r.injected {
		sec, nano = float64(now.Unix()), float64(now.Nanosecond())
	}
	one := charges{windows: *w, checks: []Check{*check}}
	arg := appendDoubles(nil, sec, nano, float64(n))
	arg = one.appendWindows(arg)
	arg = one.appendChecks(arg)
	return r.call(ctx, leaseScript, string(appendKey(nil, r.options.Prefix, check.Key)), arg)
}

// giveBack returns what was leased and not used. What cannot be returned is
// lost: a rate regains it with time, a quota's window does not.
func (r *Redis) giveBack(ctx context.Context, rests []rest) {
	var wg sync.WaitGroup
	parallel := make(chan struct{}, 64)
	for i := range rests {
		if ctx.Err() != nil || r.circuit.open.Load() {
			break
		}
		parallel <- struct{}{}
		wg.Go(func() {
			back := &rests[i]
			if _, err := r.leaseCall(ctx, r.now(), &back.check, -back.tokens, &back.windows); err != nil {
				r.failed(ctx, err, r.counterTag(back.check.Key))
			}
			<-parallel
		})
	}
	wg.Wait()
}
