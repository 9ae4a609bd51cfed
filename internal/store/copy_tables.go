package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// columnKind is what a column holds, whatever the engine calls it.
type columnKind uint8

const (
	integer columnKind = iota
	text
	blob
	boolean
)

type column struct {
	name string
	kind columnKind
}

// copyTable is a table as Copy reads and writes it.
type copyTable struct {
	name string
	// key is how many of the columns name a row.
	key     int
	columns []column
	// from is what to read from; empty is the table itself.
	from string
	// sealed is where its secret is; nil where it has none.
	sealed *sealedColumns
}

// sealedColumns are the columns of an encrypted secret, by their index. The
// last column is the app's ID, which is not of the table.
type sealedColumns struct {
	secret, keyID int
	// place is what the secret is bound to: the app and its second column.
	place func(appID string, number int) []byte
}

// placeOf is what the secret of a row is bound to.
func (s *sealedColumns) placeOf(row []any) []byte {
	return s.place(row[len(row)-1].(string), int(row[1].(int64)))
}

// copyTables are all tables with something to keep, each after those that it
// refers to. Not among them: the master keys, which are each store's own, and
// the log of changes, which is for caches of the store's own nodes.
var copyTables = slices.Concat(domainTables, pushTables)

var domainTables = []copyTable{
	{name: "packages", key: 1, columns: []column{{"name", text}, {"title", text}, {"description", text}, {"source", text}}},
	{name: "plans", key: 1, columns: []column{{"name", text}, {"title", text}}},
	{name: "ip_groups", key: 1, columns: []column{{"name", text}}},
	{name: "ip_group_rules", key: 2, columns: []column{{"group_name", text}, {"position", integer}, {"prefix", text}, {"note", text}}},
	{name: "apps", key: 1, columns: []column{
		{"number", integer},
		{"id", text},
		{"app_key", text},
		{"name", text},
		{"kind", text},
		{"mode", text},
		{"status", text},
		{"plan", text},
		{"created_at", integer},
		{"updated_at", integer},
		{"oauth", text},
	}},
	{name: "app_ips", key: 2, columns: []column{{"app", integer}, {"position", integer}, {"prefix", text}, {"group_name", text}, {"note", text}}},
	{
		name: "app_credentials", key: 2, columns: []column{
			{"app", integer},
			{"number", integer},
			{"environment", text},
			{"kind", text},
			{"dialect", text},
			{"secret", blob},
			{"key_id", text},
			{"public_key", text},
			{"created_at", integer},
			{"expires_at", integer},
			{"app_id", text},
		}, from: `(SELECT c.*, a.id AS app_id FROM app_credentials c JOIN apps a ON a.number = c.app) AS credentials`,
		sealed: &sealedColumns{5, 6, credentialPlace},
	},
	{name: "app_dialects", key: 2, columns: []column{{"app", integer}, {"dialect", text}, {"method", text}}},
	{name: "app_packages", key: 2, columns: []column{{"app", integer}, {"package", text}, {"valid_from", integer}, {"valid_until", integer}}},
	{name: "apis", key: 2, columns: []column{
		{"name", text},
		{"version", text},
		{"title", text},
		{"method", text},
		{"path", text},
		{"provider", text},
		{"package", text},
		{"user_token", boolean},
		{"status", text},
		{"deprecated_at", integer},
		{"sunset", integer},
		{"upstream", text},
		{"example_status", integer},
		{"example_type", text},
		{"example_body", blob},
		{"spec", text},
		{"source", text},
	}},
	{name: "limits", key: 3, columns: []column{
		{"scope", text},
		{"owner", text},
		{"api", text},
		{"rate_requests", integer},
		{"rate_period", integer},
		{"rate_burst", integer},
		{"quota_day", integer},
		{"quota_month", integer},
	}},
	{name: "users", key: 1, columns: []column{
		{"id", text},
		{"login", text},
		{"name", text},
		{"status", text},
		{"issuer", text},
		{"subject", text},
		{"password", text},
		{"created_at", integer},
		{"updated_at", integer},
	}},
	{name: "grants", key: 1, columns: []column{
		{"id", text},
		{"user_id", text},
		{"app", integer},
		{"environment", text},
		{"scopes", text},
		{"created_at", integer},
		{"expires_at", integer},
		{"revoked_at", integer},
	}},
	{name: "oauth_families", key: 2, columns: []column{{"id", text}, {"grant_id", text}}},
	{name: "oauth_codes", key: 1, columns: []column{
		{"hash", blob},
		{"family", text},
		{"grant_id", text},
		{"app", integer},
		{"environment", text},
		{"user_id", text},
		{"redirect_uri", text},
		{"redirect_given", boolean},
		{"challenge", text},
		{"scopes", text},
		{"resources", text},
		{"dpop_key", text},
		{"issued_at", integer},
		{"expires_at", integer},
		{"redeemed_at", integer},
	}},
	{name: "oauth_devices", key: 1, columns: []column{
		{"hash", blob},
		{"user_code", blob},
		{"app", integer},
		{"environment", text},
		{"scopes", text},
		{"resources", text},
		{"dpop_key", text},
		{"state", text},
		{"user_id", text},
		{"grant_id", text},
		{"family", text},
		{"poll_interval", integer},
		{"polled_at", integer},
		{"hasty", boolean},
		{"issued_at", integer},
		{"expires_at", integer},
		{"redeemed_at", integer},
	}},
	{name: "oauth_tokens", key: 1, columns: []column{
		{"hash", blob},
		{"family", text},
		{"grant_id", text},
		{"kind", integer},
		{"app", integer},
		{"environment", text},
		{"user_id", text},
		{"scopes", text},
		{"resources", text},
		{"dpop_key", text},
		{"issued_at", integer},
		{"expires_at", integer},
		{"replaced_at", integer},
	}},
	{name: "catalog_digests", key: 1, columns: []column{{"source", text}, {"digest", text}}},
	{name: "audit", key: 1, columns: []column{
		{"id", integer}, {"at", integer}, {"actor", text}, {"action", text}, {"target", text}, {"before_json", text}, {"after_json", text},
	}},
	{name: "quota_counts", key: 5, columns: []column{
		{"scope", integer}, {"app", integer}, {"sub", integer}, {"unit", integer}, {"window_start", integer}, {"used", integer},
	}},
}

// counters are the tables whose rows are numbered upwards, without a number
// that was given once being given again.
var counters = []string{"apps", "audit", "subscriptions", "push_deliveries"}

func (c copyTable) names() []string {
	names := make([]string, len(c.columns))
	for i := range c.columns {
		names[i] = c.columns[i].name
	}
	return names
}

// readRows gives each row of the table to fn, in the order of its key: nil,
// int64, string, []byte or bool for each column. Secrets are decrypted, and
// without the name of their key, which is the store's own.
func (r *reader) readRows(ctx context.Context, table copyTable, fn func([]any) error) error {
	from := table.from
	if from == "" {
		from = table.name
	}
	names := table.names()
	return r.each(ctx, func(rows *sql.Rows) error {
		row, err := table.scan(rows)
		if err != nil {
			return fmt.Errorf("reading %s: %w", table.name, err)
		}
		if sealed := table.sealed; sealed != nil && row[sealed.keyID] != nil {
			secret, err := r.keys.Load().Open(row[sealed.keyID].(string), row[sealed.secret].([]byte), sealed.placeOf(row))
			if err != nil {
				return fmt.Errorf("%s %v of app %v: %w", strings.TrimSuffix(strings.TrimPrefix(table.name, "app_"), "s"), row[1], row[len(row)-1], err)
			}
			row[sealed.secret], row[sealed.keyID] = secret, nil
		}
		return fn(row)
	}, `SELECT `+strings.Join(names, ", ")+` FROM `+from+` ORDER BY `+strings.Join(names[:table.key], ", "))
}

// scan reads a row into values that are the same for both engines.
func (c copyTable) scan(rows *sql.Rows) ([]any, error) {
	dest, row := make([]any, len(c.columns)), make([]any, len(c.columns))
	for i := range c.columns {
		switch c.columns[i].kind {
		case integer:
			dest[i] = &sql.NullInt64{}
		case text:
			dest[i] = &sql.NullString{}
		case boolean:
			dest[i] = &sql.NullBool{}
		case blob:
			dest[i] = &[]byte{}
		}
	}
	if err := rows.Scan(dest...); err != nil {
		return nil, err
	}
	for i := range dest {
		switch v := dest[i].(type) {
		case *sql.NullInt64:
			if v.Valid {
				row[i] = v.Int64
			}
		case *sql.NullString:
			if v.Valid {
				row[i] = v.String
			}
		case *sql.NullBool:
			if v.Valid {
				row[i] = v.Bool
			}
		case *[]byte:
			if *v != nil {
				row[i] = *v
			}
		}
	}
	return row, nil
}

// counter is the last number that was given; 0 where none was.
func (r *reader) counter(ctx context.Context, table string) (last int64, err error) {
	err = r.one(ctx, []any{&last}, r.engine.counter[table].last)
	return last, err
}

// setCounter lets numbers go on after last.
func (t *tx) setCounter(ctx context.Context, table string, last int64) error {
	if last == 0 {
		return nil
	}
	for _, statement := range t.engine.counter[table].set {
		if _, err := t.exec(ctx, statement, last); err != nil {
			return fmt.Errorf("numbering %s: %w", table, err)
		}
	}
	return nil
}
