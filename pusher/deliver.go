package pusher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	// leaseMargin is how long before the end of its lease a delivery must be
	// over: what it came to is still to be saved.
	leaseMargin = time.Second
	// originalTimeout bounds the loading of an original.
	originalTimeout = 5 * time.Second
	// storePause is how long a delivery waits whose original the store did not
	// give.
	storePause = 2 * time.Second
)

var errNoEncryptionKey = errors.New("the app has no live encryption key for pushes")

// outcome is what became of an item.
type outcome struct {
	Completion
	item *item
	// endpoint is what was known of the endpoint then; nil where nothing was
	// attempted.
	endpoint *endpoint
	// attempted says that a request was made, or would have been if the app
	// had keys.
	attempted bool
	verdict   verdict
	// answering is how long the endpoint took, without making a connection that
	// others can use.
	answering  time.Duration
	retryAfter time.Duration
}

// deliver attempts a delivery that this node holds. What it returns must be saved
// before the delivery is over.
func (p *Pusher) deliver(it *item) *outcome {
	w, now := &it.work, p.now()
	o := &outcome{item: it, Completion: Completion{ID: w.ID, Subscription: w.Subscription, Fence: w.Fence, State: Pending, Ordered: w.Key != ""}}
	if w.Revoked {
		o.State = Cancelled
		return o
	}
	current := p.current.Load()
	e := p.endpoint(w.Subscription)
	if e == nil || !e.active() || now.Add(current.Timeout+leaseMargin).After(it.until) {
		return o // given back: nothing was attempted
	}
	body, number, err := p.payload(context.Background(), e.app, e, w)
	if err != nil && !errors.Is(err, errNoEncryptionKey) && !errors.Is(err, platform.ErrNotFound) {
		p.report("loading a message to encrypt it anew", err)
		o.Wait = storePause
		return o
	}
	if number != w.KeyNumber || len(w.Body) == 0 {
		o.Body, o.KeyNumber = body, number
	}
	var a answer
	if err != nil {
		a = answer{started: now, class: ClassKey, problem: plainText(err.Error())}
	} else {
		a = p.post(context.Background(), current, e, w, body, number != 0)
	}
	p.judge(o, e, &a)
	return o
}

// post signs the body and sends it.
func (p *Pusher) post(ctx context.Context, c *current, e *endpoint, w *Work, body []byte, encrypted bool) answer {
	now := p.now()
	if e.problem != nil {
		return answer{started: now, class: ClassProtocol, problem: plainText(e.problem.Error())}
	}
	id := w.Message.String()
	timestamp, signatures, err := e.app.signers[e.Environment].sign(id, now, body, e.Asymmetric)
	if err != nil {
		return answer{started: now, class: ClassKey, problem: plainText(err.Error())}
	}
	out := &post{
		url: e.url, message: id, timestamp: timestamp, signatures: signatures,
		appKey: e.app.app.Key, topic: w.Topic, attempt: w.Attempt, cause: w.Cause, body: body, encrypted: encrypted,
	}
	if w.ID != (DeliveryID{}) {
		out.delivery = w.ID.String()
	}
	return c.send(ctx, out)
}

// judge decides what becomes of the delivery.
func (p *Pusher) judge(o *outcome, e *endpoint, a *answer) {
	w, s := &o.item.work, p.scheduler
	o.attempted, o.endpoint, o.verdict, o.retryAfter = true, e, a.verdict(), a.retryAfter
	o.answering = a.duration - a.connecting
	o.Attempt = &Attempt{
		Number: w.Attempt, Cause: w.Cause, Started: a.started, Duration: a.duration, Address: a.address,
		Status: a.status, Class: a.class, Error: a.problem, Response: a.body, Node: p.options.Node,
	}
	if o.verdict == arrived {
		o.State = Delivered
		return
	}
	held := time.Duration(-1)
	if w.Key != "" {
		held = w.Trying + p.now().Sub(o.item.claimed)
	}
	wait, again := newPlan(e.Subscription, s.settings().Schedule).next(w.Tries, o.retryAfter, held, s.random())
	if !again {
		o.State = Failed
		return
	}
	o.Wait = wait
}

// payload returns what is posted: what was made when the message was accepted,
// as long as its key is live and its format is still the subscription's.
func (p *Pusher) payload(ctx context.Context, s *subscriber, e *endpoint, w *Work) ([]byte, int, error) {
	plain := e.Format == platform.PlainFormat
	if len(w.Body) > 0 && plain == (w.KeyNumber == 0) && (plain || s.hasLive(e.Environment, w.KeyNumber, p.now())) {
		return w.Body, w.KeyNumber, nil
	}
	return p.remake(ctx, s, e.Format, w.Message)
}

// hasLive tells whether the app has the encryption key still.
func (s *subscriber) hasLive(e platform.Environment, number int, now time.Time) bool {
	for _, k := range s.sealers[e] {
		if k.number == number {
			return k.key.Live(now)
		}
	}
	return false
}

// remake makes the body anew from the original.
func (p *Pusher) remake(ctx context.Context, s *subscriber, f platform.PushFormat, id MessageID) ([]byte, int, error) {
	ctx, cancel := context.WithTimeout(ctx, originalTimeout)
	defer cancel()
	m, err := p.options.Store.Original(ctx, id)
	if err != nil {
		return nil, 0, fmt.Errorf("the original: %w", err)
	}
	body, number, err := p.makeBody(newEvent(m, p.source), s, m.Environment, f, p.now())
	if err == nil && len(body) == 0 {
		err = errNoEncryptionKey
	}
	return body, number, err
}

// Reseal returns what the app gets for a delivery, encrypted with a key that is
// live: the body that was kept, or one made anew. A body that was kept plain
// stays so.
func (p *Pusher) Reseal(ctx context.Context, app uint64, message MessageID, body []byte, keyNumber int) ([]byte, error) {
	d, err := p.directory(ctx)
	if err != nil {
		return nil, err
	}
	s := d.app(app)
	if s == nil {
		return nil, fmt.Errorf("app %d: %w", app, platform.ErrNotFound)
	}
	if len(body) > 0 && keyNumber == 0 {
		return body, nil
	}
	for _, list := range s.sealers {
		for _, k := range list {
			if len(body) > 0 && k.number == keyNumber && k.key.Live(p.now()) {
				return body, nil
			}
		}
	}
	out, _, err := p.remake(ctx, s, platform.EncryptedFormat, message)
	return out, err
}
