package pusher

import (
	"context"
	"slices"
	"time"
)

const (
	// maxQuantum is how much of a backlog is claimed in a turn although an equal part
	// would be less: a claim costs the store as much for an endpoint as for several of
	// its deliveries. Few workers make it less. backlogFrom is
	// from how many deliveries on, each of which left others, it is a backlog.
	maxQuantum, backlogFrom = 16, 4
	// claimTimeout bounds a claim; it goes on when the node stops, so that
	// what it brings can be given back.
	claimTimeout = 10 * time.Second
	// firstPause and lastPause bound the waits while the store fails.
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
	// busyPause is how soon an endpoint is asked for again that another node
	// held; emptyPause the same for one whose deliveries are due but may not
	// be had, growing up to lastEmpty.
	busyPause  = 5 * time.Millisecond
	emptyPause = 10 * time.Millisecond
	lastEmpty  = time.Second
)

// choose makes the next claim: as many endpoints as there is room for, in turn.
// It returns nil where there is nothing to ask for, or where enough is here.
// What it asks for is reserved until settle.
//
// Endpoints with a backlog come after the others, which take half of the claim from
// them at the most: nobody waits behind all backlogs. Each backlog has a share of
// the requests, since each request at once needs a connection of its own: all shares
// together are half as many as connections are kept. Of each, a claim takes several
// deliveries, and where it is quick more than its share, as far as all that is
// claimed keeps the workers busy at such shares.
func (s *scheduler) choose(now time.Time) []Endpoint {
	settings := s.settings()
	if settings.Off || s.stopping {
		return nil
	}
	ahead := buffer(settings.Workers)
	budget := min(maxClaim, settings.Workers+ahead-s.claimed)
	queued := s.queue.size()
	if s.running+queued >= settings.Workers && (queued > ahead/2 || budget < ahead/2) {
		return nil // workers have enough: a larger claim comes a little later
	}
	// Lanes that were let out for the room that there is may ask for nothing. Then it is
	// for those that are parked still.
	defer s.release()
	if s.backlog.size() == 0 {
		out, _ := s.ask(nil, &s.ring, budget, turn{least: 1, most: maxClaim, share: maxClaim}, now)
		return out
	}
	share := max(1, idleShare*settings.Workers/2/s.backlog.size())
	quantum := min(maxQuantum, share*max(1, ahead/settings.Workers))
	half := budget / 2
	out, left := s.ask(nil, &s.ring, budget-half, turn{least: 1, most: min(maxQuantum, share), share: maxClaim}, now)
	out, _ = s.ask(out, &s.backlog, half+left, turn{least: quantum, most: maxClaim, share: share}, now)
	return out
}

// turn is what an endpoint gets in its turn: of a claim at least and at the most so
// many deliveries, and of the requests a share, so many at once.
type turn struct{ least, most, share int }

// ask adds endpoints of a ring to a claim until the budget is spent: each with an
// equal part of it, within the bounds of a turn. It returns what is left of the budget.
func (s *scheduler) ask(out []Endpoint, ring *fifo[*lane], budget int, each turn, now time.Time) ([]Endpoint, int) {
	settings := s.settings()
	for turns := ring.size(); turns > 0 && budget > 0; turns-- {
		l := ring.pop()
		l.place = nowhere
		e := s.find(l.number)
		if e == nil || !e.active() {
			continue
		}
		l.sync(e, settings.Schedule)
		room := min(s.room(l, settings.Workers, now), max(each.least, min(budget/turns, each.most)), budget)
		if l.group != fast {
			room = min(room, each.share) // what waits for one that is slow waits for long
		}
		if room == 0 {
			continue
		}
		budget -= room
		l.share = each.share
		l.charge(room, now)
		s.move(l, room, now)
		out = append(out, Endpoint{Subscription: l.number, Room: room, Concurrency: l.cap(), Ordered: e.Ordered})
	}
	return out, budget
}

// room is how many deliveries of a lane may be claimed now. A lane without room
// waits for its time, its group's share, or its own completions.
func (s *scheduler) room(l *lane, workers int, now time.Time) int {
	if l.health.disabled {
		return 0
	}
	if wait := l.circuit.wait(now); wait > 0 {
		s.hold(l, now.Add(wait), now)
		return 0
	}
	s.move(l, 0, now)
	limit := most(l.group, workers)
	if l.group == fast {
		limit += buffer(workers)
	}
	room := min(l.cap(), limit) - l.claimed
	if l.circuit.open() {
		room = min(room, 1-l.claimed)
	}
	if room <= 0 {
		l.due = true
		return 0
	}
	tokens, next := l.tokens(now)
	if tokens == 0 {
		s.hold(l, next, now)
		return 0
	}
	share := s.groupRoom(l.group, workers)
	if share <= 0 {
		l.place = parked
		s.parked[l.group].push(l)
		return 0
	}
	return min(room, tokens, share)
}

// settle takes what a claim has brought; claimed is a moment before it, and lease
// what it was made for.
func (s *scheduler) settle(asked []Endpoint, r ClaimResult, claimed time.Time, lease time.Duration) {
	now := s.now()
	got := make(map[uint64]int, len(asked))
	for i := range r.Work {
		got[r.Work[i].Subscription]++
	}
	left := make(map[uint64]bool, len(r.More)+len(r.Busy))
	for _, number := range slices.Concat(r.More, r.Busy) {
		left[number] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range asked {
		l := s.lanes[e.Subscription]
		n := got[e.Subscription]
		if n > 0 {
			l.empty = 0
		}
		if l.streak += n; !left[e.Subscription] {
			l.streak = 0
		}
		l.charge(n-e.Room, now)
		s.move(l, n-e.Room, now)
	}
	for i := range r.Work {
		if l := s.lanes[r.Work[i].Subscription]; l != nil {
			s.dispatch(&item{work: r.Work[i], lane: l, claimed: claimed, until: claimed.Add(lease)}, now)
		}
	}
	for _, number := range r.More {
		if l := s.lanes[number]; l != nil {
			s.more(l, got[number], now)
		}
	}
	for _, number := range r.Busy {
		if l := s.lanes[number]; l != nil {
			s.hold(l, now.Add(busyPause+time.Duration(s.random()*float64(busyPause))), now)
		}
	}
}

// more hears that a lane has further deliveries that are due.
func (s *scheduler) more(l *lane, got int, now time.Time) {
	if got > 0 {
		s.ready(l)
		return
	}
	// Other nodes have all that its cap allows, or its keys are under way.
	l.due = l.claimed > 0
	pause := min(emptyPause<<min(l.empty, 10), lastEmpty)
	l.empty++
	s.hold(l, now.Add(spread(pause, s.random())), now)
}

// unclaim takes back a claim that failed.
func (s *scheduler) unclaim(asked []Endpoint) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range asked {
		l := s.lanes[e.Subscription]
		l.charge(-e.Room, now)
		s.move(l, -e.Room, now)
		s.ready(l)
	}
}

// claimer claims until ctx ends.
func (p *Pusher) claimer(ctx context.Context) {
	s := p.scheduler
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	pause := time.Duration(0)
	for ctx.Err() == nil {
		now := s.now()
		s.mu.Lock()
		s.fire(now)
		asked := s.choose(now)
		wait := s.timers.wait(now)
		s.mu.Unlock()
		if len(asked) == 0 {
			alarm.Reset(wait)
			select {
			case <-ctx.Done():
			case <-s.kick:
			case <-alarm.C:
			}
			continue
		}
		if p.claim(ctx, asked) {
			pause = 0
			continue
		}
		pause = min(max(2*pause, firstPause), lastPause)
		alarm.Reset(spread(pause, s.random()))
		select {
		case <-ctx.Done():
		case <-alarm.C:
		}
	}
}

// claim asks the store, and tells whether it answered.
func (p *Pusher) claim(ctx context.Context, asked []Endpoint) bool {
	lease := p.current.Load().Lease
	began := p.now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimTimeout)
	defer cancel()
	r, err := p.options.Store.Claim(ctx, Claim{Node: p.options.Node, Lease: lease, Endpoints: asked})
	if err != nil {
		p.report("claiming deliveries", err)
		p.scheduler.unclaim(asked)
		return false
	}
	p.scheduler.settle(asked, r, began, lease)
	return true
}
