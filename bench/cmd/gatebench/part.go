package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// schemes are the URL schemes by the names that -only has for them.
var schemes = map[string]string{"http": "http", "tls": "https"}

// part is gateways with one store, and what is compared on them.
type part struct {
	dir          string
	apps, active int
	schemes      []string // keys of schemes
	variants     []variant
	big          bool
}

// measure fills the store, runs the gateways, compares and prints.
func (p part) measure(ctx context.Context, s settings, out, progress io.Writer) error {
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	config := gatewayConfig{Binary: s.caddy}
	var err error
	if slices.Contains(p.variants, gated) {
		if config.Store, err = sqliteIn(p.dir); err != nil {
			return err
		}
		if _, err := config.Store.fill(ctx, s.catalog, p.apps, 0, progress); err != nil {
			return err
		}
	}
	callers, err := activeCallers(p.apps, p.active)
	if err != nil {
		return err
	}
	r, err := newRig(ctx, s, callers, progress)
	if err != nil {
		return err
	}
	defer r.stop()

	both := []string{"http", "https"}
	config.Dir, config.Tuned = filepath.Join(p.dir, "tuned"), true
	tuned := slices.DeleteFunc(slices.Clone(p.variants), func(v variant) bool { return v == defaults })
	startUp, err := r.start(ctx, config, both, tuned)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\n%d apps, %d of them active: first answer %.0f ms after the start\n", p.apps, len(r.callers), milliseconds(startUp))
	untuned := gatewayConfig{Binary: config.Binary, Dir: filepath.Join(p.dir, "default")}
	if _, err := r.start(ctx, untuned, both, []variant{defaults}); err != nil {
		return err
	}
	return p.compare(ctx, s, r, out)
}

// compare measures gateways that have just been started.
func (p part) compare(ctx context.Context, s settings, r *rig, out io.Writer) error {
	for _, name := range p.schemes {
		if err := p.report(ctx, s, r, name, out); err != nil {
			return err
		}
	}
	for _, v := range []variant{plain, defaults} {
		resident, peak, err := memory(r.gateways[v][0].pid())
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "memory of the gateway that serves %s, with %d apps: %d MiB resident, %d MiB at most\n", v, p.apps, resident>>20, peak>>20)
	}
	if s.profiles == "" {
		return nil
	}
	return p.profile(ctx, r, s.profiles)
}

// report measures the variants over one scheme and prints their figures.
func (p part) report(ctx context.Context, s settings, r *rig, name string, out io.Writer) error {
	suffix := ""
	switch {
	case name == "tls":
		suffix = " over tls"
	case p.big:
		suffix = fmt.Sprintf(" with %d apps", p.apps)
	}
	measured, err := r.inTurns().compare(ctx, schemes[name], p.variants, plain, s.runs*turnsARun, s.rate)
	if err != nil {
		return err
	}
	measured = measured.inRuns(turnsARun)
	if err := table(out, name, measured, p.variants); err != nil {
		return err
	}
	for _, l := range lines(measured, suffix) {
		l.print(out)
	}
	if !slices.Contains(p.variants, gated) {
		return nil
	}
	flooded, err := r.inTurns().flood(ctx, schemes[name], s.runs*turnsARun)
	if err != nil {
		return err
	}
	for _, l := range floodLines(flooded.inRuns(turnsARun), suffix) {
		l.print(out)
	}
	return nil
}

// profile writes the profiles of the variants that the notes in
// docs/performance.md compare.
func (p part) profile(ctx context.Context, r *rig, dir string) error {
	for _, name := range p.schemes {
		for _, v := range []variant{gated, plain} {
			if !slices.Contains(p.variants, v) {
				continue
			}
			_, _ = fmt.Fprintf(r.progress, "profiling %s of %s\n", name, v)
			if err := r.profile(ctx, r.good(r.sitesOf(schemes[name], v)), dir, fmt.Sprintf("%s-%s-%d", v, name, p.apps)); err != nil {
				return err
			}
		}
	}
	return nil
}
