package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// keepRefresh is how many refresh tokens of a grant are kept: the newest of those
// that can be used, and as many of those that were replaced, by which a replay is
// seen. An app that has a fresh one every day for half a year loses none.
const keepRefresh = 200

// Prune deletes codes, devices, tokens and grants that ended before, and the
// oldest refresh tokens of grants that have too many, in batches, and returns how
// many. A family goes with the last of its tokens, or with its code or device
// where that never gave any.
func (s *Store) Prune(ctx context.Context, before time.Time) (int, error) {
	total := 0
	older := func(statement string) func(*conn) (int, error) {
		return func(c *conn) (int, error) { return c.pruneTokens(ctx, statement, before.UnixMicro(), pruneBatch) }
	}
	for _, prune := range []func(*conn) (int, error){
		older(`DELETE FROM oauth_codes WHERE hash IN (SELECT hash FROM oauth_codes WHERE expires_at < ? ORDER BY expires_at LIMIT ?) RETURNING family`),
		func(c *conn) (int, error) { return c.pruneExpired(ctx, before) },
		older(`DELETE FROM oauth_devices WHERE hash IN (SELECT hash FROM oauth_devices WHERE expires_at < ? ORDER BY expires_at LIMIT ?)
			RETURNING coalesce(family, '')`),
		older(`DELETE FROM grants WHERE id IN (SELECT id FROM grants WHERE coalesce(revoked_at, expires_at) < ?
			ORDER BY coalesce(revoked_at, expires_at) LIMIT ?) RETURNING ''`),
	} {
		for n := pruneBatch; n == pruneBatch; total += n {
			err := s.transaction(ctx, s.issuing(), nil, func(c *conn) (err error) {
				n, err = prune(c)
				return err
			})
			if err != nil {
				return total, fmt.Errorf("deleting what has ended of OAuth: %w", err)
			}
		}
	}
	n, err := s.pruneRefresh(ctx)
	if err != nil {
		err = fmt.Errorf("deleting the oldest refresh tokens: %w", err)
	}
	return total + n, err
}

// pruneExpired deletes the oldest expired tokens. Their families are taken hold of
// before, and named: others may have come up meanwhile.
func (c *conn) pruneExpired(ctx context.Context, before time.Time) (int, error) {
	oldest := []any{before.UnixMicro(), pruneBatch}
	families := []string{}
	err := c.each(ctx, func(rows *sql.Rows) error {
		var family string
		err := rows.Scan(&family)
		families = append(families, family)
		return err
	}, `SELECT family FROM oauth_tokens WHERE expires_at < ? ORDER BY expires_at LIMIT ?`, oldest...)
	if err != nil {
		return 0, err
	}
	list, _ := json.Marshal(families) // strings cannot fail
	if err := c.lockFamilies(ctx, `id`+c.engine.among, string(list)); err != nil {
		return 0, err
	}
	return c.pruneTokens(ctx, `DELETE FROM oauth_tokens WHERE hash IN (SELECT hash FROM oauth_tokens WHERE expires_at < ? ORDER BY expires_at LIMIT ?)
		AND family`+c.engine.among+` RETURNING family`, append(oldest, string(list))...)
}

// crowdedGrants are those with too many refresh tokens, some at a time.
const crowdedGrants = `SELECT grant_id FROM oauth_tokens WHERE kind = 2 AND grant_id > ? GROUP BY grant_id HAVING count(*) > ? ORDER BY grant_id LIMIT ?`

// pruneRefresh leaves each grant its newest refresh tokens.
func (s *Store) pruneRefresh(ctx context.Context) (total int, err error) {
	for grants := []string{""}; len(grants) > 0; {
		after := grants[len(grants)-1]
		grants = grants[:0]
		err := s.load(func(r *reader) error {
			return r.each(ctx, func(rows *sql.Rows) error {
				var grant string
				err := rows.Scan(&grant)
				grants = append(grants, grant)
				return err
			}, crowdedGrants, after, keepRefresh, pruneBatch)
		})
		if err != nil {
			return total, err
		}
		for _, grant := range grants {
			n, err := s.pruneRefreshOf(ctx, grant)
			total += n
			if err != nil {
				return total, err
			}
		}
	}
	return total, nil
}

// pruneRefreshOf does so for one grant.
func (s *Store) pruneRefreshOf(ctx context.Context, grant string) (total int, err error) {
	for _, state := range []string{`replaced_at IS NULL`, `replaced_at IS NOT NULL`} {
		statement := `DELETE FROM oauth_tokens WHERE hash IN (SELECT hash FROM oauth_tokens WHERE grant_id = ? AND kind = 2 AND ` + state + `
			ORDER BY issued_at DESC, hash LIMIT ? OFFSET ?) RETURNING family`
		for n := pruneBatch; n == pruneBatch; total += n {
			err := s.transaction(ctx, s.issuing(), nil, func(c *conn) (err error) {
				if err := c.lockFamilies(ctx, `grant_id = ?`, grant); err != nil {
					return err
				}
				n, err = c.pruneTokens(ctx, statement, grant, pruneBatch, keepRefresh)
				return err
			})
			if err != nil {
				return total, err
			}
		}
	}
	return total, nil
}

// pruneTokens deletes one batch, and the families that nothing is left of.
func (c *conn) pruneTokens(ctx context.Context, statement string, args ...any) (n int, err error) {
	var families []string
	err = c.each(ctx, func(rows *sql.Rows) error {
		var family string
		err := rows.Scan(&family)
		families = append(families, family)
		return err
	}, statement, args...)
	if err != nil {
		return 0, err
	}
	n = len(families)
	families = slices.DeleteFunc(families, func(s string) bool { return s == "" })
	if len(families) == 0 {
		return n, nil
	}
	list, _ := json.Marshal(families) // strings cannot fail
	if err := c.lockFamilies(ctx, `id`+c.engine.among, string(list)); err != nil {
		return n, err
	}
	_, err = c.exec(ctx, `DELETE FROM oauth_families WHERE id`+c.engine.among+`
		AND NOT EXISTS (SELECT 1 FROM oauth_tokens WHERE family = oauth_families.id)`, string(list))
	return n, err
}
