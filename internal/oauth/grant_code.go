package oauth

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// exchangeCode gives tokens for an authorization code (RFC 6749 section 4.1.3).
// The code is spent by the first request that names it, also by one that does not
// fit to it, so that nothing about it can be guessed; a second one revokes what
// the first was given. One whose proof alone cannot be used does not spend it.
func (s *Server) exchangeCode(ctx context.Context, r *tokenRequest) (*issued, *refusal) {
	value := r.get("code")
	if value == "" {
		return nil, refuse(invalidRequest, "code is missing")
	}
	if refused := s.proveCode(ctx, r, value); refused != nil {
		return nil, refused
	}
	code, refused := s.redeem(ctx, r, value)
	if refused != nil {
		return nil, refused
	}
	if refused := s.checkCode(r, code); refused != nil {
		return nil, refused
	}
	return s.firstTokens(ctx, r, code.origin(), earlier(code.IssuedAt.Add(RefreshTokenLifetime), code.Until))
}

// origin is what the tokens have from the code.
func (c *Code) origin() Token {
	return Token{
		Family: c.Family, Grant: c.Grant, App: c.App, Environment: c.Environment,
		User: c.User, Scopes: c.Scopes, Resources: c.Resources,
	}
}

const badCode = "the code is unknown, expired, used, or belongs to another app"

// proveCode uses the proof of a request that has one, if the code is to be had
// for it. If not, redeem and checkCode say so.
func (s *Server) proveCode(ctx context.Context, r *tokenRequest, value string) *refusal {
	if r.proof == nil || !looksLike(value, codePrefix) {
		return nil
	}
	code, err := s.Store.Code(ctx, HashOf(value))
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return failed(fmt.Errorf("loading a code: %w", err))
	}
	if s.checkCode(r, code) != nil {
		return nil
	}
	return s.proveOrigin(ctx, r, code.origin())
}

// redeem takes the code out of the store.
func (s *Server) redeem(ctx context.Context, r *tokenRequest, value string) (*Code, *refusal) {
	if !looksLike(value, codePrefix) {
		return nil, refuse(invalidGrant, badCode)
	}
	code, err := s.Store.RedeemCode(ctx, HashOf(value), r.now)
	switch {
	case errors.Is(err, platform.ErrNotFound), errors.Is(err, ErrReplayed):
		return nil, refuse(invalidGrant, badCode)
	case err != nil:
		return nil, failed(fmt.Errorf("redeeming a code: %w", err))
	}
	return code, nil
}

// checkCode holds the exchange to what the code was given for.
func (s *Server) checkCode(r *tokenRequest, code *Code) *refusal {
	redirect := r.get("redirect_uri")
	switch {
	case code.App != r.app.Number || code.Environment != s.Environment || !r.now.Before(code.ExpiresAt),
		!r.now.Before(code.Until):
		return refuse(invalidGrant, badCode)
	case code.RedirectGiven && redirect == "":
		return refuse(invalidGrant, "redirect_uri is missing; repeat the one of the authorization request")
	case redirect != "" && redirect != code.RedirectURI:
		return refuse(invalidGrant, "redirect_uri differs from the one of the authorization request")
	}
	if refused := checkKey(code.Key, r.key); refused != nil {
		return refused
	}
	return checkVerifier(code.Challenge, r.get("code_verifier"))
}
