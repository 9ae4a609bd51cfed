package pusher

import (
	"slices"
	"time"
)

// idleWorkers is for how long a worker waits for work. Their stacks have grown
// already, so they are kept a while.
const idleWorkers = 10 * time.Second

// worker is a goroutine that delivers, one delivery at a time.
type worker struct {
	next  chan *item // nil ends it
	since time.Time  // when it began to wait
}

// dispatch hands an item to a worker, or lets it wait for one.
func (s *scheduler) dispatch(it *item, now time.Time) {
	workers := s.settings().Workers
	switch {
	case it.lane.free(workers) <= 0:
		it.lane.held = append(it.lane.held, it)
	case s.running >= workers || s.stopping:
		s.queue.push(it)
	default:
		s.start(it, now)
		if n := len(s.idle) - 1; n >= 0 {
			w := s.idle[n]
			s.idle = s.idle[:n]
			w.next <- it
			return
		}
		w := &worker{next: make(chan *item, 1)}
		s.workers.Go(func() { s.begin(w, it) })
	}
}

// start counts an item as under way.
func (s *scheduler) start(it *item, now time.Time) {
	if it.lane.running == 0 {
		it.lane.progress = now
	}
	it.lane.running++
	s.running++
}

// pick is what a worker does next that has just served a lane: what that one
// holds, or the next of the queue. Nil is nothing.
func (s *scheduler) pick(l *lane, now time.Time) *item {
	workers := s.settings().Workers
	if s.stopping {
		return nil
	}
	if s.running >= workers { // there were more of them before
		for l.running == 0 && len(l.held) > 0 { // nobody would come back to it
			s.queue.push(l.held[0])
			l.held = l.held[1:]
		}
		return nil
	}
	if len(l.held) > 0 && l.free(workers) > 0 {
		it := l.held[0]
		l.held = l.held[1:]
		s.start(it, now)
		return it
	}
	for s.queue.size() > 0 {
		it := s.queue.pop()
		if it.lane.free(workers) > 0 {
			s.start(it, now)
			return it
		}
		it.lane.held = append(it.lane.held, it)
	}
	return nil
}

// work delivers an item, and then others, until there are none for a while.
func (p *Pusher) work(w *worker, it *item) {
	for it != nil {
		o := p.deliver(it)
		p.completer.add(o)
		var last bool
		if it, last = p.finish(w, o); last {
			p.completer.nudge()
		}
		if it == nil {
			it = <-w.next
		}
	}
}

// finish learns from what became of an item, and returns the next one of the
// worker. last says that nothing is under way any more.
func (p *Pusher) finish(w *worker, o *outcome) (next *item, last bool) {
	s, now := p.scheduler, p.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	l := o.item.lane
	l.running--
	s.running--
	if o.attempted {
		p.learn(l, o, now)
	}
	next = s.pick(l, now)
	last = s.running == 0
	switch {
	case next != nil:
	case s.stopping:
		close(w.next)
	default:
		w.since = now
		s.idle = append(s.idle, w)
	}
	if s.ring.size()+s.backlog.size() > 0 {
		s.nudge()
	}
	return next, last
}

// learn takes from an attempt how the endpoint does.
func (p *Pusher) learn(l *lane, o *outcome, now time.Time) {
	s := p.scheduler
	l.took(o.Attempt.Duration, o.answering, now)
	s.move(l, 0, now)
	switch o.verdict {
	case arrived:
		l.circuit.works()
		if l.health.succeeded() {
			p.marker.add(mark{app: o.item.work.App, subscription: l.number})
		}
		return
	case rejected:
		if o.Attempt.Class == ClassKey {
			return
		}
		l.circuit.works()
	case throttled:
		l.circuit.throttles(now, o.retryAfter, s.random())
	case broken:
		l.circuit.fails(now, s.random())
	case gone:
		// What was sent before somebody resumed it says nothing any more. It may
		// have been read again meanwhile without a change of its own.
		if !l.health.disabled && o.endpoint.UpdatedAt.Equal(l.endpoint.UpdatedAt) {
			l.health.disabled = true
			p.marker.add(mark{app: o.item.work.App, subscription: l.number, disable: "the endpoint answered 410 Gone"})
		}
		return
	}
	note, disable := l.health.failed(now, s.settings().DisableAfter)
	if note || disable {
		m := mark{app: o.item.work.App, subscription: l.number, since: l.health.since}
		if disable {
			m.disable = "no success since " + l.health.since.UTC().Format(time.RFC3339) + "; at last: " + o.Attempt.Error
		}
		p.marker.add(m)
	}
}

// dismiss ends workers that have waited for long. The last one that began to wait
// is the first to go on, so the others are at the front.
func (s *scheduler) dismiss() {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.idle) && now.Sub(s.idle[n].since) > idleWorkers {
		close(s.idle[n].next)
		n++
	}
	s.idle = slices.Delete(s.idle, 0, n)
}

// stop takes back what no worker has begun, and begins nothing any more. Workers
// end after what they do.
func (s *scheduler) stop() []*item {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	for _, w := range s.idle {
		close(w.next)
	}
	s.idle = nil
	var left []*item
	for s.queue.size() > 0 {
		left = append(left, s.queue.pop())
	}
	for _, l := range s.lanes {
		left = append(left, l.held...)
		l.held = nil
	}
	return left
}
