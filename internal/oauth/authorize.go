package oauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// AuthorizationRequest is a request for a merchant's authorization that was
// checked (RFC 6749 section 4.1.1).
type AuthorizationRequest struct {
	// RawQuery is the query that it was read from; of a pushed request the one
	// that was pushed. A page keeps it and has it read again, so that nothing has
	// to be trusted that came back.
	RawQuery string
	App      *platform.App
	// RedirectURI is where the answer goes: as sent, or the only one registered.
	RedirectURI   string
	RedirectGiven bool
	State         string
	// Scopes are the packages asked for, sorted; empty means the basic one
	// alone.
	Scopes    []string
	Resources []string
	// Challenge is the S256 challenge of RFC 7636, or empty.
	Challenge string
	// Key is the thumbprint of the DPoP key that the code is to be bound to (RFC
	// 9449 section 10), or empty.
	Key string
	// AskAgain says that the app wants the page for consent although it might be
	// skipped: prompt=consent, as OpenID Connect Core section 3.1.2.1 has it.
	AskAgain bool
}

// authorizeParams are the parameters of the authorization endpoint.
var authorizeParams = []string{
	"client_id", "redirect_uri", "response_type", "response_mode", "state", "scope", "resource",
	"code_challenge", "code_challenge_method", "request", "request_uri", "dpop_jkt", "prompt",
}

// Authorize checks an authorization request, given by the query of its URL. The
// error is a *PageError, of which the user gets a page and no redirect, or a
// *RedirectError, of which the app hears.
func (s *Server) Authorize(ctx context.Context, rawQuery string) (*AuthorizationRequest, error) {
	rawQuery, refused := s.unpush(rawQuery)
	if refused != nil {
		return nil, refused.page()
	}
	p, refused := parseParams(rawQuery, authorizeParams)
	if refused != nil {
		return nil, refused.page()
	}
	r := &AuthorizationRequest{RawQuery: rawQuery}
	if refused := s.identify(ctx, r, p); refused != nil {
		return nil, refused.page()
	}
	if !p.isRepeated("state") {
		r.State = p.get("state")
	}
	if refused := s.checkAuthorization(r, p); refused != nil {
		return nil, s.redirectError(r, refused)
	}
	return r, nil
}

// identify sets app and redirect URI. While they are not known to be good the
// browser must not be sent anywhere.
func (s *Server) identify(ctx context.Context, r *AuthorizationRequest, p *params) *refusal {
	for _, name := range []string{"client_id", "redirect_uri"} {
		if p.isRepeated(name) {
			return refuse(invalidRequest, name+" stands more than once in the request; write it once")
		}
	}
	app, err := s.appByKey(ctx, p.get("client_id"))
	switch {
	case errors.Is(err, platform.ErrNotFound):
		return refuse(invalidClient, "client_id is missing or names no app; write the appKey")
	case err != nil:
		return failed(fmt.Errorf("loading the app: %w", err))
	case app.Status != platform.Active:
		return refuse(unauthorizedClient, "the app is suspended")
	}
	r.App = app
	r.RedirectURI = p.get("redirect_uri")
	r.RedirectGiven = r.RedirectURI != ""
	if r.RedirectGiven {
		if !redirectAllowed(app, r.RedirectURI) {
			return refuse(invalidRequest, "redirect_uri is not registered for the app; it must be the same character by character")
		}
		return nil
	}
	// RFC 6749 section 3.1.2.3: it may only be missing where there is no choice.
	if len(app.OAuth.RedirectURIs) != 1 || !redirectAllowed(app, app.OAuth.RedirectURIs[0]) {
		return refuse(invalidRequest, "redirect_uri is missing; it may be left out only when the app has registered exactly one")
	}
	r.RedirectURI = app.OAuth.RedirectURIs[0]
	return nil
}

// checkAuthorization checks what the app may hear of by a redirect.
func (s *Server) checkAuthorization(r *AuthorizationRequest, p *params) *refusal {
	if refused := p.refuseRepeated(); refused != nil {
		return refused
	}
	switch {
	case p.get("request") != "":
		return refuse(requestNotSupported, "request objects are not supported; send plain parameters")
	case p.get("request_uri") != "":
		return refuse(requestURINotSupported, "request_uri is not supported; send plain parameters")
	case p.get("response_type") == "":
		return refuse(invalidRequest, "response_type is missing; write response_type=code")
	case p.get("response_type") != "code":
		return refuse(unsupportedResponseType, "only response_type=code is supported")
	case p.get("response_mode") != "" && p.get("response_mode") != "query":
		return refuse(invalidRequest, "only response_mode=query is supported")
	}
	r.AskAgain = slices.Contains(strings.Fields(p.get("prompt")), "consent")
	var refused *refusal
	if r.Challenge, refused = checkChallenge(r.App, p); refused != nil {
		return refused
	}
	if r.Key, refused = s.checkThumbprint(p); refused != nil {
		return refused
	}
	if r.Scopes, refused = s.scopesFor(r.App, p.get("scope")); refused != nil {
		return refused
	}
	r.Resources, refused = narrowResources(p.resources, s.Resources)
	return refused
}

func (s *Server) redirectError(r *AuthorizationRequest, refused *refusal) *RedirectError {
	return &RedirectError{
		Code: refused.name, Description: ascii(refused.description),
		RedirectURI: r.RedirectURI, State: r.State, Issuer: s.Issuer, Err: refused.err,
	}
}

// Covered names the grant of the user that already allows what is asked, so that
// the page for consent may be skipped; empty where none does, or not for as long
// as an access token is meant to last. It never is where the app wants the page,
// and where another program could pose as the app (RFC 8252 section 8.6): a public
// app that is answered on a loopback address or a private scheme.
func (s *Server) Covered(ctx context.Context, r *AuthorizationRequest, user string) (grant string, err error) {
	if r.AskAgain || (public(r.App) && !strings.HasPrefix(r.RedirectURI, "https://")) {
		return "", nil
	}
	now := s.Now()
	g, err := s.Store.GrantOf(ctx, user, r.App.Number, s.Environment, now)
	if errors.Is(err, platform.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("looking for a grant: %w", err)
	}
	if g.ExpiresAt.Before(now.Add(AccessTokenLifetime)) {
		return "", nil
	}
	for _, scope := range r.Scopes {
		if !slices.Contains(g.Scopes, scope) {
			return "", nil
		}
	}
	return g.ID, nil
}

// ErrNotCovered means that the grant which Covered named was revoked meanwhile:
// the user must be asked.
var ErrNotCovered = errors.New("the grant does not cover the request any more")

// Approve records that the user authorizes the app and returns where to send the
// browser (RFC 6749 section 4.1.2). The request must have been checked by
// Authorize just before. Where the user was not asked now, covered is the grant
// that Covered named: it stays as it is, and what the app gets ends with it. An
// error is ErrNotCovered, a *PageError or a *RedirectError.
func (s *Server) Approve(ctx context.Context, r *AuthorizationRequest, user, covered string) (redirectTo string, err error) {
	if _, refused := s.activeUser(ctx, user); refused != nil {
		if refused.err == nil {
			refused = refuse(accessDenied, refused.description)
		}
		return "", s.redirectError(r, refused)
	}
	value, err := s.newToken(codePrefix)
	if err != nil {
		return "", s.redirectError(r, failed(err))
	}
	code, err := s.newCode(r, user)
	if err != nil {
		return "", s.redirectError(r, failed(err))
	}
	code.Hash = HashOf(value)
	grant := s.newGrant(r.App, r.Scopes, user)
	grant.ID = covered
	err = s.Store.Authorize(ctx, grant, code)
	if covered != "" && errors.Is(err, platform.ErrConflict) {
		return "", ErrNotCovered
	}
	if err != nil {
		return "", s.redirectError(r, failed(fmt.Errorf("saving the authorization: %w", err)))
	}
	return addParams(r.RedirectURI, param{"code", value}, param{"state", r.State}, param{"iss", s.Issuer}), nil
}

// newGrant makes what the user authorizes.
func (s *Server) newGrant(app *platform.App, scopes []string, user string) *platform.Grant {
	now := s.Now()
	return &platform.Grant{
		User: user, App: app.ID, AppNumber: app.Number, Environment: s.Environment,
		Scopes: scopes, CreatedAt: now, ExpiresAt: now.Add(RefreshTokenLifetime),
	}
}

// newCode makes what is stored of a code. The store sets its grant.
func (s *Server) newCode(r *AuthorizationRequest, user string) (*Code, error) {
	family, err := s.newFamily()
	if err != nil {
		return nil, err
	}
	now := s.Now()
	return &Code{
		Family: family, App: r.App.Number, Environment: s.Environment, User: user,
		RedirectURI: r.RedirectURI, RedirectGiven: r.RedirectGiven, Challenge: r.Challenge, Key: r.Key,
		Scopes: r.Scopes, Resources: r.Resources, IssuedAt: now, ExpiresAt: now.Add(CodeLifetime),
	}, nil
}

// Deny returns where to send the browser of a user who does not agree.
func (s *Server) Deny(r *AuthorizationRequest) (redirectTo string) {
	return s.redirectError(r, refuse(accessDenied, "the merchant did not agree")).URL()
}

// appByKey loads an app. What cannot be an appKey is not looked for.
func (s *Server) appByKey(ctx context.Context, key string) (*platform.App, error) {
	if key == "" || len(key) > maxClientID {
		return nil, platform.ErrNotFound
	}
	return s.Apps.AppByKey(ctx, key)
}

// maxClientID bounds a client_id, in bytes.
const maxClientID = 128

// activeUser loads a user who may authorize.
func (s *Server) activeUser(ctx context.Context, id string) (*platform.User, *refusal) {
	u, err := s.Store.User(ctx, id)
	switch {
	case errors.Is(err, platform.ErrNotFound):
		return nil, refuse(invalidGrant, "the merchant does not exist")
	case err != nil:
		return nil, failed(fmt.Errorf("loading the merchant: %w", err))
	case u.Status != platform.UserActive:
		return nil, refuse(invalidGrant, "the merchant is disabled")
	}
	return u, nil
}
