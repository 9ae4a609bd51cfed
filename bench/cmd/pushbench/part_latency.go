package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// The rates that latency is measured at, a second, and its targets.
var latencyRates = []int{50, 400}

const (
	targetP50 = 3 * time.Millisecond
	targetP99 = 10 * time.Millisecond
	// latencyWarmUp is how many messages open the connections.
	latencyWarmUp = 200
	// arrival bounds the wait for the last messages.
	arrival = 10 * time.Second
)

// times are when messages were published and when they were received.
type times struct {
	mu             sync.Mutex
	sent, received map[string]time.Time
}

func newTimes() *times {
	return &times{sent: make(map[string]time.Time), received: make(map[string]time.Time)}
}

func (t *times) note(to map[string]time.Time, id string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, again := to[id]; !again {
		to[id] = at
	}
}

// latencies are how long messages were under way; all of them must have arrived.
func (t *times) latencies() ([]time.Duration, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]time.Duration, 0, len(t.sent))
	for id, sent := range t.sent {
		received, ok := t.received[id]
		if !ok {
			return nil, fmt.Errorf("a message of %d was not received", len(t.sent))
		}
		out = append(out, received.Sub(sent))
	}
	return out, nil
}

// latency measures the time from the call of Publish to the arrival at the
// receiver, which is in this process, so that both times come from one clock.
func (r *rig) latency(ctx context.Context, engine string) (err error) {
	var current *times
	var mu sync.Mutex
	l, err := listen(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, ErrorLog: quiet(), Handler: http.HandlerFunc(func(rw http.ResponseWriter, request *http.Request) {
		receive(rw, request)
		at := time.Now()
		mu.Lock()
		t := current
		mu.Unlock()
		t.note(t.received, request.Header.Get("webhook-id"), at)
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	defer serving.Wait()
	defer server.Close()
	targets := make([]string, hosts)
	for i := range targets {
		targets[i] = "http://" + l.Addr().String() + "/"
	}
	w, err := r.newWorld(ctx, engine, targets)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.store.Close()) }()
	if w.database != nil {
		if err := w.database.settle(ctx); err != nil {
			return err
		}
	}
	arrived := make(chan int64, 1<<20)
	node, running, err := w.start(ctx, func(soFar int64) { arrived <- soFar })
	if err != nil {
		return err
	}
	defer node.stop()
	total := int64(0)
	for i, rate := range append([]int{latencyRates[0]}, latencyRates...) {
		n := rate * int(2*r.duration/time.Millisecond) / 1000
		if i == 0 {
			n = latencyWarmUp
			rate = latencyWarmUp
		}
		t := newTimes()
		mu.Lock()
		current = t
		mu.Unlock()
		_, _ = fmt.Fprintf(r.progress, "latency: in %s, %d messages at %d/s\n", engine, n, rate)
		if err := w.atRate(running, node.Pusher, t, rate, n); err != nil {
			return err
		}
		total += int64(n)
		if err := await(running, arrived, total); err != nil {
			return err
		}
		found, err := t.latencies()
		if err != nil {
			return err
		}
		if i > 0 {
			r.printLatency(fmt.Sprintf("at %d/s in %s", rate, engine), found)
		}
	}
	return nil
}

// atRate publishes n messages one by one, each at its time however long the ones
// before it take.
func (w *world) atRate(ctx context.Context, p *pusher.Pusher, t *times, rate, n int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	for range n {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			all.Go(func() {
				m := w.messages(1)
				sent := time.Now()
				if _, err := p.Publish(ctx, m); err != nil {
					cancel(fmt.Errorf("publishing: %w", err))
					return
				}
				t.note(t.sent, m[0].ID.String(), sent)
			})
		}
	}
	all.Wait()
	return context.Cause(ctx)
}

// await waits until so many deliveries were recorded.
func await(ctx context.Context, arrived <-chan int64, total int64) error {
	late := time.NewTimer(arrival)
	defer late.Stop()
	for {
		select {
		case soFar := <-arrived:
			if soFar >= total {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			return fmt.Errorf("the last messages did not arrive within %v", arrival)
		}
	}
}

func (r *rig) printLatency(name string, found []time.Duration) {
	for _, f := range []struct {
		name   string
		share  float64
		target time.Duration
	}{{"p50", 0.5, targetP50}, {"p99", 0.99, targetP99}} {
		got := percentile(found, f.share)
		verdict := "met"
		if got > f.target {
			verdict = "missed"
		}
		_, _ = fmt.Fprintf(r.out, "target: publish to received %s ms %s: %.2f, at most %.2f: %s\n",
			f.name, name, milliseconds(got), milliseconds(f.target), verdict)
	}
}
