package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// requestTimeout ends a request that the gateway does not answer.
const requestTimeout = 10 * time.Second

// caller is an app that signs.
type caller struct {
	appKey string
	key    *signing.SigningKey
}

// operation is one call of the mix.
type operation struct {
	method, path string
	body         []byte
}

// mix is what every app calls in turn: four reads and one write.
var mix = []operation{
	{method: http.MethodGet, path: "/v1/orders/20260101000001"},
	{method: http.MethodGet, path: "/v1/orders/20260101000002"},
	{method: http.MethodGet, path: "/v1/orders/20260101000003"},
	{method: http.MethodGet, path: "/v1/orders/20260101000004"},
	{
		method: http.MethodPost, path: "/v1/orders/20260101000005/status",
		body: []byte(`{"status":"shipped","operator":"warehouse-7","remark":"已出库","at":"2026-01-01T12:00:00+08:00"}`),
	},
}

// nonces makes values that no two calls share: a prefix that is new in every
// run of this program, and a counter.
type nonces struct {
	prefix string
	count  atomic.Uint64
}

func newNonces(started time.Time) *nonces {
	return &nonces{prefix: "bench-" + strconv.FormatInt(started.UnixNano(), 36) + "-"}
}

func (n *nonces) next() string {
	return n.prefix + strconv.FormatUint(n.count.Add(1), 36)
}

// signer makes the requests for sites in turns: each by the next caller, each
// signed by op1 the moment before it is sent.
func signer(sites []site, callers []caller, fresh *nonces, now func() time.Time) vegeta.Targeter {
	var turn atomic.Uint64
	return func(t *vegeta.Target) error {
		n := turn.Add(1) - 1
		round, place := n/uint64(len(callers)), n%uint64(len(callers))
		who := callers[place]
		// Every app makes every call of the mix, and comes to every site, whatever
		// their numbers are.
		what := mix[(n+round)%uint64(len(mix))]
		s := sites[(place+round)%uint64(len(sites))]
		header := http.Header{}
		if what.body != nil {
			header.Set("Content-Type", "application/json")
		}
		signed, err := signing.Sign("op1", &signing.Request{
			Method: what.method, Scheme: s.Scheme, Authority: s.Address, Path: what.path,
			Header: header, ContentLength: int64(len(what.body)), Body: what.body, BodyRead: true,
		}, signing.Credentials{AppKey: who.appKey, Key: who.key}, now(), fresh.next())
		if err != nil {
			return err
		}
		*t = vegeta.Target{
			Method: what.method, URL: s.Scheme + "://" + s.Address + what.path,
			Header: signed.Header, Body: what.body,
		}
		return nil
	}
}

// load is what is sent to the sites of a variant, and the status that every
// answer must have. Another one would cost another amount: a refusal among good
// calls is cheap, and would make the gate look good.
type load struct {
	variant variant
	next    vegeta.Targeter
	want    int
}

// newClient makes the client whose connections stay open over all runs, so
// that no run pays for handshakes.
func newClient(connections int, roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: requestTimeout,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: connections,
			MaxConnsPerHost:     connections,
			DisableCompression:  true,
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		},
	}
}

// outcome is what the load generator saw in one run.
type outcome struct {
	requests uint64
	rate     float64 // requests a second
	p50, p99 time.Duration
}

// unlimited sends as fast as the connections allow.
var unlimited = vegeta.Rate{}

// perSecond sends n requests a second, however long the answers take.
func perSecond(n int) vegeta.Pacer { return vegeta.Rate{Freq: n, Per: time.Second} }

// count sends that many requests as fast as the connections allow.
type count uint64

// Pace implements vegeta.Pacer.
func (c count) Pace(_ time.Duration, sent uint64) (time.Duration, bool) { return 0, sent >= uint64(c) }

// Rate implements vegeta.Pacer: there is none.
func (c count) Rate(time.Duration) float64 { return 0 }

// attack sends requests for d at most. Any status but the wanted is an error.
func attack(ctx context.Context, client *http.Client, l load, pace vegeta.Pacer, connections int, d time.Duration) (outcome, error) {
	workers := uint64(max(connections, 1))
	attacker := vegeta.NewAttacker(vegeta.Client(client), vegeta.Workers(workers), vegeta.MaxWorkers(workers))
	defer context.AfterFunc(ctx, func() { attacker.Stop() })()

	var m vegeta.Metrics
	var others uint64
	var first string
	for r := range attacker.Attack(l.next, pace, d, "") {
		m.Add(r)
		if int(r.Code) != l.want {
			if others++; first == "" {
				first = fmt.Sprintf("%d %s %s", r.Code, r.Error, r.Body)
			}
		}
	}
	m.Close()
	if err := ctx.Err(); err != nil {
		return outcome{}, fmt.Errorf("load: %w", err)
	}
	if others > 0 {
		return outcome{}, fmt.Errorf("load: %d of %d requests were not answered %d, the first with: %s", others, m.Requests, l.want, first)
	}
	if m.Requests == 0 {
		return outcome{}, fmt.Errorf("load: no request was sent in %v", d)
	}
	return outcome{requests: m.Requests, rate: m.Throughput, p50: m.Latencies.P50, p99: m.Latencies.P99}, nil
}
