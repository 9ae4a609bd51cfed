package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

const (
	// share is the part of what the machine can do at most at which latency is
	// measured: a queue that never empties would tell of nothing but itself.
	share = 0.6
	// settle is how long the load goes on before a run counts.
	settle = 500 * time.Millisecond
	// startTimeout bounds the wait for the first answer.
	startTimeout = time.Minute
	// warmUp is the least number of requests that every site gets before the
	// first run: connections open, pools and caches fill.
	warmUp = 2000
)

// sample is one run of one variant.
type sample struct {
	// In a closed loop: requests a second, and for each request the CPU time
	// of the three processes and the allocations of the gateway.
	rate                         float64
	gateway, generator, upstream time.Duration
	allocs                       float64
	// At the fixed rate.
	p50, p99 time.Duration
}

// series holds the runs of each variant; equal indexes ran one after another.
type series map[variant][]sample

// column picks one figure of all runs of a variant.
func (s series) column(v variant, figure func(sample) float64) []float64 {
	out := make([]float64, len(s[v]))
	for i := range s[v] {
		out[i] = figure(s[v][i])
	}
	return out
}

// rig is a running gateway with all that is needed to measure it.
type rig struct {
	gateway  *process
	upstream *process
	admin    string
	sites    []site

	callers     []caller
	fresh       *nonces
	client      *http.Client
	connections int
	duration    time.Duration
	progress    io.Writer
}

func (r *rig) site(scheme string, v variant) site {
	i := slices.IndexFunc(r.sites, func(s site) bool { return s.Scheme == scheme && s.Variant == v })
	return r.sites[i]
}

// await polls until the site answers 200.
func (r *rig) await(ctx context.Context, s site) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	t := signer(s, r.callers, r.fresh, time.Now)
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for {
		refusal := r.once(ctx, t)
		if refusal == nil {
			return nil
		}
		select {
		case <-r.gateway.done:
			return fmt.Errorf("the gateway has ended: %s", r.gateway.errors)
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s of %s: %w", s.Scheme, s.Variant, errors.Join(ctx.Err(), refusal))
		case <-pause.C:
		}
	}
}

// once sends one request; anything but 200 is an error.
func (r *rig) once(ctx context.Context, t vegeta.Targeter) error {
	var target vegeta.Target
	if err := t(&target); err != nil {
		return err
	}
	req, err := target.Request()
	if err != nil {
		return err
	}
	resp, err := r.client.Do(req.WithContext(ctx))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return err
}

// compare measures the variants over one scheme. They take turns, in the
// opposite order every other round, so that a drift of the machine falls on
// all of them alike. A rate of 0 is found out. Neighbours in variants are neighbours in time.
func (r *rig) compare(ctx context.Context, scheme string, variants []variant, runs, rate int) (series, error) {
	targeters := map[variant]vegeta.Targeter{}
	for _, v := range variants {
		s := r.site(scheme, v)
		if err := r.await(ctx, s); err != nil {
			return nil, err
		}
		targeters[v] = signer(s, r.callers, r.fresh, time.Now)
		if _, err := r.attack(ctx, targeters[v], count(max(warmUp, len(r.callers))), 2*time.Minute); err != nil {
			return nil, fmt.Errorf("warming up %s of %s: %w", scheme, v, err)
		}
	}
	if rate == 0 {
		most, err := r.attack(ctx, targeters[plain], unlimited, 2*time.Second)
		if err != nil {
			return nil, fmt.Errorf("finding the rate: %w", err)
		}
		rate = max(int(most.rate*share), 1)
	}
	_, _ = fmt.Fprintf(r.progress, "%s: %d runs of %v each for %v, latency at %d requests/s\n", scheme, runs, r.duration, variants, rate)
	all := series{}
	for round := range runs {
		for _, v := range turns(variants, round) {
			got, err := r.measure(ctx, targeters[v], perSecond(rate))
			if err != nil {
				return nil, fmt.Errorf("measuring %s of %s: %w", scheme, v, err)
			}
			all[v] = append(all[v], got)
		}
	}
	return all, nil
}

// turns is the order of a round: every other one backwards, and each pair of
// rounds starts one further on. Neighbours stay neighbours, and none is always
// the first or in the middle.
func turns(variants []variant, round int) []variant {
	first := round / 2 % len(variants)
	order := slices.Concat(variants[first:], variants[:first])
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}

// measure is one run: costs in a closed loop, then latency at a fixed rate.
// Below saturation the CPU time of a request is mostly a matter of how the Go
// scheduler spends its idle time; in a queue that never empties, latency is
// only a matter of throughput. See docs/performance.md.
func (r *rig) measure(ctx context.Context, t vegeta.Targeter, pace vegeta.Pacer) (sample, error) {
	if _, err := r.attack(ctx, t, unlimited, settle); err != nil {
		return sample{}, err
	}
	got, err := r.costs(ctx, t)
	if err != nil {
		return sample{}, err
	}
	seen, err := r.attack(ctx, t, pace, r.duration)
	got.p50, got.p99 = seen.p50, seen.p99
	return got, err
}

// costs measures CPU time and allocations.
func (r *rig) costs(ctx context.Context, t vegeta.Targeter) (sample, error) {
	// Reading the metrics allocates too: reading twice tells how much.
	idle, err := mallocs(ctx, r.admin)
	if err != nil {
		return sample{}, err
	}
	start, err := mallocs(ctx, r.admin)
	if err != nil {
		return sample{}, err
	}
	before, err := r.cpu()
	if err != nil {
		return sample{}, err
	}
	seen, err := r.attack(ctx, t, unlimited, r.duration)
	if err != nil {
		return sample{}, err
	}
	after, err := r.cpu()
	if err != nil {
		return sample{}, err
	}
	end, err := mallocs(ctx, r.admin)
	if err != nil {
		return sample{}, err
	}
	each := func(i int) time.Duration { return (after[i] - before[i]) / time.Duration(seen.requests) }
	return sample{
		rate: seen.rate, gateway: each(0), generator: each(1), upstream: each(2),
		allocs: (end - start - (start - idle)) / float64(seen.requests),
	}, nil
}

// cpu is the CPU time so far of the gateway, of this program and of the upstream.
func (r *rig) cpu() (times [3]time.Duration, err error) {
	for i, pid := range []int{r.gateway.pid(), os.Getpid(), r.upstream.pid()} {
		if times[i], err = cpuTime(pid); err != nil {
			return times, err
		}
	}
	return times, nil
}

func (r *rig) attack(ctx context.Context, t vegeta.Targeter, pace vegeta.Pacer, d time.Duration) (outcome, error) {
	return attack(ctx, r.client, t, pace, r.connections, d)
}
