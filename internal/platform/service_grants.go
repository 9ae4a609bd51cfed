package platform

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
)

// Grant loads a merchant's authorization of an app, also one that has ended.
func (s *Service) Grant(ctx context.Context, id string) (*Grant, error) {
	g, err := s.store.Grant(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("grant %q: %w", id, ErrNotFound)
	}
	return g, err
}

// Grants lists grants by ID. The filter's user may be a user's ID or login, its
// app an app's ID or appKey.
func (s *Service) Grants(ctx context.Context, f GrantFilter, p Page) ([]Grant, error) {
	limit, err := checkLimit(p.Limit)
	if err != nil {
		return nil, err
	}
	p.Limit = limit
	if f.User != "" {
		u, err := findUser(ctx, s.store, f.User)
		if err != nil {
			return nil, err
		}
		f.User = u.ID
	}
	if f.App != "" {
		a, err := findApp(ctx, s.store, f.App)
		if err != nil {
			return nil, err
		}
		f.App = a.ID
	}
	if f.Live {
		f.LiveAt = s.clock()
	}
	return s.store.Grants(ctx, f, p)
}

// RevokeGrant ends a merchant's authorization of an app, and with it all of its
// tokens. One that has ended is ErrConflict.
func (s *Service) RevokeGrant(ctx context.Context, actor, id string) (*Grant, error) {
	var g *Grant
	err := s.update(ctx, actor, func(tx Tx) (event, error) {
		var err error
		if g, err = tx.Grant(ctx, id); err != nil {
			return event{}, fmt.Errorf("grant %q: %w", id, err)
		}
		if !g.RevokedAt.IsZero() {
			return event{}, fmt.Errorf("grant %s was revoked before: %w", id, ErrConflict)
		}
		before, err := auditJSON(g)
		if err != nil {
			return event{}, err
		}
		g.RevokedAt = s.clock()
		return event{"grant.revoke", g.ID, before, g, Change{ChangeGrant, g.ID}}, tx.RevokeGrant(ctx, g.ID, g.RevokedAt)
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

// InspectToken tells whose an access or refresh token is, and what for. One
// that is revoked or was pruned is ErrNotFound.
func (s *Service) InspectToken(ctx context.Context, token string) (*TokenInfo, error) {
	hash, err := hashToken(token)
	if err != nil {
		return nil, err
	}
	return s.store.TokenInfo(ctx, hash)
}

// RevokeToken ends an access token; a refresh token ends with all that were
// issued with it, before and after. It returns what the token was.
func (s *Service) RevokeToken(ctx context.Context, actor, token string) (*TokenInfo, error) {
	hash, err := hashToken(token)
	if err != nil {
		return nil, err
	}
	var t *TokenInfo
	err = s.update(ctx, actor, func(tx Tx) (event, error) {
		var err error
		if t, err = tx.TokenInfo(ctx, hash); err != nil {
			return event{}, err
		}
		return event{"token.revoke", t.App, t, nil, Change{ChangeToken, t.Family}}, tx.RevokeToken(ctx, t)
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// maxToken bounds what may be a token, in bytes.
const maxToken = 8 << 10

// hashToken is what the store knows a token by.
func hashToken(token string) ([32]byte, error) {
	token = strings.TrimSpace(token)
	if token == "" || len(token) > maxToken || strings.ContainsAny(token, " \t\r\n") {
		return [32]byte{}, &FieldError{Field: "token", Problem: "is no token", Want: "one access token or refresh token"}
	}
	return sha256.Sum256([]byte(token)), nil
}
