// Command pushbench measures what pushing messages costs: it runs the pusher on
// a real store, SQLite and PostgreSQL, and lets it post to a sink that is a
// process of its own, beside a bare loop that posts the same bodies and keeps
// nothing. It listens and connects on loopback alone, needs Linux, and leaves
// nothing behind. See docs/performance.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The parts, and the engines that each of them runs on.
var (
	parts   = []string{"drain", "publish", "latency", "sustained", "memory"}
	engines = []string{sqliteEngine, postgresEngine}
)

// settings are the command line.
type settings struct {
	n, runs, pending  int
	duration, sustain time.Duration
	only, engines     []string
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == sinkRole {
		if err := serveSink(os.Stdin, os.Stdout); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	s, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "pushbench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s, os.Stdout, os.Stderr); err != nil {
		stop()
		_, _ = fmt.Fprintln(os.Stderr, "pushbench:", err)
		os.Exit(1)
	}
}

// parse reads the command line.
func parse(args []string, out io.Writer) (settings, error) {
	var s settings
	var only, on string
	f := flag.NewFlagSet("pushbench", flag.ContinueOnError)
	f.SetOutput(out)
	f.IntVar(&s.n, "n", 20_000, "messages of a run of the part drain; should last 2 to 4 seconds")
	f.IntVar(&s.runs, "runs", 5, "runs of the parts drain and publish")
	f.DurationVar(&s.duration, "duration", 3*time.Second, "length of a run of the part publish, and of each rate of the part latency twice that")
	f.DurationVar(&s.sustain, "sustain", time.Minute, "length of the part sustained, on each engine")
	f.IntVar(&s.pending, "pending", 1_000_000, "deliveries that wait in the part memory")
	f.StringVar(&only, "only", strings.Join(parts, ","), "the parts to measure")
	f.StringVar(&on, "engines", strings.Join(engines, ","), "the engines to measure on")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if f.NArg() > 0 {
		return s, fmt.Errorf("unknown argument %q; want flags alone", f.Arg(0))
	}
	var err error
	if s.only, err = choose("-only", only, parts); err != nil {
		return s, err
	}
	if s.engines, err = choose("-engines", on, engines); err != nil {
		return s, err
	}
	switch {
	case s.n < 100:
		return s, fmt.Errorf("-n: %d is too few; want 100 or more", s.n)
	case s.runs < 1:
		return s, errors.New("-runs: it must not be that small")
	case s.pending < few:
		return s, fmt.Errorf("-pending: %d is too few; want %d or more", s.pending, few)
	case s.duration < 100*time.Millisecond || s.sustain < 100*time.Millisecond:
		return s, errors.New("-duration and -sustain: too short; want 100ms or more")
	}
	return s, nil
}

// choose splits a list, looks at each entry, and puts them in the order of from.
func choose(name, list string, from []string) ([]string, error) {
	chosen := strings.Split(list, ",")
	for _, c := range chosen {
		if !slices.Contains(from, c) {
			return nil, fmt.Errorf("%s: unknown %q; want some of %s", name, c, strings.Join(from, ","))
		}
	}
	return slices.DeleteFunc(slices.Clone(from), func(c string) bool { return !slices.Contains(chosen, c) }), nil
}

// run measures the parts that were asked for and prints their figures.
func run(ctx context.Context, s settings, out, progress io.Writer) (err error) {
	r := &rig{settings: s, out: out, progress: progress}
	if r.dir, err = os.MkdirTemp("", "pushbench-"); err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	if slices.Contains(s.engines, postgresEngine) {
		if r.database, err = startDatabase(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.database.Close()) }()
	}
	if r.sink, err = startSink(ctx); err != nil {
		return err
	}
	defer r.sink.stop()
	measures := map[string]func(context.Context) error{
		"drain": r.drain, "publish": r.onEngines(r.publish), "latency": r.onEngines(r.latency),
		"sustained": r.onEngines(r.sustained), "memory": r.onEngines(r.memory),
	}
	for _, part := range parts {
		if !slices.Contains(s.only, part) {
			continue
		}
		if err := measures[part](ctx); err != nil {
			return fmt.Errorf("measuring %s: %w", part, err)
		}
	}
	return nil
}

// onEngines measures a part on each engine that was asked for.
func (r *rig) onEngines(part func(ctx context.Context, engine string) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, engine := range r.engines {
			if err := part(ctx, engine); err != nil {
				return fmt.Errorf("in %s: %w", engine, err)
			}
		}
		return nil
	}
}
