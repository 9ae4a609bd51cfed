package pusher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// fanOut finds who gets the messages, and makes their deliveries.
func (p *Pusher) fanOut(ctx context.Context, messages []Message, found []*topic) (Batch, error) {
	d, err := p.directory(ctx)
	if err != nil {
		return nil, err
	}
	grants, err := p.grants(ctx, messages, found)
	if err != nil {
		return nil, err
	}
	now := p.now()
	batch := make(Batch, len(messages))
	for i := range messages {
		m := &messages[i]
		batch[i].Message = *m
		e := newEvent(m, p.source)
		doc := document{raw: m.Data}
		for _, r := range recipients(d, m, found[i], grants[userKey{m.Environment, m.User}], &doc, now) {
			delivery, err := p.newDelivery(m, e, r, now)
			if err != nil {
				return nil, err
			}
			batch[i].Deliveries = append(batch[i].Deliveries, delivery)
		}
	}
	return batch, nil
}

type userKey struct {
	environment platform.Environment
	user        string
}

// grants asks for the grants of all users whose apps alone get the messages: one
// query for each environment.
func (p *Pusher) grants(ctx context.Context, messages []Message, found []*topic) (map[userKey][]platform.Grant, error) {
	out := make(map[userKey][]platform.Grant)
	users := make(map[platform.Environment][]string)
	for i := range messages {
		if m := &messages[i]; found[i].UserToken {
			if k := (userKey{m.Environment, m.User}); out[k] == nil {
				out[k] = []platform.Grant{}
				users[m.Environment] = append(users[m.Environment], m.User)
			}
		}
	}
	for e, list := range users {
		grants, err := p.options.Store.Granted(ctx, e, list)
		if err != nil {
			return nil, fmt.Errorf("loading grants: %w", err)
		}
		for _, g := range grants {
			k := userKey{e, g.User}
			out[k] = append(out[k], g)
		}
	}
	return out, nil
}

// recipient is an endpoint that gets a message, and the grant that allows it.
type recipient struct {
	*endpoint
	grant string
}

// recipients lists who gets a message. Where a merchant's grant is needed, the
// grants are gone through, and not the many apps that subscribe the topic.
func recipients(d *directory, m *Message, t *topic, grants []platform.Grant, doc *document, now time.Time) []recipient {
	var out []recipient
	if !t.UserToken {
		for _, e := range d.topics[topicKey{m.Environment, m.Topic}] {
			if e.gets(m, t, doc, now) {
				out = append(out, recipient{e, ""})
			}
		}
		return out
	}
	for i := range grants {
		g := &grants[i]
		a := d.app(g.AppNumber)
		if a == nil || !g.Live(now) || g.Environment != m.Environment || !slices.Contains(g.Scopes, t.Package) {
			continue
		}
		for _, e := range a.endpoints {
			if slices.Contains(e.Topics, m.Topic) && e.Environment == m.Environment && e.gets(m, t, doc, now) &&
				!slices.ContainsFunc(out, func(r recipient) bool { return r.endpoint == e }) {
				out = append(out, recipient{e, g.ID})
			}
		}
	}
	return out
}

// gets tells whether a message of its topic and environment is for the endpoint,
// as far as the app and the subscription say.
func (e *endpoint) gets(m *Message, t *topic, doc *document, now time.Time) bool {
	return e.takesMessages() && e.app.has(t.Package, now) && e.filter.takes(m.User, doc)
}

// has tells whether the app has the package now.
func (s *subscriber) has(name string, now time.Time) bool {
	if name == platform.BasicPackage {
		return true
	}
	return slices.ContainsFunc(s.app.Packages, func(g platform.PackageGrant) bool {
		return g.Package == name && g.State(now) == platform.Current
	})
}

// newDelivery makes the delivery, with the body that is posted.
func (p *Pusher) newDelivery(m *Message, e event, r recipient, now time.Time) (NewDelivery, error) {
	d := NewDelivery{Subscription: r.Number, App: r.app.app.Number, Grant: r.grant}
	if r.Ordered {
		d.Key = m.Key
	}
	var err error
	d.Body, d.KeyNumber, err = p.makeBody(e, r.app, m.Environment, r.Format, now)
	return d, err
}

// makeBody makes what is posted: encrypted with the newest live key, or the event
// itself. It is empty where there is no live key.
func (p *Pusher) makeBody(e event, s *subscriber, env platform.Environment, f platform.PushFormat, now time.Time) (body []byte, keyNumber int, err error) {
	if f == platform.PlainFormat {
		return e.appendTo(make([]byte, 0, len(e.head)+len(s.key)+len(e.data)+10), s.key), 0, nil
	}
	for _, k := range s.sealers[env] {
		if k.key.Live(now) {
			body, err = k.seal(p.random, e, s.key)
			return body, k.number, err
		}
	}
	return nil, 0, nil
}
