package store

import (
	"context"
	"database/sql"
	"encoding/json"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Catalog loads everything but the apps, each list by name.
func (r *reader) Catalog(ctx context.Context) (*platform.Catalog, error) {
	c := &platform.Catalog{Digests: map[string]string{}}
	limits, err := r.loadLimits(ctx)
	if err != nil {
		return nil, err
	}
	c.Platform = limits[limitKey{scope: limitPlatform}]
	if err := r.loadAPIs(ctx, c, limits); err != nil {
		return nil, err
	}
	if err := r.loadTopics(ctx, c); err != nil {
		return nil, err
	}
	if err := r.loadPlans(ctx, c, limits); err != nil {
		return nil, err
	}
	if err := r.loadIPGroups(ctx, c); err != nil {
		return nil, err
	}
	err = r.each(ctx, func(rows *sql.Rows) error {
		var p platform.Package
		err := rows.Scan(&p.Name, &p.Title, &p.Description, &p.Source)
		c.Packages = append(c.Packages, p)
		return err
	}, `SELECT name, title, description, source FROM packages ORDER BY name`)
	if err != nil {
		return nil, err
	}
	return c, r.each(ctx, func(rows *sql.Rows) error {
		var source, digest string
		err := rows.Scan(&source, &digest)
		c.Digests[source] = digest
		return err
	}, `SELECT source, digest FROM catalog_digests`)
}

func (r *reader) loadAPIs(ctx context.Context, c *platform.Catalog, limits map[limitKey]platform.Limits) error {
	return r.each(ctx, func(rows *sql.Rows) error {
		var a platform.API
		var deprecated, sunset sql.NullInt64
		var spec []byte
		err := rows.Scan(&a.Name, &a.Version, &a.Title, &a.Method, &a.Path, &a.Provider, &a.Package, &a.UserToken, &a.Status,
			&deprecated, &sunset, &a.Upstream, &a.Example.Status, &a.Example.ContentType, &a.Example.Body, &spec, &a.Source)
		a.DeprecatedAt, a.Sunset, a.Spec = fromMicros(deprecated), fromMicros(sunset), json.RawMessage(spec)
		a.Limits = limits[limitKey{scope: limitAPI, owner: a.ID()}]
		c.APIs = append(c.APIs, a)
		return err
	}, `SELECT name, version, title, method, path, provider, package, user_token, status,
		deprecated_at, sunset, upstream, example_status, example_type, example_body, spec, source
		FROM apis ORDER BY name, version`)
}

func (r *reader) loadIPGroups(ctx context.Context, c *platform.Catalog) error {
	index := map[string]int{}
	err := r.each(ctx, func(rows *sql.Rows) error {
		var g platform.IPGroup
		err := rows.Scan(&g.Name)
		index[g.Name] = len(c.IPGroups)
		c.IPGroups = append(c.IPGroups, g)
		return err
	}, `SELECT name FROM ip_groups ORDER BY name`)
	if err != nil {
		return err
	}
	return r.each(ctx, func(rows *sql.Rows) error {
		var name, prefix string
		var rule platform.IPRule
		if err := rows.Scan(&name, &prefix, &rule.Note); err != nil {
			return err
		}
		g := &c.IPGroups[index[name]]
		err := parsePrefix(&rule, prefix)
		g.Rules = append(g.Rules, rule)
		return err
	}, `SELECT group_name, prefix, note FROM ip_group_rules ORDER BY group_name, position`)
}

// PutAPI writes an API. Its package must exist.
func (t *tx) PutAPI(ctx context.Context, a *platform.API) error {
	var spec sql.NullString
	if a.Spec != nil {
		spec = sql.NullString{String: string(a.Spec), Valid: true}
	}
	_, err := t.exec(ctx, `INSERT INTO apis (name, version, title, method, path, provider, package, user_token, status,
			deprecated_at, sunset, upstream, example_status, example_type, example_body, spec, source)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (name, version) DO UPDATE SET title = excluded.title, method = excluded.method, path = excluded.path,
			provider = excluded.provider, package = excluded.package, user_token = excluded.user_token, status = excluded.status,
			deprecated_at = excluded.deprecated_at, sunset = excluded.sunset, upstream = excluded.upstream,
			example_status = excluded.example_status, example_type = excluded.example_type,
			example_body = excluded.example_body, spec = excluded.spec, source = excluded.source`,
		a.Name, a.Version, a.Title, a.Method, a.Path, a.Provider, a.Package, a.UserToken, a.Status,
		micros(a.DeprecatedAt), micros(a.Sunset), a.Upstream, a.Example.Status, a.Example.ContentType, a.Example.Body, spec, a.Source)
	if err != nil {
		return named(err, "API %q with package %q", a.ID(), a.Package)
	}
	return t.putLimits(ctx, limitKey{scope: limitAPI, owner: a.ID()}, a.Limits)
}

// PutPackage writes a package.
func (t *tx) PutPackage(ctx context.Context, p *platform.Package) error {
	_, err := t.exec(ctx, `INSERT INTO packages (name, title, description, source) VALUES (?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET title = excluded.title, description = excluded.description, source = excluded.source`,
		p.Name, p.Title, p.Description, p.Source)
	return named(err, "package %q", p.Name)
}

// DeletePackage removes a package; ErrConflict while an API, a topic or an app
// has it.
func (t *tx) DeletePackage(ctx context.Context, name string) error {
	return t.delete(ctx, "package", `DELETE FROM packages WHERE name = ?`, name)
}

// PutIPGroup writes a group and replaces its rules.
func (t *tx) PutIPGroup(ctx context.Context, g *platform.IPGroup) error {
	if _, err := t.exec(ctx, `INSERT INTO ip_groups (name) VALUES (?) ON CONFLICT (name) DO NOTHING`, g.Name); err != nil {
		return named(err, "IP group %q", g.Name)
	}
	if _, err := t.exec(ctx, `DELETE FROM ip_group_rules WHERE group_name = ?`, g.Name); err != nil {
		return err
	}
	for i, rule := range g.Rules {
		_, err := t.exec(ctx, `INSERT INTO ip_group_rules (group_name, position, prefix, note) VALUES (?, ?, ?, ?)`,
			g.Name, i, prefixText(rule), rule.Note)
		if err != nil {
			return named(err, "rule %d of IP group %q", i+1, g.Name)
		}
	}
	return nil
}

// DeleteIPGroup removes a group; ErrConflict while an app's whitelist has it.
func (t *tx) DeleteIPGroup(ctx context.Context, name string) error {
	return t.delete(ctx, "IP group", `DELETE FROM ip_groups WHERE name = ?`, name)
}

// PutCatalogDigest notes what was applied last of a catalog file.
func (t *tx) PutCatalogDigest(ctx context.Context, source, digest string) error {
	_, err := t.exec(ctx, `INSERT INTO catalog_digests (source, digest) VALUES (?, ?)
		ON CONFLICT (source) DO UPDATE SET digest = excluded.digest`, source, digest)
	return named(err, "digest of catalog %q", source)
}
