package store

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/limit"
)

const (
	// quotaBatch is how many counts are written in one transaction, so that
	// other writers get their turn, and quotaRows how many by one statement.
	quotaBatch = 500
	quotaRows  = 50
)

// saveQuotas are statements for quotaRows counts and for one.
var saveQuotas, saveQuota = saveQuotasOf(quotaRows), saveQuotasOf(1)

func saveQuotasOf(n int) string {
	return `INSERT INTO quota_counts (scope, app, sub, unit, window_start, used) VALUES (?, ?, ?, ?, ?, ?)` + strings.Repeat(`, (?, ?, ?, ?, ?, ?)`, n-1) + `
		ON CONFLICT (scope, app, sub, unit, window_start) DO UPDATE SET used = excluded.used WHERE excluded.used > quota_counts.used`
}

// SaveQuotas keeps the counts over a restart; each window of a key is there at
// most once. Of a count that is there already the greater one stays: several nodes
// may save theirs. Counts of windows before the ones given are dropped; others stay
// as they are.
func (s *Store) SaveQuotas(ctx context.Context, counts []limit.QuotaCount) error {
	oldest := map[limit.Unit]int64{}
	for _, q := range counts {
		if start, ok := oldest[q.Unit]; !ok || q.Start < start {
			oldest[q.Unit] = q.Start
		}
	}
	// In one order, so that no two nodes wait for each other.
	counts = slices.SortedFunc(slices.Values(counts), func(a, b limit.QuotaCount) int {
		return cmp.Or(cmp.Compare(a.Key.Scope, b.Key.Scope), cmp.Compare(a.Key.App, b.Key.App), cmp.Compare(a.Key.Sub, b.Key.Sub), cmp.Compare(a.Unit, b.Unit))
	})
	for batch := range slices.Chunk(counts, quotaBatch) {
		err := s.update(ctx, map[string]*sql.Stmt{}, func(t *tx) error {
			for rows := range slices.Chunk(batch, quotaRows) {
				if err := t.saveQuotas(ctx, rows); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(oldest) == 0 {
		return nil
	}
	return s.update(ctx, nil, func(t *tx) error {
		for unit, start := range oldest {
			if _, err := t.exec(ctx, `DELETE FROM quota_counts WHERE unit = ? AND window_start < ?`, unit, start); err != nil {
				return err
			}
		}
		return nil
	})
}

// saveQuotas writes up to quotaRows counts: all by one statement, or each by one.
func (t *tx) saveQuotas(ctx context.Context, rows []limit.QuotaCount) error {
	args := make([]any, 0, 6*len(rows))
	for _, q := range rows {
		args = append(args, q.Key.Scope, int64(q.Key.App), int64(q.Key.Sub), q.Unit, q.Start, q.Used)
	}
	if len(rows) == quotaRows {
		_, err := t.exec(ctx, saveQuotas, args...)
		return err
	}
	for one := range slices.Chunk(args, 6) {
		if _, err := t.exec(ctx, saveQuota, one...); err != nil {
			return err
		}
	}
	return nil
}

// LoadQuotas returns the counts that were saved.
func (s *Store) LoadQuotas(ctx context.Context) (counts []limit.QuotaCount, err error) {
	err = s.load(func(r *reader) error {
		return r.each(ctx, func(rows *sql.Rows) error {
			var q limit.QuotaCount
			var app, sub int64
			err := rows.Scan(&q.Key.Scope, &app, &sub, &q.Unit, &q.Start, &q.Used)
			q.Key.App, q.Key.Sub = uint64(app), uint64(sub)
			counts = append(counts, q)
			return err
		}, `SELECT scope, app, sub, unit, window_start, used FROM quota_counts`)
	})
	return counts, err
}
