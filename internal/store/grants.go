package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	// liveGrant finds the one of a user for an app and environment at a time.
	liveGrant  = `g.user_id = ? AND g.app = ? AND g.environment = ? AND g.revoked_at IS NULL AND g.expires_at > ?`
	grantQuery = `SELECT g.id, g.user_id, a.id, g.app, g.environment, g.scopes, g.created_at, g.expires_at, g.revoked_at
		FROM grants g JOIN apps a ON a.number = g.app`
)

func scanGrant(rows *sql.Rows, g *platform.Grant) error {
	var scopes sql.NullString
	var created, expires, revoked sql.NullInt64
	err := rows.Scan(&g.ID, &g.User, &g.App, &g.AppNumber, &g.Environment, &scopes, &created, &expires, &revoked)
	if err != nil {
		return err
	}
	g.CreatedAt, g.ExpiresAt, g.RevokedAt = fromMicros(created), fromMicros(expires), fromMicros(revoked)
	g.Scopes, err = parseList(scopes)
	return err
}

// listText is a list of texts as JSON; NULL where it is empty.
func listText(list []string) sql.NullString {
	if len(list) == 0 {
		return sql.NullString{}
	}
	text, _ := json.Marshal(list) // strings cannot fail
	return sql.NullString{String: string(text), Valid: true}
}

// parseList is the opposite of listText.
func parseList(text sql.NullString) (list []string, err error) {
	if !text.Valid {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text.String), &list); err != nil {
		return nil, fmt.Errorf("reading a list: %w", err)
	}
	return list, nil
}

// grant loads the one grant that the condition finds.
func (r *reader) grant(ctx context.Context, condition string, args ...any) (*platform.Grant, error) {
	var g *platform.Grant
	err := r.each(ctx, func(rows *sql.Rows) error {
		g = &platform.Grant{}
		return scanGrant(rows, g)
	}, grantQuery+` WHERE `+condition, args...)
	if err == nil && g == nil {
		err = fmt.Errorf("grant: %w", platform.ErrNotFound)
	}
	return g, err
}

// Grant loads a grant by its ID, also one that has ended.
func (r *reader) Grant(ctx context.Context, id string) (*platform.Grant, error) {
	if !storable(id) {
		return nil, fmt.Errorf("grant: %w", platform.ErrNotFound)
	}
	return r.grant(ctx, `g.id = ?`, id)
}

// Grants lists grants by ID.
func (r *reader) Grants(ctx context.Context, f platform.GrantFilter, p platform.Page) ([]platform.Grant, error) {
	grants := []platform.Grant{}
	if !storable(p.After + f.User + f.App + string(f.Environment)) {
		return grants, nil
	}
	where, args := []string{"g.id > ?"}, []any{p.After}
	if f.User != "" {
		where, args = append(where, "g.user_id = ?"), append(args, f.User)
	}
	if f.App != "" {
		where, args = append(where, "g.app = (SELECT number FROM apps WHERE id = ?)"), append(args, f.App)
	}
	if f.Environment != "" {
		where, args = append(where, "g.environment = ?"), append(args, f.Environment)
	}
	if !f.LiveAt.IsZero() {
		where, args = append(where, "g.revoked_at IS NULL AND g.expires_at > ?"), append(args, f.LiveAt.UnixMicro())
	}
	err := r.each(ctx, func(rows *sql.Rows) error {
		grants = append(grants, platform.Grant{})
		return scanGrant(rows, &grants[len(grants)-1])
	}, grantQuery+` WHERE `+strings.Join(where, " AND ")+` ORDER BY g.id LIMIT ?`, append(args, rowsOf(p))...)
	return grants, err
}

// RevokeGrant ends a grant, and deletes all tokens that hang from it. Whoever
// saves a token meanwhile either comes before, and the token is deleted, or
// finds its family gone.
func (t *tx) RevokeGrant(ctx context.Context, id string, at time.Time) error {
	return t.endGrant(ctx, id, at)
}

func (c *conn) endGrant(ctx context.Context, id string, at time.Time) error {
	n, err := c.exec(ctx, `UPDATE grants SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL`, micros(at), id)
	if err == nil && n == 0 {
		err = platform.ErrNotFound
	}
	if err != nil {
		return named(err, "live grant %q", id)
	}
	if err := c.lockFamilies(ctx, `grant_id = ?`, id); err != nil {
		return err
	}
	_, err = c.exec(ctx, `DELETE FROM oauth_families WHERE grant_id = ?`, id)
	return err
}

// Grant loads a grant by its ID, also one that has ended.
func (s *Store) Grant(ctx context.Context, id string) (g *platform.Grant, err error) {
	err = s.load(func(r *reader) error { g, err = r.Grant(ctx, id); return err })
	return g, err
}

// Grants lists grants by ID.
func (s *Store) Grants(ctx context.Context, f platform.GrantFilter, p platform.Page) (grants []platform.Grant, err error) {
	err = s.load(func(r *reader) error { grants, err = r.Grants(ctx, f, p); return err })
	return grants, err
}

// GrantOf finds the live grant of a user for an app and environment.
func (s *Store) GrantOf(ctx context.Context, user string, app uint64, env platform.Environment, now time.Time) (g *platform.Grant, err error) {
	err = s.load(func(r *reader) error {
		g, err = r.grant(ctx, liveGrant, user, int64(app), env, now.UnixMicro())
		return err
	})
	return g, err
}

// Authorize makes the user's live grant for the app, or widens and prolongs
// it, and saves the code. Where g.ID is set, that grant must be live and cover
// the scopes, and stays as it is. It sets code.Grant, code.Until, and of g what is
// in force then: ID, scopes, times. g.CreatedAt is the time of the authorization;
// zero is now.
func (s *Store) Authorize(ctx context.Context, g *platform.Grant, code *oauth.Code) error {
	granted := *code
	made, err := s.authorize(ctx, g, code.Family, func(ctx context.Context, c *conn, made *platform.Grant, _ time.Time) error {
		return c.insertCode(ctx, made.ID, &granted)
	})
	if err != nil {
		return fmt.Errorf("authorizing: %w", err)
	}
	*g, code.Grant, code.Until = *made, made.ID, made.ExpiresAt
	return nil
}

// authorize makes or widens the grant, opens a family that hangs from it, and
// runs save in the same transaction, with the time of the authorization.
func (s *Store) authorize(
	ctx context.Context, g *platform.Grant, family oauth.Family, save func(context.Context, *conn, *platform.Grant, time.Time) error,
) (*platform.Grant, error) {
	now := g.CreatedAt
	if now.IsZero() {
		now = s.now()
	}
	now = now.UTC().Truncate(time.Microsecond)
	fresh, err := platform.NewGrantID(s.rand)
	if err != nil {
		return nil, err
	}
	asked := *g
	var made platform.Grant
	err = s.issueAll(ctx, func(ctx context.Context, c *conn) error {
		made = asked
		made.ID, made.CreatedAt, made.RevokedAt = fresh, now, time.Time{}
		made.ExpiresAt = asked.ExpiresAt.UTC().Truncate(time.Microsecond)
		made.Scopes = slices.Compact(slices.Sorted(slices.Values(asked.Scopes)))
		settle := c.putGrant
		if asked.ID != "" {
			made.ID, settle = asked.ID, c.holdGrant
		}
		if err := settle(ctx, &made); err != nil {
			return err
		}
		if _, err := c.exec(ctx, insertFamily, family, made.ID); err != nil {
			return named(err, "family of an authorization")
		}
		return save(ctx, c, &made, now)
	})
	if err != nil {
		return nil, err
	}
	return &made, nil
}

const (
	insertFamily = `INSERT INTO oauth_families (id, grant_id) VALUES (?, ?)`
	prolongGrant = `UPDATE grants SET scopes = ?, expires_at = ? WHERE id = ?`
)

// findGrant finds the live grant, and keeps others from changing it.
func (e *engine) findGrant() string {
	return `SELECT id, scopes, created_at, expires_at FROM grants
		WHERE user_id = ? AND app = ? AND environment = ? AND revoked_at IS NULL` + e.lockRow
}

// holdGrant makes g the live grant as it is, and keeps others from changing it,
// if that has g's ID and covers its scopes; else it is ErrConflict.
func (c *conn) holdGrant(ctx context.Context, g *platform.Grant) error {
	var id string
	var scopes sql.NullString
	var created, expires sql.NullInt64
	err := c.one(ctx, []any{&id, &scopes, &created, &expires}, c.engine.findGrant(), g.User, int64(g.AppNumber), g.Environment)
	if err != nil && !errors.Is(err, platform.ErrNotFound) {
		return err
	}
	covered, err := parseList(scopes)
	if err != nil {
		return err
	}
	lacks := func(scope string) bool { return !slices.Contains(covered, scope) }
	if id != g.ID || !fromMicros(expires).After(g.CreatedAt) || slices.ContainsFunc(g.Scopes, lacks) {
		return fmt.Errorf("grant %q covers this no more: %w", g.ID, platform.ErrConflict)
	}
	g.Scopes, g.CreatedAt, g.ExpiresAt = covered, fromMicros(created), fromMicros(expires)
	return nil
}

// putGrant writes the grant, or makes it what the live one becomes by it.
func (c *conn) putGrant(ctx context.Context, g *platform.Grant) error {
	for range 3 {
		var id string
		var scopes sql.NullString
		var created, expires sql.NullInt64
		err := c.one(ctx, []any{&id, &scopes, &created, &expires}, c.engine.findGrant(), g.User, int64(g.AppNumber), g.Environment)
		switch {
		case err == nil && fromMicros(expires).After(g.CreatedAt):
			old, err := parseList(scopes)
			if err != nil {
				return err
			}
			g.ID, g.CreatedAt = id, fromMicros(created)
			g.Scopes = slices.Compact(slices.Sorted(slices.Values(append(old, g.Scopes...))))
			if end := fromMicros(expires); end.After(g.ExpiresAt) {
				g.ExpiresAt = end
			}
			_, err = c.exec(ctx, prolongGrant, listText(g.Scopes), micros(g.ExpiresAt), id)
			return err
		case err == nil: // it has ended: nothing of it comes to life again
			if err := c.endGrant(ctx, id, fromMicros(expires)); err != nil {
				return err
			}
		case !errors.Is(err, platform.ErrNotFound):
			return err
		}
		n, err := c.exec(ctx, `INSERT INTO grants (id, user_id, app, environment, scopes, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (user_id, app, environment) WHERE revoked_at IS NULL DO NOTHING`,
			g.ID, g.User, int64(g.AppNumber), g.Environment, listText(g.Scopes), micros(g.CreatedAt), micros(g.ExpiresAt))
		if err != nil || n == 1 {
			return named(err, "grant of user %q for app %d", g.User, g.AppNumber)
		}
	}
	return fmt.Errorf("grant of user %q: %w", g.User, platform.ErrConflict)
}
