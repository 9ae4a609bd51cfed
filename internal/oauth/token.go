package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// tokenParams are the parameters of the token endpoint.
var tokenParams = []string{
	"grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "code", "redirect_uri", "code_verifier",
	"refresh_token", "device_code", "scope", "resource",
}

// tokenRequest is a request for tokens of an app that proved who it is.
type tokenRequest struct {
	*params
	app *platform.App
	now time.Time
	// key is the thumbprint of the DPoP key that the client proved, or empty.
	key string
	// proof is what proved it, and is to be used once; nil for none.
	proof *proofClaims
	// wantRefresh asks for a refresh token where the rules leave the choice.
	wantRefresh bool
}

// issued are the tokens that a request gave.
type issued struct {
	access  *Token
	refresh *Token // nil for none
	// accessValue and refreshValue are what the client gets.
	accessValue, refreshValue string
}

// tokenReply is the answer of RFC 6749 section 5.1. The scope is always named.
type tokenReply struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope"`
}

func (s *Server) serveToken(r *http.Request) (any, *refusal) {
	p, refused := readForm(r, tokenParams)
	if refused != nil {
		return nil, refused
	}
	app, refused := s.authenticate(r, p)
	if refused != nil {
		return nil, refused
	}
	key, proof, refused := s.proofKey(r, "/token")
	if refused != nil {
		return nil, refused
	}
	req := &tokenRequest{params: p, app: app, now: s.Now(), key: key, proof: proof, wantRefresh: true}
	out, refused := s.grantTokens(r.Context(), req)
	if refused != nil {
		return nil, refused
	}
	return &tokenReply{
		AccessToken: out.accessValue, TokenType: tokenType(out.access), ExpiresIn: secondsLeft(out.access, req.now),
		RefreshToken: out.refreshValue, Scope: formatScope(out.access.Scopes),
	}, nil
}

// grantTokens does what the grant type says (RFC 6749 section 4). The implicit
// and the password grant are not to be had (RFC 9700 sections 2.1.2 and 2.4).
func (s *Server) grantTokens(ctx context.Context, r *tokenRequest) (*issued, *refusal) {
	switch r.get("grant_type") {
	case "authorization_code":
		return s.exchangeCode(ctx, r)
	case "refresh_token":
		return s.refreshTokens(ctx, r)
	case "client_credentials":
		return s.clientCredentials(ctx, r)
	case deviceGrant:
		if s.Activation != "" {
			return s.pollDevice(ctx, r)
		}
	case "":
		return nil, refuse(invalidRequest, "grant_type is missing")
	}
	return nil, refuse(unsupportedGrantType, "grant_type is none of "+strings.Join(s.grantTypes(), ", "))
}

// grantTypes are those that can be had.
func (s *Server) grantTypes() []string {
	types := []string{"authorization_code", "refresh_token", "client_credentials"}
	if s.Activation != "" {
		types = append(types, deviceGrant)
	}
	return types
}

// firstTokens gives the tokens of an authorization that was redeemed just now:
// an access token for the resources that are asked for, and a refresh token for
// all, which lasts until the time.
func (s *Server) firstTokens(ctx context.Context, r *tokenRequest, origin Token, until time.Time) (*issued, *refusal) {
	all := origin.Resources
	resources, refused := s.checkOrigin(ctx, r, origin)
	if refused != nil {
		return nil, refused
	}
	if len(resources) > 0 {
		origin.Resources = resources
	}
	origin.Key = r.key
	out := &issued{}
	if err := s.newAccess(out, r.app, origin, r.now, until); err != nil {
		return nil, failed(err)
	}
	if r.wantRefresh {
		origin.Resources = all
		if !public(r.app) {
			origin.Key = "" // the app proves itself when it refreshes
		}
		if err := s.newRefresh(out, origin, r.now, until); err != nil {
			return nil, failed(err)
		}
	}
	if err := s.Store.SaveTokens(ctx, out.tokens()...); err != nil {
		return nil, notSaved(err)
	}
	return out, nil
}

// checkOrigin holds a request for first tokens to what the authorization covers,
// and returns the resources that are asked for.
func (s *Server) checkOrigin(ctx context.Context, r *tokenRequest, origin Token) ([]string, *refusal) {
	allowed := origin.Resources
	if len(allowed) == 0 {
		allowed = s.Resources
	}
	resources, refused := narrowResources(r.resources, allowed)
	if refused != nil {
		return nil, refused
	}
	_, refused = s.activeUser(ctx, origin.User)
	return resources, refused
}

// proveOrigin uses the proof of a request that will get the tokens of an
// authorization, before that is redeemed: a client whose proof was used, or that
// is told to come again, can do so. A request that will be refused for something
// else uses none, and is refused where that is found again.
func (s *Server) proveOrigin(ctx context.Context, r *tokenRequest, origin Token) *refusal {
	if r.proof == nil {
		return nil
	}
	if _, refused := s.checkOrigin(ctx, r, origin); refused != nil {
		if refused.err != nil {
			return refused
		}
		return nil
	}
	refused := s.useProof(ctx, r.app, r.key, r.proof)
	r.proof = nil
	return refused
}

// newAccess makes an access token from what it hangs from, in the app's format.
// It ends no later than its origin.
func (s *Server) newAccess(out *issued, app *platform.App, origin Token, now, until time.Time) (err error) {
	origin.Kind = AccessToken
	origin.IssuedAt, origin.ExpiresAt = now, earlier(now.Add(AccessTokenLifetime), until)
	if app.OAuth.Tokens == platform.JWTToken {
		out.accessValue, err = s.signAccess(app.Key, &origin)
	} else {
		out.accessValue, err = s.newToken(accessPrefix)
	}
	origin.Hash = HashOf(out.accessValue)
	out.access = &origin
	return err
}

// newRefresh makes a refresh token.
func (s *Server) newRefresh(out *issued, origin Token, now, until time.Time) error {
	value, err := s.newToken(refreshPrefix)
	if err != nil {
		return err
	}
	origin.Hash, origin.Kind = HashOf(value), RefreshToken
	origin.IssuedAt, origin.ExpiresAt = now, until
	out.refresh, out.refreshValue = &origin, value
	return nil
}

// tokenType tells how a client has to show the token (RFC 6750, RFC 9449).
func tokenType(t *Token) string {
	if t.Key != "" {
		return "DPoP"
	}
	return "Bearer"
}

// tokens are what has to be saved.
func (i *issued) tokens() []*Token {
	if i.refresh == nil {
		return []*Token{i.access}
	}
	return []*Token{i.access, i.refresh}
}

// notSaved says why tokens could not be saved.
func notSaved(err error) *refusal {
	switch {
	case errors.Is(err, platform.ErrConflict), errors.Is(err, platform.ErrNotFound):
		return refuse(invalidGrant, "the authorization was revoked")
	case errors.Is(err, ErrReplayed):
		return refuse(invalidGrant, "the refresh token was used before; all tokens of its authorization are revoked")
	}
	return failed(fmt.Errorf("saving tokens: %w", err))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// secondsLeft is how long the token lasts from now, in whole seconds.
func secondsLeft(t *Token, now time.Time) int64 { return int64(t.ExpiresAt.Sub(now) / time.Second) }
