package pusher

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// wire is a network in memory: endpoints that answer by the host of their URL.
// It stands in where time is simulated, which real connections do not allow.
type wire struct {
	mu sync.Mutex
	// answers are by host. Without one an endpoint answers 200 at once.
	answers map[string]func(n int, p *post) reply
	posts   []posted
	counts  map[string]int
	// under and peak count requests under way.
	under, peak map[string]int
}

// reply is how an endpoint answers: after a while, a status or a failure.
type reply struct {
	after      time.Duration
	status     int
	class      ErrorClass
	retryAfter time.Duration
	// connecting is how much of after made the connection.
	connecting time.Duration
}

// posted is a request.
type posted struct {
	*post
	host string
	at   time.Time
}

func newWire() *wire {
	return &wire{answers: make(map[string]func(int, *post) reply), counts: make(map[string]int), under: make(map[string]int), peak: make(map[string]int)}
}

func (w *wire) send(ctx context.Context, p *post) answer {
	began := time.Now()
	host := p.url.Host
	w.mu.Lock()
	w.counts[host]++
	w.under[host]++
	w.peak[host] = max(w.peak[host], w.under[host])
	n := w.counts[host]
	w.posts = append(w.posts, posted{p, host, began})
	answers := w.answers[host]
	w.mu.Unlock()
	r := reply{status: 200}
	if answers != nil {
		r = answers(n, p)
	}
	if r.after > 0 {
		elapse(r.after)
	}
	w.mu.Lock()
	w.under[host]--
	w.mu.Unlock()
	a := answer{started: began, duration: time.Since(began), address: "192.0.2.1", status: r.status, class: r.class, retryAfter: r.retryAfter, connecting: r.connecting}
	if a.class == ClassNone && r.status/100 != 2 {
		a.class = ClassStatus
	}
	if a.class != ClassNone {
		a.problem = statusProblem(r.status)
	}
	return a
}

func (w *wire) close() {}

// answer sets how a host answers its nth request, from 1.
func (w *wire) answer(host string, f func(n int, p *post) reply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[host] = f
}

// to lists the requests to a host.
func (w *wire) to(host string) []posted {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []posted
	for _, p := range w.posts {
		if p.host == host {
			out = append(out, p)
		}
	}
	return out
}

// all lists all requests.
func (w *wire) all() []posted {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.posts)
}

// most is how many requests to a host were under way at once.
func (w *wire) most(host string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.peak[host]
}

// always answers with one reply.
func always(r reply) func(int, *post) reply { return func(int, *post) reply { return r } }

// newSimulation makes a pusher on a store and a network in memory. It is for
// testing/synctest.
func newSimulation(tb testing.TB, s Settings, subscribers ...platform.Subscriber) (*fixture, *wire) {
	tb.Helper()
	f := newFixture(tb, s, subscribers...)
	w := newWire()
	connect(tb, f.Pusher, w)
	return f, w
}

// connect lets a pusher send through the wire.
func connect(tb testing.TB, p *Pusher, w *wire) {
	tb.Helper()
	p.newPoster = func(*Settings) poster { return w }
	if err := p.Configure(p.current.Load().Settings); err != nil {
		tb.Fatal(err)
	}
}

// elapse is how long something takes in a bubble of synctest, where a clock of its
// own goes on at once: nobody waits.
func elapse(d time.Duration) { time.Sleep(d) }

// pass lets simulated time pass, until everything has come to rest.
func pass(d time.Duration) {
	elapse(d)
	synctest.Wait()
}

// publish publishes n messages of the topic item.changed.
func (f *fixture) publish(tb testing.TB, n int) {
	tb.Helper()
	for n > 0 {
		var batch []Message
		for range min(n, MaxBatch) {
			batch = append(batch, testMessage(`{"id":1}`))
		}
		if _, err := f.Publish(context.Background(), batch); err != nil {
			tb.Fatal(err)
		}
		n -= len(batch)
	}
}

// to is a subscription of item.changed with a host of its own.
func to(host string, change ...func(*platform.Subscription)) platform.Subscription {
	s := platform.Subscription{URL: "https://" + host + "/", Topics: []string{"item.changed"}}
	for _, c := range change {
		c(&s)
	}
	return s
}
