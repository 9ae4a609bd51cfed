package oauth

import (
	"context"
	"net/http"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// introspectReply is the answer of RFC 7662 section 2.2. Of a token that is not
// active it says nothing more.
type introspectReply struct {
	Active    bool     `json:"active"`
	Scope     string   `json:"scope,omitempty"`
	ClientID  string   `json:"client_id,omitempty"`
	TokenType string   `json:"token_type,omitempty"`
	ExpiresAt int64    `json:"exp,omitempty"`
	IssuedAt  int64    `json:"iat,omitempty"`
	Subject   string   `json:"sub,omitempty"`
	Audience  []string `json:"aud,omitempty"`
	Issuer    string   `json:"iss,omitempty"`
	// Confirmation is of RFC 9449 section 6.2.
	Confirmation *confirmation `json:"cnf,omitempty"`
}

// serveIntrospect tells an app about its own tokens. Public apps cannot ask, as
// they cannot prove who they are (RFC 7662 section 2.1).
func (s *Server) serveIntrospect(r *http.Request) (any, *refusal) {
	p, refused := readForm(r, inquiryParams)
	if refused != nil {
		return nil, refused
	}
	app, refused := s.authenticate(r, p)
	if refused != nil {
		return nil, refused
	}
	if public(app) {
		return nil, refuse(invalidClient, "a public app cannot prove who it is")
	}
	t, refused := s.ownToken(r, app, p, s.knownToken)
	if refused != nil {
		return nil, refused
	}
	if t == nil || !t.ReplacedAt.IsZero() || !s.Now().Before(t.ExpiresAt) {
		return &introspectReply{}, nil
	}
	return s.describe(app, t), nil
}

// knownToken finds a token in memory where that is as good as the store: an
// access token never changes but for being revoked, which the verifier hears of.
func (s *Server) knownToken(ctx context.Context, value string) (*Token, error) {
	if s.Tokens != nil && looksLikeAccess(value) {
		return s.Tokens.Token(ctx, value)
	}
	return s.storedToken(ctx, value)
}

func (s *Server) describe(app *platform.App, t *Token) *introspectReply {
	reply := &introspectReply{
		Active: true, Scope: formatScope(t.Scopes), ClientID: app.Key, Subject: t.User,
		ExpiresAt: t.ExpiresAt.Unix(), IssuedAt: t.IssuedAt.Unix(), Audience: t.Resources, Issuer: s.Issuer,
	}
	if t.Kind == AccessToken {
		reply.TokenType = tokenType(t)
	}
	if t.User == "" {
		reply.Subject = app.Key
	}
	if t.Key != "" {
		reply.Confirmation = &confirmation{t.Key}
	}
	return reply
}
