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
	gateways map[variant]*gateway // what serves each variant
	upstream *process
	sites    []site

	callers     []caller
	fresh       *nonces
	roots       *x509.CertPool
	client      *http.Client
	connections int
	duration    time.Duration
	progress    io.Writer
}

// start runs a gateway that serves the variants, over HTTP and over TLS, and
// returns how long it took to its first answer, which is the first variant's.
func (r *rig) start(ctx context.Context, c gatewayConfig, variants []variant) (time.Duration, error) {
	var err error
	if c.Sites, err = newSites(ctx, []string{"http", "https"}, variants); err != nil {
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
		r.gateways[v] = g
	}
	r.sites = append(r.sites, c.Sites...)
	if err := r.await(ctx, r.good(c.Sites[0])); err != nil {
		return 0, err
	}
	startUp := time.Since(g.began)
	return startUp, g.trust(r.roots)
}

// stop ends all processes.
func (r *rig) stop() {
	for _, g := range r.gateways {
		g.stop()
	}
	r.upstream.stop()
	r.client.CloseIdleConnections()
}

func (r *rig) site(scheme string, v variant) site {
	i := slices.IndexFunc(r.sites, func(s site) bool { return s.Scheme == scheme && s.Variant == v })
	return r.sites[i]
}

// good is a load that every variant answers.
func (r *rig) good(s site) load {
	return load{site: s, next: signer(s, r.callers, r.fresh, time.Now), want: http.StatusOK}
}

// bad is a load of calls whose signatures do not verify.
func (r *rig) bad(s site) (load, error) {
	strangers, err := forgers(r.callers)
	if err != nil {
		return load{}, err
	}
	return load{site: s, next: signer(s, strangers, r.fresh, time.Now), want: http.StatusUnauthorized}, nil
}

// await polls until a site answers as it should.
func (r *rig) await(ctx context.Context, l load) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	g := r.gateways[l.site.Variant]
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
			return fmt.Errorf("waiting for %s of %s: %w", l.site.Scheme, l.site.Variant, errors.Join(ctx.Err(), refusal))
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
