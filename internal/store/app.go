package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// appQuery loads an app with everything that hangs from it by one statement:
// gates wait for it when they do not know a caller, and on PostgreSQL what
// counts is the number of round trips. Each row is one part of the app, and
// says which; parts share the columns.
//
//nolint:dupword // NULL, NULL
const appQuery = `WITH app AS (SELECT * FROM apps WHERE %s = ?)
	SELECT 0 AS part, number AS position, id AS t1, app_key AS t2, name AS t3, kind AS t4, mode AS t5, status AS t6, plan AS t7,
		oauth AS t8, CAST(NULL AS %[2]s) AS secret, created_at AS begins, updated_at AS ends FROM app
	UNION ALL SELECT 1, position, prefix, group_name, note, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
		FROM app_ips WHERE app = (SELECT number FROM app)
	UNION ALL SELECT 2, 0, dialect, method, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
		FROM app_dialects WHERE app = (SELECT number FROM app)
	UNION ALL SELECT 3, 0, package, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, valid_from, valid_until
		FROM app_packages WHERE app = (SELECT number FROM app)
	UNION ALL SELECT 4, number, environment, kind, dialect, key_id, public_key, NULL, NULL, NULL, secret, created_at, expires_at
		FROM app_credentials WHERE app = (SELECT number FROM app)
	ORDER BY part, position, t1`

// The parts of an app, in the order of their rows.
const (
	partApp = iota
	partIP
	partDialect
	partPackage
	partCredential
)

// AppByKey loads an app with everything that hangs from it.
func (r *reader) AppByKey(ctx context.Context, appKey string) (*platform.App, error) {
	return r.app(ctx, r.engine.appByKey, appKey)
}

// App loads an app by its ID.
func (r *reader) App(ctx context.Context, id string) (*platform.App, error) {
	return r.app(ctx, r.engine.appByID, id)
}

// app loads the one app that the query finds by the value.
func (r *reader) app(ctx context.Context, query, value string) (*platform.App, error) {
	a := &platform.App{}
	if storable(value) {
		if err := r.each(ctx, func(rows *sql.Rows) error { return r.scanPart(rows, a) }, query, value); err != nil {
			return nil, err
		}
	}
	if a.Number == 0 {
		return nil, fmt.Errorf("app %q: %w", value, platform.ErrNotFound)
	}
	return a, nil
}

// storable tells whether every engine can keep the text. What cannot be kept
// names nothing.
func storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

func (r *reader) scanPart(rows *sql.Rows, a *platform.App) error {
	var part, position int64
	var t [8]sql.NullString
	var secret []byte
	var begins, ends sql.NullInt64
	err := rows.Scan(&part, &position, &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7], &secret, &begins, &ends)
	if err != nil {
		return fmt.Errorf("reading an app: %w", err)
	}
	from, until := fromMicros(begins), fromMicros(ends)
	switch part {
	case partApp:
		*a = platform.App{
			Number: uint64(position), ID: t[0].String, Key: t[1].String, Name: t[2].String, Kind: platform.AppKind(t[3].String),
			Mode: platform.AppMode(t[4].String), Status: platform.AppStatus(t[5].String), Plan: t[6].String, CreatedAt: from, UpdatedAt: until,
		}
		if a.OAuth, err = parseOAuth(t[7]); err != nil {
			return fmt.Errorf("app %s: %w", a.ID, err)
		}
	case partIP:
		rule := platform.IPRule{Group: t[1].String, Note: t[2].String}
		if err := parsePrefix(&rule, t[0].String); err != nil {
			return err
		}
		a.IPs = append(a.IPs, rule)
	case partDialect:
		a.Dialects = append(a.Dialects, platform.DialectGrant{Dialect: t[0].String, Method: t[1].String})
	case partPackage:
		a.Packages = append(a.Packages, platform.PackageGrant{Package: t[0].String, Period: platform.Period{From: from, Until: until}})
	case partCredential:
		c := platform.Credential{
			Number: int(position), Environment: platform.Environment(t[0].String), Kind: platform.CredentialKind(t[1].String),
			Dialect: t[2].String, PublicKeyPEM: t[4].String, CreatedAt: from, ExpiresAt: until,
		}
		if t[3].Valid {
			plain, err := r.keys.Load().Open(t[3].String, secret, credentialPlace(a.ID, c.Number))
			if err != nil {
				return fmt.Errorf("credential %d of app %s: %w", c.Number, a.ID, err)
			}
			c.Secret = platform.NewSecret(plain)
		}
		a.Credentials = append(a.Credentials, c)
	}
	return nil
}
