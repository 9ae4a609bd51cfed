package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// The variants of the part redis beside gated, which keeps limits and nonces in
// memory.
const (
	shared      variant = "redis"        // accuracy exact: one script for each call
	leased      variant = "leased"       // accuracy leased, nonces shared
	leasedLocal variant = "leased local" // accuracy leased, nonces local
)

// redisPart compares a gate that keeps limits and nonces in Redis with one that
// keeps them in memory.
type redisPart struct {
	dir  string
	apps int
}

// measure runs a gateway for each variant, compares and prints. SQLite has the
// apps, in a file for each, so that Redis is all they differ by.
func (p redisPart) measure(ctx context.Context, s settings, servers *servers, out, progress io.Writer) error {
	callers, err := activeCallers(p.apps, p.apps)
	if err != nil {
		return err
	}
	r, err := newRig(ctx, s, callers, progress)
	if err != nil {
		return err
	}
	defer r.stop()
	variants := []variant{gated, shared, leased, leasedLocal}
	for i, v := range variants {
		c := gatewayConfig{Binary: s.caddy, Dir: filepath.Join(p.dir, fmt.Sprintf("gateway%d", i)), Tuned: true}
		if err := os.MkdirAll(c.Dir, 0o700); err != nil {
			return fmt.Errorf("making a folder: %w", err)
		}
		if c.Store, err = sqliteIn(c.Dir); err != nil {
			return err
		}
		if _, err := c.Store.fill(ctx, s.catalog, p.apps, 0, progress); err != nil {
			return err
		}
		if v != gated {
			r.redis[v] = servers.redis[i]
			c.Redis = redisFor(v, r.redis[v].url(0))
		}
		if _, err := r.start(ctx, c, []string{"http"}, []variant{v}); err != nil {
			return err
		}
	}
	_, _ = fmt.Fprintf(out, "\nlimits and nonces in Redis on the same machine, %d apps in SQLite, all of them active:\n", p.apps)
	measured, err := r.compare(ctx, "http", variants, shared, s.fewerRuns(), s.rate)
	if err != nil {
		return err
	}
	if err := table(out, "redis", measured, variants); err != nil {
		return err
	}
	for _, l := range redisLines(measured) {
		l.print(out)
	}
	return nil
}

// redisFor are the options of a variant whose limits are in Redis.
func redisFor(v variant, url string) *redisOptions {
	o := &redisOptions{URL: url, Accuracy: "exact", Nonces: "shared"}
	if v != shared {
		o.Accuracy = "leased"
	}
	if v == leasedLocal {
		o.Nonces = "local"
	}
	return o
}

// redisLines compares each variant with the gate in memory. Redis is measured
// at the equal rate, and its round trips in the closed loop too: the more calls
// are under way, the more of them share one.
func redisLines(s series) []line {
	var out []line
	for _, v := range []variant{shared, leased, leasedLocal} {
		suffix := ", " + string(v)
		if v == shared {
			suffix = ""
		}
		against := func(f func(sample) float64) spread { return spreadOf(ratios(s.column(v, f), s.column(gated, f))) }
		out = append(out,
			line{"redis/memory cpu ratio" + suffix, against(steadyFigure), 3},
			line{"redis/memory cpu ratio in a closed loop" + suffix, against(cpuFigure), 3},
			line{"redis/memory extra cpu µs a request" + suffix, spreadOf(differences(s.column(v, steadyFigure), s.column(gated, steadyFigure))), 1},
			line{"redis/memory p99 ratio" + suffix, against(p99Figure), 3},
		)
		out = append(out, redisCostLines(s, v, suffix)...)
	}
	return out
}

// redisCostLines tells what a request of a variant costs Redis.
func redisCostLines(s series, v variant, suffix string) []line {
	return []line{
		{"redis commands a request" + suffix, spreadOf(s.column(v, func(s sample) float64 { return s.steadyRedis.scripts })), 2},
		{"redis network round trips (reads) a request" + suffix, spreadOf(s.column(v, func(s sample) float64 { return s.steadyRedis.reads })), 2},
		{"redis network round trips (reads) a request in a closed loop" + suffix, spreadOf(s.column(v, func(s sample) float64 { return s.redis.reads })), 2},
		{"redis-server cpu µs a request" + suffix, spreadOf(s.column(v, func(s sample) float64 { return microseconds(s.steadyRedis.cpu) })), 1},
		{"redis-server cpu µs a request in a closed loop" + suffix, spreadOf(s.column(v, func(s sample) float64 { return microseconds(s.redis.cpu) })), 1},
	}
}
