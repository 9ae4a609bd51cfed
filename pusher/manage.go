package pusher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Directory is what a manager asks of the domain.
type Directory interface {
	// App loads an app by its ID or its appKey.
	App(ctx context.Context, ref string) (*platform.App, error)
	Subscription(ctx context.Context, id string) (*platform.Subscription, error)
	Topic(ctx context.Context, name string) (*platform.Topic, error)
	// User loads a merchant by its ID or its login.
	User(ctx context.Context, ref string) (*platform.User, error)
	// Note does something and leaves an entry in the audit log, unless do fails.
	Note(ctx context.Context, actor, action, target string, after any, do func() error) error
}

// Manager is what staff do with messages and deliveries: look them up and push
// them again. Each change leaves an entry in the audit log. A mistake in the input
// is a *platform.FieldError.
type Manager struct {
	// Store keeps them. Required, as is Directory.
	Store     Store
	Directory Directory
	// Wake is told which subscriptions have work; none means any.
	Wake func(subscriptions ...uint64)
	// Rand is where IDs come from. Required.
	Rand io.Reader
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Query selects messages or deliveries in the words of a user. Empty fields
// select everything.
type Query struct {
	// App is an ID or an appKey, Subscription an ID.
	App          string `json:"app,omitempty"`
	Subscription string `json:"subscription,omitempty"`
	Environment  string `json:"environment,omitempty"`
	Topic        string `json:"topic,omitempty"`
	// User is the merchant's ID or login.
	User string `json:"user,omitempty"`
	// States are names of states.
	States []string `json:"states,omitempty"`
	// Since and Until bound when they were made; Until is excluded.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Message is a message's ID.
	Message string `json:"message,omitempty"`
}

// filter looks up what the query names, but for the merchant.
func (m *Manager) filter(ctx context.Context, q Query) (f Filter, err error) {
	f = Filter{Topic: q.Topic, Since: q.Since, Until: q.Until}
	if q.App != "" {
		app, err := m.Directory.App(ctx, q.App)
		if err != nil {
			return f, err
		}
		f.App = app.Number
	}
	if q.Subscription != "" {
		s, err := m.Directory.Subscription(ctx, q.Subscription)
		if err != nil {
			return f, err
		}
		f.Subscription = s.Number
	}
	if q.Environment != "" {
		if f.Environment, err = platform.ParseEnvironment(q.Environment); err != nil {
			return f, err
		}
	}
	for _, name := range q.States {
		state, err := ParseState(name)
		if err != nil {
			return f, named("states", err)
		}
		f.States = append(f.States, state)
	}
	if q.Message != "" {
		if f.Message, err = ParseMessageID(q.Message); err != nil {
			return f, named("message", err)
		}
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return f, &platform.FieldError{Field: "until", Problem: "is not after since", Want: "a later time"}
	}
	if q.Topic != "" {
		if _, err := m.Directory.Topic(ctx, q.Topic); err != nil {
			return f, err
		}
	}
	return f, nil
}

// user is the ID of the merchant that a query names; empty where it names none.
func (m *Manager) user(ctx context.Context, q Query) (string, error) {
	if q.User == "" {
		return "", nil
	}
	user, err := m.Directory.User(ctx, q.User)
	if err != nil {
		return "", err
	}
	return user.ID, nil
}

// listed is the filter of a list. A merchant who is not there is what a message says
// all the same: publishing takes any text, and looks for nobody.
func (m *Manager) listed(ctx context.Context, q Query) (Filter, error) {
	f, err := m.filter(ctx, q)
	if err != nil {
		return f, err
	}
	if f.User, err = m.user(ctx, q); errors.Is(err, platform.ErrNotFound) {
		f.User, err = q.User, nil
	}
	return f, err
}

// Messages lists messages, newest first, after the one of the ID.
func (m *Manager) Messages(ctx context.Context, q Query, after string, limit int) ([]MessageRecord, error) {
	f, err := m.listed(ctx, q)
	if err != nil {
		return nil, err
	}
	var at Cursor
	if after != "" {
		id, err := ParseMessageID(after)
		if err != nil {
			return nil, named("after", err)
		}
		at = Cursor(id)
	}
	return m.Store.Messages(ctx, f, at, limit)
}

// Message loads a message and its deliveries, at most 1,000 of them.
func (m *Manager) Message(ctx context.Context, id string) (*MessageRecord, []Record, error) {
	mid, err := ParseMessageID(id)
	if err != nil {
		return nil, nil, err
	}
	record, err := m.Store.MessageRecord(ctx, mid)
	if err != nil {
		return nil, nil, err
	}
	deliveries, err := m.Store.Deliveries(ctx, Filter{Message: mid}, Cursor{}, maxList)
	return record, deliveries, err
}

// maxList is how many rows a list has at the most.
const maxList = 1000

// Deliveries lists deliveries, newest first, after the one of the ID.
func (m *Manager) Deliveries(ctx context.Context, q Query, after string, limit int) ([]Record, error) {
	f, err := m.listed(ctx, q)
	if err != nil {
		return nil, err
	}
	var at Cursor
	if after != "" {
		id, err := ParseDeliveryID(after)
		if err != nil {
			return nil, named("after", err)
		}
		at = Cursor(id)
	}
	return m.Store.Deliveries(ctx, f, at, limit)
}

// Details are a delivery with all that is known of it.
type Details struct {
	Record
	Attempts []Attempt
	// Body is what was posted, KeyNumber the number of its push key; 0 where it
	// is not encrypted.
	Body      []byte
	KeyNumber int
}

// Delivery loads a delivery with its attempts and its body.
func (m *Manager) Delivery(ctx context.Context, id string) (*Details, error) {
	did, err := ParseDeliveryID(id)
	if err != nil {
		return nil, err
	}
	record, err := m.Store.Delivery(ctx, did)
	if err != nil {
		return nil, err
	}
	d := &Details{Record: *record}
	if d.Attempts, err = m.Store.Attempts(ctx, did); err != nil {
		return nil, err
	}
	d.Body, d.KeyNumber, err = m.Store.Body(ctx, did)
	return d, err
}

// Push makes one delivery due now, whatever its state: one attempt more.
func (m *Manager) Push(ctx context.Context, actor, id string) (*Record, error) {
	return m.change(ctx, actor, "delivery.push", id, m.Store.PushAgain)
}

// Cancel ends a delivery that is not over.
func (m *Manager) Cancel(ctx context.Context, actor, id string) (*Record, error) {
	return m.change(ctx, actor, "delivery.cancel", id, m.Store.Cancel)
}

func (m *Manager) change(ctx context.Context, actor, action, id string, do func(context.Context, DeliveryID) error) (*Record, error) {
	did, err := ParseDeliveryID(id)
	if err != nil {
		return nil, err
	}
	if _, err := m.Store.Delivery(ctx, did); err != nil {
		return nil, err
	}
	if err := m.Directory.Note(ctx, actor, action, id, nil, func() error { return do(ctx, did) }); err != nil {
		return nil, err
	}
	m.wake()
	return m.Store.Delivery(ctx, did)
}

// PushMessage makes all deliveries of a message due now.
func (m *Manager) PushMessage(ctx context.Context, actor, id string) (*Job, error) {
	if _, _, err := m.Message(ctx, id); err != nil {
		return nil, err
	}
	return m.StartJob(ctx, actor, Manual, Query{Message: id})
}

// StartJob pushes many deliveries again. A reset needs a time since which, and
// every job an app, a subscription, a topic or a message, so that nobody pushes
// everything by leaving something out.
func (m *Manager) StartJob(ctx context.Context, actor string, cause Cause, q Query) (*Job, error) {
	switch {
	case cause == Auto:
		return nil, &platform.FieldError{Field: "cause", Problem: "auto is no cause of a job", Want: "manual, repush or reset"}
	case cause != Manual && len(q.States) > 0:
		return nil, &platform.FieldError{Field: "states", Problem: fmt.Sprintf("do not go with %s", cause), Want: "none: repush takes those that failed, reset takes all"}
	case q.App == "" && q.Subscription == "" && q.Topic == "" && q.Message == "":
		return nil, &platform.FieldError{Field: "app", Problem: "nothing says whose messages", Want: "an app, a subscription or a topic"}
	case cause == Reset && q.Since.IsZero():
		return nil, &platform.FieldError{Field: "since", Problem: "missing", Want: "the time since which everything is pushed again"}
	case q.Since.After(m.now()):
		return nil, &platform.FieldError{Field: "since", Problem: "is in the future", Want: "a time that has passed"}
	}
	f, err := m.filter(ctx, q)
	if err != nil {
		return nil, err
	}
	if f.User, err = m.user(ctx, q); err != nil {
		return nil, err
	}
	if cause == Repush {
		f.States = []State{Failed}
	}
	id, err := platform.NewJobID(m.Rand)
	if err != nil {
		return nil, err
	}
	job := &Job{ID: id, Cause: cause, Filter: f, Query: q, State: JobRunning, Actor: actor}
	err = m.Directory.Note(ctx, actor, "push."+cause.String(), id, q, func() error { return m.Store.CreateJob(ctx, job) })
	if err != nil {
		return nil, err
	}
	m.wake()
	return m.Store.Job(ctx, id)
}

// SetJob pauses, resumes or cancels a job.
func (m *Manager) SetJob(ctx context.Context, actor, id string, state JobState) (*Job, error) {
	if _, err := m.Store.Job(ctx, id); err != nil {
		return nil, err
	}
	verb := map[JobState]string{JobRunning: "resume", JobPaused: "pause", JobCancelled: "cancel"}[state]
	if verb == "" {
		return nil, &platform.FieldError{Field: "state", Problem: fmt.Sprintf("%q cannot be asked for", state), Want: "running, paused or cancelled"}
	}
	if err := m.Directory.Note(ctx, actor, "push."+verb, id, nil, func() error { return m.Store.SetJob(ctx, id, state) }); err != nil {
		return nil, err
	}
	m.wake()
	return m.Store.Job(ctx, id)
}

func (m *Manager) now() time.Time {
	if m.Now == nil {
		return time.Now()
	}
	return m.Now()
}

func (m *Manager) wake() {
	if m.Wake != nil {
		m.Wake()
	}
}

// named gives a mistake the name under which the user wrote it.
func named(field string, err error) error {
	if mistake, ok := errors.AsType[*platform.FieldError](err); ok {
		return &platform.FieldError{Field: field, Problem: mistake.Problem, Want: mistake.Want}
	}
	return err
}
