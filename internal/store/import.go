package store

import (
	"context"
	"database/sql"
	"iter"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// importBatch is how many apps are written in one transaction.
const importBatch = 1000

// ImportApps writes new apps in bulk and returns how many were committed. An
// app keeps the number that it brings along; with 0 it gets the next one.
// Nothing is checked and nothing goes to the audit log: the apps come from
// another store. A taken ID, appKey or number is ErrConflict and ends the
// import; the batches before stay.
func (s *Store) ImportApps(ctx context.Context, apps iter.Seq[platform.App]) (int, error) {
	next, stop := iter.Pull(apps)
	defer stop()
	done := 0
	for {
		n := 0
		err := s.update(ctx, map[string]*sql.Stmt{}, func(t *tx) error {
			for n < importBatch {
				a, ok := next()
				if !ok {
					return nil
				}
				if _, err := t.insertApp(ctx, &a); err != nil {
					return err
				}
				n++
			}
			return nil
		})
		if err != nil {
			return done, err
		}
		done += n
		if n < importBatch {
			return done, nil
		}
	}
}
