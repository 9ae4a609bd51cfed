package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// few is how many deliveries are made while memory is measured: all of a small
// backlog, and the first of a large one.
const few = 20_000

// memory measures what a node takes while it delivers from a backlog, a small
// one and a large one.
func (r *rig) memory(ctx context.Context, engine string) (err error) {
	w, err := r.newWorld(ctx, engine, manyEndpoints.targets(r.sink))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.store.Close(), w.remove()) }()
	for _, pending := range []int{few, r.pending} {
		_, _ = fmt.Fprintf(r.progress, "memory: in %s, a backlog of %d\n", engine, pending)
		if err := w.backlog(ctx, pending); err != nil {
			return err
		}
		seen, err := w.watchDelivery(ctx)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("with %d pending in %s", pending, engine)
		_, _ = fmt.Fprintf(r.out, "memory MiB %s: heap %.1f, resident %.1f, of which %.1f before\n",
			name, mebibytes(seen.live), mebibytes(seen.resident), mebibytes(seen.before))
		_, _ = fmt.Fprintf(r.out, "first delivery ms after the start %s: %.1f\n", name, milliseconds(seen.first))
	}
	return nil
}

// footprint is what a node took at the most.
type footprint struct {
	live, resident uint64 // bytes
	before         uint64 // resident when the node was not started yet
	// first is how long the first delivery took from the start of the node.
	first time.Duration
}

// watchDelivery runs a node until a few deliveries are recorded.
func (w *world) watchDelivery(ctx context.Context) (footprint, error) {
	var f footprint
	runtime.GC()
	debug.FreeOSMemory()
	var err error
	if f.before, err = resident(); err != nil {
		return f, err
	}
	start := time.Now()
	first, enough := make(chan time.Duration, 1), make(chan struct{})
	node, running, err := w.start(ctx, func(soFar int64) {
		switch soFar {
		case 1:
			first <- time.Since(start)
		case few:
			close(enough)
		}
	})
	if err != nil {
		return f, err
	}
	defer node.stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		has, err := resident()
		if err != nil {
			return f, err
		}
		f.live, f.resident = max(f.live, live()), max(f.resident, has)
		select {
		case <-look.C:
		case <-enough:
			f.first = <-first
			return f, nil
		case <-running.Done():
			return f, context.Cause(running)
		}
	}
}

// live is what the last garbage collection found to live.
func live() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// resident is the memory that this process has, SQLite's included, which is not
// Go's.
func resident() (uint64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, fmt.Errorf("reading the memory: %w", err)
	}
	var all, resident uint64
	if _, err := fmt.Sscan(string(text), &all, &resident); err != nil {
		return 0, fmt.Errorf("reading the memory: %w", err)
	}
	return resident * uint64(os.Getpagesize()), nil
}
