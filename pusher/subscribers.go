package pusher

import (
	"cmp"
	"errors"
	"maps"
	"net/url"
	"slices"
	"sync"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// subscriber is an app with what pushing to it needs. It is immutable.
type subscriber struct {
	app platform.App
	// key is the appKey as a JSON string.
	key       []byte
	endpoints []*endpoint
	// sealers are for all encryption keys, the newest first.
	sealers map[platform.Environment][]appSealer
	signers map[platform.Environment]*signer
}

// appSealer is a sealer with the key that it has.
type appSealer struct {
	*sealer
	key *platform.PushKey
}

// endpoint is a subscription made ready. It is immutable.
type endpoint struct {
	*platform.Subscription
	app    *subscriber
	url    *url.URL
	filter filter
	// problem says why nothing can be sent or chosen; nil where all is well.
	problem error
}

// active tells whether deliveries may be claimed.
func (e *endpoint) active() bool {
	return e.Status == platform.SubscriptionActive && e.app.app.Status == platform.Active
}

// takesMessages tells whether messages make deliveries, be it for later.
func (e *endpoint) takesMessages() bool { return e.Status != platform.Unverified }

func newSubscriber(s *platform.Subscriber) (*subscriber, error) {
	out := &subscriber{
		app: s.App, key: jsonString(s.App.Key),
		sealers: make(map[platform.Environment][]appSealer), signers: make(map[platform.Environment]*signer),
	}
	for i := range s.Keys {
		k := &s.Keys[i]
		if k.Kind != platform.EncryptionKey {
			continue
		}
		sealer, err := newSealer(s.App.Key, k)
		if err != nil {
			return nil, err
		}
		out.sealers[k.Environment] = append(out.sealers[k.Environment], appSealer{sealer, k})
	}
	for e, list := range out.sealers {
		slices.SortFunc(list, func(a, b appSealer) int { return b.number - a.number })
		out.sealers[e] = list
	}
	for _, e := range []platform.Environment{platform.Sandbox, platform.Production} {
		var err error
		if out.signers[e], err = newSigner(s.Keys, e); err != nil {
			return nil, err
		}
	}
	for i := range s.Subscriptions {
		out.endpoints = append(out.endpoints, newEndpoint(out, &s.Subscriptions[i]))
	}
	return out, nil
}

func newEndpoint(s *subscriber, sub *platform.Subscription) *endpoint {
	e := &endpoint{Subscription: sub, app: s}
	e.url, e.problem = url.Parse(sub.URL)
	if e.problem != nil || e.url.Host == "" || e.url.Scheme != "https" && e.url.Scheme != "http" {
		e.problem = errors.New("its URL is not valid") // which may hold a secret
		return e
	}
	e.filter, e.problem = newFilter(sub.Filter)
	return e
}

// topicKey is where the subscriptions of a topic are found.
type topicKey struct {
	environment platform.Environment
	topic       string
}

// shards is in how many parts the directory is cut: a change copies one.
const shards = 256

// directory is all subscribers. It is immutable: a change makes another one that
// shares what has not changed.
type directory struct {
	apps      [shards]map[uint64]*subscriber // by number
	endpoints [shards]map[uint64]*endpoint   // by number
	topics    map[topicKey][]*endpoint       // sorted by number
	// numbers are those of apps by appKey: a hint that all directories share.
	numbers *sync.Map
}

func (d *directory) app(number uint64) *subscriber { return d.apps[number%shards][number] }

func (d *directory) endpoint(number uint64) *endpoint { return d.endpoints[number%shards][number] }

// newDirectory makes a directory of all subscribers.
func newDirectory(list []platform.Subscriber, report func(string, error)) *directory {
	d := &directory{numbers: new(sync.Map), topics: make(map[topicKey][]*endpoint)}
	for i := range shards {
		d.apps[i], d.endpoints[i] = make(map[uint64]*subscriber), make(map[uint64]*endpoint)
	}
	for i := range list {
		s, err := newSubscriber(&list[i])
		if err != nil {
			report("making the pushes of "+list[i].App.Key+" ready", err)
			continue
		}
		d.put(s, false)
	}
	for _, list := range d.topics {
		sortEndpoints(list)
	}
	return d
}

// put adds a subscriber. Where the directory is in use, shared makes it copy the
// lists that it changes.
func (d *directory) put(s *subscriber, shared bool) {
	d.apps[s.app.Number%shards][s.app.Number] = s
	d.numbers.Store(s.app.Key, s.app.Number)
	for _, e := range s.endpoints {
		d.endpoints[e.Number%shards][e.Number] = e
		for _, topic := range e.Topics {
			k := topicKey{e.Environment, topic}
			if shared {
				d.topics[k] = slices.Clone(d.topics[k])
			}
			d.topics[k] = append(d.topics[k], e)
			if shared {
				sortEndpoints(d.topics[k])
			}
		}
	}
}

func sortEndpoints(list []*endpoint) {
	slices.SortFunc(list, func(a, b *endpoint) int { return cmp.Compare(a.Number, b.Number) })
}

// with returns the directory with the app of the number as it is now; nil takes
// it out.
func (d *directory) with(number uint64, s *subscriber) *directory {
	next := &directory{apps: d.apps, endpoints: d.endpoints, numbers: d.numbers, topics: maps.Clone(d.topics)}
	copied := make(map[uint64]bool)
	own := func(subscription uint64) {
		if i := subscription % shards; !copied[i] {
			copied[i] = true
			next.endpoints[i] = maps.Clone(next.endpoints[i])
		}
	}
	next.apps[number%shards] = maps.Clone(next.apps[number%shards])
	old := d.app(number)
	if old != nil {
		delete(next.apps[number%shards], number)
		if s == nil || old.app.Key != s.app.Key {
			next.numbers.Delete(old.app.Key)
		}
		for _, e := range old.endpoints {
			own(e.Number)
			delete(next.endpoints[e.Number%shards], e.Number)
			for _, topic := range e.Topics {
				k := topicKey{e.Environment, topic}
				next.topics[k] = slices.DeleteFunc(slices.Clone(next.topics[k]), func(x *endpoint) bool { return x == e })
				if len(next.topics[k]) == 0 {
					delete(next.topics, k)
				}
			}
		}
	}
	if s != nil {
		for _, e := range s.endpoints {
			own(e.Number)
		}
		next.put(s, true)
	}
	return next
}
