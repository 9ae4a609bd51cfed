package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// The variants of the part nodes.
const (
	oneNode          variant = "1 node"
	threeNodes       variant = "3 nodes"
	oneNodeLeased    variant = "1 node, leased local"
	threeNodesLeased variant = "3 nodes, leased local"
)

// changes is how often it is measured how fast a change reaches all nodes.
const changes = 20

// nodesPart compares three nodes with one, with the same PostgreSQL and Redis.
type nodesPart struct {
	dir  string
	apps int
}

// measure runs the nodes of all variants, compares and prints.
func (p nodesPart) measure(ctx context.Context, s settings, servers *servers, out, progress io.Writer) error {
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
	if _, err := db.fill(ctx, s.catalog, p.apps, 0, progress); err != nil {
		return err
	}
	callers, err := activeCallers(p.apps, p.apps)
	if err != nil {
		return err
	}
	r, err := newRig(ctx, s, callers, progress)
	if err != nil {
		return err
	}
	defer r.stop()
	for i, c := range []struct {
		variant variant
		nodes   int
		redis   variant
	}{
		{oneNode, 1, shared},
		{threeNodes, 3, shared},
		{threeNodesLeased, 3, leasedLocal},
		{oneNodeLeased, 1, leasedLocal},
	} {
		r.redis[c.variant] = servers.redis[i]
		for node := range c.nodes {
			config := gatewayConfig{
				Binary: s.caddy, Dir: filepath.Join(p.dir, fmt.Sprintf("gateway%d-%d", i, node)), Tuned: true,
				Store: db, Redis: redisFor(c.redis, r.redis[c.variant].url(1)),
			}
			if _, err := r.start(ctx, config, []string{"http"}, []variant{c.variant}); err != nil {
				return err
			}
		}
	}
	_, _ = fmt.Fprintf(out, "\n1 and 3 nodes with %d apps in the same PostgreSQL, limits in the same Redis; nodes, servers, upstream and load generator "+
		"share %d cores, so the throughput cannot grow with the nodes, and what a request costs is what counts:\n", p.apps, runtime.NumCPU())
	if err := p.compare(ctx, s, r, out); err != nil {
		return err
	}
	l, err := r.propagation(ctx)
	if err != nil {
		return err
	}
	l.print(out)
	return nil
}

func (p nodesPart) compare(ctx context.Context, s settings, r *rig, out io.Writer) error {
	variants := []variant{oneNode, threeNodes, threeNodesLeased, oneNodeLeased}
	measured, err := r.compare(ctx, "http", variants, threeNodes, s.fewerRuns(), s.rate)
	if err != nil {
		return err
	}
	if err := table(out, "nodes", measured, variants); err != nil {
		return err
	}
	for _, l := range nodesLines(measured) {
		l.print(out)
	}
	return nil
}

// nodesLines compares three nodes with one.
func nodesLines(s series) []line {
	var out []line
	for _, pair := range []struct {
		one, three variant
		suffix     string
	}{{oneNode, threeNodes, ""}, {oneNodeLeased, threeNodesLeased, ", leased local"}} {
		against := func(f func(sample) float64) spread {
			return spreadOf(ratios(s.column(pair.three, f), s.column(pair.one, f)))
		}
		out = append(out,
			line{"3 nodes/1 node throughput ratio" + pair.suffix, against(rateFigure), 3},
			line{"3 nodes/1 node cpu ratio" + pair.suffix, against(steadyFigure), 3},
			line{"3 nodes/1 node p99 ratio" + pair.suffix, against(p99Figure), 3},
		)
		for _, v := range []variant{pair.one, pair.three} {
			suffix := ", " + string(v)
			out = append(out, line{"cpu µs a request of all nodes" + suffix, spreadOf(s.column(v, steadyFigure)), 1})
			out = append(out, redisCostLines(s, v, suffix)...)
		}
	}
	return out
}

// propagation measures how long it takes from the request that suspends an app
// at one of three nodes until all three refuse its calls.
func (r *rig) propagation(ctx context.Context) (line, error) {
	_, _ = fmt.Fprintf(r.progress, "propagation of %d changes\n", changes)
	sites := r.sitesOf("http", threeNodes)
	took := make([]float64, 0, changes)
	for i := range changes {
		who := r.callers[i%len(r.callers)]
		// Every node has the app in memory, so that it needs to be told.
		if err := r.answers(ctx, sites, who, http.StatusOK); err != nil {
			return line{}, err
		}
		began := time.Now()
		if err := r.change(ctx, who, "suspend"); err != nil {
			return line{}, err
		}
		if err := r.answers(ctx, sites, who, http.StatusForbidden); err != nil {
			return line{}, err
		}
		took = append(took, milliseconds(time.Since(began)))
		if err := r.change(ctx, who, "resume"); err != nil {
			return line{}, err
		}
	}
	return line{fmt.Sprintf("a change holds on %d nodes after ms", len(sites)), spreadOf(took), 1}, nil
}

// answers waits until each site gives the status to the caller.
func (r *rig) answers(ctx context.Context, sites []site, who caller, status int) error {
	for i := range sites {
		l := r.goodOf(sites[i:i+1], []caller{who})
		l.want = status
		if err := r.await(ctx, l); err != nil {
			return fmt.Errorf("waiting for a change: %w", err)
		}
	}
	return nil
}

// change suspends or resumes an app by the admin API of the first of three
// nodes.
func (r *rig) change(ctx context.Context, who caller, action string) error {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	url := "http://" + r.gateways[threeNodes][0].admin + "/open_platform/apps/" + who.appKey + "/" + action
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, http.NoBody) //nolint:gosec // G704: a gateway of ours
	if err != nil {
		return fmt.Errorf("making a change: %w", err)
	}
	resp, err := http.DefaultClient.Do(req) //nolint:gosec // G704: a gateway of ours
	if err != nil {
		return fmt.Errorf("making a change: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("making a change: %s: %s", resp.Status, body)
	}
	return err
}
