package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"text/tabwriter"
	"time"
)

// authServer is the variant whose listener has open_oauth.
const authServer variant = "oauth"

// What the part oauth measures, beside each other: what one gateway does, and the
// bare loop that a token is compared with.
const (
	metadata     variant = "metadata"              // no store: what any request costs
	clientToken  variant = "token"                 // by client credentials: one request, one row
	introspected variant = "introspection"         // of an access token of the asking app: one request, no row
	refreshed    variant = "refresh"               // an access token for a refresh token that stays: one request, one row
	exchanged    variant = "exchange"              // the consent page skipped, since the grant covers: two requests
	consented    variant = "exchange with consent" // the consent page shown and approved: three requests
	tokenLoop    variant = "token loop"            // a token without Caddy, TLS and network, one row
	bareInsert   variant = "bare insert"           // the row of a token, without a server
)

var oauthVariants = []variant{metadata, clientToken, tokenLoop, bareInsert, introspected, refreshed, exchanged, consented}

// engines are what the part oauth runs on, one after the other.
var engines = []string{"sqlite", "postgres"}

// oauthPart measures the authorization server.
type oauthPart struct {
	dir  string
	apps int
}

// measure does so on each engine.
func (p oauthPart) measure(ctx context.Context, s settings, servers *servers, out, progress io.Writer) error {
	for _, engine := range engines {
		if err := p.on(ctx, s, servers, engine, out, progress); err != nil {
			return fmt.Errorf("measuring the authorization server on %s: %w", engine, err)
		}
	}
	return nil
}

// on fills a store, runs one gateway, has merchants log in, and takes turns.
func (p oauthPart) on(ctx context.Context, s settings, servers *servers, engine string, out, progress io.Writer) (err error) {
	if engine == "postgres" { // as durable as SQLite, and as in production
		if err := servers.setFsync(ctx, true); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, servers.setFsync(context.WithoutCancel(ctx), false)) }()
	}
	db, err := emptyStorage(ctx, filepath.Join(p.dir, engine), engine, servers)
	if err != nil {
		return err
	}
	if _, err := db.fill(ctx, s.catalog, p.apps, 0, progress); err != nil {
		return err
	}
	shops, err := openShops(ctx, db, min(shopCount, p.apps))
	if err != nil {
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
	// The site over http tells when the gateway is up; the token endpoint wants
	// TLS.
	config := gatewayConfig{Binary: s.caddy, Dir: filepath.Join(p.dir, engine, "gateway"), Tuned: true, Store: db}
	if _, err := r.start(ctx, config, []string{"http", "https"}, []variant{authServer}); err != nil {
		return err
	}
	secure := r.sitesOf("https", authServer)
	if err := r.await(ctx, r.good(secure)); err != nil { // for the certificate
		return err
	}
	base := "https://" + secure[0].Address
	for _, shop := range shops {
		if err := shop.logIn(ctx, base, r.client.Transport); err != nil {
			return err
		}
	}
	bare, err := newBareStore(ctx, filepath.Join(p.dir, engine+"-bare"), engine, servers, s.connections)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.Close()) }()
	inside, err := newTokenServer(ctx, p.dir, engine, servers, p, s, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, inside.Close()) }()
	measured, err := r.authorizations(ctx, base, shops, bare, inside, s.fewerRuns())
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nauthorization server over tls, %d apps and %d merchants in %s on the same machine:\n", p.apps, len(shops), engine)
	if err := oauthTable(out, engine, measured); err != nil {
		return err
	}
	for _, l := range oauthLines(measured, engine) {
		l.print(out)
	}
	for _, t := range oauthTargets(measured, engine) {
		t.print(out)
	}
	return nil
}

// authorizations measures the variants in turns, each in a closed loop.
func (r *rig) authorizations(ctx context.Context, base string, shops []*shop, bare *bareStore, inside *tokenServer, runs int) (series, error) {
	requests := map[variant]load{
		metadata:     {authServer, metadataRequests(base), http.StatusOK},
		clientToken:  {authServer, tokenRequests(base, r.callers), http.StatusOK},
		introspected: {authServer, introspections(base, shops), http.StatusOK},
		refreshed:    {authServer, refreshes(base, shops), http.StatusOK},
	}
	// Every app is in memory, and every connection open, before the first run.
	for _, v := range []variant{metadata, clientToken, introspected, refreshed} {
		if _, err := r.attack(ctx, requests[v], count(max(warmUp, len(r.callers))), 2*time.Minute); err != nil {
			return nil, fmt.Errorf("warming up %s: %w", v, err)
		}
	}
	loop := func(v variant, d time.Duration) (outcome, error) {
		switch v {
		case exchanged, consented:
			return exchanges(ctx, base, shops, v == consented, d)
		case bareInsert:
			return bare.insert(ctx, d)
		case tokenLoop:
			return inside.ask(ctx, d)
		}
		return r.attack(ctx, requests[v], unlimited, d)
	}
	_, _ = fmt.Fprintf(r.progress, "oauth: %d runs of %v each for %q\n", runs, r.duration, oauthVariants)
	return alternate(oauthVariants, runs, func(v variant) (sample, error) {
		got, err := r.costsOf(ctx, authServer, func(d time.Duration) (outcome, error) { return loop(v, d) })
		if err != nil {
			return sample{}, fmt.Errorf("measuring %s: %w", v, err)
		}
		if v == bareInsert || v == tokenLoop { // this process does it all
			got.gateway, got.allocs = got.generator, 0
		}
		return got, nil
	})
}

// oauthTable prints the medians of every variant.
func oauthTable(out io.Writer, title string, s series) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(w, "\n%s\t each/s\t cpu µs\t allocs\t load cpu µs\t\n", title)
	for _, v := range oauthVariants {
		middle := func(f func(sample) float64) float64 { return spreadOf(s.column(v, f)).median }
		_, _ = fmt.Fprintf(w, "%s\t%.0f\t%.1f\t%.1f\t%.1f\t\n", v, middle(rateFigure), middle(cpuFigure), middle(allocsFigure), middle(generatorFigure))
	}
	return w.Flush()
}

// oauthLines tells what each variant costs, and compares a token with the bare
// insert of its row.
func oauthLines(s series, engine string) []line {
	suffix := " in " + engine
	var out []line
	for _, v := range oauthVariants {
		out = append(out,
			line{string(v) + " a second" + suffix, spreadOf(s.column(v, rateFigure)), 0},
			line{string(v) + " cpu µs" + suffix, spreadOf(s.column(v, cpuFigure)), 1},
		)
	}
	return append(out,
		timeRatio(s, tokenLoop, engine),
		line{"token loop/bare insert cpu ratio" + suffix, spreadOf(ratios(s.column(tokenLoop, cpuFigure), s.column(bareInsert, cpuFigure))), 2},
		timeRatio(s, clientToken, engine),
	)
}

// timeRatio compares a variant with the bare loop. The time of one is the inverse
// of how many there are in a second.
func timeRatio(s series, v variant, engine string) line {
	return line{
		string(v) + "/bare insert time ratio in " + engine,
		spreadOf(ratios(s.column(bareInsert, rateFigure), s.column(v, rateFigure))), 2,
	}
}

// target is a line whose median must not be above a bound.
type target struct {
	line
	most float64
}

// print tells the figure beside its bound.
func (t target) print(out io.Writer) {
	verdict := "met"
	if t.value.median > t.most {
		verdict = "missed"
	}
	_, _ = fmt.Fprintf(out, "target: %s: %.*f, at most %.*f: %s\n", t.name, t.digits, t.value.median, t.digits, t.most, verdict)
}

// oauthTargets are what the authorization server may cost.
func oauthTargets(s series, engine string) []target {
	cpu := func(v variant, most float64) target {
		return target{line{string(v) + " cpu µs in " + engine, spreadOf(s.column(v, cpuFigure)), 1}, most}
	}
	return []target{
		cpu(clientToken, 250), cpu(introspected, 100), cpu(exchanged, 2000), cpu(consented, 2000),
		{timeRatio(s, tokenLoop, engine), 2},
	}
}
