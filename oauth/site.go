package oauth

import (
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-openplatform/openplatform/caddymodule"
	core "github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// The paths of the endpoints.
const (
	pathPrefix      = "/oauth/"
	pathAuthorize   = "/oauth/authorize"
	pathActivate    = "/oauth/activate"
	pathStart       = "/oauth/start"
	pathLogin       = "/oauth/login"
	pathLogout      = "/oauth/logout"
	pathCallback    = "/oauth/callback"
	pathGrants      = "/oauth/grants"
	pathStyle       = "/oauth/style.css"
	pathToken       = "/oauth/token" //nolint:gosec // G101: a path
	pathRevoke      = "/oauth/revoke"
	pathIntrospect  = "/oauth/introspect"
	pathDevice      = "/oauth/device"
	pathPushed      = "/oauth/par"
	pathKeys        = "/oauth/jwks"
	pathMetadata    = "/.well-known/oauth-authorization-server" // RFC 8414 section 3
	pathCompatToken = "/openapi/http/1/system.oauth2/getToken/" //nolint:gosec // G101: a path
)

// site is the authorization server of one issuer.
type site struct {
	issuer, host string
	environment  platform.Environment
	server       *core.Server
	platform     *caddymodule.Authorization
	vault        vault
	passport     Passport
	// oidc is the OpenID provider that merchants log in with; nil for none.
	oidc *provider
	// sessions says that merchants log in and out here, with our accounts or with
	// a provider's: who they are is in the session.
	sessions bool
	logger   *zap.Logger
	now      func() time.Time
	mux      *http.ServeMux
}

// newSite makes the site of an issuer.
func newSite(h *Handler, a *caddymodule.Authorization, issuer string) (*site, error) {
	server, err := core.New(h.options(a, issuer))
	if err != nil {
		return nil, err
	}
	s := &site{
		issuer: issuer, host: strings.TrimPrefix(issuer, "https://"), environment: h.Environment, server: server, platform: a, vault: a,
		passport: accounts{store: a.Store}, oidc: h.provider, sessions: h.Passport == nil || h.provider != nil,
		logger: h.logger, now: time.Now, mux: http.NewServeMux(),
	}
	switch {
	case h.provider != nil:
		s.passport = accounts{a.Store, h.provider.config.Issuer}
	case h.Passport != nil:
		s.passport = outside{*h.Passport, a.Store, s.now}
	}
	s.routes()
	return s, nil
}

// routes says what answers where.
func (s *site) routes() {
	s.mux.HandleFunc(pathAuthorize, s.page(methods{http.MethodGet: s.authorize, http.MethodPost: s.decide}))
	s.mux.HandleFunc(pathActivate, s.page(methods{http.MethodGet: s.activate, http.MethodPost: s.decideDevice}))
	s.mux.HandleFunc(pathStart, s.page(methods{http.MethodGet: s.start}))
	s.mux.HandleFunc(pathGrants, s.page(methods{http.MethodGet: s.grants, http.MethodPost: s.revoke}))
	s.mux.HandleFunc(pathLogout, s.page(methods{http.MethodGet: s.askLogOut, http.MethodPost: s.logOut}))
	switch {
	case s.oidc != nil:
		s.mux.HandleFunc(pathLogin, s.page(methods{http.MethodGet: s.askLogIn}))
		s.mux.HandleFunc(pathCallback, s.page(methods{http.MethodGet: s.loggedIn}))
	case s.sessions:
		s.mux.HandleFunc(pathLogin, s.page(methods{http.MethodGet: s.askLogIn, http.MethodPost: s.logIn}))
	}
	s.mux.HandleFunc(pathStyle, serveStyle)
	s.mux.HandleFunc(pathPrefix, s.page(methods{http.MethodGet: s.notFound}))

	s.mux.Handle(pathToken, s.server.TokenHandler())
	s.mux.Handle(pathRevoke, s.server.RevokeHandler())
	s.mux.Handle(pathIntrospect, s.server.IntrospectHandler())
	s.mux.Handle(pathDevice, s.server.DeviceHandler())
	s.mux.Handle(pathPushed, s.server.PushedHandler())
	s.mux.Handle(pathKeys, s.server.JWKSHandler())
	s.mux.Handle(pathMetadata, s.server.MetadataHandler())
	s.mux.Handle(pathCompatToken, s.server.CompatTokenHandler())
}

// methods are the functions of a page, by HTTP method.
type methods map[string]http.HandlerFunc

// page wraps the functions of a page in what holds for all of them.
func (s *site) page(byMethod methods) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		protect(w.Header())
		if s.oidc != nil {
			// A form may end at the provider's page to log in, and wherever that leads.
			allowForms(w.Header(), "https:")
		}
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		serve := byMethod[method]
		switch {
		case !caddymodule.Secure(r):
			s.problem(w, r, http.StatusForbidden, problemInsecure)
		case serve == nil:
			allow := "GET, HEAD"
			if byMethod[http.MethodPost] != nil {
				allow += ", POST"
			}
			w.Header().Set("Allow", allow)
			s.problem(w, r, http.StatusMethodNotAllowed, problemMethod)
		default:
			rememberLanguage(w, r)
			serve(w, r)
		}
	}
}

// visit says who is before the browser. It answers the request itself where that
// cannot be said.
func (s *site) visit(w http.ResponseWriter, r *http.Request) (in *session, u *platform.User, ok bool) {
	in, err := s.session(w, r)
	if err == nil {
		u, err = s.passport.User(r, in)
	}
	if err != nil {
		s.failed(w, r, err)
		return nil, nil, false
	}
	return in, u, true
}

// redirect sends the browser on with GET, and so without what it just sent (RFC
// 9700 section 4.12).
func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}
