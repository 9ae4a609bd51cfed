package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// shape is what a backlog is for.
type shape struct {
	name    string
	targets func(*sink) []string
}

var (
	manyEndpoints = shape{"100 endpoints", func(s *sink) []string { return slices.Repeat([]string{s.Plain}, 100) }}
	shapes        = []shape{
		{"1 endpoint", func(s *sink) []string { return []string{s.Plain} }},
		manyEndpoints,
		{"100 hosts over tls", func(s *sink) []string { return s.TLS }},
	}
)

// fillBatch is how many messages a backlog is published with at a time, and
// fillers how many do so at once.
const (
	fillBatch = 100
	fillers   = 4
)

// drain measures how fast a backlog is delivered, encrypted, signed and recorded,
// beside a bare loop that posts the same bodies.
func (r *rig) drain(ctx context.Context) error {
	headline := spread{}
	for _, engine := range r.engines {
		for _, s := range shapes {
			got, err := r.drainShape(ctx, engine, s)
			if err != nil {
				return fmt.Errorf("%s in %s: %w", s.name, engine, err)
			}
			name := s.name + " in " + engine
			got.print(r.out, name)
			if s.name == manyEndpoints.name {
				headline = got.ratio() // PostgreSQL comes last, where it is measured
			}
		}
	}
	_, err := fmt.Fprintf(r.out, "push/bare drain ratio: %.3f\n", headline.median)
	return err
}

// drained has the runs of a shape; equal indexes ran one after another.
type drained struct{ push, bare []cost }

func (d drained) ratio() spread {
	return spreadOf(ratios(column(d.push, rateOf), column(d.bare, rateOf)))
}

func (d drained) print(out io.Writer, name string) {
	printTable(out, "drain: "+name, "deliveries/s", []row{{"push", d.push}, {"bare", d.bare}})
	line{"push/bare drain ratio, " + name, d.ratio(), 3}.print(out)
	line{"push/bare cpu ratio, " + name, spreadOf(ratios(column(d.push, ownOf), column(d.bare, ownOf))), 2}.print(out)
}

// drainShape has both take turns, in the opposite order every other run.
func (r *rig) drainShape(ctx context.Context, engine string, s shape) (got drained, err error) {
	_, _ = fmt.Fprintf(r.progress, "drain: %s in %s, %d runs of %d\n", s.name, engine, r.runs, r.n)
	w, err := r.newWorld(ctx, engine, s.targets(r.sink))
	if err != nil {
		return drained{}, err
	}
	defer func() { err = errors.Join(err, w.store.Close()) }()
	for i := range r.runs {
		if err := w.backlog(ctx, r.n); err != nil {
			return drained{}, err
		}
		bodies, err := w.bodies(ctx)
		if err != nil {
			return drained{}, err
		}
		steps := []func() error{
			func() error { return note(&got.push, r.n, func() (use, error) { return w.drain(ctx, r.n) }) },
			func() error { return note(&got.bare, r.n, func() (use, error) { return w.bare(ctx, r.n, bodies) }) },
		}
		if i%2 == 1 {
			slices.Reverse(steps)
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return drained{}, err
			}
		}
	}
	return got, nil
}

// note adds what each of n things cost that f did.
func note(runs *[]cost, n int, f func() (use, error)) error {
	u, err := f()
	*runs = append(*runs, u.each(n))
	return err
}

// backlog publishes n messages that nobody delivers yet.
func (w *world) backlog(ctx context.Context, n int) error {
	p, err := w.newPusher(nil, nil)
	if err != nil {
		return err
	}
	var taken atomic.Int64
	rest := n % fillBatch
	accepted, err := w.publishAll(ctx, p, fillers, fillBatch, func() bool { return taken.Add(fillBatch) <= int64(n) })
	if err == nil && rest > 0 {
		_, err = p.Publish(ctx, w.messages(rest))
		accepted += rest
	}
	if err == nil && accepted != n {
		err = fmt.Errorf("a backlog of %d was made; want %d", accepted, n)
	}
	return err
}

// bodies are some of the backlog, as they will be posted.
func (w *world) bodies(ctx context.Context) ([][]byte, error) {
	parcels, err := w.store.Undelivered(ctx, w.app, platform.Production, nil, pusher.Cursor{}, 100)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, p := range parcels {
		out = append(out, p.Body)
	}
	if len(out) == 0 {
		return nil, errors.New("the backlog has no bodies")
	}
	return out, nil
}

// drain runs a node until n deliveries are recorded.
func (w *world) drain(ctx context.Context, n int) (use, error) {
	before, err := w.use()
	if err != nil {
		return use{}, err
	}
	all := make(chan struct{})
	node, running, err := w.start(ctx, func(soFar int64) {
		if soFar == int64(n) {
			close(all)
		}
	})
	if err != nil {
		return use{}, err
	}
	defer node.stop()
	select {
	case <-all:
	case <-running.Done():
		return use{}, context.Cause(running)
	}
	after, err := w.use()
	return after.minus(before), errors.Join(err, w.empty(ctx))
}

// bare posts n ready bodies with as many requests at once, and keeps nothing.
func (w *world) bare(ctx context.Context, n int, bodies [][]byte) (use, error) {
	before, err := w.use()
	if err != nil {
		return use{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	transport := &http.Transport{
		MaxIdleConns: 2 * concurrency, MaxIdleConnsPerHost: concurrency, DisableCompression: true,
		TLSClientConfig: w.roots.Clone(), ForceAttemptHTTP2: true,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	var next atomic.Int64
	var all sync.WaitGroup
	for range concurrency {
		all.Go(func() {
			for ctx.Err() == nil {
				turn := int(next.Add(1))
				if turn > n {
					return
				}
				if err := post(ctx, client, w.targets[turn%len(w.targets)], bodies[turn%len(bodies)]); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	after, err := w.use()
	return after.minus(before), errors.Join(err, context.Cause(ctx))
}

func post(ctx context.Context, client *http.Client, target string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the sink answered %s", response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
