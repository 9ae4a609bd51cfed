package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

var _ oauth.Store = (*Store)(nil)

// issuing is where codes and tokens are written on PostgreSQL: without the lock
// under which the domain changes, so that many are issued side by side. SQLite
// has one writer for everything.
func (s *Store) issuing() *sql.DB {
	if s.pool != nil {
		return s.readers
	}
	return s.writer
}

// issue runs fn, which writes by one statement: that is a transaction by itself,
// and one round trip to PostgreSQL. On SQLite it joins others. After an error,
// what fn wrote to must not be read.
func (s *Store) issue(ctx context.Context, fn func(context.Context, *conn) error) error {
	if s.group != nil {
		return s.group.do(ctx, false, fn)
	}
	if err := s.watch.down(); err != nil {
		return err
	}
	err := fn(ctx, &conn{querier: s.issuing(), engine: s.engine})
	s.noteFailure(err)
	return err
}

// issueAll is issue for several statements: all or none.
func (s *Store) issueAll(ctx context.Context, fn func(context.Context, *conn) error) error {
	if s.group != nil {
		return s.group.do(ctx, true, fn)
	}
	return s.transaction(ctx, s.issuing(), nil, func(c *conn) error { return fn(ctx, c) })
}

const insertCode = `INSERT INTO oauth_codes (hash, family, grant_id, app, environment, user_id, redirect_uri, redirect_given,
		challenge, scopes, resources, dpop_key, issued_at, expires_at)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

func (c *conn) insertCode(ctx context.Context, grant string, code *oauth.Code) error {
	_, err := c.exec(ctx, insertCode,
		code.Hash[:], code.Family, grant, int64(code.App), code.Environment, code.User, code.RedirectURI, code.RedirectGiven,
		code.Challenge, listText(code.Scopes), listText(code.Resources), code.Key, micros(code.IssuedAt), micros(code.ExpiresAt))
	return named(err, "code")
}

const (
	codeColumns = `family, grant_id, app, environment, user_id, redirect_uri, redirect_given, challenge, scopes, resources, dpop_key, issued_at, expires_at,
		(SELECT g.expires_at FROM grants g WHERE g.id = oauth_codes.grant_id)`
	codeQuery = `SELECT ` + codeColumns + ` FROM oauth_codes WHERE hash = ? AND redeemed_at IS NULL`
	// redeemCode takes a code: of any number of callers one gets the row.
	redeemCode = `UPDATE oauth_codes SET redeemed_at = ? WHERE hash = ? AND redeemed_at IS NULL RETURNING ` + codeColumns
)

// Code loads a code that was not redeemed, expired or not.
func (s *Store) Code(ctx context.Context, hash oauth.Hash) (*oauth.Code, error) {
	var code *oauth.Code
	err := s.load(func(r *reader) error {
		return r.each(ctx, func(rows *sql.Rows) (err error) {
			code, err = scanCode(rows)
			return err
		}, codeQuery, hash[:])
	})
	if err == nil && code == nil {
		err = platform.ErrNotFound
	}
	if err != nil {
		return nil, named(err, "code")
	}
	code.Hash = hash
	return code, nil
}

// RedeemCode takes a code out of the store, once. A second time it revokes the
// code's family and returns oauth.ErrReplayed.
func (s *Store) RedeemCode(ctx context.Context, hash oauth.Hash, now time.Time) (*oauth.Code, error) {
	var code *oauth.Code
	err := s.issue(ctx, func(ctx context.Context, c *conn) error {
		code = nil
		return c.each(ctx, func(rows *sql.Rows) (err error) {
			code, err = scanCode(rows)
			return err
		}, redeemCode, micros(now), hash[:])
	})
	if err != nil {
		return nil, fmt.Errorf("redeeming a code: %w", err)
	}
	if code == nil {
		return nil, s.replayed(ctx, "code", `SELECT family FROM oauth_codes WHERE hash = ?`, hash)
	}
	code.Hash = hash
	return code, nil
}

func scanCode(rows *sql.Rows) (*oauth.Code, error) {
	c := &oauth.Code{}
	var scopes, resources sql.NullString
	var issued, expires, until sql.NullInt64
	err := rows.Scan(&c.Family, &c.Grant, &c.App, &c.Environment, &c.User, &c.RedirectURI, &c.RedirectGiven, &c.Challenge,
		&scopes, &resources, &c.Key, &issued, &expires, &until)
	if err != nil {
		return nil, err
	}
	c.IssuedAt, c.ExpiresAt, c.Until = fromMicros(issued), fromMicros(expires), fromMicros(until)
	if c.Scopes, err = parseList(scopes); err != nil {
		return nil, err
	}
	c.Resources, err = parseList(resources)
	return c, err
}

// replayed revokes the family that the query finds by the hash of what was
// used before.
func (s *Store) replayed(ctx context.Context, what, query string, hash oauth.Hash) error {
	var family oauth.Family
	err := s.load(func(r *reader) error { return r.one(ctx, []any{&family}, query, hash[:]) })
	if err != nil {
		return named(err, "%s", what)
	}
	if err := s.RevokeFamily(ctx, family); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", what, oauth.ErrReplayed)
}

// RevokeFamily deletes all tokens of a family, and keeps others from being
// saved for it. One that is not there is revoked already.
func (s *Store) RevokeFamily(ctx context.Context, family oauth.Family) error {
	there := 0
	err := s.load(func(r *reader) error {
		return r.one(ctx, []any{&there}, `SELECT (SELECT count(*) FROM oauth_families WHERE id = ?) + (SELECT count(*) FROM oauth_tokens WHERE family = ?)`, family, family)
	})
	if err != nil || there == 0 {
		return err
	}
	return s.revoke(ctx, family, func(t *tx) (bool, error) { return t.revokeFamily(ctx, string(family)) })
}

// RevokeToken deletes one token. One that is not there is revoked already.
func (s *Store) RevokeToken(ctx context.Context, hash oauth.Hash) error {
	var family oauth.Family
	err := s.load(func(r *reader) error {
		return r.one(ctx, []any{&family}, `SELECT family FROM oauth_tokens WHERE hash = ?`, hash[:])
	})
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.revoke(ctx, family, func(t *tx) (bool, error) { return t.revokeToken(ctx, hash, string(family)) })
}

// revoke runs fn, which tells whether it revoked something, and tells all
// nodes.
func (s *Store) revoke(ctx context.Context, family oauth.Family, fn func(*tx) (bool, error)) error {
	change := platform.Change{Kind: platform.ChangeToken, Key: string(family)}
	done := false
	err := s.update(ctx, nil, func(t *tx) (err error) {
		if done, err = fn(t); err != nil || !done {
			return err
		}
		return t.Announce(ctx, change)
	})
	if err != nil {
		return fmt.Errorf("revoking tokens: %w", err)
	}
	if done {
		s.onChange(change)
	}
	return nil
}

// revokeFamily deletes the family, and by its reference the tokens; those of
// client credentials have none.
func (t *tx) revokeFamily(ctx context.Context, family string) (bool, error) {
	families, err := t.exec(ctx, `DELETE FROM oauth_families WHERE id = ?`, family)
	if err != nil {
		return false, err
	}
	tokens, err := t.exec(ctx, `DELETE FROM oauth_tokens WHERE family = ?`, family)
	return families+tokens > 0, err
}

// lockFamilies takes hold of families: whoever does so before it touches their
// tokens, and takes several in one order, never waits in a circle. SQLite has one
// writer.
func (c *conn) lockFamilies(ctx context.Context, condition string, args ...any) error {
	if c.engine.lockRow == "" {
		return nil
	}
	_, err := c.exec(ctx, `SELECT 1 FROM oauth_families WHERE `+condition+` ORDER BY id`+c.engine.lockRow, args...)
	return err
}

// revokeToken deletes a token, and its family when it was the last of it. The
// family is locked before the token, as ReplaceToken does.
func (t *tx) revokeToken(ctx context.Context, hash oauth.Hash, family string) (bool, error) {
	if err := t.lockFamilies(ctx, `id = ?`, family); err != nil {
		return false, err
	}
	n, err := t.exec(ctx, `DELETE FROM oauth_tokens WHERE hash = ?`, hash[:])
	if err != nil || n == 0 {
		return false, err
	}
	_, err = t.exec(ctx, `DELETE FROM oauth_families WHERE id = ? AND NOT EXISTS (SELECT 1 FROM oauth_tokens WHERE family = ?)`, family, family)
	return true, err
}
