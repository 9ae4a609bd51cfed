package oauth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"go.uber.org/zap"
)

const (
	// discoveryTimeout bounds the wait of a browser for the provider's description,
	// exchangeTimeout that for all that a log-in asks of it.
	discoveryTimeout = 5 * time.Second
	exchangeTimeout  = 10 * time.Second
	// discoveryLifetime is for how long a description is good.
	discoveryLifetime = time.Hour
	// retryWithout is how long a provider is left alone that did not describe
	// itself; retryWith the same where an older description is at hand.
	retryWithout = time.Second
	retryWith    = time.Minute
	// idleTimeout is shorter than servers keep idle connections: a code that went out
	// on one that is just being closed would be lost.
	idleTimeout = 2 * time.Second
	// maxProviderAnswer bounds what the provider answers, in bytes.
	maxProviderAnswer = 1 << 20
)

// provider is the OpenID provider that merchants log in with. It is safe for
// concurrent use.
type provider struct {
	config    OIDCPassport
	transport *http.Transport
	client    *http.Client
	logger    *zap.Logger
	now       func() time.Time

	found atomic.Pointer[description]
	// asking is held by who asks for the description, and guards the rest.
	asking chan struct{}
	retry  time.Time
	failed error
}

// description is what the provider says about itself (OpenID Connect Discovery
// 1.0 section 3).
type description struct {
	*oidc.Provider
	keys *oidc.RemoteKeySet
	// goodUntil is when it is asked for anew.
	goodUntil time.Time

	Methods    []string `json:"token_endpoint_auth_methods_supported"`
	Algorithms []string `json:"id_token_signing_alg_values_supported"`
	// NamesIssuer says that every answer names the issuer (RFC 9207 section 3).
	NamesIssuer bool   `json:"authorization_response_iss_parameter_supported"`
	Keys        string `json:"jwks_uri"`
	EndSession  string `json:"end_session_endpoint"`
}

var (
	// errNotProven means that an answer does not show who the merchant is.
	errNotProven = errors.New("log-in not proven")
	// errNoProvider means that the provider does not answer as it should.
	errNoProvider = errors.New("OpenID provider not available")
)

// newProvider makes a provider that nobody has asked anything yet.
func newProvider(config OIDCPassport, logger *zap.Logger) (*provider, error) {
	base, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("the program has another default transport than net/http")
	}
	transport := base.Clone()
	transport.IdleConnTimeout = idleTimeout
	transport.TLSClientConfig = &tls.Config{RootCAs: config.roots, MinVersion: tls.VersionTLS12}
	return &provider{
		config: config, transport: transport, logger: logger, now: time.Now, asking: make(chan struct{}, 1),
		client: &http.Client{
			Transport: bounded{transport}, Timeout: exchangeTimeout,
			// A redirect could take code and secret elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// id tells this provider, and us as its client, from any other.
func (p *provider) id() string { return p.config.Issuer + " " + p.config.ClientID }

func (p *provider) close() { p.transport.CloseIdleConnections() }

// bounded reads no more of an answer than maxProviderAnswer.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxProviderAnswer)
	}
	return resp, err
}

// describe returns what the provider says about itself. One request at a time asks
// for it; an older description serves as long as there is no other.
func (p *provider) describe(ctx context.Context) (*description, error) {
	d := p.found.Load()
	if d != nil && p.now().Before(d.goodUntil) {
		return d, nil
	}
	if d == nil {
		select {
		case p.asking <- struct{}{}:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: waiting for the description of %s: %w", errNoProvider, p.config.Issuer, ctx.Err())
		}
	} else {
		select {
		case p.asking <- struct{}{}:
		default:
			return d, nil
		}
	}
	defer func() { <-p.asking }()
	return p.refresh(ctx)
}

// refresh asks for the description, unless somebody did just now.
func (p *provider) refresh(ctx context.Context) (*description, error) {
	d, now := p.found.Load(), p.now()
	switch {
	case d != nil && now.Before(d.goodUntil):
		return d, nil
	case now.Before(p.retry) && d != nil:
		return d, nil
	case now.Before(p.retry):
		return nil, p.failed
	}
	fresh, err := p.discover(ctx, now)
	if err == nil {
		p.found.Store(fresh)
		return fresh, nil
	}
	if ctx.Err() == nil { // else the browser has gone, which says nothing about the provider
		p.failed = err
		p.retry = p.now().Add(retryWithout)
		if d != nil {
			p.retry = p.now().Add(retryWith)
		}
	}
	if d != nil {
		p.logger.Warn("OpenID provider not reached; going on with its earlier description", zap.Error(err))
		return d, nil
	}
	return nil, err
}

// discover asks for the description.
func (p *provider) discover(ctx context.Context, now time.Time) (*description, error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.client), discoveryTimeout)
	defer cancel()
	found, err := oidc.NewProvider(ctx, p.config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: asking %s for its description: %w", errNoProvider, p.config.Issuer, clipped(err))
	}
	d := &description{Provider: found, goodUntil: now.Add(discoveryLifetime)}
	if err := found.Claims(d); err != nil {
		return nil, fmt.Errorf("%w: reading the description of %s: %w", errNoProvider, p.config.Issuer, err)
	}
	for name, address := range map[string]string{
		"authorization_endpoint": found.Endpoint().AuthURL, "token_endpoint": found.Endpoint().TokenURL, "jwks_uri": d.Keys,
	} {
		if err := checkEndpoint(address); err != nil {
			return nil, fmt.Errorf("%w: the description of %s: %s: %w", errNoProvider, p.config.Issuer, name, err)
		}
	}
	d.keys = oidc.NewRemoteKeySet(ctx, d.Keys)
	return d, nil
}

// endSession is where merchants log out at the provider (OpenID Connect
// RP-Initiated Logout 1.0); nil where the provider is not known to have that.
func (p *provider) endSession() *url.URL {
	d := p.found.Load()
	if d == nil || checkEndpoint(d.EndSession) != nil {
		return nil
	}
	u, err := url.Parse(d.EndSession)
	if err != nil {
		return nil
	}
	query := u.Query()
	query.Set("client_id", p.config.ClientID)
	u.RawQuery = query.Encode()
	return u
}

// clipped keeps a page that somebody answered out of the log.
func clipped(err error) error {
	const most = 300
	if text := err.Error(); len(text) > most {
		return errors.New(strings.ToValidUTF8(text[:most], "") + "…")
	}
	return err
}

// Interface guard
var _ http.RoundTripper = bounded{}
