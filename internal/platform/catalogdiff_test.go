package platform_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// api is an API of the file mall, in the package trade.
func api(name, method, path string) platform.API {
	return platform.API{
		Name: name, Version: "1.0", Method: method, Path: path, Provider: platform.ByPlatform, Package: "trade", Source: "mall",
		Spec: json.RawMessage(`{"summary": "x"}`),
	}
}

// file is a catalog file with the package trade.
func file(digest string, apis ...platform.API) platform.CatalogFile {
	return platform.CatalogFile{
		Source: "mall", Digest: digest, APIs: apis,
		Packages: []platform.Package{{Name: "trade", Title: "Trade", Source: "mall"}},
	}
}

func summary(d *platform.CatalogDiff) (lines []string) {
	for _, c := range d.Changes {
		lines = append(lines, strings.TrimSpace(fmt.Sprint(c.Action, " ", c.Kind, " ", c.Name, " ", strings.Join(c.Fields, ","))))
	}
	return lines
}

// apply previews, applies, and requires that both say the same.
func (f *fixture) apply(tb testing.TB, file platform.CatalogFile) *platform.CatalogDiff {
	tb.Helper()
	preview, err := f.PreviewCatalog(tb.Context(), file)
	require.NoError(tb, err)
	done, err := f.ApplyCatalog(tb.Context(), "test", file)
	require.NoError(tb, err)
	require.Equal(tb, preview, done)
	return done
}

func TestApplyCatalog(t *testing.T) {
	f := newFixture(t)
	list, get := api("order.list", "GET", "/v1/orders"), api("order.get", "GET", "/v1/orders/{id}")
	d := f.apply(t, file("1", list, get))
	require.Equal(t, []string{"add package trade", "add api order.list@1.0", "add api order.get@1.0"}, summary(d))
	require.Equal(t, []platform.Change{{Kind: platform.ChangeCatalog}}, f.changes)
	e := f.entries(t)
	require.Len(t, e, 1)
	require.Equal(t, "catalog.apply", e[0].Action)
	require.Equal(t, "mall", e[0].Target)
	require.Contains(t, string(e[0].After), `"api order.get@1.0"`)
	got, err := f.API(t.Context(), "order.get", "")
	require.NoError(t, err)
	require.Equal(t, platform.Online, got.Status)

	// The same file again is nothing, whatever staff did meanwhile.
	d = f.apply(t, file("1", list, get))
	require.Empty(t, d.Changes)
	require.Equal(t, 3, d.Unchanged)
	require.Len(t, f.entries(t), 1)
	require.Len(t, f.changes, 1)

	// A new version changes one, drops one and adds one.
	list.Title, list.Limits = "列表", platform.Limits{Rate: limit.Rate{Requests: 5, Period: time.Second}}
	d = f.apply(t, file("2", list, api("order.put", "PUT", "/v1/orders/{order}")))
	require.Equal(t, []string{"change api order.list@1.0 limits,title", "add api order.put@1.0", "offline api order.get@1.0 status"}, summary(d))
	require.Equal(t, 1, d.Unchanged)
	require.Equal(t, map[string]any{"title": json.RawMessage(`"列表"`), "limits": json.RawMessage(`{"rate":{"requests":5,"period":"1s"}}`)}, d.Changes[0].After)
	require.Equal(t, map[string]any{}, d.Changes[0].Before)
	got, err = f.API(t.Context(), "order.get", "1.0")
	require.NoError(t, err)
	require.Equal(t, platform.Offline, got.Status)

	// It stays offline without further ado.
	d = f.apply(t, file("3", list, api("order.put", "PUT", "/v1/orders/{order}")))
	require.Empty(t, d.Changes)
	require.Len(t, f.entries(t), 3, "a new digest is a change")

	// A renamed API takes over the calls of the one that went offline.
	d = f.apply(t, file("4", list, api("order.read", "GET", "/v1/orders/{id}")))
	require.Equal(t, []string{"add api order.read@1.0", "offline api order.put@1.0 status"}, summary(d))
	_, err = f.SetAPIStatus(t.Context(), "test", "order.get", "1.0", platform.Online, time.Time{})
	require.ErrorIs(t, err, platform.ErrConflict)
	require.ErrorContains(t, err, "API order.read@1.0 (mall, GET /v1/orders/{id}) takes the same calls as order.get@1.0 (mall, GET /v1/orders/{id})")
}

func TestCatalogStatus(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	get := api("order.get", "GET", "/v1/orders/{id}")
	f.apply(t, file("1", get))
	sunset := start.Add(time.Hour).Truncate(time.Microsecond)
	deprecated, err := f.SetAPIStatus(ctx, "test", "order.get", "", platform.Deprecated, sunset)
	require.NoError(t, err)
	require.Equal(t, start.Truncate(time.Microsecond), deprecated.DeprecatedAt)
	require.Equal(t, sunset, deprecated.Sunset)
	require.JSONEq(t, `{"status":"online"}`, string(f.entries(t)[0].Before))

	// Without a word of the file the staff's decision stays.
	f.now = f.now.Add(time.Minute)
	get.Title = "new"
	require.Equal(t, []string{"change api order.get@1.0 title"}, summary(f.apply(t, file("2", get))))
	got, err := f.API(ctx, "order.get", "1.0")
	require.NoError(t, err)
	require.Equal(t, deprecated.DeprecatedAt, got.DeprecatedAt)

	// An explicit status wins, and cleans up.
	get.Status = platform.Online
	require.Equal(t, []string{"change api order.get@1.0 deprecated_at,status,sunset"}, summary(f.apply(t, file("3", get))))
	get.Status = platform.Deprecated
	f.apply(t, file("4", get))
	got, err = f.API(ctx, "order.get", "1.0")
	require.NoError(t, err)
	require.Equal(t, f.now.Truncate(time.Microsecond), got.DeprecatedAt)
	require.Zero(t, got.Sunset)

	_, err = f.SetAPIStatus(ctx, "test", "nope", "", platform.Online, time.Time{})
	require.ErrorIs(t, err, platform.ErrNotFound)
}

func TestAPIVersions(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	one, two := api("order.get", "GET", "/v1/orders/{id}"), api("order.get", "GET", "/v2/orders/{id}")
	two.Version, two.Title = "2.0", "Zwei"
	callout := api("order.push", "POST", "")
	callout.Provider = platform.ByMerchant
	f.apply(t, file("1", one, two, callout))
	_, err := f.API(ctx, "order.get", "")
	require.ErrorIs(t, err, platform.ErrConflict)
	require.ErrorContains(t, err, "has the versions 1.0, 2.0")
	for version, want := range map[string]string{"1": "1.0", "1.0": "1.0", "2": "2.0"} {
		got, err := f.API(ctx, "order.get", version)
		require.NoError(t, err)
		require.Equal(t, want, got.Version)
	}
	_, err = f.API(ctx, "order.get", "3.0")
	require.ErrorIs(t, err, platform.ErrNotFound)
	for _, c := range []struct {
		filter platform.APIFilter
		n      int
	}{
		{platform.APIFilter{}, 3},
		{platform.APIFilter{Text: "ZWEI"}, 1},
		{platform.APIFilter{Text: "/v1/"}, 1},
		{platform.APIFilter{Package: "trade", Status: platform.Online}, 3},
		{platform.APIFilter{Package: "basic"}, 0},
	} {
		apis, err := f.APIs(ctx, c.filter)
		require.NoError(t, err)
		require.Len(t, apis, c.n, c.filter)
	}
	err = f.DeletePackage(ctx, "test", "trade")
	require.ErrorIs(t, err, platform.ErrConflict)
	require.ErrorContains(t, err, "package trade has the API order.get@1.0")
	_, err = f.PutPackage(ctx, "test", platform.Package{Name: "trade"})
	require.ErrorContains(t, err, "package trade is declared in the catalog mall")
}

// What another catalog, the staff or the same file has already, is refused and
// nothing of the file is applied.
func TestCatalogConflicts(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	_, err := f.PutPackage(ctx, "test", platform.Package{Name: "mine"})
	require.NoError(t, err)
	f.apply(t, file("1", api("order.get", "GET", "/v1/orders/{id}"), api("order.list", "GET", "/v1/orders")))
	other := func(a platform.API) platform.CatalogFile {
		a.Source, a.Package = "other", "basic"
		return platform.CatalogFile{Source: "other", Digest: "o", APIs: []platform.API{a}}
	}
	packageFile := func(name string) platform.CatalogFile {
		return platform.CatalogFile{Source: "other", Digest: "p", Packages: []platform.Package{{Name: name, Source: "other"}}}
	}
	for name, c := range map[string]struct {
		file platform.CatalogFile
		want string
	}{
		"same name":       {other(api("order.get", "POST", "/x")), "API order.get@1.0 of other is declared in mall already"},
		"same route":      {other(api("a", "GET", "/v1/orders/{order_id}")), "API order.get@1.0 (mall, GET /v1/orders/{id}) takes the same calls as a@1.0 (other, GET /v1/orders/{order_id})"},
		"crossing":        {other(api("a", "GET", "/v1/{any}/7")), "takes the same calls as a@1.0 (other, GET /v1/{any}/7)"},
		"HEAD":            {other(api("a", "HEAD", "/v1/{x}/{y}")), "takes the same calls as a@1.0"},
		"package of mall": {packageFile("trade"), "package trade of other is declared in mall already"},
		"package of ours": {packageFile("mine"), "package mine of other is declared in the platform itself already"},
		"same file":       {file("2", api("a", "GET", "/a/{x}"), api("b", "GET", "/a/{y}")), "API b@1.0 (mall, GET /a/{y}) takes the same calls as a@1.0 (mall, GET /a/{x})"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(f.entries(t))
			_, err := f.ApplyCatalog(ctx, "test", c.file)
			require.ErrorIs(t, err, platform.ErrConflict)
			require.ErrorContains(t, err, c.want)
			_, err = f.PreviewCatalog(ctx, c.file)
			require.ErrorContains(t, err, c.want)
			require.Len(t, f.entries(t), before)
		})
	}
	// A more specific template, another method, another file's own package: fine.
	f.apply(t, other(api("special", "GET", "/v1/orders/{order}/items")))
	f.apply(t, platform.CatalogFile{Source: "third", Digest: "t", APIs: []platform.API{}, Packages: []platform.Package{{Name: "basic", Title: "Basic", Source: "third"}}})
	_, err = f.ApplyCatalog(ctx, "test", packageFile("basic"))
	require.ErrorContains(t, err, "package basic of other is declared in third already")
}

func TestCatalogFieldErrors(t *testing.T) {
	f := newFixture(t)
	with := func(change func(*platform.API)) platform.CatalogFile {
		a := api("a.get", "GET", "/a")
		change(&a)
		return file("x", a)
	}
	for name, c := range map[string]struct {
		field string
		file  platform.CatalogFile
	}{
		"no source":          {"source", platform.CatalogFile{Digest: "x"}},
		"no digest":          {"digest", platform.CatalogFile{Source: "x"}},
		"package name":       {"packages[0].name", platform.CatalogFile{Source: "s", Digest: "x", Packages: []platform.Package{{Name: "A", Source: "s"}}}},
		"package text":       {"packages[0].description", platform.CatalogFile{Source: "s", Digest: "x", Packages: []platform.Package{{Name: "a", Source: "s", Description: "\x00"}}}},
		"package source":     {"packages[0].source", platform.CatalogFile{Source: "s", Digest: "x", Packages: []platform.Package{{Name: "a"}}}},
		"package twice":      {"packages[1].name", platform.CatalogFile{Source: "s", Digest: "x", Packages: []platform.Package{{Name: "a", Source: "s"}, {Name: "a", Source: "s"}}}},
		"API twice":          {"a.get@1.0.name", file("x", api("a.get", "GET", "/a"), api("a.get", "PUT", "/a"))},
		"API name":           {"apis[0].name", with(func(a *platform.API) { a.Name = "a-b.get" })},
		"API version":        {"apis[0].version", with(func(a *platform.API) { a.Version = "v1" })},
		"API title":          {"a.get@1.0.title", with(func(a *platform.API) { a.Title = strings.Repeat("a", 300) })},
		"API method":         {"a.get@1.0.method", with(func(a *platform.API) { a.Method = "get" })},
		"API provider":       {"a.get@1.0.provider", with(func(a *platform.API) { a.Provider = "" })},
		"API package":        {"a.get@1.0.package", with(func(a *platform.API) { a.Package = "nope" })},
		"API package name":   {"a.get@1.0.package", with(func(a *platform.API) { a.Package = "" })},
		"API status":         {"a.get@1.0.status", with(func(a *platform.API) { a.Status = "gone" })},
		"API source":         {"a.get@1.0.source", with(func(a *platform.API) { a.Source = "else" })},
		"API limits":         {"a.get@1.0.limits.rate.requests", with(func(a *platform.API) { a.Limits.Rate = limit.Rate{Period: 1} })},
		"API example":        {"a.get@1.0.example.status", with(func(a *platform.API) { a.Example.Status = 99 })},
		"merchant's path":    {"a.get@1.0.path", with(func(a *platform.API) { a.Provider, a.Path = platform.ByMerchant, "\x00" })},
		"API upstream":       {"a.get@1.0.upstream", with(func(a *platform.API) { a.Upstream = "h\x00" })},
		"API content type":   {"a.get@1.0.example.content_type", with(func(a *platform.API) { a.Example.ContentType = "\xff" })},
		"API spec":           {"a.get@1.0.spec", with(func(a *platform.API) { a.Spec = []byte("\"\xff\"") })},
		"no path":            {"a.get@1.0.path", with(func(a *platform.API) { a.Path = "" })},
		"relative path":      {"a.get@1.0.path", with(func(a *platform.API) { a.Path = "a/b" })},
		"root":               {"a.get@1.0.path", with(func(a *platform.API) { a.Path = "/" })},
		"slash at the end":   {"a.get@1.0.path", with(func(a *platform.API) { a.Path = "/a/" })},
		"dot segment":        {"a.get@1.0.path", with(func(a *platform.API) { a.Path = "/a/../b" })},
		"escape":             {"a.get@1.0.path", with(func(a *platform.API) { a.Path = "/a%2Fb" })},
		"blank":              {"a.get@1.0.path", with(func(a *platform.API) { a.Path = "/a b" })},
		"part of a segment":  {"a.get@1.0.path", with(func(a *platform.API) { a.Path = "/a-{id}" })},
		"two in a segment":   {"a.get@1.0.path", with(func(a *platform.API) { a.Path = "/{a}{b}" })},
		"name without end":   {"a.get@1.0.path", with(func(a *platform.API) { a.Path = "/{a" })},
		"name without begin": {"a.get@1.0.path", with(func(a *platform.API) { a.Path = "/a}" })},
		"empty name":         {"a.get@1.0.path", with(func(a *platform.API) { a.Path = "/{}" })},
		"same name twice":    {"a.get@1.0.path", with(func(a *platform.API) { a.Path = "/{a}/{a}" })},
		"endless path":       {"a.get@1.0.path", with(func(a *platform.API) { a.Path = "/" + strings.Repeat("a", 500) })},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.ApplyCatalog(t.Context(), "test", c.file)
			requireField(t, err, c.field)
		})
	}
	require.Empty(t, f.entries(t))
	cat, err := f.Catalog(t.Context())
	require.NoError(t, err)
	require.Empty(t, cat.APIs)
}

// Whatever files follow each other: what the last one declares is there as it
// declares it, what it dropped is offline, and applying it again changes
// nothing.
func TestApplyCatalogProperty(t *testing.T) {
	f := newFixture(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		source := fmt.Sprint("file", run)
		ever := map[string]bool{}
		for version := range 3 {
			in := platform.CatalogFile{Source: source, Digest: fmt.Sprint(version)}
			declared := map[string]platform.API{}
			for i := range 4 {
				if !rapid.Bool().Draw(rt, "declare") {
					continue
				}
				a := platform.API{
					Name: fmt.Sprintf("%s.a%d", source, i), Version: "1.0", Method: "GET", Path: fmt.Sprintf("/%s/%d/{id}", source, i),
					Provider: platform.ByPlatform, Package: "basic", Source: source,
					Title:  rapid.SampledFrom([]string{"", "x", "y"}).Draw(rt, "title"),
					Status: rapid.SampledFrom([]platform.APIStatus{platform.Draft, platform.Online, platform.Deprecated, platform.Offline}).Draw(rt, "status"),
				}
				in.APIs, declared[a.ID()], ever[a.ID()] = append(in.APIs, a), a, true
			}
			if _, err := f.ApplyCatalog(t.Context(), "test", in); err != nil {
				rt.Fatal(err)
			}
			cat, err := f.Catalog(t.Context())
			require.NoError(rt, err)
			found := 0
			for _, got := range cat.APIs {
				if got.Source != source {
					continue
				}
				found++
				want, ok := declared[got.ID()]
				if !ok {
					require.Equal(rt, platform.Offline, got.Status, got.ID())
					continue
				}
				require.Equal(rt, []any{want.Title, want.Status}, []any{got.Title, got.Status})
				require.Equal(rt, want.Status == platform.Deprecated, !got.DeprecatedAt.IsZero() && got.Status != platform.Offline)
			}
			require.Equal(rt, len(ever), found)
			in.Digest = "again"
			again, err := f.PreviewCatalog(t.Context(), in)
			require.NoError(rt, err)
			require.Empty(rt, again.Changes)
			require.Equal(rt, len(in.APIs), again.Unchanged)
		}
	})
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"/v1/orders/{id}", "/{a}{b}", "/a%2f", "/../x", "/{", "//"} {
		f.Add(s)
	}
	fx := newFixture(f)
	f.Fuzz(func(t *testing.T, path string) {
		a := api("a.get", "GET", path)
		_, err := fx.PreviewCatalog(t.Context(), file("x", a))
		if err != nil {
			requireField(t, err, "a.get@1.0.path")
		}
	})
}
