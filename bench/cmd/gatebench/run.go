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
	settle = 200 * time.Millisecond
	// held is how long a gateway can spend what it has leased, at the pace at
	// which it leased it: a slice and a half, of half a second each.
	held = 750 * time.Millisecond
	// idle is after how long it gives back what it does not spend.
	idle = 4 * time.Second
	// turnsARun is how often the variants of the parts http, tls and big take
	// turns in a run. The shorter a turn is, the more alike the machine is to
	// all of them: what else runs on it falls on each.
	turnsARun = 6
	// warmUp is the least number of requests that every site gets before the
	// first run: connections open, pools and caches fill.
	warmUp = 2000
)

// sample is one run of one variant.
type sample struct {
	// In a closed loop: requests a second, and for each request the CPU time
	// of the three processes, the allocations of the gateway, and what it cost
	// Redis. The gateway is all nodes together.
	rate                         float64
	gateway, generator, upstream time.Duration
	allocs                       float64
	redis                        redisCost
	// At the fixed rate: CPU time of the gateway for each request, latency,
	// and what a request cost Redis.
	steady      time.Duration
	p50, p99    time.Duration
	steadyRedis redisCost
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
// all of them alike. A rate of 0 is found out by what the variant basis can do.
// Neighbours in variants are neighbours in time.
func (r *rig) compare(ctx context.Context, scheme string, variants []variant, basis variant, runs, rate int) (series, error) {
	loads := map[variant]load{}
	for _, v := range variants {
		loads[v] = r.good(r.sitesOf(scheme, v))
		if err := r.await(ctx, loads[v]); err != nil {
			return nil, err
		}
		if _, err := r.attack(ctx, loads[v], count(max(warmUp, len(r.callers))), 2*time.Minute); err != nil {
			return nil, fmt.Errorf("warming up %s of %s: %w", scheme, v, err)
		}
	}
	if rate == 0 {
		most, err := r.attack(ctx, loads[basis], unlimited, 2*time.Second)
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
	if r.redis[l.variant] != nil {
		if _, err := r.attack(ctx, l, perSecond(rate), outlast(s.rate, rate)); err != nil {
			return err
		}
	}
	before, err := r.use(ctx, l.variant)
	if err != nil {
		return err
	}
	seen, err := r.attack(ctx, l, perSecond(rate), r.duration)
	if err != nil {
		return err
	}
	after, err := r.use(ctx, l.variant)
	if err != nil {
		return err
	}
	s.steady = (after.gateway - before.gateway) / time.Duration(seen.requests)
	s.p50, s.p99 = seen.p50, seen.p99
	s.steadyRedis = after.redis.since(before.redis, seen.requests)
	return nil
}

// outlast is how long the load must go on at a rate until what was leased at
// the pace of a closed loop is spent: it would last for a good part of a run.
func outlast(pace float64, rate int) time.Duration {
	return min(max(time.Duration(float64(held)*pace/float64(rate)), held), idle)
}

// flood measures what calls with a bad signature cost the gate beside good
// ones. They take turns too. Afterwards every app must still be let in: else a
// stranger who knows its key could lock it out.
func (r *rig) flood(ctx context.Context, scheme string, runs int) (series, error) {
	gate := r.sitesOf(scheme, gated)
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

// inRuns makes one sample of every n: the mean of each figure.
func (s series) inRuns(n int) series {
	out := series{}
	for v, all := range s {
		for turns := range slices.Chunk(all, n) {
			out[v] = append(out[v], mean(turns))
		}
	}
	return out
}

// mean is that of each figure but those of Redis.
func mean(turns []sample) (m sample) {
	for _, t := range turns {
		m.rate += t.rate
		m.allocs += t.allocs
		m.gateway += t.gateway
		m.generator += t.generator
		m.upstream += t.upstream
		m.steady += t.steady
		m.p50 += t.p50
		m.p99 += t.p99
	}
	n := len(turns)
	m.rate /= float64(n)
	m.allocs /= float64(n)
	for _, d := range []*time.Duration{&m.gateway, &m.generator, &m.upstream, &m.steady, &m.p50, &m.p99} {
		*d /= time.Duration(n)
	}
	return m
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
	return r.costsOf(ctx, l.variant, func(d time.Duration) (outcome, error) { return r.attack(ctx, l, unlimited, d) })
}

// costsOf is costs of any loop that keeps what serves a variant busy.
func (r *rig) costsOf(ctx context.Context, v variant, loop func(time.Duration) (outcome, error)) (sample, error) {
	if _, err := loop(settle); err != nil {
		return sample{}, err
	}
	// Reading the metrics allocates too: reading twice tells how much.
	base, err := r.mallocs(ctx, v)
	if err != nil {
		return sample{}, err
	}
	start, err := r.mallocs(ctx, v)
	if err != nil {
		return sample{}, err
	}
	before, err := r.use(ctx, v)
	if err != nil {
		return sample{}, err
	}
	seen, err := loop(r.duration)
	if err != nil {
		return sample{}, err
	}
	after, err := r.use(ctx, v)
	if err != nil {
		return sample{}, err
	}
	end, err := r.mallocs(ctx, v)
	if err != nil {
		return sample{}, err
	}
	n := time.Duration(seen.requests)
	return sample{
		rate: seen.rate, gateway: (after.gateway - before.gateway) / n,
		generator: (after.generator - before.generator) / n, upstream: (after.upstream - before.upstream) / n,
		allocs: (end - start - (start - base)) / float64(seen.requests),
		redis:  after.redis.since(before.redis, seen.requests),
	}, nil
}

// use is what processes have used so far.
type use struct {
	gateway, generator, upstream time.Duration // CPU time
	redis                        redisUse
}

// use reads what the nodes of a variant and those around them have used.
func (r *rig) use(ctx context.Context, v variant) (u use, err error) {
	for _, g := range r.gateways[v] {
		used, err := cpuTime(g.pid())
		if err != nil {
			return u, err
		}
		u.gateway += used
	}
	if u.generator, err = cpuTime(os.Getpid()); err != nil {
		return u, err
	}
	if u.upstream, err = cpuTime(r.upstream.pid()); err != nil {
		return u, err
	}
	if server := r.redis[v]; server != nil {
		u.redis, err = server.use(ctx)
	}
	return u, err
}

// mallocs is the number of allocations of all nodes of a variant so far.
func (r *rig) mallocs(ctx context.Context, v variant) (sum float64, err error) {
	for _, g := range r.gateways[v] {
		n, err := metric(ctx, g.admin, "go_memstats_mallocs_total")
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
