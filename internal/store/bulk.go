package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// insertRows writes many rows: by COPY on PostgreSQL, where every statement is
// a round trip, and one by one on SQLite, where none is.
func (t *tx) insertRows(ctx context.Context, table string, columns []string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	if t.store.pool == nil {
		query := `INSERT INTO ` + table + ` (` + strings.Join(columns, ", ") + `) VALUES (?` + strings.Repeat(", ?", len(columns)-1) + `)`
		for _, row := range rows {
			if _, err := t.exec(ctx, query, row...); err != nil {
				return err
			}
		}
		return nil
	}
	var n int64
	err := t.session.Raw(func(driver any) (err error) {
		n, err = driver.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
		return err
	})
	if err == nil && n != int64(len(rows)) {
		err = fmt.Errorf("%d of %d rows arrived", n, len(rows))
	}
	if err != nil {
		return t.engine.domainError(ctx, err)
	}
	return nil
}
