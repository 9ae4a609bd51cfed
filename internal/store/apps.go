package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const appColumns = `number, id, app_key, name, kind, mode, status, plan, created_at, updated_at, oauth`

func scanApp(rows *sql.Rows, a *platform.App) error {
	var created, updated sql.NullInt64
	var plan, oauth sql.NullString
	err := rows.Scan(&a.Number, &a.ID, &a.Key, &a.Name, &a.Kind, &a.Mode, &a.Status, &plan, &created, &updated, &oauth)
	if err != nil {
		return err
	}
	a.Plan, a.CreatedAt, a.UpdatedAt = plan.String, fromMicros(created), fromMicros(updated)
	a.OAuth, err = parseOAuth(oauth)
	return err
}

// oauthText is an app's OAuth settings as JSON; NULL where there are none.
func oauthText(o platform.OAuthSettings) (sql.NullString, error) {
	if o.IsZero() {
		return sql.NullString{}, nil
	}
	text, err := json.Marshal(o)
	if err != nil {
		return sql.NullString{}, fmt.Errorf("writing OAuth settings: %w", err)
	}
	return orNull(string(text)), nil
}

// parseOAuth is the opposite of oauthText.
func parseOAuth(text sql.NullString) (o platform.OAuthSettings, err error) {
	if !text.Valid {
		return o, nil
	}
	if err := json.Unmarshal([]byte(text.String), &o); err != nil {
		return o, fmt.Errorf("reading OAuth settings: %w", err)
	}
	return o, nil
}

func (r *reader) Apps(ctx context.Context, f platform.AppFilter, p platform.Page) ([]platform.App, error) {
	if !storable(p.After + f.Text) {
		return []platform.App{}, nil
	}
	where, args := []string{"id > ?"}, []any{p.After}
	if f.Status != "" {
		where, args = append(where, "status = ?"), append(args, f.Status)
	}
	if f.Kind != "" {
		where, args = append(where, "kind = ?"), append(args, f.Kind)
	}
	if f.Text != "" {
		where = append(where, `(id = ? OR app_key = ? OR lower(name) LIKE ? ESCAPE '\')`)
		args = append(args, f.Text, f.Text, containing(f.Text))
	}
	for _, has := range []struct{ name, clause string }{
		{f.Package, `number IN (SELECT app FROM app_packages WHERE package = ?)`},
		{f.Plan, `plan = ?`},
		{f.IPGroup, `number IN (SELECT app FROM app_ips WHERE group_name = ?)`},
	} {
		if has.name != "" {
			where, args = append(where, has.clause), append(args, has.name)
		}
	}
	args = append(args, rowsOf(p))
	apps := []platform.App{}
	err := r.each(ctx, func(rows *sql.Rows) error {
		apps = append(apps, platform.App{})
		return scanApp(rows, &apps[len(apps)-1])
	}, `SELECT `+appColumns+` FROM apps WHERE `+strings.Join(where, " AND ")+` ORDER BY id LIMIT ?`, args...)
	if err != nil {
		return nil, err
	}
	return apps, r.loadAccess(ctx, apps)
}

// containing is the pattern of LIKE for texts that have s in them.
func containing(s string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(s)) + "%"
}

// rowsOf is how many rows the page has at most.
func rowsOf(p platform.Page) int {
	if p.Limit <= 0 {
		return 100
	}
	return min(p.Limit, 1000)
}

func (r *reader) CountApps(ctx context.Context) (n int, err error) {
	err = r.one(ctx, []any{&n}, `SELECT count(*) FROM apps`)
	return n, err
}

// loadAccess fills in whitelists, dialects and packages.
func (r *reader) loadAccess(ctx context.Context, apps []platform.App) error {
	if len(apps) == 0 {
		return nil
	}
	byNumber, numbers := make(map[uint64]*platform.App, len(apps)), make([]any, 0, 2*len(apps))
	for i := range apps {
		byNumber[apps[i].Number], numbers = &apps[i], append(numbers, apps[i].Number)
	}
	// Some of them again, up to a power of two: few statements to keep prepared.
	for len(numbers)&(len(numbers)-1) != 0 {
		numbers = append(numbers, numbers[0])
	}
	in := ` WHERE app IN (?` + strings.Repeat(",?", len(numbers)-1) + `) ORDER BY app, `
	var app uint64
	err := r.each(ctx, func(rows *sql.Rows) error {
		var rule platform.IPRule
		var prefix string
		var group sql.NullString
		if err := rows.Scan(&app, &prefix, &group, &rule.Note); err != nil {
			return err
		}
		rule.Group = group.String
		if err := parsePrefix(&rule, prefix); err != nil {
			return err
		}
		byNumber[app].IPs = append(byNumber[app].IPs, rule)
		return nil
	}, `SELECT app, prefix, group_name, note FROM app_ips`+in+`position`, numbers...)
	if err != nil {
		return err
	}
	err = r.each(ctx, func(rows *sql.Rows) error {
		var g platform.DialectGrant
		err := rows.Scan(&app, &g.Dialect, &g.Method)
		byNumber[app].Dialects = append(byNumber[app].Dialects, g)
		return err
	}, `SELECT app, dialect, method FROM app_dialects`+in+`dialect`, numbers...)
	if err != nil {
		return err
	}
	return r.each(ctx, func(rows *sql.Rows) error {
		var g platform.PackageGrant
		var from, until sql.NullInt64
		err := rows.Scan(&app, &g.Package, &from, &until)
		g.From, g.Until = fromMicros(from), fromMicros(until)
		byNumber[app].Packages = append(byNumber[app].Packages, g)
		return err
	}, `SELECT app, package, valid_from, valid_until FROM app_packages`+in+`package`, numbers...)
}

// parsePrefix fills in a rule's network; a rule of a group has none.
func parsePrefix(rule *platform.IPRule, s string) (err error) {
	if s == "" {
		return nil
	}
	if rule.Prefix, err = netip.ParsePrefix(s); err != nil {
		return fmt.Errorf("reading an IP rule: %w", err)
	}
	return nil
}

// prefixText is the opposite of parsePrefix.
func prefixText(rule platform.IPRule) string {
	if !rule.Prefix.IsValid() {
		return ""
	}
	return rule.Prefix.String()
}

// credentialPlace binds a sealed secret to its row.
func credentialPlace(appID string, number int) []byte {
	return fmt.Appendf(nil, "credential\x00%s\x00%d", appID, number)
}

// PutApp writes the app and all that hangs from it. Number 0 makes a new app
// and is set; any other must exist with the same ID. Dialects and packages are
// read back by name, credentials by number.
func (t *tx) PutApp(ctx context.Context, a *platform.App) error {
	if a.Number == 0 {
		number, err := t.insertApp(ctx, a)
		if err != nil {
			return err
		}
		a.Number = number
		return nil
	}
	oauth, err := oauthText(a.OAuth)
	if err != nil {
		return err
	}
	n, err := t.exec(ctx, `UPDATE apps SET app_key = ?, name = ?, kind = ?, mode = ?, status = ?, plan = ?, created_at = ?, updated_at = ?, oauth = ?
		WHERE number = ? AND id = ?`,
		a.Key, a.Name, a.Kind, a.Mode, a.Status, orNull(a.Plan), micros(a.CreatedAt), micros(a.UpdatedAt), oauth, a.Number, a.ID)
	if err == nil && n == 0 {
		err = platform.ErrNotFound
	}
	if err != nil {
		return named(err, "app %q", a.ID)
	}
	for _, table := range []string{"app_ips", "app_credentials", "app_dialects", "app_packages"} {
		if _, err := t.exec(ctx, `DELETE FROM `+table+` WHERE app = ?`, a.Number); err != nil {
			return err
		}
	}
	return t.insertParts(ctx, a, a.Number)
}

// insertApp writes a new app and returns its number.
func (t *tx) insertApp(ctx context.Context, a *platform.App) (number uint64, err error) {
	oauth, err := oauthText(a.OAuth)
	if err != nil {
		return 0, err
	}
	err = t.one(ctx, []any{&number}, `INSERT INTO apps (id, app_key, name, kind, mode, status, plan, created_at, updated_at, oauth)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number`,
		a.ID, a.Key, a.Name, a.Kind, a.Mode, a.Status, orNull(a.Plan), micros(a.CreatedAt), micros(a.UpdatedAt), oauth)
	if err != nil {
		return 0, named(err, "app %q", a.ID)
	}
	return number, t.insertParts(ctx, a, number)
}

// The columns of an app's parts.
const (
	appIPColumns      = `app, position, prefix, group_name, note`
	appDialectColumns = `app, dialect, method`
	appPackageColumns = `app, package, valid_from, valid_until`
	credentialColumns = `app, number, environment, kind, dialect, secret, key_id, public_key, created_at, expires_at` //nolint:gosec // G101: names alone
)

func (t *tx) insertParts(ctx context.Context, a *platform.App, number uint64) error {
	for i, rule := range a.IPs {
		_, err := t.exec(ctx, `INSERT INTO app_ips (`+appIPColumns+`) VALUES (?, ?, ?, ?, ?)`,
			number, i, prefixText(rule), orNull(rule.Group), rule.Note)
		if err != nil {
			return named(err, "ip rule %d of app %q", i+1, a.ID)
		}
	}
	for i := range a.Credentials {
		row, err := t.credentialRow(a, int64(number), &a.Credentials[i])
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, `INSERT INTO app_credentials (`+credentialColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, row...); err != nil {
			return named(err, "credential %d of app %q", a.Credentials[i].Number, a.ID)
		}
	}
	for _, g := range a.Dialects {
		_, err := t.exec(ctx, `INSERT INTO app_dialects (`+appDialectColumns+`) VALUES (?, ?, ?)`, number, g.Dialect, g.Method)
		if err != nil {
			return named(err, "dialect %q of app %q", g.Dialect, a.ID)
		}
	}
	for _, g := range a.Packages {
		_, err := t.exec(ctx, `INSERT INTO app_packages (`+appPackageColumns+`) VALUES (?, ?, ?, ?)`,
			number, g.Package, micros(g.From), micros(g.Until))
		if err != nil {
			return named(err, "package %q of app %q", g.Package, a.ID)
		}
	}
	return nil
}

// credentialRow is the row of a credential, with its secret encrypted.
func (t *tx) credentialRow(a *platform.App, app int64, c *platform.Credential) ([]any, error) {
	var sealed []byte
	var keyID string
	if !c.Secret.IsZero() {
		var err error
		if keyID, sealed, err = t.keys.Load().Seal(t.store.rand, c.Secret.Reveal(), credentialPlace(a.ID, c.Number)); err != nil {
			return nil, err
		}
	}
	return []any{
		app, int64(c.Number), string(c.Environment), string(c.Kind), c.Dialect, sealed, orNull(keyID), c.PublicKeyPEM,
		micros(c.CreatedAt), micros(c.ExpiresAt),
	}, nil
}

// DeleteApp removes the app and everything that hangs from it.
func (t *tx) DeleteApp(ctx context.Context, id string) error {
	return t.delete(ctx, "app", `DELETE FROM apps WHERE id = ?`, id)
}

// delete runs a statement that must remove a row.
func (t *tx) delete(ctx context.Context, kind, query string, args ...any) error {
	n, err := t.exec(ctx, query, args...)
	if err == nil && n == 0 {
		err = platform.ErrNotFound
	}
	return named(err, "%s %q", kind, args)
}
