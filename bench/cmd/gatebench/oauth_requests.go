package main

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// scopes are what apps ask for: two of their packages.
const scopes = "logistics trade"

// basic proves an app by its key and secret, which need no encoding.
func basic(key, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(key+":"+secret))
}

// post is a form that an app sends to an endpoint.
func post(address, authorization string, form url.Values) vegeta.Target {
	return vegeta.Target{
		Method: http.MethodPost, URL: address, Body: []byte(form.Encode()),
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Authorization": {authorization}},
	}
}

// inTurns sends the targets one after the other, and again.
func inTurns(targets []vegeta.Target) vegeta.Targeter {
	var turn atomic.Uint64
	return func(t *vegeta.Target) error {
		*t = targets[(turn.Add(1)-1)%uint64(len(targets))]
		return nil
	}
}

// metadataRequests ask for the description of the server (RFC 8414).
func metadataRequests(base string) vegeta.Targeter {
	return inTurns([]vegeta.Target{{Method: http.MethodGet, URL: base + "/.well-known/oauth-authorization-server"}})
}

// tokenRequests ask for a token by client credentials, each app in turn.
func tokenRequests(base string, callers []caller) vegeta.Targeter {
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {scopes}}
	targets := make([]vegeta.Target, len(callers))
	for i, c := range callers {
		targets[i] = post(base+"/oauth/token", basic(c.appKey, string(secret(numberOf(c)))), form)
	}
	return inTurns(targets)
}

// numberOf is an app's number, which its key says.
func numberOf(c caller) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(c.appKey, "ak_"))
	return n
}

// introspections have apps ask about the access tokens that they have.
func introspections(base string, shops []*shop) vegeta.Targeter {
	targets := make([]vegeta.Target, len(shops))
	for i, s := range shops {
		targets[i] = post(base+"/oauth/introspect", s.proof, url.Values{"token": {s.first.Access}})
	}
	return inTurns(targets)
}

// refreshes have apps use the refresh tokens that they have, and which stay.
func refreshes(base string, shops []*shop) vegeta.Targeter {
	targets := make([]vegeta.Target, len(shops))
	for i, s := range shops {
		targets[i] = post(base+"/oauth/token", s.proof, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.first.Refresh}})
	}
	return inTurns(targets)
}

// exchanges have all merchants authorize their apps again and again for d. A
// request of the outcome is a whole exchange.
func exchanges(ctx context.Context, base string, shops []*shop, consent bool, d time.Duration) (outcome, error) {
	return together(ctx, len(shops), d, func(ctx context.Context, worker int) error {
		_, err := shops[worker].authorize(ctx, base, consent)
		return err
	})
}

// together has workers do something again and again, for d and until it is
// done. The first error ends it.
func together(ctx context.Context, workers int, d time.Duration, do func(ctx context.Context, worker int) error) (outcome, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var done atomic.Uint64
	var all sync.WaitGroup
	began := time.Now()
	for worker := range workers {
		all.Go(func() {
			for ctx.Err() == nil && time.Since(began) < d {
				if err := do(ctx, worker); err != nil {
					cancel(err)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	if err := context.Cause(ctx); err != nil {
		return outcome{}, err
	}
	return outcome{requests: done.Load(), rate: float64(done.Load()) / took.Seconds()}, nil
}
