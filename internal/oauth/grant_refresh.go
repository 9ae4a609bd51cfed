package oauth

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const badRefreshToken = "the refresh token is unknown, expired, revoked, or belongs to another app"

// refreshTokens gives an access token for a refresh token (RFC 6749 section 6).
// The scopes may be narrowed, never widened. What happens to the refresh token
// is the app's policy; that of a public app is always replaced (RFC 9700 section
// 4.14.2).
func (s *Server) refreshTokens(ctx context.Context, r *tokenRequest) (*issued, *refusal) {
	old, refused := s.loadRefresh(ctx, r)
	if refused != nil {
		return nil, refused
	}
	origin := *old
	origin.Key = r.key
	if scope := r.get("scope"); scope != "" {
		if origin.Scopes, refused = narrowScope(scope, old.Scopes, "the refresh token does not cover "); refused != nil {
			return nil, refused
		}
	}
	if len(r.resources) > 0 {
		allowed := old.Resources
		if len(allowed) == 0 {
			allowed = s.Resources
		}
		if origin.Resources, refused = narrowResources(r.resources, allowed); refused != nil {
			return nil, refused
		}
	}
	if refused := s.useProof(ctx, r.app, r.key, r.proof); refused != nil {
		return nil, refused
	}
	out := &issued{}
	if err := s.newAccess(out, r.app, origin, r.now, old.ExpiresAt); err != nil {
		return nil, failed(err)
	}
	rotate := rotates(r.app)
	if rotate || r.get("need_refresh_token") == "true" {
		// A successor covers what its predecessor did, and ends with it.
		if err := s.newRefresh(out, *old, r.now, old.ExpiresAt); err != nil {
			return nil, failed(err)
		}
	}
	if rotate {
		if err := s.Store.ReplaceToken(ctx, old.Hash, r.now, out.tokens()...); err != nil {
			return nil, notSaved(err)
		}
		return out, nil
	}
	if err := s.Store.SaveTokens(ctx, out.tokens()...); err != nil {
		return nil, notSaved(err)
	}
	return out, nil
}

// rotates tells whether a refresh token of the app ends by being used.
func rotates(app *platform.App) bool {
	return public(app) || app.OAuth.Refresh == platform.RotateRefresh
}

// loadRefresh finds the refresh token. One that was replaced before shows that
// it was stolen, from the app or by it, and ends all tokens of its family; but not
// where the key is missing that it is bound to, without which it is worth nothing.
func (s *Server) loadRefresh(ctx context.Context, r *tokenRequest) (*Token, *refusal) {
	value := r.get("refresh_token")
	if value == "" {
		return nil, refuse(invalidRequest, "refresh_token is missing")
	}
	if !looksLike(value, refreshPrefix) {
		return nil, refuse(invalidGrant, badRefreshToken)
	}
	t, err := s.Store.Token(ctx, HashOf(value))
	if errors.Is(err, platform.ErrNotFound) {
		return nil, refuse(invalidGrant, badRefreshToken)
	}
	if err != nil {
		return nil, failed(fmt.Errorf("loading a refresh token: %w", err))
	}
	if t.Kind != RefreshToken || t.App != r.app.Number || t.Environment != s.Environment {
		return nil, refuse(invalidGrant, badRefreshToken)
	}
	if refused := checkKey(t.Key, r.key); refused != nil {
		return nil, refused
	}
	if !t.ReplacedAt.IsZero() {
		if err := s.Store.RevokeFamily(ctx, t.Family); err != nil && !errors.Is(err, platform.ErrNotFound) {
			return nil, failed(fmt.Errorf("revoking a family: %w", err))
		}
		return nil, notSaved(ErrReplayed)
	}
	if !r.now.Before(t.ExpiresAt) {
		return nil, refuse(invalidGrant, badRefreshToken)
	}
	return t, nil
}
