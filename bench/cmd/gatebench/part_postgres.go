package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-openplatform/openplatform/internal/gate"
	"github.com/caddy-openplatform/openplatform/internal/limit"
)

// The variants of the part postgres, which are two ways to call one gateway.
const (
	hit  variant = "hit"  // by apps that the gateway has in memory
	miss variant = "miss" // by apps that never called before
)

const (
	// cached is how many apps a gateway keeps in memory by default.
	cached = gate.DefaultApps
	// interfaces is how many the catalog of the part postgres has: those of a
	// large platform.
	interfaces = 1000
	// starts is how often the start of a gateway is measured.
	starts = 5
	// known is how many apps are called again and again.
	known = 1000
)

// postgresPart measures what a store with very many apps costs.
type postgresPart struct {
	dir  string
	apps int
}

// measure fills PostgreSQL, runs one gateway and prints its figures.
func (p postgresPart) measure(ctx context.Context, s settings, servers *servers, out, progress io.Writer) error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	dsn, err := servers.postgres.DSN(ctx)
	if err != nil {
		return err
	}
	db, err := newStorage(p.dir, "postgres", dsn)
	if err != nil {
		return err
	}
	took, err := db.fill(ctx, s.catalog, p.apps, interfaces, progress)
	if err != nil {
		return err
	}
	if err := tidy(ctx, dsn); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\n%d apps in PostgreSQL on the same machine, limits and nonces in memory: filled in %.0f s\n", p.apps, took.Seconds())

	callers, err := activeCallers(p.apps, cached)
	if err != nil {
		return err
	}
	// Neighbours in time are no neighbours in the database. The same in every run.
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(callers), func(i, j int) { callers[i], callers[j] = callers[j], callers[i] }) //nolint:gosec // G404: no secret
	r, err := newRig(ctx, s, callers, progress)
	if err != nil {
		return err
	}
	defer r.stop()
	config := gatewayConfig{Binary: s.caddy, Dir: filepath.Join(p.dir, "gateway"), Tuned: true, Store: db}
	if err := p.startUp(ctx, r, config, out); err != nil {
		return err
	}
	if err := p.misses(ctx, s, r, out); err != nil {
		return err
	}
	rebuilt, err := rebuilds(ctx, db)
	if err != nil {
		return err
	}
	line{fmt.Sprintf("snapshot rebuild ms with %d interfaces and %d apps", interfaces, p.apps), rebuilt, 2}.print(out)
	return nil
}

// tidy does now what PostgreSQL would do while it is measured.
func tidy(ctx context.Context, dsn string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("tidying PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, statement := range []string{"VACUUM (ANALYZE)", "CHECKPOINT"} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("tidying PostgreSQL: %s: %w", statement, err)
		}
	}
	return nil
}

// startUp starts the gateway several times. The last one stays.
func (p postgresPart) startUp(ctx context.Context, r *rig, c gatewayConfig, out io.Writer) error {
	var took []float64
	for len(took) < starts {
		r.drop(hit)
		started, err := r.start(ctx, c, []string{"http"}, []variant{hit})
		if err != nil {
			return err
		}
		took = append(took, milliseconds(started))
	}
	line{fmt.Sprintf("first answer ms after the start with %d apps in postgres", p.apps), spreadOf(took), 0}.print(out)
	return nil
}

// misses calls apps that were not called before, and compares with apps that
// were: at an equal rate, and then as many as the machine can do until the
// memory for apps is full.
func (p postgresPart) misses(ctx context.Context, s settings, r *rig, out io.Writer) error {
	sites := r.sitesOf("http", hit)
	fresh := r.callers
	next := func(n int) load {
		n = min(max(n, 1), len(fresh))
		l := r.goodOf(sites, fresh[:n])
		fresh = fresh[n:]
		return l
	}
	again := next(known)
	if _, err := r.attack(ctx, again, count(2*warmUp), 2*time.Minute); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	resident, _, err := memory(r.gateways[hit][0].pid())
	if err != nil {
		return err
	}
	rate := s.rate
	if rate == 0 {
		some := max(min(5000, len(fresh)/10), 1)
		most, err := r.attack(ctx, next(some), count(some), 2*time.Minute)
		if err != nil {
			return fmt.Errorf("finding the rate: %w", err)
		}
		rate = int(most.rate * share)
	}
	// No more than the fresh apps last for.
	each := len(fresh) * 2 / 3 / s.fewerRuns()
	rate = max(min(rate, int(float64(each)/r.duration.Seconds())), 1)
	_, _ = fmt.Fprintf(r.progress, "postgres: %d runs of %v each for hits and misses, at %d requests/s\n", s.fewerRuns(), r.duration, rate)
	measured, err := alternate([]variant{hit, miss}, s.fewerRuns(), func(v variant) (got sample, err error) {
		l := again
		if v == miss {
			l = next(int(float64(rate)*r.duration.Seconds()) + 1)
		}
		if err := r.atRate(ctx, l, rate, &got); err != nil {
			return got, fmt.Errorf("measuring a %s: %w", v, err)
		}
		return got, nil
	})
	if err != nil {
		return err
	}
	for _, l := range missLines(measured, fmt.Sprintf(" with %d apps in postgres", p.apps)) {
		l.print(out)
	}
	if left := len(fresh); left > 0 {
		most, err := r.attack(ctx, next(left), count(left), 2*time.Minute)
		if err != nil {
			return fmt.Errorf("filling the memory for apps: %w", err)
		}
		_, _ = fmt.Fprintf(out, "misses a second in a closed loop with %d apps in postgres: %.0f\n", p.apps, most.rate)
	}
	kept, err := metric(ctx, r.gateways[hit][0].admin, "caddy_open_platform_app_cache_entries")
	if err != nil {
		return err
	}
	full, peak, err := memory(r.gateways[hit][0].pid())
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "memory of the gateway with %.0f of %d apps cached: %d MiB resident, %d MiB at most; with the first %d: %d MiB\n",
		kept, p.apps, full>>20, peak>>20, known, resident>>20)
	return nil
}

// missLines compares calls of new apps with calls of known ones.
func missLines(s series, suffix string) []line {
	against := func(f func(sample) float64) spread { return spreadOf(ratios(s.column(miss, f), s.column(hit, f))) }
	return []line{
		{"load on miss p50 ms" + suffix, spreadOf(s.column(miss, p50Figure)), 2},
		{"load on miss p99 ms" + suffix, spreadOf(s.column(miss, p99Figure)), 2},
		{"hit p50 ms" + suffix, spreadOf(s.column(hit, p50Figure)), 2},
		{"hit p99 ms" + suffix, spreadOf(s.column(hit, p99Figure)), 2},
		{"miss/hit cpu ratio" + suffix, against(steadyFigure), 2},
	}
}

// rebuilds measures in this process how long a gate takes to read the catalog
// and to put it in force, as it does after each change of the catalog.
func rebuilds(ctx context.Context, db *storage) (took spread, err error) {
	s, err := db.open(ctx)
	if err != nil {
		return spread{}, fmt.Errorf("rebuilding the snapshot: %w", err)
	}
	defer s.Close()
	g, err := gate.New(ctx, gate.Options{Store: s, Ledger: new(limit.Local)})
	if err != nil {
		return spread{}, fmt.Errorf("rebuilding the snapshot: %w", err)
	}
	defer g.Close()
	var all []float64
	for range 20 {
		began := time.Now()
		if err := g.ReloadCatalog(ctx); err != nil {
			return spread{}, fmt.Errorf("rebuilding the snapshot: %w", err)
		}
		all = append(all, milliseconds(time.Since(began)))
	}
	return spreadOf(all), nil
}
