package oauth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// How long things last.
const (
	// CodeLifetime is short, as RFC 6749 section 4.1.2 asks: at most 10 minutes.
	CodeLifetime = 2 * time.Minute
	// AccessTokenLifetime is 10 hours, as the rules of 1688 want.
	AccessTokenLifetime = 36000 * time.Second
	// RefreshTokenLifetime is half a year. A grant lasts as long, from the last
	// time that the merchant authorized.
	RefreshTokenLifetime = 180 * 24 * time.Hour
)

// Apps finds the apps that ask.
type Apps interface {
	// AppByKey loads an app by its appKey, which is its client_id. An unknown
	// one is platform.ErrNotFound.
	AppByKey(ctx context.Context, appKey string) (*platform.App, error)
}

// Options are what a server stands on.
type Options struct {
	// Store keeps codes, tokens and grants; Apps finds apps. Both are required.
	Store Store
	Apps  Apps
	// Tokens is the gate's verifier, which knows access tokens that were seen
	// before: introspection of those asks the store no more. Nil: it always does.
	Tokens *Verifier
	// Catalog names the packages, for the metadata. Nil: it names none.
	Catalog func(context.Context) (*platform.Catalog, error)
	// Issuer is the server's identifier (RFC 8414 section 2): https:// and a host.
	Issuer string
	// Prefix is the path of the endpoints below the issuer; "" is "/oauth".
	Prefix string
	// Activation is the address of the page where merchants type the codes that
	// devices show (RFC 8628 section 3.3). Empty: there is no device flow.
	Activation string
	// Environment is the one that the server serves; "" is production.
	Environment platform.Environment
	// Resources are the resources that tokens can be asked for (RFC 8707).
	// Empty: the issuer alone.
	Resources []string
	// Secure tells whether a request came over TLS, to us or to a trusted
	// proxy. Nil: only what came to us over TLS.
	Secure func(*http.Request) bool
	// ClientIP is the address that a request came from. Nil: the connection's.
	ClientIP func(*http.Request) netip.Addr
	// Report hears of failures that the client is not to blame for. They hold
	// no secrets. Nil: nobody does.
	Report func(*http.Request, error)
	// Secrets are what keys are made of, at least 32 random bytes each, the same
	// on all nodes: the current one, and older ones that may still be in use.
	// They must not be changed. Nil: there are neither JWTs nor pushed requests.
	Secrets func() [][]byte
	// DPoP says that tokens can be bound to a client's key (RFC 9449): set it
	// where the gate checks proofs, by Verifier.VerifyProof.
	DPoP bool
	// Guard slows down those who guess secrets. Nil: one for this server alone.
	Guard *Guard
	// Ledger remembers what may be used once. Nil: this node alone remembers.
	Ledger limit.Ledger
	// Now is the clock; nil means time.Now. Rand is the source of codes and
	// tokens; nil means crypto/rand.
	Now  func() time.Time
	Rand io.Reader
}

// Server issues codes and tokens. It is safe for concurrent use.
type Server struct {
	Options
	keys atomic.Pointer[signingKeys]
}

// New makes a server. It refuses options with which it would not be safe.
func New(o Options) (*Server, error) {
	if o.Store == nil || o.Apps == nil {
		return nil, errors.New("authorization server: Store and Apps are required")
	}
	if err := CheckIssuer(o.Issuer); err != nil {
		return nil, fmt.Errorf("authorization server: %w", err)
	}
	if o.Prefix == "" {
		o.Prefix = "/oauth"
	}
	if o.Environment == "" {
		o.Environment = platform.Production
	}
	if len(o.Resources) == 0 {
		o.Resources = []string{o.Issuer}
	}
	for _, resource := range o.Resources {
		if !validResource(resource) {
			return nil, fmt.Errorf("authorization server: resource %q is no absolute URI without a fragment (RFC 8707 section 2)", resource)
		}
	}
	if o.Secure == nil {
		o.Secure = func(r *http.Request) bool { return r.TLS != nil }
	}
	if o.ClientIP == nil {
		o.ClientIP = remoteAddr
	}
	if o.Report == nil {
		o.Report = func(*http.Request, error) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Guard == nil {
		o.Guard = NewGuard()
	}
	if o.Ledger == nil {
		o.Ledger = newLedger()
	}
	return &Server{Options: o}, nil
}

// newLedger makes a ledger for this node alone.
func newLedger() limit.Ledger {
	return &limit.Local{
		Limits: limit.NewMemory(limit.MemoryOptions{Shards: 1}),
		Nonces: limit.NewMemoryNonces(limit.NonceOptions{Max: 1_000_000}),
	}
}

// CheckIssuer holds an issuer to RFC 8414 section 2, and to what the addresses of
// the pages and the cookies are made for: a site of its own.
func CheckIssuer(issuer string) error {
	const scheme = "https://"
	// Clients compare the issuer byte by byte.
	if given := issuer[:min(len(scheme), len(issuer))]; given != scheme && strings.EqualFold(given, scheme) {
		return fmt.Errorf("issuer: '%s' begins with %s; write %s%s", issuer, given, scheme, issuer[len(scheme):])
	}
	u, err := url.Parse(issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsAny(issuer, "?#") {
		return fmt.Errorf("issuer: '%s' is not an https URL without user, query and fragment; write one such as https://open.example.com", issuer)
	}
	if path := u.EscapedPath(); path != "" {
		return fmt.Errorf("issuer: '%s' has the path %s; write the scheme and host alone: https://%s", issuer, path, u.Host)
	}
	return nil
}

// remoteAddr is the address of the connection.
func remoteAddr(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// The endpoints. Each is a complete handler for requests of any method.

// TokenHandler is the token endpoint (RFC 6749 section 3.2).
func (s *Server) TokenHandler() http.Handler { return s.endpoint(http.StatusOK, s.serveToken) }

// CompatTokenHandler is the token endpoint as 1688 has it, at
// /openapi/http/1/system.oauth2/getToken/{appKey}: the last segment of the path
// is the appKey.
func (s *Server) CompatTokenHandler() http.Handler {
	return s.endpoint(http.StatusOK, s.serveCompatToken)
}

// RevokeHandler is the revocation endpoint (RFC 7009).
func (s *Server) RevokeHandler() http.Handler { return s.endpoint(http.StatusOK, s.serveRevoke) }

// IntrospectHandler is the introspection endpoint (RFC 7662).
func (s *Server) IntrospectHandler() http.Handler {
	return s.endpoint(http.StatusOK, s.serveIntrospect)
}

// PushedHandler is the endpoint for pushed authorization requests (RFC 9126).
func (s *Server) PushedHandler() http.Handler { return s.endpoint(http.StatusCreated, s.servePushed) }

// DeviceHandler is the device authorization endpoint (RFC 8628 section 3.1). It
// is there where Activation is set.
func (s *Server) DeviceHandler() http.Handler {
	if s.Activation == "" {
		return http.NotFoundHandler()
	}
	return s.endpoint(http.StatusOK, s.serveDevice)
}

// MetadataHandler describes the server (RFC 8414). It belongs at
// /.well-known/oauth-authorization-server.
func (s *Server) MetadataHandler() http.Handler { return http.HandlerFunc(s.serveMetadata) }

// JWKSHandler publishes the keys that JWTs are signed with (RFC 7517).
func (s *Server) JWKSHandler() http.Handler { return http.HandlerFunc(s.serveJWKS) }

// public tells whether the app cannot keep a secret (RFC 6749 section 2.1): it
// runs on its user's device.
func public(app *platform.App) bool { return app.Mode == platform.Client }

// url is the address of an endpoint.
func (s *Server) url(endpoint string) string { return s.Issuer + s.Prefix + endpoint }
