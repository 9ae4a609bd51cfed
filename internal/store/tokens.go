package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const tokenColumns = `family, kind, grant_id, app, environment, user_id, scopes, resources, dpop_key, issued_at, expires_at, replaced_at` //nolint:gosec // G101: names alone

// insertTokens writes n tokens by one statement: all or none.
func insertTokens(n int) string {
	const row = `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	return `INSERT INTO oauth_tokens (hash, ` + tokenColumns + `) VALUES ` + row + strings.Repeat(`, `+row, n-1)
}

// SaveTokens saves new tokens, all or none. It fails with ErrConflict if their
// grant or family was revoked meanwhile: the database holds the family fast
// until they are saved, or does not find it any more.
func (s *Store) SaveTokens(ctx context.Context, tokens ...*oauth.Token) error {
	if len(tokens) == 0 {
		return nil
	}
	query, args := insertTokens(len(tokens)), tokenRows(tokens)
	err := s.issue(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, query, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("saving tokens: %w", err)
	}
	return nil
}

// tokenRows are the arguments of insertTokens.
func tokenRows(tokens []*oauth.Token) []any {
	args := make([]any, 0, 13*len(tokens))
	for _, t := range tokens {
		args = append(args, t.Hash[:], string(t.Family), int64(t.Kind), orNull(t.Grant), int64(t.App), string(t.Environment), orNull(t.User),
			listText(t.Scopes), listText(t.Resources), t.Key, micros(t.IssuedAt), micros(t.ExpiresAt), micros(t.ReplacedAt))
	}
	return args
}

// tokenQuery finds a token, unless its user is disabled. What is revoked is not
// there at all.
const tokenQuery = `SELECT ` + tokenColumns + ` FROM oauth_tokens t WHERE hash = ?
	AND NOT EXISTS (SELECT 1 FROM users u WHERE u.id = t.user_id AND u.status = 'disabled')`

// Token loads a token that is not revoked and whose user is not disabled,
// expired or not.
func (s *Store) Token(ctx context.Context, hash oauth.Hash) (*oauth.Token, error) {
	t := &oauth.Token{Hash: hash}
	var grant, user, scopes, resources sql.NullString
	var issued, expires, replaced sql.NullInt64
	err := s.load(func(r *reader) error {
		return r.one(ctx, []any{
			&t.Family, &t.Kind, &grant, &t.App, &t.Environment, &user, &scopes, &resources, &t.Key, &issued, &expires, &replaced,
		}, tokenQuery, hash[:])
	})
	if err != nil {
		return nil, named(err, "token")
	}
	t.Grant, t.User = grant.String, user.String
	t.IssuedAt, t.ExpiresAt, t.ReplacedAt = fromMicros(issued), fromMicros(expires), fromMicros(replaced)
	if t.Scopes, err = parseList(scopes); err != nil {
		return nil, err
	}
	t.Resources, err = parseList(resources)
	return t, err
}

// ReplaceToken marks a rotating refresh token as used and saves its successors,
// once. A second time it revokes the family and returns oauth.ErrReplayed;
// where the family is gone already it returns ErrConflict or ErrNotFound.
//
// The successors come first: they take hold of the family before the token,
// which is the order in which a revocation goes, so neither can wait for the
// other.
func (s *Store) ReplaceToken(ctx context.Context, hash oauth.Hash, now time.Time, successors ...*oauth.Token) error {
	query, args := insertTokens(len(successors)), tokenRows(successors)
	err := s.issueAll(ctx, func(ctx context.Context, c *conn) error {
		if _, err := c.exec(ctx, query, args...); err != nil {
			return err
		}
		n, err := c.exec(ctx, replaceToken, micros(now), hash[:])
		if err == nil && n == 0 {
			err = errUsed
		}
		return err
	})
	switch {
	case errors.Is(err, errUsed):
		return s.replayed(ctx, "refresh token", `SELECT family FROM oauth_tokens WHERE hash = ?`, hash)
	case err != nil:
		return fmt.Errorf("replacing a refresh token: %w", err)
	}
	return nil
}

// replaceToken marks a token as used: of any number of callers one gets the row.
const replaceToken = `UPDATE oauth_tokens SET replaced_at = ? WHERE hash = ? AND replaced_at IS NULL` //nolint:gosec // G101: no value

// errUsed undoes a replacement whose token is gone or used.
var errUsed = errors.New("the token is not there to be replaced")

// TokenInfo tells about the token of the SHA-256, unless it was revoked.
func (r *reader) TokenInfo(ctx context.Context, hash [32]byte) (*platform.TokenInfo, error) {
	t := &platform.TokenInfo{Hash: hash}
	var kind oauth.TokenKind
	var grant, user, scopes sql.NullString
	var issued, expires, replaced sql.NullInt64
	err := r.one(ctx, []any{&kind, &t.Family, &grant, &user, &t.App, &t.AppKey, &t.Environment, &scopes, &issued, &expires, &replaced},
		`SELECT t.kind, t.family, t.grant_id, t.user_id, a.id, a.app_key, t.environment, t.scopes, t.issued_at, t.expires_at, t.replaced_at
			FROM oauth_tokens t JOIN apps a ON a.number = t.app WHERE t.hash = ?`, hash[:])
	if err != nil {
		return nil, named(err, "token")
	}
	t.Refresh, t.Grant, t.User = kind == oauth.RefreshToken, grant.String, user.String
	t.IssuedAt, t.ExpiresAt, t.ReplacedAt = fromMicros(issued), fromMicros(expires), fromMicros(replaced)
	t.Scopes, err = parseList(scopes)
	return t, err
}

// TokenInfo tells about the token of the SHA-256, unless it was revoked.
func (s *Store) TokenInfo(ctx context.Context, hash [32]byte) (t *platform.TokenInfo, err error) {
	err = s.load(func(r *reader) error { t, err = r.TokenInfo(ctx, hash); return err })
	return t, err
}

// RevokeToken deletes the token; of a refresh token all of its family.
func (t *tx) RevokeToken(ctx context.Context, info *platform.TokenInfo) (err error) {
	if info.Refresh {
		_, err = t.revokeFamily(ctx, info.Family)
	} else {
		_, err = t.revokeToken(ctx, info.Hash, info.Family)
	}
	return err
}
