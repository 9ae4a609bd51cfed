package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// inquiryParams are the parameters of revocation and introspection.
var inquiryParams = []string{
	"client_id", "client_secret", "client_assertion", "client_assertion_type", "token", "token_type_hint",
}

// serveRevoke ends a token (RFC 7009 section 2.1): of a refresh token all that
// hangs from the same authorization, of an access token itself alone. A token
// that is unknown, ended, or of another app is answered the same and left alone
// (section 2.2).
func (s *Server) serveRevoke(r *http.Request) (any, *refusal) {
	p, refused := readForm(r, inquiryParams)
	if refused != nil {
		return nil, refused
	}
	app, refused := s.authenticate(r, p)
	if refused != nil {
		return nil, refused
	}
	t, refused := s.ownToken(r, app, p, s.storedToken)
	if refused != nil {
		return nil, refused
	}
	if t == nil {
		return revoked{}, nil
	}
	var err error
	if t.Kind == RefreshToken {
		err = s.Store.RevokeFamily(r.Context(), t.Family)
	} else {
		err = s.Store.RevokeToken(r.Context(), t.Hash)
	}
	if err != nil && !errors.Is(err, platform.ErrNotFound) {
		return nil, failed(fmt.Errorf("revoking a token: %w", err))
	}
	return revoked{}, nil
}

// revoked is the answer, of which clients need nothing (RFC 7009 section 2.2); some
// fail where it is no JSON.
type revoked struct{}

// storedToken loads a token from the store.
func (s *Server) storedToken(ctx context.Context, value string) (*Token, error) {
	return s.Store.Token(ctx, HashOf(value))
}

// ownToken finds the token that the request is about; nil when the app has no
// such token here. The hint is not needed.
func (s *Server) ownToken(r *http.Request, app *platform.App, p *params, find func(context.Context, string) (*Token, error)) (*Token, *refusal) {
	value := p.get("token")
	if value == "" {
		return nil, refuse(invalidRequest, "token is missing")
	}
	t, err := find(r.Context(), value)
	switch {
	case errors.Is(err, platform.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, failed(fmt.Errorf("loading a token: %w", err))
	case t.App != app.Number || t.Environment != s.Environment:
		return nil, nil
	}
	return t, nil
}
