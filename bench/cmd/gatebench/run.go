package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

const (
	// share is the part of what the machine can do at most at which latency is
	// measured: a queue that never empties would tell of nothing but itself.
	share = 0.6
	// settle is how long the load goes on before a run counts.
	settle = 500 * time.Millisecond
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
	// At the fixed rate: CPU time of the gateway for each request, latency.
	steady   time.Duration
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

// compare measures the variants over one scheme. They take turns, in the
// opposite order every other round, so that a drift of the machine falls on
// all of them alike. A rate of 0 is found out. Neighbours in variants are
// neighbours in time.
func (r *rig) compare(ctx context.Context, scheme string, variants []variant, runs, rate int) (series, error) {
	loads := map[variant]load{}
	for _, v := range variants {
		loads[v] = r.good(r.site(scheme, v))
		if err := r.await(ctx, loads[v]); err != nil {
			return nil, err
		}
		if _, err := r.attack(ctx, loads[v], count(max(warmUp, len(r.callers))), 2*time.Minute); err != nil {
			return nil, fmt.Errorf("warming up %s of %s: %w", scheme, v, err)
		}
	}
	if rate == 0 {
		most, err := r.attack(ctx, loads[plain], unlimited, 2*time.Second)
		if err != nil {
			return nil, fmt.Errorf("finding the rate: %w", err)
		}
		rate = max(int(most.rate*share), 1)
	}
	_, _ = fmt.Fprintf(r.progress, "%s: %d runs of %v each for %v, latency at %d requests/s\n", scheme, runs, r.duration, variants, rate)
	return alternate(variants, runs, func(v variant) (sample, error) {
		got, err := r.costs(ctx, loads[v])
		if err != nil {
			return sample{}, fmt.Errorf("measuring %s of %s: %w", scheme, v, err)
		}
		if err := r.atRate(ctx, loads[v], rate, &got); err != nil {
			return sample{}, fmt.Errorf("measuring %s of %s at a fixed rate: %w", scheme, v, err)
		}
		return got, nil
	})
}

// atRate measures latency, and CPU time once more, at a rate that is the same
// for all variants.
func (r *rig) atRate(ctx context.Context, l load, rate int, s *sample) error {
	g := r.gateways[l.site.Variant]
	before, err := cpuTime(g.pid())
	if err != nil {
		return err
	}
	seen, err := r.attack(ctx, l, perSecond(rate), r.duration)
	if err != nil {
		return err
	}
	after, err := cpuTime(g.pid())
	if err != nil {
		return err
	}
	s.steady = (after - before) / time.Duration(seen.requests)
	s.p50, s.p99 = seen.p50, seen.p99
	return nil
}

// flood measures what calls with a bad signature cost the gate beside good
// ones. They take turns too. Afterwards every app must still be let in: else a
// stranger who knows its key could lock it out.
func (r *rig) flood(ctx context.Context, scheme string, runs int) (series, error) {
	gate := r.site(scheme, gated)
	bad, err := r.bad(gate)
	if err != nil {
		return nil, err
	}
	loads := map[variant]load{gated: r.good(gate), refused: bad}
	_, _ = fmt.Fprintf(r.progress, "%s: %d runs of %v each for good and for refused calls\n", scheme, runs, r.duration)
	all, err := alternate([]variant{refused, gated}, runs, func(v variant) (sample, error) { return r.costs(ctx, loads[v]) })
	if err != nil {
		return nil, fmt.Errorf("measuring refused calls over %s: %w", scheme, err)
	}
	if _, err := r.attack(ctx, bad, count(len(r.callers)), 2*time.Minute); err != nil {
		return nil, fmt.Errorf("a bad call of every app over %s: %w", scheme, err)
	}
	if _, err := r.attack(ctx, loads[gated], count(len(r.callers)), 2*time.Minute); err != nil {
		return nil, fmt.Errorf("a good call of every app after its bad ones over %s: %w", scheme, err)
	}
	return all, nil
}

// alternate runs the variants in turns.
func alternate(variants []variant, runs int, run func(variant) (sample, error)) (series, error) {
	all := series{}
	for round := range runs {
		for _, v := range turns(variants, round) {
			got, err := run(v)
			if err != nil {
				return nil, err
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

// costs measures CPU time and allocations in a closed loop. Latency is taken
// apart from it, at a fixed rate: below saturation the CPU time of a request is
// mostly a matter of how the Go scheduler spends its idle time; in a queue that
// never empties, latency is only a matter of throughput. See
// docs/performance.md.
func (r *rig) costs(ctx context.Context, l load) (sample, error) {
	if _, err := r.attack(ctx, l, unlimited, settle); err != nil {
		return sample{}, err
	}
	g := r.gateways[l.site.Variant]
	// Reading the metrics allocates too: reading twice tells how much.
	idle, err := mallocs(ctx, g.admin)
	if err != nil {
		return sample{}, err
	}
	start, err := mallocs(ctx, g.admin)
	if err != nil {
		return sample{}, err
	}
	before, err := r.cpu(g)
	if err != nil {
		return sample{}, err
	}
	seen, err := r.attack(ctx, l, unlimited, r.duration)
	if err != nil {
		return sample{}, err
	}
	after, err := r.cpu(g)
	if err != nil {
		return sample{}, err
	}
	end, err := mallocs(ctx, g.admin)
	if err != nil {
		return sample{}, err
	}
	each := func(i int) time.Duration { return (after[i] - before[i]) / time.Duration(seen.requests) }
	return sample{
		rate: seen.rate, gateway: each(0), generator: each(1), upstream: each(2),
		allocs: (end - start - (start - idle)) / float64(seen.requests),
	}, nil
}

// cpu is the CPU time so far of a gateway, of this program and of the upstream.
func (r *rig) cpu(g *gateway) (times [3]time.Duration, err error) {
	for i, pid := range []int{g.pid(), os.Getpid(), r.upstream.pid()} {
		if times[i], err = cpuTime(pid); err != nil {
			return times, err
		}
	}
	return times, nil
}
