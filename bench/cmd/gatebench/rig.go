package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// startTimeout bounds the wait for the first answer.
const startTimeout = time.Minute

// rig is the running gateways with all that is needed to measure them.
type rig struct {
	gateways map[variant][]*gateway // the nodes that serve each variant
	upstream *upstream
	redis    map[variant]*redisServer // of the variants that have one
	sites    []site

	callers     []caller
	fresh       *nonces
	roots       *x509.CertPool
	client      *http.Client
	connections int
	duration    time.Duration
	progress    io.Writer
}

// newRig makes a rig of the apps that call, without gateways. It must be
// stopped.
func newRig(ctx context.Context, s settings, callers []caller, progress io.Writer) (*rig, error) {
	r := &rig{
		gateways: map[variant][]*gateway{}, redis: map[variant]*redisServer{}, fresh: newNonces(time.Now()), roots: x509.NewCertPool(),
		callers: callers, connections: s.connections, duration: s.duration, progress: progress,
	}
	r.client = newClient(r.connections, r.roots)
	var err error
	if r.upstream, err = startUpstream(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// inTurns is the same rig, which measures for a turn and not for a run.
func (r *rig) inTurns() *rig {
	short := *r
	short.duration /= turnsARun
	return &short
}

// start runs a gateway that serves the variants, beside those that serve them
// already, and returns how long it took to its first answer, which is the first
// variant's.
func (r *rig) start(ctx context.Context, c gatewayConfig, schemes []string, variants []variant) (time.Duration, error) {
	var err error
	c.Upstream = r.upstream.address
	if c.Sites, err = newSites(ctx, schemes, variants); err != nil {
		return 0, err
	}
	if c.Admin, err = freeAddress(ctx); err != nil {
		return 0, err
	}
	g, err := startGateway(ctx, c)
	if err != nil {
		return 0, err
	}
	for _, v := range variants {
		r.gateways[v] = append(r.gateways[v], g)
	}
	r.sites = append(r.sites, c.Sites...)
	if err := r.await(ctx, r.good(c.Sites[:1])); err != nil {
		return 0, err
	}
	startUp := time.Since(g.began)
	if slices.Contains(schemes, "https") {
		err = g.trust(r.roots)
	}
	return startUp, err
}

// stop ends all processes.
func (r *rig) stop() {
	for v := range r.gateways {
		r.drop(v)
	}
	r.upstream.stop()
	r.client.CloseIdleConnections()
}

// drop stops what serves a variant.
func (r *rig) drop(v variant) {
	for _, g := range r.gateways[v] {
		g.stop()
	}
	delete(r.gateways, v)
	r.sites = slices.DeleteFunc(r.sites, func(s site) bool { return s.Variant == v })
}

// sitesOf are where a variant is served: one for each of its nodes.
func (r *rig) sitesOf(scheme string, v variant) []site {
	var found []site
	for _, s := range r.sites {
		if s.Scheme == scheme && s.Variant == v {
			found = append(found, s)
		}
	}
	return found
}

// good is a load that every variant answers. The sites are of one variant.
func (r *rig) good(sites []site) load { return r.goodOf(sites, r.callers) }

// goodOf is good by other callers.
func (r *rig) goodOf(sites []site, callers []caller) load {
	return load{variant: sites[0].Variant, next: signer(sites, callers, r.fresh, time.Now), want: http.StatusOK}
}

// bad is a load of calls whose signatures do not verify.
func (r *rig) bad(sites []site) (load, error) {
	strangers, err := forgers(r.callers)
	if err != nil {
		return load{}, err
	}
	l := r.goodOf(sites, strangers)
	l.want = http.StatusUnauthorized
	return l, nil
}

// await polls until a site answers as it should.
func (r *rig) await(ctx context.Context, l load) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	g := r.gateways[l.variant][len(r.gateways[l.variant])-1] // the one that was started last
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for {
		refusal := r.once(ctx, l)
		if refusal == nil {
			return nil
		}
		select {
		case <-g.done:
			return fmt.Errorf("the gateway has ended: %s", g.errors)
		case <-ctx.Done():
			return fmt.Errorf("waiting for an answer of %s: %w", l.variant, errors.Join(ctx.Err(), refusal))
		case <-pause.C:
		}
	}
}

// once sends one request; any status but the wanted is an error.
func (r *rig) once(ctx context.Context, l load) error {
	var target vegeta.Target
	if err := l.next(&target); err != nil {
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
	if err == nil && resp.StatusCode != l.want {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return err
}

func (r *rig) attack(ctx context.Context, l load, pace vegeta.Pacer, d time.Duration) (outcome, error) {
	return attack(ctx, r.client, l, pace, r.connections, d)
}
