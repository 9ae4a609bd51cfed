// Command gatebench measures what the gate costs: it runs one gateway with the
// same reverse proxy behind several listeners, with the gate and without it,
// sends both the same signed load in turns, and prints the ratios. It listens
// and connects on loopback alone, needs Linux, and leaves nothing behind. See
// docs/performance.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// parts are what -only chooses from.
var parts = []string{"http", "tls", "big", "redis", "nodes", "oauth", "postgres"}

// settings are the command line.
type settings struct {
	runs, connections int
	apps              int
	big, bigActive    int
	rate              int
	duration          time.Duration
	caddy, catalog    string
	only              []string
	withoutGate       bool
	profiles          string
}

// fewerRuns is the number of runs in the parts that would otherwise make the
// whole last longer than half an hour.
func (s settings) fewerRuns() int { return (s.runs + 1) / 2 }

func main() {
	if len(os.Args) == 2 && os.Args[1] == upstreamRole {
		if err := serveUpstream(os.Stdin, os.Stdout); err != nil {
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
		_, _ = fmt.Fprintln(os.Stderr, "gatebench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s, os.Stdout, os.Stderr); err != nil {
		stop()
		_, _ = fmt.Fprintln(os.Stderr, "gatebench:", err)
		os.Exit(1)
	}
}

// parse reads the command line.
func parse(args []string, out io.Writer) (settings, error) {
	var s settings
	var only string
	f := flag.NewFlagSet("gatebench", flag.ContinueOnError)
	f.SetOutput(out)
	f.IntVar(&s.runs, "runs", 8, "runs of each variant; the parts redis, nodes, oauth and postgres take half as many")
	f.DurationVar(&s.duration, "duration", 3*time.Second, "length of a run: of its closed loop and of its fixed rate each; the parts http, tls and big cut it into turns")
	f.IntVar(&s.connections, "connections", 64, "connections of the load generator")
	f.IntVar(&s.rate, "rate", 0, "requests a second while latency is measured; 0 means 60 % of what the machine can do")
	f.IntVar(&s.apps, "apps", 1000, "apps in the store for the parts http, tls, redis, nodes and oauth, all of them active")
	f.IntVar(&s.big, "big", 1_000_000, "apps in the store for the parts big and postgres")
	f.IntVar(&s.bigActive, "active", 10_000, "active apps of the part big")
	f.StringVar(&s.caddy, "caddy", "", "`path` of the gateway's binary; empty builds the project's cmd/caddy")
	f.StringVar(&s.catalog, "catalog", "../examples/mall.openapi.yaml", "`path` of the catalog")
	f.StringVar(&only, "only", strings.Join(parts, ","), "the parts to measure")
	f.BoolVar(&s.withoutGate, "without-gate", false, "leave out the gated variant and the parts redis, nodes, oauth and postgres: serves with any Caddy binary")
	f.StringVar(&s.profiles, "profile", "", "`folder` for profiles of the gateway, taken after the runs; empty for none")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if f.NArg() > 0 {
		return s, fmt.Errorf("unknown argument %q; want flags alone", f.Arg(0))
	}
	s.only = strings.Split(only, ",")
	for _, part := range s.only {
		if !slices.Contains(parts, part) {
			return s, fmt.Errorf("-only: unknown part %q; want some of %s", part, strings.Join(parts, ","))
		}
	}
	for name, value := range map[string]int{
		"runs": s.runs, "connections": s.connections, "apps": s.apps, "big": s.big, "active": s.bigActive, "rate": s.rate + 1,
	} {
		if value < 1 {
			return s, fmt.Errorf("-%s: it must not be that small", name)
		}
	}
	if s.withoutGate {
		s.only = slices.DeleteFunc(s.only, needsServers)
	}
	if len(s.only) == 0 {
		return s, fmt.Errorf("-without-gate: nothing is left of -only %s without the gate; want http, tls or big", only)
	}
	if s.duration < 100*time.Millisecond {
		return s, fmt.Errorf("-duration: %v is too short; want 100ms or more", s.duration)
	}
	return s, nil
}

// run measures the parts that were asked for and prints their figures.
func run(ctx context.Context, s settings, out, progress io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "gatebench-")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if s.caddy == "" {
		_, _ = fmt.Fprintln(progress, "building the gateway")
		if s.caddy, err = buildCaddy(ctx, dir); err != nil {
			return err
		}
	} else if s.caddy, err = filepath.Abs(s.caddy); err != nil {
		return err
	}
	var servers *servers
	if slices.ContainsFunc(s.only, needsServers) {
		// First of all: what is missing is told before anything is measured.
		if servers, err = startServers(); err != nil { //nolint:contextcheck // a start has a bound of its own
			return err
		}
		defer func() { err = errors.Join(err, servers.stop()) }()
	}
	variants := []variant{defaults, gated, plain, control}
	if s.withoutGate {
		variants = []variant{defaults, plain, control}
	}
	var small []string
	for _, name := range s.only {
		if _, ok := schemes[name]; ok {
			small = append(small, name)
		}
	}
	if len(small) > 0 {
		p := part{dir: filepath.Join(dir, "small"), apps: s.apps, active: s.apps, schemes: small, variants: variants}
		if err := p.measure(ctx, s, out, progress); err != nil {
			return err
		}
	}
	if slices.Contains(s.only, "big") {
		p := part{dir: filepath.Join(dir, "big"), apps: s.big, active: s.bigActive, schemes: []string{"http"}, variants: variants, big: true}
		if err := p.measure(ctx, s, out, progress); err != nil {
			return err
		}
	}
	if servers == nil {
		return nil
	}
	return runShared(ctx, s, dir, servers, out, progress)
}

// runShared measures the parts that need PostgreSQL or Redis. The one that
// fills PostgreSQL comes last, so that no other runs beside its clean-up.
func runShared(ctx context.Context, s settings, dir string, servers *servers, out, progress io.Writer) error {
	if slices.Contains(s.only, "redis") {
		p := redisPart{dir: filepath.Join(dir, "redis"), apps: s.apps}
		if err := p.measure(ctx, s, servers, out, progress); err != nil {
			return err
		}
	}
	if slices.Contains(s.only, "nodes") {
		p := nodesPart{dir: filepath.Join(dir, "nodes"), apps: s.apps}
		if err := p.measure(ctx, s, servers, out, progress); err != nil {
			return err
		}
	}
	if slices.Contains(s.only, "oauth") {
		p := oauthPart{dir: filepath.Join(dir, "oauth"), apps: s.apps}
		if err := p.measure(ctx, s, servers, out, progress); err != nil {
			return err
		}
	}
	if slices.Contains(s.only, "postgres") {
		p := postgresPart{dir: filepath.Join(dir, "postgres"), apps: s.big}
		return p.measure(ctx, s, servers, out, progress)
	}
	return nil
}

// needsServers tells whether a part needs PostgreSQL or Redis.
func needsServers(part string) bool {
	return slices.Contains([]string{"redis", "nodes", "oauth", "postgres"}, part)
}
