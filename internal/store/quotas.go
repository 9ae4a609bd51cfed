package store

import (
	"context"
	"database/sql"
	"slices"

	"github.com/caddy-openplatform/openplatform/internal/limit"
)

// quotaBatch is how many counts are written in one transaction, so that other
// writers get their turn.
const quotaBatch = 500

// SaveQuotas keeps the counts over a restart. Of a count that is there already
// the greater one stays: several nodes may save theirs. Counts of windows
// before the ones given are dropped; others stay as they are.
func (s *Store) SaveQuotas(ctx context.Context, counts []limit.QuotaCount) error {
	oldest := map[limit.Unit]int64{}
	for batch := range slices.Chunk(counts, quotaBatch) {
		err := s.update(ctx, map[string]*sql.Stmt{}, func(t *tx) error {
			for _, q := range batch {
				if start, ok := oldest[q.Unit]; !ok || q.Start < start {
					oldest[q.Unit] = q.Start
				}
				_, err := t.exec(ctx, `INSERT INTO quota_counts (scope, app, sub, unit, window_start, used) VALUES (?, ?, ?, ?, ?, ?)
					ON CONFLICT (scope, app, sub, unit, window_start) DO UPDATE SET used = excluded.used WHERE excluded.used > quota_counts.used`,
					q.Key.Scope, int64(q.Key.App), int64(q.Key.Sub), q.Unit, q.Start, q.Used)
				if err != nil {
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
