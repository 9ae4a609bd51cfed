package pusher

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

type (
	records = Records
	jobs    = Jobs
)

// memory is a Store in memory: what the pusher may rely on, and nothing else.
// Records are not part of it.
type memory struct {
	records
	jobs
	now func() time.Time

	mu          sync.Mutex
	subscribers map[uint64]platform.Subscriber
	grants      []platform.Grant
	messages    map[MessageID]Message
	ids         map[string]MessageID
	rows        map[int64]*row
	queues      map[uint64][]*row // live rows of a subscription, by number
	last        int64
	attempts    map[int64][]Attempt
	marks       []mark
	// fail, where set, is asked before each call.
	fail func(call string) error
	// busy, where set, tells of each subscription that is claimed of whether another
	// node has it.
	busy func(subscription uint64) bool
	// calls counts them, sizes are those of claims, of what they asked for, and of
	// completions.
	calls map[string]int
	sizes map[string][]int
	wakes []func([]uint64)
	// hook hears of completions that were saved.
	hook func(Completion)
}

// row is a delivery.
type row struct {
	id           DeliveryID
	message      MessageID
	delivery     NewDelivery
	state        State
	due, lease   time.Time
	first        time.Time
	claimed      time.Time
	created      time.Time
	fence        int64
	attempts     int
	tries        int
	cause        Cause
	owed         int
	revoked      bool
	dead         bool // left the queue
	topic, user  string
	keyNumber    int
	body         []byte
	environment  platform.Environment
	claimedTimes int
}

func newMemory(now func() time.Time) *memory {
	return &memory{
		now: now, subscribers: make(map[uint64]platform.Subscriber), messages: make(map[MessageID]Message), ids: make(map[string]MessageID),
		rows: make(map[int64]*row), queues: make(map[uint64][]*row), attempts: make(map[int64][]Attempt),
		calls: make(map[string]int), sizes: make(map[string][]int),
	}
}

func (m *memory) enter(call string) error {
	m.mu.Lock()
	m.calls[call]++
	if m.fail != nil {
		return m.fail(call)
	}
	return nil
}

func (m *memory) put(subscribers ...platform.Subscriber) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range subscribers {
		m.subscribers[s.App.Number] = s
	}
}

func (m *memory) Subscribers(_ context.Context, apps ...uint64) ([]platform.Subscriber, error) {
	defer m.mu.Unlock()
	if err := m.enter("subscribers"); err != nil {
		return nil, err
	}
	var out []platform.Subscriber
	for n, s := range m.subscribers {
		if len(apps) == 0 || slices.Contains(apps, n) {
			s.Subscriptions = slices.Clone(s.Subscriptions)
			out = append(out, s)
		}
	}
	return out, nil
}

func (m *memory) Granted(_ context.Context, e platform.Environment, users []string) ([]platform.Grant, error) {
	defer m.mu.Unlock()
	if err := m.enter("granted"); err != nil {
		return nil, err
	}
	var out []platform.Grant
	for _, g := range m.grants {
		if g.Environment == e && slices.Contains(users, g.User) && g.Live(m.now()) {
			out = append(out, g)
		}
	}
	return out, nil
}

func (m *memory) Publish(ctx context.Context, batches []Batch) ([]BatchResult, error) {
	defer m.mu.Unlock()
	if err := m.enter("publish"); err != nil {
		return nil, err
	}
	m.sizes["publish"] = append(m.sizes["publish"], len(batches))
	out := make([]BatchResult, len(batches))
	for i, b := range batches {
		out[i] = m.publish(b)
	}
	return out, ctx.Err()
}

func (m *memory) publish(b Batch) BatchResult {
	var r BatchResult
	for i, p := range b {
		if first, ok := m.ids[p.Message.Idempotency]; ok && p.Message.Idempotency != "" && m.messages[first].Digest != p.Message.Digest {
			r.Conflicts = append(r.Conflicts, i)
		}
	}
	if len(r.Conflicts) > 0 {
		r.Err = platform.ErrConflict
		return r
	}
	for _, p := range b {
		if first, ok := m.ids[p.Message.Idempotency]; ok && p.Message.Idempotency != "" {
			r.Receipts = append(r.Receipts, Receipt{ID: first, Duplicate: true})
			continue
		}
		m.messages[p.Message.ID] = p.Message
		m.ids[p.Message.Idempotency] = p.Message.ID
		for _, d := range p.Deliveries {
			m.insert(p.Message, d)
		}
		r.Receipts = append(r.Receipts, Receipt{ID: p.Message.ID, Deliveries: len(p.Deliveries)})
	}
	return r
}

func (m *memory) insert(msg Message, d NewDelivery) *row {
	m.last++
	now := m.now()
	x := &row{
		id: DeliveryID{msg.ID.At, m.last}, message: msg.ID, delivery: d, due: now, created: now, topic: msg.Topic, user: msg.User,
		body: d.Body, keyNumber: d.KeyNumber, environment: msg.Environment,
	}
	m.rows[x.id.ID] = x
	m.queues[d.Subscription] = append(m.queues[d.Subscription], x)
	return x
}

func (m *memory) subscription(number uint64) *platform.Subscription {
	for _, s := range m.subscribers {
		for i := range s.Subscriptions {
			if s.Subscriptions[i].Number == number {
				return &s.Subscriptions[i]
			}
		}
	}
	return nil
}

func (m *memory) Claim(_ context.Context, c Claim) (r ClaimResult, err error) {
	defer m.mu.Unlock()
	if err := m.enter("claim"); err != nil {
		return r, err
	}
	now := m.now()
	for _, e := range c.Endpoints {
		if m.busy != nil && m.busy(e.Subscription) {
			r.Busy = append(r.Busy, e.Subscription)
			continue
		}
		m.claim(&r, e, now, c.Lease)
	}
	m.sizes["claim"] = append(m.sizes["claim"], len(r.Work))
	m.sizes["asked"] = append(m.sizes["asked"], len(c.Endpoints))
	return r, nil
}

func (m *memory) claim(r *ClaimResult, e Endpoint, now time.Time, lease time.Duration) {
	queue := slices.DeleteFunc(m.queues[e.Subscription], func(x *row) bool { return x.dead })
	m.queues[e.Subscription] = queue
	under := 0
	heads := make(map[string]bool)
	for _, x := range queue {
		if x.state == Delivering {
			under++
		}
	}
	got := 0
	for _, x := range queue {
		if k := x.delivery.Key; k != "" && e.Ordered {
			if heads[k] {
				continue
			}
			heads[k] = true
		}
		if x.state != Pending || x.due.After(now) {
			continue
		}
		if got >= e.Room || under >= e.Concurrency {
			r.More = append(r.More, e.Subscription)
			return
		}
		got++
		under++
		if x.owed > 0 {
			x.cause = Manual
		}
		x.state, x.claimed, x.lease = Delivering, now, now.Add(lease)
		x.fence++
		x.claimedTimes++
		trying := time.Duration(0)
		if !x.first.IsZero() {
			trying = now.Sub(x.first)
		}
		r.Work = append(r.Work, Work{
			ID: x.id, Subscription: e.Subscription, App: x.delivery.App, Fence: x.fence, Message: x.message, Topic: x.topic, User: x.user,
			Key: x.delivery.Key, Attempt: x.attempts + 1, Tries: x.tries + 1, Cause: x.cause, Trying: trying, Created: x.created, Due: x.due,
			Body: x.body, KeyNumber: x.keyNumber, Revoked: x.revoked,
		})
	}
}

func (m *memory) Complete(_ context.Context, done []Completion) ([]bool, error) {
	defer m.mu.Unlock()
	if err := m.enter("complete"); err != nil {
		return nil, err
	}
	m.sizes["complete"] = append(m.sizes["complete"], len(done))
	had := make([]bool, len(done))
	for i := range done {
		had[i] = m.complete(&done[i])
		if m.hook != nil && had[i] {
			m.hook(done[i])
		}
	}
	return had, nil
}

func (m *memory) complete(c *Completion) bool {
	x := m.rows[c.ID.ID]
	if c.Attempt != nil {
		m.attempts[c.ID.ID] = append(m.attempts[c.ID.ID], *c.Attempt)
	}
	if x == nil || x.fence != c.Fence || x.state != Delivering {
		return false
	}
	now := m.now()
	if c.Attempt != nil {
		x.attempts++
		x.tries++
		if x.first.IsZero() {
			x.first = x.claimed
		}
		if x.cause == Manual && x.owed > 0 {
			x.owed--
		}
	}
	if c.Body != nil {
		x.body, x.keyNumber = c.Body, c.KeyNumber
	}
	x.state, x.due = c.State, now.Add(c.Wait)
	if x.owed > 0 {
		x.state, x.due, x.tries, x.first = Pending, now, 0, time.Time{}
	}
	x.dead = x.state != Pending
	return true
}

// pushAgain is Jobs.PushAgain.
func (m *memory) pushAgain(id int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.rows[id]
	x.owed++
	if x.state == Delivering {
		return
	}
	if x.dead {
		x.dead = false
		m.queues[x.delivery.Subscription] = append(m.queues[x.delivery.Subscription], x)
	}
	x.state, x.due, x.tries, x.first = Pending, m.now(), 0, time.Time{}
}

func (m *memory) Rescue(_ context.Context, limit int) (n int, subscriptions []uint64, err error) {
	defer m.mu.Unlock()
	if err := m.enter("rescue"); err != nil {
		return 0, nil, err
	}
	now := m.now()
	for number, queue := range m.queues {
		for _, x := range queue {
			if x.state == Delivering && now.After(x.lease) && n < limit {
				n++
				x.state, x.due = Pending, now
				x.attempts++
				x.tries++
				m.attempts[x.id.ID] = append(m.attempts[x.id.ID], Attempt{Number: x.attempts, Class: ClassLost})
				subscriptions = append(subscriptions, number)
			}
		}
	}
	return n, subscriptions, nil
}

func (m *memory) Waiting(context.Context) ([]Waiting, error) {
	defer m.mu.Unlock()
	if err := m.enter("waiting"); err != nil {
		return nil, err
	}
	var out []Waiting
	for number, queue := range m.queues {
		w := Waiting{Subscription: number}
		for _, x := range queue {
			if !x.dead && x.state == Pending && (w.Due.IsZero() || x.due.Before(w.Due)) {
				w.Due = x.due
			}
		}
		if !w.Due.IsZero() {
			out = append(out, w)
		}
	}
	return out, nil
}

func (m *memory) Listen(ctx context.Context, wake func([]uint64)) {
	m.mu.Lock()
	m.wakes = append(m.wakes, wake)
	m.mu.Unlock()
	<-ctx.Done()
}

func (m *memory) MarkEndpoint(_ context.Context, number uint64, since time.Time, disable string) (bool, error) {
	defer m.mu.Unlock()
	if err := m.enter("mark"); err != nil {
		return false, err
	}
	m.marks = append(m.marks, mark{subscription: number, since: since, disable: disable})
	s := m.subscription(number)
	if s == nil {
		return false, platform.ErrNotFound
	}
	if disable == "" {
		s.FailingSince = since
		return false, nil
	}
	if s.Status != platform.SubscriptionActive || !since.IsZero() && (s.FailingSince.IsZero() || s.FailingSince.After(since)) {
		return false, nil
	}
	s.Status, s.Reason, s.UpdatedAt = platform.Disabled, disable, m.now()
	return true, nil
}

func (m *memory) Original(_ context.Context, id MessageID) (*Message, error) {
	defer m.mu.Unlock()
	if err := m.enter("original"); err != nil {
		return nil, err
	}
	msg, ok := m.messages[id]
	if !ok {
		return nil, platform.ErrNotFound
	}
	return &msg, nil
}

func (m *memory) StepJob(context.Context, int) (*Job, []uint64, error) {
	defer m.mu.Unlock()
	return nil, nil, m.enter("step")
}

// count counts the calls of a name.
func (m *memory) count(call string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[call]
}

// state is that of a delivery.
func (m *memory) state(id int64) State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rows[id].state
}

// look is a subscription as it is now.
func (m *memory) look(number uint64) platform.Subscription {
	m.mu.Lock()
	defer m.mu.Unlock()
	return *m.subscription(number)
}

// tried are the attempts of a delivery.
func (m *memory) tried(id int64) []Attempt {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.attempts[id])
}

// marked are the notes about endpoints.
func (m *memory) marked() []mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.marks)
}

// made is the number of the last delivery.
func (m *memory) made() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}
