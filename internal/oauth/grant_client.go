package oauth

import "context"

// clientCredentials gives an app a token in its own name (RFC 6749 section 4.4),
// which opens nothing that needs a merchant. There is no refresh token, as
// section 4.4.3 wants.
func (s *Server) clientCredentials(ctx context.Context, r *tokenRequest) (*issued, *refusal) {
	if public(r.app) {
		return nil, refuse(unauthorizedClient, "a public app cannot prove who it is")
	}
	scopes, refused := s.scopesFor(r.app, r.get("scope"))
	if refused != nil {
		return nil, refused
	}
	resources, refused := narrowResources(r.resources, s.Resources)
	if refused != nil {
		return nil, refused
	}
	if refused := s.useProof(ctx, r.app, r.key, r.proof); refused != nil {
		return nil, refused
	}
	family, err := s.newFamily()
	if err != nil {
		return nil, failed(err)
	}
	out := &issued{}
	origin := Token{
		Family: family, App: r.app.Number, Environment: s.Environment,
		Scopes: scopes, Resources: resources, Key: r.key,
	}
	if err := s.newAccess(out, r.app, origin, r.now, r.now.Add(AccessTokenLifetime)); err != nil {
		return nil, failed(err)
	}
	if err := s.Store.SaveTokens(ctx, out.tokens()...); err != nil {
		return nil, notSaved(err)
	}
	return out, nil
}
