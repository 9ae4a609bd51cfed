package platform_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// an Ed25519 key, from RFC 8410, section 10.1.
const publicKey = `-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----`

func TestCreateApp(t *testing.T) {
	f := newFixture(t)
	_, err := f.PutPlan(t.Context(), "test", platform.Plan{Name: "gold"})
	require.NoError(t, err)
	_, err = f.PutPackage(t.Context(), "test", platform.Package{Name: "trade"})
	require.NoError(t, err)
	_, err = f.PutIPGroup(t.Context(), "test", platform.IPGroup{Name: "office"})
	require.NoError(t, err)
	f.changes = nil

	a, secret, err := f.CreateApp(t.Context(), "cli:root", platform.NewApp{
		Name: "网店", Kind: platform.ISV, Mode: platform.Client, Plan: "gold", Environment: platform.Production,
		IPs: []string{"203.0.113.7", "2001:db8::/32", "@office"}, Packages: []string{"trade", "basic"},
	})
	require.NoError(t, err)
	require.Regexp(t, `^app_[0-9A-Za-z]{20}$`, a.ID)
	require.Regexp(t, `^ak_[0-9A-Za-z]{20}$`, a.Key)
	require.Regexp(t, `^sk_[0-9A-Za-z]{64}$`, secret.Secret)
	require.Equal(t, &platform.IssuedSecret{Number: 1, Environment: platform.Production, Dialect: "op1", Secret: secret.Secret}, secret)
	require.Equal(t, []platform.IPRule{
		{Prefix: netip.MustParsePrefix("203.0.113.7/32")}, {Prefix: netip.MustParsePrefix("2001:db8::/32")}, {Group: "office"},
	}, a.IPs)
	require.Equal(t, []platform.PackageGrant{{Package: "trade"}}, a.Packages)
	require.Equal(t, start.Truncate(time.Microsecond), a.CreatedAt)
	require.Equal(t, []platform.Change{{Kind: platform.ChangeApp, Key: a.Key}}, f.changes)

	for _, ref := range []string{a.ID, a.Key} {
		got, err := f.App(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, a, got)
		require.Equal(t, secret.Secret, string(got.Credentials[0].Secret.Reveal()))
	}
	e := f.entries(t)[0]
	require.Equal(t, []string{"cli:root", "app.create", a.ID}, []string{e.Actor, e.Action, e.Target})
	require.Empty(t, e.Before)
	require.NotContains(t, string(e.After), secret.Secret)

	plain, plainSecret := f.app(t)
	require.Equal(t, platform.Merchant, plain.Kind)
	require.Equal(t, platform.Web, plain.Mode)
	require.Equal(t, platform.Sandbox, plainSecret.Environment)
	require.NotEqual(t, secret.Secret, plainSecret.Secret)
	n, err := f.CountApps(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, n)
}

// Every mistake names the field that it is in, changes nothing and leaves no
// trace in the audit log.
// IPv4 written as IPv6 is IPv4, in a whitelist as in a group.
func TestMappedNetworks(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	app, _ := f.app(t)
	for mapped, want := range map[string]string{
		"::ffff:10.0.0.1": "10.0.0.1/32", "::ffff:1.2.3.0/120": "1.2.3.0/24", "::ffff:0.0.0.0/96": "0.0.0.0/0", "::/0": "::/0",
	} {
		app, err := f.AddIP(ctx, "test", app.ID, mapped, "")
		require.NoError(t, err, mapped)
		require.Equal(t, want, app.IPs[len(app.IPs)-1].Prefix.String())
		network := netip.MustParsePrefix(want)
		if strings.Contains(mapped, "/") {
			network = netip.MustParsePrefix(mapped)
		}
		g, err := f.PutIPGroup(ctx, "test", platform.IPGroup{Name: "office", Rules: []platform.IPRule{{Prefix: network}}})
		require.NoError(t, err, mapped)
		require.Equal(t, want, g.Rules[0].Prefix.String())
	}
	_, err := f.PutIPGroup(ctx, "test", platform.IPGroup{Name: "office", Rules: []platform.IPRule{
		{Prefix: netip.MustParsePrefix("1.2.3.0/24")}, {Prefix: netip.MustParsePrefix("::ffff:1.2.3.0/120")},
	}})
	requireField(t, err, "rules[1]")
}

func TestFieldErrors(t *testing.T) {
	f := newFixture(t)
	app, _ := f.app(t)
	ctx := t.Context()
	create := func(n platform.NewApp) func() error {
		return func() error { _, _, err := f.CreateApp(ctx, "test", n); return err }
	}
	group := func(rules ...platform.IPRule) func() error {
		return func() error {
			_, err := f.PutIPGroup(ctx, "test", platform.IPGroup{Name: "g", Rules: rules})
			return err
		}
	}
	planOf := func(p platform.Plan) func() error {
		return func() error { _, err := f.PutPlan(ctx, "test", p); return err }
	}
	net := netip.MustParsePrefix("10.0.0.0/8")
	minute := limit.Rate{Requests: -1, Period: time.Minute}
	for name, c := range map[string]struct {
		field string
		call  func() error
	}{
		"no actor":      {"actor", func() error { return f.DeleteApp(ctx, " ", app.ID) }},
		"no name":       {"name", create(platform.NewApp{})},
		"blank name":    {"name", create(platform.NewApp{Name: "  "})},
		"long name":     {"name", create(platform.NewApp{Name: strings.Repeat("长", 101)})},
		"control name":  {"name", create(platform.NewApp{Name: "a\x1bb"})},
		"broken name":   {"name", create(platform.NewApp{Name: "\xff"})},
		"kind":          {"kind", create(platform.NewApp{Name: "a", Kind: "vip"})},
		"mode":          {"mode", create(platform.NewApp{Name: "a", Mode: "free"})},
		"environment":   {"environment", create(platform.NewApp{Name: "a", Environment: "test"})},
		"plan":          {"plan", create(platform.NewApp{Name: "a", Plan: "gold"})},
		"first ip":      {"ips[1]", create(platform.NewApp{Name: "a", IPs: []string{"10.0.0.1", "10.0.0.256"}})},
		"first package": {"packages[0]", create(platform.NewApp{Name: "a", Packages: []string{"nope"}})},
		"set plan":      {"plan", func() error { _, err := f.SetAppPlan(ctx, "test", app.ID, "gold"); return err }},
		"secret env": {"environment", func() error {
			_, err := f.AddSecret(ctx, "t", app.ID, platform.SecretRequest{Environment: "x"})
			return err
		}},
		"secret dialect": {"dialect", func() error {
			_, err := f.AddSecret(ctx, "t", app.ID, platform.SecretRequest{Dialect: "op9"})
			return err
		}},
		"overlap":         {"after", func() error { _, err := f.RevokeCredential(ctx, "t", app.ID, 1, -1); return err }},
		"endless overlap": {"after", func() error { _, err := f.RevokeCredential(ctx, "t", app.ID, 1, 1<<62); return err }},
		"public key":      {"public_key", func() error { _, err := f.AddPublicKey(ctx, "t", app.ID, "", "ssh-ed25519 AAAA"); return err }},
		"public key env":  {"environment", func() error { _, err := f.AddPublicKey(ctx, "t", app.ID, "x", publicKey); return err }},
		"ip":              {"rule", func() error { _, err := f.AddIP(ctx, "t", app.ID, "example.com", ""); return err }},
		"ip with zone":    {"rule", func() error { _, err := f.AddIP(ctx, "t", app.ID, "fe80::1%eth0", ""); return err }},
		"ip bits":         {"rule", func() error { _, err := f.AddIP(ctx, "t", app.ID, "10.1.2.3/8", ""); return err }},
		"ip mapped":       {"rule", func() error { _, err := f.AddIP(ctx, "t", app.ID, "::ffff:0.0.0.0/95", ""); return err }},
		"ip group":        {"rule", func() error { _, err := f.AddIP(ctx, "t", app.ID, "@office", ""); return err }},
		"ip group name":   {"rule", func() error { _, err := f.AddIP(ctx, "t", app.ID, "@", ""); return err }},
		"ip note":         {"note", func() error { _, err := f.AddIP(ctx, "t", app.ID, "10.0.0.1", strings.Repeat("n", 201)); return err }},
		"remove ip":       {"rule", func() error { _, err := f.RemoveIP(ctx, "t", app.ID, "nope"); return err }},
		"grant":           {"package", func() error { _, err := f.GrantPackage(ctx, "t", app.ID, "nope", platform.Period{}); return err }},
		"grant basic":     {"package", func() error { _, err := f.GrantPackage(ctx, "t", app.ID, "basic", platform.Period{}); return err }},
		"revoke basic":    {"package", func() error { _, err := f.RevokePackage(ctx, "t", app.ID, "basic"); return err }},
		"dialect":         {"dialect", func() error { _, err := f.AllowDialect(ctx, "t", app.ID, "nope", "", ""); return err }},
		"dialect op1":     {"dialect", func() error { _, err := f.AllowDialect(ctx, "t", app.ID, "op1", "", ""); return err }},
		"dialect method":  {"method", func() error { _, err := f.AllowDialect(ctx, "t", app.ID, "top", "crc32", ""); return err }},
		"dialect key":     {"method", func() error { _, err := f.AllowDialect(ctx, "t", app.ID, "rfc9421", "ed25519", ""); return err }},
		"dialect env":     {"environment", func() error { _, err := f.AllowDialect(ctx, "t", app.ID, "top", "", "x"); return err }},
		"dialect op1 off": {"dialect", func() error { _, err := f.DisallowDialect(ctx, "t", app.ID, "op1"); return err }},
		"API status":      {"status", func() error { _, err := f.SetAPIStatus(ctx, "t", "a", "", "gone", time.Time{}); return err }},
		"API filter":      {"status", func() error { _, err := f.APIs(ctx, platform.APIFilter{Status: "gone"}); return err }},
		"early sunset": {"sunset", func() error {
			_, err := f.SetAPIStatus(ctx, "t", "a", "", platform.Online, start.Add(time.Hour))
			return err
		}},
		"past sunset":      {"sunset", func() error { _, err := f.SetAPIStatus(ctx, "t", "a", "", platform.Deprecated, start); return err }},
		"package name":     {"name", func() error { _, err := f.PutPackage(ctx, "t", platform.Package{Name: "Trade"}); return err }},
		"package source":   {"source", func() error { _, err := f.PutPackage(ctx, "t", platform.Package{Name: "a", Source: "x"}); return err }},
		"package title":    {"title", func() error { _, err := f.PutPackage(ctx, "t", platform.Package{Name: "a", Title: "\x00"}); return err }},
		"group name":       {"name", func() error { _, err := f.PutIPGroup(ctx, "t", platform.IPGroup{Name: "a b"}); return err }},
		"group in group":   {"rules[1]", group(platform.IPRule{Prefix: net}, platform.IPRule{Group: "x"})},
		"group twice":      {"rules[1]", group(platform.IPRule{Prefix: net}, platform.IPRule{Prefix: net})},
		"group empty rule": {"rules[0]", group(platform.IPRule{})},
		"group note":       {"rules[0].note", group(platform.IPRule{Prefix: net, Note: "\x00"})},
		"plan name":        {"name", planOf(platform.Plan{Name: "-"})},
		"plan app":         {"app.rate.requests", planOf(platform.Plan{Name: "a", App: platform.Limits{Rate: minute}})},
		"plan app_api":     {"app_api.quota.day", planOf(platform.Plan{Name: "a", AppAPI: platform.Limits{Quota: limit.Quota{Day: -1}}})},
		"plan app_user":    {"app_user.rate.period", planOf(platform.Plan{Name: "a", AppUser: platform.Limits{Rate: limit.Rate{Requests: 1}}})},
		"plan api":         {"apis.a.get.rate.requests", planOf(platform.Plan{Name: "a", APIs: map[string]platform.Limits{"a.get": {Rate: minute}}})},
		"plan api name":    {"apis.no name", planOf(platform.Plan{Name: "a", APIs: map[string]platform.Limits{"no name": {}}})},
		"platform limits":  {"quota.month", func() error { return f.SetPlatformLimits(ctx, "t", platform.Limits{Quota: limit.Quota{Month: -1}}) }},
		"list limit":       {"limit", func() error { _, err := f.Apps(ctx, platform.AppFilter{}, platform.Page{Limit: -1}); return err }},
		"list status":      {"status", func() error { _, err := f.Apps(ctx, platform.AppFilter{Status: "x"}, platform.Page{}); return err }},
		"list kind":        {"kind", func() error { _, err := f.Apps(ctx, platform.AppFilter{Kind: "x"}, platform.Page{}); return err }},
		"audit limit":      {"limit", func() error { _, err := f.Audit(ctx, platform.AuditFilter{Limit: -1}); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			before, changes := len(f.entries(t)), len(f.changes)
			requireField(t, c.call(), c.field)
			require.Len(t, f.entries(t), before)
			require.Len(t, f.changes, changes)
		})
	}
	got, err := f.App(ctx, app.ID)
	require.NoError(t, err)
	require.Equal(t, app, got)
}

// A period that ends before it begins, for a package that exists.
func TestGrantPackage(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	app, _ := f.app(t)
	_, err := f.PutPackage(ctx, "test", platform.Package{Name: "trade"})
	require.NoError(t, err)
	_, err = f.GrantPackage(ctx, "test", app.ID, "trade", platform.Period{From: start, Until: start})
	requireField(t, err, "until")

	shanghai := time.FixedZone("CST", 8*3600)
	p := platform.Period{From: start.In(shanghai), Until: start.Add(time.Hour).In(shanghai)}
	_, err = f.GrantPackage(ctx, "test", app.ID, "trade", p)
	require.NoError(t, err)
	got, err := f.App(ctx, app.ID)
	require.NoError(t, err)
	require.Len(t, got.Packages, 1)
	require.Equal(t, start.Truncate(time.Microsecond), got.Packages[0].From)

	err = f.DeletePackage(ctx, "test", "trade")
	require.ErrorIs(t, err, platform.ErrConflict)
	require.EqualError(t, err, "package trade is granted to "+app.Key+": revoke it there first: conflict")
	require.ErrorIs(t, f.DeletePackage(ctx, "test", "basic"), platform.ErrConflict)
	require.ErrorIs(t, f.DeletePackage(ctx, "test", "nope"), platform.ErrNotFound)

	replaced, err := f.GrantPackage(ctx, "test", app.Key, "trade", platform.Period{})
	require.NoError(t, err)
	require.Equal(t, []platform.PackageGrant{{Package: "trade"}}, replaced.Packages)
	_, err = f.RevokePackage(ctx, "test", app.ID, "trade")
	require.NoError(t, err)
	_, err = f.RevokePackage(ctx, "test", app.ID, "trade")
	require.ErrorIs(t, err, platform.ErrNotFound)
	require.NoError(t, f.DeletePackage(ctx, "test", "trade"))
}

func TestTwoLiveSecrets(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	app, first := f.app(t)
	second, err := f.AddSecret(ctx, "test", app.ID, platform.SecretRequest{})
	require.NoError(t, err)
	require.Equal(t, 2, second.Number)
	require.NotEqual(t, first.Secret, second.Secret)
	_, err = f.AddSecret(ctx, "test", app.ID, platform.SecretRequest{})
	require.ErrorIs(t, err, platform.ErrConflict)
	require.ErrorContains(t, err, "revoke number 1 or 2 first")
	_, err = f.AddPublicKey(ctx, "test", app.ID, platform.Sandbox, publicKey)
	require.ErrorIs(t, err, platform.ErrConflict, "a public key is a credential too")

	// The other environment has its own two.
	third, err := f.AddSecret(ctx, "test", app.ID, platform.SecretRequest{Environment: platform.Production})
	require.NoError(t, err)
	require.Equal(t, 3, third.Number)

	// The first goes on for an hour, and never longer.
	got, err := f.RevokeCredential(ctx, "test", app.ID, 1, time.Hour)
	require.NoError(t, err)
	ends := start.Truncate(time.Microsecond).Add(time.Hour)
	require.Equal(t, ends, got.Credentials[0].ExpiresAt)
	got, err = f.RevokeCredential(ctx, "test", app.ID, 1, 24*time.Hour)
	require.NoError(t, err)
	require.Equal(t, ends, got.Credentials[0].ExpiresAt)
	_, err = f.AddSecret(ctx, "test", app.ID, platform.SecretRequest{})
	require.ErrorIs(t, err, platform.ErrConflict, "it still lives")
	f.now = ends
	fourth, err := f.AddSecret(ctx, "test", app.ID, platform.SecretRequest{})
	require.NoError(t, err)
	require.Equal(t, 4, fourth.Number, "numbers are not used again")

	got, err = f.RevokeCredential(ctx, "test", app.ID, 2, 0)
	require.NoError(t, err)
	require.False(t, got.Credentials[1].Live(f.now))
	_, err = f.RevokeCredential(ctx, "test", app.ID, 2, 0)
	require.ErrorIs(t, err, platform.ErrConflict)
	_, err = f.RevokeCredential(ctx, "test", app.ID, 9, 0)
	require.ErrorIs(t, err, platform.ErrNotFound)
	_, err = f.AddPublicKey(ctx, "test", app.ID, "", "\n"+publicKey+"\n\n")
	require.NoError(t, err)
}

func TestPublicKey(t *testing.T) {
	f := newFixture(t)
	app, _ := f.app(t)
	c, err := f.AddPublicKey(t.Context(), "test", app.Key, platform.Production, publicKey)
	require.NoError(t, err)
	require.Equal(t, 2, c.Number)
	require.Equal(t, platform.PublicKey, c.Kind)
	require.Equal(t, platform.Production, c.Environment)
	got, err := f.App(t.Context(), app.ID)
	require.NoError(t, err)
	require.Equal(t, *c, got.Credentials[1])
	_, err = signing.NewPublicKey(2, []byte(got.Credentials[1].PublicKeyPEM))
	require.NoError(t, err)
}

func TestDialects(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	app, _ := f.app(t)
	_, err := f.AddSecret(ctx, "test", app.ID, platform.SecretRequest{Dialect: "top"})
	require.ErrorIs(t, err, platform.ErrConflict)

	issued, err := f.AllowDialect(ctx, "test", app.ID, "top", "", platform.Production)
	require.NoError(t, err)
	require.Regexp(t, `^[0-9a-z]{40}$`, issued.Secret)
	require.Equal(t, platform.Production, issued.Environment)
	require.Equal(t, "top", issued.Dialect)
	require.False(t, signing.OptIn("top", issued.Method), "a weak method is never the default")
	_, err = f.AllowDialect(ctx, "test", app.ID, "top", "md5", "")
	require.ErrorIs(t, err, platform.ErrConflict)
	more, err := f.AddSecret(ctx, "test", app.ID, platform.SecretRequest{Dialect: "top"})
	require.NoError(t, err)
	require.Equal(t, issued.Method, more.Method)

	got, err := f.DisallowDialect(ctx, "test", app.ID, "top")
	require.NoError(t, err)
	require.Empty(t, got.Dialects)
	require.True(t, got.Credentials[0].Live(f.now), "op1 goes on")
	require.False(t, got.Credentials[1].Live(f.now))
	require.False(t, got.Credentials[2].Live(f.now))
	_, err = f.DisallowDialect(ctx, "test", app.ID, "top")
	require.ErrorIs(t, err, platform.ErrNotFound)
	weak, err := f.AllowDialect(ctx, "test", app.ID, "top", "md5", "")
	require.NoError(t, err)
	require.Equal(t, "md5", weak.Method)
}

// Every dialect can be allowed: by itself, or with the method named where it
// has no strong one. The secret serves a key of that method.
func TestEveryDialect(t *testing.T) {
	f := newFixture(t)
	app, _ := f.app(t)
	for _, d := range signing.Names()[1:] {
		issued, err := f.AllowDialect(t.Context(), "test", app.ID, d, "", "")
		if err != nil {
			requireField(t, err, "method")
			for _, m := range signing.Methods(d) {
				require.True(t, signing.OptIn(d, m), "%s %s", d, m)
			}
			issued, err = f.AllowDialect(t.Context(), "test", app.ID, d, signing.Methods(d)[0], "")
			require.NoError(t, err, d)
		}
		_, err = signing.NewSecretKey(d, issued.Method, issued.Number, []byte(issued.Secret))
		require.NoError(t, err, d)
	}
}

func TestIPs(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	app, _ := f.app(t)
	_, err := f.PutIPGroup(ctx, "test", platform.IPGroup{Name: "office", Rules: []platform.IPRule{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}})
	require.NoError(t, err)
	for _, rule := range []string{"::ffff:203.0.113.7", "@office"} {
		_, err = f.AddIP(ctx, "test", app.ID, rule, "note")
		require.NoError(t, err)
	}
	_, err = f.AddIP(ctx, "test", app.ID, "203.0.113.7/32", "other note")
	require.ErrorIs(t, err, platform.ErrConflict, "the same rule, written otherwise")
	err = f.DeleteIPGroup(ctx, "test", "office")
	require.ErrorIs(t, err, platform.ErrConflict)
	require.EqualError(t, err, "IP group office is in the whitelist of "+app.Key+": remove it there first: conflict")
	got, err := f.RemoveIP(ctx, "test", app.ID, "@office")
	require.NoError(t, err)
	require.Equal(t, []platform.IPRule{{Prefix: netip.MustParsePrefix("203.0.113.7/32"), Note: "note"}}, got.IPs)
	_, err = f.RemoveIP(ctx, "test", app.ID, "@office")
	require.ErrorIs(t, err, platform.ErrNotFound)
	require.NoError(t, f.DeleteIPGroup(ctx, "test", "office"))
	require.ErrorIs(t, f.DeleteIPGroup(ctx, "test", "office"), platform.ErrNotFound)
}

func TestPlans(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	app, _ := f.app(t)
	gold := platform.Plan{Name: "gold", App: platform.Limits{Rate: limit.Rate{Requests: 100, Period: time.Minute}}}
	f.changes = nil
	_, err := f.PutPlan(ctx, "test", gold)
	require.NoError(t, err)
	require.Equal(t, []platform.Change{{Kind: platform.ChangeCatalog}}, f.changes)
	got, err := f.SetAppPlan(ctx, "test", app.ID, "gold")
	require.NoError(t, err)
	require.Equal(t, "gold", got.Plan)
	var others []string
	for range 3 {
		other, _, err := f.CreateApp(ctx, "test", platform.NewApp{Name: "Other", Plan: "gold"})
		require.NoError(t, err)
		others = append(others, other.ID)
	}
	err = f.DeletePlan(ctx, "test", "gold")
	require.ErrorIs(t, err, platform.ErrConflict)
	require.Regexp(t, `^plan gold is that of (ak_\w+, ){3}…: give another one there first: conflict$`, err.Error())
	for _, other := range others {
		require.NoError(t, f.DeleteApp(ctx, "test", other))
	}
	got, err = f.SetAppPlan(ctx, "test", app.ID, "default")
	require.NoError(t, err)
	require.Empty(t, got.Plan, "the default plan needs no row")
	require.NoError(t, f.DeletePlan(ctx, "test", "gold"))
	require.ErrorIs(t, f.DeletePlan(ctx, "test", "gold"), platform.ErrNotFound)
	require.NoError(t, f.SetPlatformLimits(ctx, "test", gold.App))
	cat, err := f.Catalog(ctx)
	require.NoError(t, err)
	require.Equal(t, gold.App, cat.Platform)
	require.JSONEq(t, `{"rate":{"requests":100,"period":"1m0s"}}`, string(f.entries(t)[0].After))
}

// Every change is in the log, with what was before and after, and no secret.
func TestAuditTrail(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	app, first := f.app(t)
	second, err := f.AddSecret(ctx, "cli:ann", app.Key, platform.SecretRequest{})
	require.NoError(t, err)
	_, err = f.SuspendApp(ctx, "cli:bob", app.ID)
	require.NoError(t, err)
	_, err = f.ResumeApp(ctx, "cli:bob", app.ID)
	require.NoError(t, err)
	require.NoError(t, f.DeleteApp(ctx, "cli:cat", app.Key))
	entries := f.entries(t)
	var actions []string
	for _, e := range entries {
		require.Equal(t, app.ID, e.Target)
		require.Equal(t, start.Truncate(time.Microsecond), e.At)
		actions = append(actions, e.Actor+" "+e.Action)
		for _, secret := range []string{first.Secret, second.Secret} {
			require.NotContains(t, string(e.Before)+string(e.After), secret)
		}
	}
	require.Equal(t, []string{"cli:cat app.delete", "cli:bob app.resume", "cli:bob app.suspend", "cli:ann secret.add", "test app.create"}, actions)
	require.Empty(t, entries[0].After)
	var before, after platform.App
	require.NoError(t, json.Unmarshal(entries[2].Before, &before))
	require.NoError(t, json.Unmarshal(entries[2].After, &after))
	require.Equal(t, platform.Active, before.Status)
	require.Equal(t, platform.Suspended, after.Status)
	require.Len(t, f.changes, 5)
	_, err = f.App(ctx, app.ID)
	require.ErrorIs(t, err, platform.ErrNotFound)
	for _, err := range []error{
		f.DeleteApp(ctx, "test", app.ID),
		errOf(f.SuspendApp(ctx, "test", "ak_nope")),
	} {
		require.ErrorIs(t, err, platform.ErrNotFound)
	}
}

func errOf(_ *platform.App, err error) error { return err }

func TestLimitsJSON(t *testing.T) {
	l := platform.Limits{Rate: limit.Rate{Requests: 100, Period: 90 * time.Second, Burst: 200}, Quota: limit.Quota{Day: 5, Month: 6}}
	b, err := json.Marshal(l)
	require.NoError(t, err)
	require.JSONEq(t, `{"rate":{"requests":100,"period":"1m30s","burst":200},"quota":{"day":5,"month":6}}`, string(b))
	var back platform.Limits
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, l, back)
	plan, err := json.Marshal(platform.Plan{Name: "p", App: platform.Limits{Quota: limit.Quota{Day: 1}}})
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"p","app":{"quota":{"day":1}}}`, string(plan))
	for text, want := range map[string]string{
		`{"rate":{"requests":1,"period":60}}`:   "period",
		`{"rate":{"requests":1,"period":"60"}}`: `rate.period: "60" is no duration; want a number with a unit`,
		`{"rate":{"requests":1}}`:               "rate.period",
		`{"rates":{}}`:                          `unknown field "rates"`,
	} {
		require.ErrorContains(t, json.Unmarshal([]byte(text), &back), want, text)
	}
}

func TestRandomnessFails(t *testing.T) {
	s := platform.NewService(platform.ServiceOptions{Store: newFixture(t).store, Rand: iotest.ErrReader(errors.New("no entropy"))})
	_, _, err := s.CreateApp(t.Context(), "test", platform.NewApp{Name: "a"})
	require.ErrorContains(t, err, "no entropy")
	n, err := s.CountApps(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

// Secrets use all of their alphabet.
func TestSecretsAreRandom(t *testing.T) {
	f := newFixture(t)
	var all strings.Builder
	for range 40 {
		_, s := f.app(t)
		all.WriteString(s.Secret[3:])
	}
	for c := range strings.SplitSeq("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "") {
		require.Contains(t, all.String(), c)
	}
}

func TestUnavailable(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := f.CreateApp(ctx, "test", platform.NewApp{Name: "a"})
	require.ErrorIs(t, err, platform.ErrUnavailable)
	require.Empty(t, f.changes)
}
