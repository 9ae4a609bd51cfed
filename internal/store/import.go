package store

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"strings"

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
	batch := make([]platform.App, 0, importBatch)
	for {
		batch = batch[:0]
		for len(batch) < importBatch {
			a, ok := next()
			if !ok {
				break
			}
			batch = append(batch, a)
		}
		if len(batch) == 0 {
			return done, nil
		}
		err := s.update(ctx, map[string]*sql.Stmt{}, func(t *tx) error { return t.insertApps(ctx, batch) })
		if err != nil {
			return done, err
		}
		done += len(batch)
	}
}

// insertApps writes new apps, table by table.
func (t *tx) insertApps(ctx context.Context, apps []platform.App) error {
	last, err := t.counter(ctx, "apps")
	if err != nil {
		return err
	}
	rows := map[string][][]any{}
	add := func(table string, row ...any) { rows[table] = append(rows[table], row) }
	for i := range apps {
		a := &apps[i]
		number := int64(a.Number)
		if number == 0 {
			number = last + 1
		}
		last = max(last, number)
		oauth, err := oauthText(a.OAuth)
		if err != nil {
			return err
		}
		add("apps", number, a.ID, a.Key, a.Name, string(a.Kind), string(a.Mode), string(a.Status), orNull(a.Plan), micros(a.CreatedAt), micros(a.UpdatedAt), oauth)
		for i, rule := range a.IPs {
			add("app_ips", number, int64(i), prefixText(rule), orNull(rule.Group), rule.Note)
		}
		for i := range a.Credentials {
			row, err := t.credentialRow(a, number, &a.Credentials[i])
			if err != nil {
				return err
			}
			add("app_credentials", row...)
		}
		for _, g := range a.Dialects {
			add("app_dialects", number, g.Dialect, g.Method)
		}
		for _, g := range a.Packages {
			add("app_packages", number, g.Package, micros(g.From), micros(g.Until))
		}
	}
	for _, table := range []struct{ name, columns string }{
		{"apps", appColumns},
		{"app_ips", appIPColumns},
		{"app_credentials", credentialColumns},
		{"app_dialects", appDialectColumns},
		{"app_packages", appPackageColumns},
	} {
		if err := t.insertRows(ctx, table.name, strings.Split(table.columns, ", "), rows[table.name]); err != nil {
			return fmt.Errorf("importing %s: %w", table.name, err)
		}
	}
	return t.setCounter(ctx, "apps", last)
}
