package pusher

import (
	"context"
	"time"
)

const (
	// scanEvery is how often the store is asked which subscriptions have
	// deliveries, in case a wake was missed; rescueEvery the same for leases
	// that have ended.
	scanEvery   = 5 * time.Second
	rescueEvery = 3 * time.Second
	// rescued is how many deliveries are rescued at once.
	rescued = 500
	// watchTimeout bounds one of these questions.
	watchTimeout = 10 * time.Second
	// missedEvery is how often all subscribers are loaded at the most because
	// somebody named one that is not known.
	missedEvery = 30 * time.Second
)

// scan asks which subscriptions have deliveries until ctx ends: at start, every
// few seconds, and when somebody says that any may have some.
func (p *Pusher) scan(ctx context.Context) {
	var loaded time.Time
	for ctx.Err() == nil {
		if !p.current.Load().Off {
			p.report("looking for deliveries that wait", p.look(ctx))
			p.scheduler.forget()
			p.scheduler.dismiss()
			if now := p.now(); p.scheduler.takeMissed() && now.Sub(loaded) > missedEvery {
				loaded = now
				p.report("loading subscribers", p.Reload(ctx))
			}
		}
		p.pause(ctx, scanEvery, p.anyone)
	}
}

// look asks once.
func (p *Pusher) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	waiting, err := p.options.Store.Waiting(ctx)
	if err != nil {
		return err
	}
	now := p.now()
	var due []uint64
	for _, w := range waiting {
		if w.Due.After(now) {
			p.scheduler.expect(w.Subscription, w.Due, now)
		} else {
			due = append(due, w.Subscription)
		}
	}
	p.scheduler.wake(due...)
	return nil
}

// rescue makes deliveries due again whose lease has ended, until ctx ends.
func (p *Pusher) rescue(ctx context.Context) {
	for ctx.Err() == nil {
		again := false
		if !p.current.Load().Off {
			again = p.rescueOnce(ctx)
		}
		if !again {
			p.pause(ctx, rescueEvery, nil)
		}
	}
}

// rescueOnce tells whether there may be more to rescue.
func (p *Pusher) rescueOnce(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	n, subscriptions, err := p.options.Store.Rescue(ctx, rescued)
	p.report("looking for deliveries whose lease ended", err)
	if err != nil || n == 0 {
		return false
	}
	p.stats.rescued.Add(uint64(n))
	p.scheduler.wake(subscriptions...)
	return n >= rescued
}

// pause waits for a while, of a length that differs from node to node, or until
// early says something.
func (p *Pusher) pause(ctx context.Context, d time.Duration, early <-chan struct{}) {
	t := time.NewTimer(d + time.Duration((2*p.scheduler.random()-1)*jitter*float64(d)))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-early:
	}
}

// expect looks for deliveries of an endpoint when the first is due.
func (s *scheduler) expect(number uint64, at, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lane(number, now); l != nil {
		s.hold(l, at, now)
	}
}

// takeMissed tells whether an endpoint was named that is not known.
func (s *scheduler) takeMissed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	missed := s.missed
	s.missed = false
	return missed
}
