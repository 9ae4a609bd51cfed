package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"
)

// pruneFamilies is how many families one statement looks at.
const pruneFamilies = 100

// Prune deletes codes, devices, tokens and grants that ended before, in batches, and
// returns how many. A family goes with the last of its tokens, or with its code
// or device where that never gave any.
func (s *Store) Prune(ctx context.Context, before time.Time) (int, error) {
	total := 0
	for _, statement := range []string{
		`DELETE FROM oauth_codes WHERE hash IN (SELECT hash FROM oauth_codes WHERE expires_at < ? ORDER BY expires_at LIMIT ?) RETURNING family`,
		`DELETE FROM oauth_tokens WHERE hash IN (SELECT hash FROM oauth_tokens WHERE expires_at < ? ORDER BY expires_at LIMIT ?) RETURNING family`,
		`DELETE FROM oauth_devices WHERE hash IN (SELECT hash FROM oauth_devices WHERE expires_at < ? ORDER BY expires_at LIMIT ?)
			RETURNING coalesce(family, '')`,
		`DELETE FROM grants WHERE id IN (SELECT id FROM grants WHERE coalesce(revoked_at, expires_at) < ?
			ORDER BY coalesce(revoked_at, expires_at) LIMIT ?) RETURNING ''`,
	} {
		for n := pruneBatch; n == pruneBatch; total += n {
			err := s.transaction(ctx, s.issuing(), nil, func(c *conn) (err error) {
				n, err = c.pruneEnded(ctx, statement, before)
				return err
			})
			if err != nil {
				return total, fmt.Errorf("deleting what has ended of OAuth: %w", err)
			}
		}
	}
	return total, nil
}

// pruneEnded deletes one batch, and the families that nothing is left of.
func (c *conn) pruneEnded(ctx context.Context, statement string, before time.Time) (n int, err error) {
	var families []string
	err = c.each(ctx, func(rows *sql.Rows) error {
		var family string
		err := rows.Scan(&family)
		families = append(families, family)
		return err
	}, statement, before.UnixMicro(), pruneBatch)
	if err != nil {
		return 0, err
	}
	n = len(families)
	slices.Sort(families)
	families = slices.DeleteFunc(slices.Compact(families), func(s string) bool { return s == "" })
	for some := range slices.Chunk(families, pruneFamilies) {
		args := make([]any, pruneFamilies)
		for i := range args {
			args[i] = some[min(i, len(some)-1)]
		}
		_, err := c.exec(ctx, `DELETE FROM oauth_families WHERE id IN (?`+strings.Repeat(", ?", pruneFamilies-1)+`)
			AND NOT EXISTS (SELECT 1 FROM oauth_tokens WHERE family = oauth_families.id)`, args...)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
