package pusher

import (
	"sync"
	"time"
)

const (
	// maxClaim is the largest number of deliveries of one claim, maxBuffer how
	// many are held beyond those that are posted.
	maxClaim  = 512
	maxBuffer = 512
	// maxTimers bounds the retries that are remembered; the store tells about
	// the others when their time has come.
	maxTimers = 1 << 16
	// laneKept is for how long an endpoint without work is remembered.
	laneKept = 10 * time.Minute
)

// item is a delivery that this node holds.
type item struct {
	work Work
	lane *lane
	// claimed is a moment before the claim, until one before its lease ends.
	claimed, until time.Time
}

// scheduler knows which endpoints have deliveries that are due, how much of each
// may be claimed, and hands what was claimed to workers.
type scheduler struct {
	now      func() time.Time
	random   func() float64
	settings func() *Settings
	// find looks an endpoint up; nil where there is none.
	find func(number uint64) *endpoint

	// kick wakes the claimer.
	kick chan struct{}

	mu    sync.Mutex
	lanes map[uint64]*lane
	// ring has endpoints that may have something due, backlog those of which claims
	// keep leaving something.
	ring, backlog fifo[*lane]
	parked        [groups]fifo[*lane]
	timers        timers
	// claimed counts all that is held, shares the same by group.
	claimed int
	shares  [groups]int
	// queue is claimed and waits for a worker; running counts those that are
	// posted now.
	queue   fifo[*item]
	running int
	idle    []*worker
	workers sync.WaitGroup
	begin   func(*worker, *item)
	// stopping: nothing is claimed or begun any more.
	stopping bool
	// missed: somebody named an endpoint that is not in the directory.
	missed bool
}

func newScheduler() *scheduler {
	return &scheduler{kick: make(chan struct{}, 1), lanes: make(map[uint64]*lane)}
}

// wake looks for deliveries of the endpoints that may be due now.
func (s *scheduler) wake(numbers ...uint64) {
	now := s.now()
	s.mu.Lock()
	for _, n := range numbers {
		if l := s.lane(n, now); l != nil {
			l.again = l.claimed > 0
			s.ready(l)
		}
	}
	s.mu.Unlock()
	s.nudge()
}

// nudge wakes the claimer.
func (s *scheduler) nudge() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// lane returns the lane of an endpoint that deliveries may be claimed of, and
// nil of others.
func (s *scheduler) lane(number uint64, now time.Time) *lane {
	e := s.find(number)
	if e == nil {
		s.missed = true
		return nil
	}
	l := s.lanes[number]
	if l == nil {
		if !e.active() {
			return nil
		}
		l = &lane{number: number}
		s.lanes[number] = l
	}
	l.sync(e, s.settings().Schedule)
	l.used = now
	if !e.active() {
		return nil
	}
	return l
}

// ready puts a lane in its ring, unless it waits somewhere already.
func (s *scheduler) ready(l *lane) {
	if l.place == nowhere {
		l.place, l.due = inRing, false
		if l.backlogged() {
			s.backlog.push(l)
		} else {
			s.ring.push(l)
		}
	}
}

// fire puts the endpoints in the ring whose time has come.
func (s *scheduler) fire(now time.Time) {
	for len(s.timers) > 0 && !s.timers[0].at.After(now) {
		if l := s.lane(s.timers.pop().number, now); l != nil {
			s.ready(l)
		}
	}
}

// hold looks again at a lane at a time, or before.
func (s *scheduler) hold(l *lane, at, now time.Time) {
	if l.alarm.After(now) && !l.alarm.After(at) {
		return
	}
	l.alarm = at
	s.timers.add(at, l.number)
}

// move keeps the shares right when a lane's group changes or its claims do.
func (s *scheduler) move(l *lane, claims int, now time.Time) {
	before := l.group
	s.shares[before] -= l.claimed
	l.claimed += claims
	s.claimed += claims
	l.group = l.kind(now)
	s.shares[l.group] += l.claimed
	if claims < 0 || before != l.group {
		s.release()
	}
}

// release takes lanes back into their rings whose group has room again, and wakes the
// claimer for them.
func (s *scheduler) release() {
	w := s.settings().Workers
	for g := range s.parked {
		for room := s.groupRoom(group(g), w); room > 0 && s.parked[g].size() > 0; room-- {
			l := s.parked[g].pop()
			l.place = nowhere
			s.ready(l)
			s.nudge()
		}
	}
}

// groupRoom is how many more deliveries the endpoints of a group may hold. The
// slow ones have half of the workers at the most, together with those that
// nothing is known of three quarters: the rest is for those that are quick.
func (s *scheduler) groupRoom(g group, workers int) int {
	if g == fast {
		return maxClaim
	}
	room := max(1, workers-workers/4) - s.shares[slow] - s.shares[unproven]
	if g == slow {
		room = min(room, max(1, workers/2)-s.shares[slow])
	}
	return room
}

// most is how many requests to one endpoint may be under way here.
func most(g group, workers int) int {
	switch g {
	case unproven:
		return max(1, min(8, workers/8))
	case slow:
		return max(1, workers/2)
	}
	return max(1, workers-workers/4)
}

// buffer is how many deliveries are held beyond those that are posted: so many
// that a claim takes hundreds, of which each costs less than of a few.
func buffer(workers int) int { return min(2*workers, maxBuffer) }

// forget drops the lanes that have not been used for long.
func (s *scheduler) forget() {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, l := range s.lanes {
		if l.claimed == 0 && l.place == nowhere && now.Sub(l.used) > laneKept {
			delete(s.lanes, n)
		}
	}
}
