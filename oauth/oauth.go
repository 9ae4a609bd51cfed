// Package oauth is the face of the authorization server: the handler open_oauth
// with its pages for merchants, who they are, and the endpoints for apps. The
// rules are in package internal/oauth.
package oauth

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-openplatform/openplatform/caddymodule"
	core "github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func init() {
	caddy.RegisterModule(new(Handler))
	httpcaddyfile.RegisterHandlerDirective("open_oauth", parseDirective)
	// Behind what says who the user is, before what answers everything else.
	httpcaddyfile.RegisterDirectiveOrder("open_oauth", httpcaddyfile.Before, "invoke")
}

// Handler is an authorization server (RFC 6749) for one environment: merchants
// authorize apps on its pages, apps get tokens at its endpoints. It answers
// requests for /oauth/…, /.well-known/oauth-authorization-server and the token
// endpoint as 1688 has it; all others go on to the next handler.
type Handler struct {
	// Environment is the one whose apps are served. Default: production.
	Environment platform.Environment `json:"environment,omitempty"`

	// Issuer is the identifier of the server: https:// and a host. Default: the
	// host that the request names.
	Issuer string `json:"issuer,omitempty"`

	// Passport says who the merchant is, where somebody else does. Default: the
	// platform's own accounts, with a page to log in.
	Passport *OutsidePassport `json:"passport,omitempty"`

	app    *caddymodule.App
	logger *zap.Logger
	// provider is the OpenID provider that merchants log in with; nil for none.
	provider *provider

	mu sync.Mutex
	// sites holds a site for each issuer.
	sites map[string]*site
}

// maxSites bounds the issuers that are kept: where a site takes any host and no
// issuer is set, clients choose the name. Then any other one gives way.
const maxSites = 64

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.open_oauth", New: func() caddy.Module { return new(Handler) }}
}

// Provision sets up the handler.
func (h *Handler) Provision(ctx caddy.Context) error {
	app, err := caddymodule.Configured(ctx)
	if err != nil {
		return err
	}
	h.app, h.logger, h.sites = app, ctx.Logger(), map[string]*site{}
	if h.Environment == "" {
		h.Environment = platform.Production
	}
	if h.Issuer != "" {
		h.app.ServesIssuer(h.Environment, h.Issuer)
	}
	if h.Passport != nil && h.Passport.OIDC != nil {
		if err := h.Passport.OIDC.provision(caddy.NewReplacer()); err != nil {
			return fmt.Errorf("passport oidc: %w", err)
		}
		if h.provider, err = newProvider(*h.Passport.OIDC, h.logger); err != nil {
			return fmt.Errorf("passport oidc: %w", err)
		}
	}
	return nil
}

// Validate refuses settings that cannot work.
func (h *Handler) Validate() error {
	if _, err := platform.ParseEnvironment(string(h.Environment)); err != nil {
		return err
	}
	if h.Issuer != "" {
		if err := core.CheckIssuer(h.Issuer); err != nil {
			return err
		}
	}
	if h.Passport != nil {
		return h.Passport.validate()
	}
	return nil
}

// Cleanup lets go of the connections to the OpenID provider.
func (h *Handler) Cleanup() error {
	if h.provider != nil {
		h.provider.close()
	}
	return nil
}

// ServeHTTP answers what is for the authorization server.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !isOurs(r.URL.Path) {
		return next.ServeHTTP(w, r)
	}
	s, err := h.site(r)
	if _, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		return err
	}
	if err != nil {
		h.logger.Error("authorization server not ready", zap.Error(err))
		w.Header().Set("Retry-After", "1")
		return caddyhttp.Error(http.StatusServiceUnavailable, err)
	}
	s.mux.ServeHTTP(w, r)
	return nil
}

// isOurs tells whether a path is one of the endpoints'. A path that is not clean
// is not: the mux would redirect it.
func isOurs(p string) bool {
	if path.Clean(p) != p {
		return false
	}
	return strings.HasPrefix(p, pathPrefix) || strings.HasPrefix(p, pathCompatToken) || p == pathMetadata
}

// site returns the authorization server for the issuer that the request is for.
func (h *Handler) site(r *http.Request) (*site, error) {
	issuer := h.Issuer
	if issuer == "" {
		issuer = "https://" + strings.ToLower(r.Host)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sites[issuer]; s != nil {
		return s, nil
	}
	a, err := h.app.Authorization(r.Context())
	if err != nil {
		return nil, err
	}
	s, err := newSite(h, a, issuer)
	if err != nil {
		return nil, caddyhttp.Error(http.StatusBadRequest, err)
	}
	for other := range h.sites {
		if len(h.sites) < maxSites {
			break
		}
		delete(h.sites, other)
	}
	h.sites[issuer] = s
	return s, nil
}

// options are what the core of every site stands on.
func (h *Handler) options(a *caddymodule.Authorization, issuer string) core.Options {
	return core.Options{
		Store: a.Store, Apps: a.Apps, Tokens: a.Tokens, Catalog: a.Catalog, Issuer: issuer, Environment: h.Environment, Activation: issuer + pathActivate,
		Secrets: a.Secrets, Ledger: a.Ledger, Guard: a.Guesses, Secure: caddymodule.Secure, ClientIP: clientIP,
		DPoP: true,
		Report: func(r *http.Request, err error) {
			h.logger.Error("request not served", zap.String("path", r.URL.Path), zap.Error(err))
		},
	}
}

// clientIP is the caller's address as Caddy determined it from the peer and the
// trusted proxies; never a header read here.
func clientIP(r *http.Request) netip.Addr {
	s, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
