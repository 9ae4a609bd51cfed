package platform_test

import (
	"context"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func TestSetOAuth(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	modes := map[platform.AppMode]*platform.App{}
	for _, mode := range []platform.AppMode{platform.Hosted, platform.Web, platform.Client} {
		a, _, err := f.CreateApp(ctx, "test", platform.NewApp{Name: "a", Mode: mode})
		require.NoError(t, err)
		modes[mode] = a
	}
	f.changes = nil
	o := platform.OAuthSettings{RedirectURIs: []string{"https://a.example.com/cb?x=1"}, Tokens: platform.JWTToken, Refresh: platform.RotateRefresh, WithoutPKCE: true}
	app, err := f.SetOAuth(ctx, "cli:ann", modes[platform.Web].Key, o)
	require.NoError(t, err)
	require.Equal(t, o, app.OAuth)
	got, err := f.App(ctx, app.ID)
	require.NoError(t, err)
	require.Equal(t, app, got)
	require.Equal(t, []platform.Change{{Kind: platform.ChangeApp, Key: app.Key}}, f.changes)
	require.Contains(t, string(f.entries(t)[0].After), "https://a.example.com/cb?x=1")
	app, err = f.SetOAuth(ctx, "cli:ann", app.ID, platform.OAuthSettings{})
	require.NoError(t, err)
	require.True(t, app.OAuth.IsZero())
	list, err := f.Apps(ctx, platform.AppFilter{}, platform.Page{})
	require.NoError(t, err)
	require.Len(t, list, 3)

	both := []platform.AppMode{platform.Web, platform.Hosted}
	client := []platform.AppMode{platform.Client}
	all := []platform.AppMode{platform.Client, platform.Web, platform.Hosted}
	for _, c := range []struct {
		uri     string
		modes   []platform.AppMode
		problem string // empty: accepted
	}{
		{"https://shop.example.com", all, ""},
		{"https://shop.example.com:8443/a/b?c=d&e=%20", all, ""},
		{"https://203.0.113.7/cb", all, ""},
		{"http://127.0.0.1/cb", client, ""},
		{"http://127.0.0.1:51004/cb", client, ""},
		{"http://127.1.2.3/cb", client, ""},
		{"http://[::1]/cb", client, ""},
		{"com.example.app:/cb", client, ""},
		{"com.example.app://host/cb", client, ""},
		{"http://127.0.0.1/cb", both, "scheme"},
		{"com.example.app:/cb", both, "no host"},
		{"com.example.app://host/cb", both, "scheme"},
		{"http://shop.example.com/cb", client, "no loopback"},
		{"http://localhost/cb", client, "no loopback"},
		{"http://127.0.0.1.example.com/cb", client, "no loopback"},
		{"http://[::1%25eth0]/cb", client, "no loopback"},
		{"myapp:/cb", all, "no host"},
		{"myapp://cb", all, "scheme"},
		{"com.example.app:cb", client, "no path"},
		{"com.example.app:", client, "no path"},
		{"javascript:alert(1)", all, "no host"},
		{"data:text/html,x", all, "no host"},
		{"urn:ietf:wg:oauth:2.0:oob", all, "no host"},
		{"", all, "no absolute URI"},
		{"/cb", all, "no absolute URI"},
		{"//shop.example.com/cb", all, "no absolute URI"},
		{"https:///cb", all, "no host"},
		{"https:shop.example.com/cb", all, "no host"},
		{"https://shop.example.com/cb#", all, "fragment"},
		{"https://shop.example.com/cb#a", all, "fragment"},
		{"https://user@shop.example.com/cb", all, "user name"},
		{"https://user:pw@shop.example.com/cb", all, "user name"},
		{"https://*.example.com/cb", all, "wildcard"},
		{"https://shop.example.com/*", all, "wildcard"},
		{"https://shop.example.com/a b", all, "characters"},
		{"https://shop.example.com\\@evil.example", all, "characters"},
		{"https://shop.example.com/\r\nSet-Cookie:x", all, "characters"},
		{"https://店.example.com/cb", all, "characters"},
		{"https://shop.example.com/%zz", all, "no absolute URI"},
		{"https://shop.example.com:port/cb", all, "no absolute URI"},
		{"https://shop.example.com/" + strings.Repeat("a", 2000), all, "bytes"},
	} {
		for _, mode := range c.modes {
			_, err := f.SetOAuth(ctx, "test", modes[mode].ID, platform.OAuthSettings{RedirectURIs: []string{"https://other.example.com", c.uri}})
			if c.problem == "" {
				require.NoError(t, err, "%s %s", mode, c.uri)
				continue
			}
			requireField(t, err, "redirect_uris[1]")
			require.ErrorContains(t, err, c.problem, "%s %s", mode, c.uri)
		}
	}
	const initiate = "initiate_login_uri"
	hosted, err := f.SetOAuth(ctx, "test", modes[platform.Hosted].ID, platform.OAuthSettings{InitiateLoginURI: "https://isv.example.com/start?a=b"})
	require.NoError(t, err)
	require.Equal(t, "https://isv.example.com/start?a=b", hosted.OAuth.InitiateLoginURI)
	require.False(t, hosted.OAuth.IsZero())
	got, err = f.App(ctx, hosted.ID)
	require.NoError(t, err)
	require.Equal(t, hosted, got)
	for uri, problem := range map[string]string{
		"http://isv.example.com/start": "scheme", "http://127.0.0.1/start": "scheme", "com.example.app:/start": "no host", "/start": "no absolute URI",
		"https://isv.example.com/start#a": "fragment", "https://*.example.com/": "wildcard", "https://u@isv.example.com/": "user name",
	} {
		_, err := f.SetOAuth(ctx, "test", hosted.ID, platform.OAuthSettings{InitiateLoginURI: uri})
		requireField(t, err, initiate)
		require.ErrorContains(t, err, problem, uri)
	}
	for _, c := range []struct {
		mode  platform.AppMode
		field string
		o     platform.OAuthSettings
	}{
		{platform.Web, "redirect_uris", platform.OAuthSettings{RedirectURIs: make([]string, 21)}},
		{platform.Web, "redirect_uris[1]", platform.OAuthSettings{RedirectURIs: []string{"https://a", "https://a"}}},
		{platform.Web, "tokens", platform.OAuthSettings{Tokens: "paper"}},
		{platform.Web, "refresh", platform.OAuthSettings{Refresh: "never"}},
		{platform.Client, "refresh", platform.OAuthSettings{Refresh: platform.KeepRefresh}},
		{platform.Client, "without_pkce", platform.OAuthSettings{WithoutPKCE: true}},
		{platform.Web, initiate, platform.OAuthSettings{InitiateLoginURI: "https://isv.example.com/start"}},
		{platform.Client, initiate, platform.OAuthSettings{InitiateLoginURI: "https://isv.example.com/start"}},
	} {
		_, err := f.SetOAuth(ctx, "test", modes[c.mode].ID, c.o)
		requireField(t, err, c.field)
	}
	_, err = f.SetOAuth(ctx, "test", modes[platform.Client].ID, platform.OAuthSettings{Refresh: platform.RotateRefresh})
	require.NoError(t, err)
	_, err = f.SetOAuth(ctx, "test", "ak_none", platform.OAuthSettings{})
	require.ErrorIs(t, err, platform.ErrNotFound)
}

// Whatever is written as a redirect URI is accepted or refused by name.
func TestRedirectURIsProperty(t *testing.T) {
	f := newFixture(t)
	app, _, err := f.CreateApp(t.Context(), "test", platform.NewApp{Name: "a", Mode: platform.Client})
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		uri := rapid.StringMatching(`(https?|com\.a|javascript)?:?/{0,3}([a-z.@:*#\[\]%]|127\.0\.0\.1|é|\\){0,12}`).Draw(t, "uri")
		_, err := f.SetOAuth(context.Background(), "test", app.ID, platform.OAuthSettings{RedirectURIs: []string{uri}})
		if err == nil {
			require.NotContains(t, uri, "#")
			require.NotContains(t, uri, "*")
			require.Regexp(t, `^(https://|http://(127\.|\[::1\])|com\.a:/)`, uri)
			return
		}
		var mistake *platform.FieldError
		require.ErrorAs(t, err, &mistake)
	})
}

// authorize makes a grant with an access and a refresh token of the names.
func (f *fixture) authorize(tb testing.TB, a *platform.App, u *platform.User, access, refresh string) *platform.Grant {
	tb.Helper()
	g := &platform.Grant{
		User: u.ID, App: a.ID, AppNumber: a.Number, Environment: platform.Production, Scopes: []string{"trade"},
		CreatedAt: f.now, ExpiresAt: f.now.Add(180 * 24 * time.Hour),
	}
	family := oauth.Family("fam_" + access)
	code := &oauth.Code{Hash: sha256.Sum256([]byte(family)), Family: family, App: a.Number, User: u.ID, IssuedAt: f.now, ExpiresAt: f.now.Add(time.Minute)}
	require.NoError(tb, f.store.Authorize(tb.Context(), g, code))
	token := func(value string, kind oauth.TokenKind) *oauth.Token {
		return &oauth.Token{
			Hash: sha256.Sum256([]byte(value)), Family: family, Kind: kind, Grant: g.ID, App: a.Number, Environment: platform.Production, User: u.ID,
			Scopes: []string{"trade"}, IssuedAt: f.now, ExpiresAt: f.now.Add(time.Hour),
		}
	}
	require.NoError(tb, f.store.SaveTokens(tb.Context(), token(access, oauth.AccessToken), token(refresh, oauth.RefreshToken)))
	f.changes = nil
	return g
}

func TestRevokeGrant(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	a, _ := f.app(t)
	u := f.user(t)
	g := f.authorize(t, a, u, "at_1", "rt_1")
	for _, filter := range []platform.GrantFilter{{}, {User: u.ID}, {User: "SHOP-1@example.com", App: a.Key}, {App: a.ID, LiveAt: f.now}, {Live: true}} {
		grants, err := f.Grants(ctx, filter, platform.Page{})
		require.NoError(t, err)
		require.Equal(t, []platform.Grant{*g}, grants)
	}
	for _, filter := range []platform.GrantFilter{{User: "nobody"}, {App: "ak_none"}} {
		_, err := f.Grants(ctx, filter, platform.Page{})
		require.ErrorIs(t, err, platform.ErrNotFound)
	}
	revoked, err := f.RevokeGrant(ctx, "user:"+u.ID, g.ID)
	require.NoError(t, err)
	require.Equal(t, start.UTC().Truncate(time.Microsecond), revoked.RevokedAt)
	require.Equal(t, []platform.Change{{Kind: platform.ChangeGrant, Key: g.ID}}, f.changes)
	got, err := f.Grant(ctx, g.ID)
	require.NoError(t, err)
	require.Equal(t, revoked, got)
	e := f.entries(t)[0]
	require.Equal(t, []string{"user:" + u.ID, "grant.revoke", g.ID}, []string{e.Actor, e.Action, e.Target})
	_, err = f.InspectToken(ctx, "at_1")
	require.ErrorIs(t, err, platform.ErrNotFound)
	_, err = f.RevokeGrant(ctx, "test", g.ID)
	require.ErrorIs(t, err, platform.ErrConflict)
	_, err = f.RevokeGrant(ctx, "test", "gr_none")
	require.ErrorIs(t, err, platform.ErrNotFound)
	grants, err := f.Grants(ctx, platform.GrantFilter{Live: true}, platform.Page{})
	require.NoError(t, err)
	require.Empty(t, grants)
}

func TestInspectAndRevokeTokens(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	a, _ := f.app(t)
	u := f.user(t)
	g := f.authorize(t, a, u, "at_1", "rt_1")
	f.authorize(t, a, u, "at_2", "rt_2")
	info, err := f.InspectToken(ctx, " at_1\n")
	require.NoError(t, err)
	require.Equal(t, []any{a.ID, a.Key, u.ID, g.ID, []string{"trade"}, false}, []any{info.App, info.AppKey, info.User, info.Grant, info.Scopes, info.Refresh})
	require.Equal(t, f.now.Add(time.Hour).Truncate(time.Microsecond), info.ExpiresAt)

	revoked, err := f.RevokeToken(ctx, "cli:ann", "at_1")
	require.NoError(t, err)
	require.Equal(t, info, revoked)
	require.Equal(t, []platform.Change{{Kind: platform.ChangeToken, Key: "fam_at_1"}}, f.changes)
	_, err = f.InspectToken(ctx, "at_1")
	require.ErrorIs(t, err, platform.ErrNotFound)
	_, err = f.InspectToken(ctx, "rt_1")
	require.NoError(t, err, "an access token goes alone")
	_, err = f.RevokeToken(ctx, "cli:ann", "rt_2")
	require.NoError(t, err)
	_, err = f.InspectToken(ctx, "at_2")
	require.ErrorIs(t, err, platform.ErrNotFound, "a refresh token takes the others along")
	for _, e := range f.entries(t)[:2] {
		require.Equal(t, []string{"cli:ann", "token.revoke", a.ID}, []string{e.Actor, e.Action, e.Target})
		require.NotContains(t, string(e.Before), "at_1")
		require.NotContains(t, string(e.Before), "rt_2")
	}
	_, err = f.RevokeToken(ctx, "cli:ann", "at_1")
	require.ErrorIs(t, err, platform.ErrNotFound)
	for _, bad := range []string{"", " ", "a b", strings.Repeat("a", 9000)} {
		_, err := f.InspectToken(ctx, bad)
		requireField(t, err, "token")
		_, err = f.RevokeToken(ctx, "test", bad)
		requireField(t, err, "token")
	}
}
