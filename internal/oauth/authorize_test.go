package oauth_test

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// A request whose app or redirect URI is not to be trusted shows a page.
func TestAuthorizePage(t *testing.T) {
	f := newFixture(t)
	two := f.newApp(platform.Web, callback, callback+"2")
	suspended := f.newApp(platform.Web, callback)
	_, err := f.service.SuspendApp(t.Context(), "test", suspended.ID)
	require.NoError(t, err)
	for name, q := range map[string]string{
		"no client_id":        query(f.web, "client_id", ""),
		"unknown client_id":   query(f.web, "client_id", "ak_00000000000000000000"),
		"long client_id":      query(f.web, "client_id", strings.Repeat("a", 5000)),
		"not UTF-8":           query(f.web, "client_id", "\xff"),
		"client_id twice":     query(f.web) + "&client_id=" + f.web.Key,
		"redirect_uri twice":  query(f.web) + "&redirect_uri=" + url.QueryEscape(callback),
		"not encoded":         query(f.web) + "&state=%zz",
		"suspended":           query(suspended),
		"other path":          query(f.web, "redirect_uri", "https://isv.example.com/callback/?shop=1"),
		"path below":          query(f.web, "redirect_uri", "https://isv.example.com/callback/x?shop=1"),
		"no query":            query(f.web, "redirect_uri", "https://isv.example.com/callback"),
		"more query":          query(f.web, "redirect_uri", callback+"&x=1"),
		"fragment":            query(f.web, "redirect_uri", callback+"#x"),
		"upper case":          query(f.web, "redirect_uri", strings.Replace(callback, "isv", "ISV", 1)),
		"plain http":          query(f.web, "redirect_uri", strings.Replace(callback, "https", "http", 1)),
		"user info":           query(f.web, "redirect_uri", strings.Replace(callback, "//", "//isv.example.com@", 1)),
		"other port":          query(f.web, "redirect_uri", strings.Replace(callback, ".com/", ".com:444/", 1)),
		"dot segments":        query(f.web, "redirect_uri", strings.Replace(callback, "/callback", "/a/../callback", 1)),
		"none of two":         query(two, "redirect_uri", ""),
		"loopback, localhost": query(f.native, "redirect_uri", "http://localhost:4711/cb"),
		"loopback, at":        query(f.native, "redirect_uri", "http://127.0.0.1:4711@evil.example/cb"),
		"loopback, name":      query(f.native, "redirect_uri", "http://127.0.0.1.evil.example/cb"),
		"loopback, long port": query(f.native, "redirect_uri", "http://127.0.0.1:123456/cb"),
		"loopback, no port":   query(f.native, "redirect_uri", "http://127.0.0.1:/cb"),
		"loopback, path":      query(f.native, "redirect_uri", "http://127.0.0.1:5000/cb2"),
		"loopback, https":     query(f.native, "redirect_uri", "https://127.0.0.1:4711/cb"),
		"loopback, IPv6":      query(f.native, "redirect_uri", "http://[::1]:4711/cb"),
		"too many":            strings.Repeat("a=b&", 100) + query(f.web),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := f.Authorize(t.Context(), q)
			var page *oauth.PageError
			require.ErrorAs(t, err, &page)
			require.Nil(t, r)
			require.NoError(t, page.Err)
			require.Equal(t, 400, page.Status)
		})
	}
}

func TestAuthorizeRedirect(t *testing.T) {
	f := newFixture(t)
	old := f.set(f.newApp(platform.Web), platform.OAuthSettings{RedirectURIs: []string{callback}, WithoutPKCE: true})
	for name, c := range map[string]struct{ query, code, state string }{
		"no response_type":    {query(f.web, "response_type", ""), "invalid_request", "st 1&ü"},
		"token":               {query(f.web, "response_type", "token"), "unsupported_response_type", "st 1&ü"},
		"code token":          {query(f.web, "response_type", "code token"), "unsupported_response_type", "st 1&ü"},
		"id_token":            {query(f.web, "response_type", "id_token"), "unsupported_response_type", "st 1&ü"},
		"fragment":            {query(f.web, "response_mode", "fragment"), "invalid_request", "st 1&ü"},
		"form_post":           {query(f.web, "response_mode", "form_post"), "invalid_request", "st 1&ü"},
		"response_type twice": {query(f.web) + "&response_type=code", "invalid_request", "st 1&ü"},
		"scope twice":         {query(f.web) + "&scope=trade&scope=trade", "invalid_request", "st 1&ü"},
		"state twice":         {query(f.web) + "&state=2", "invalid_request", ""},
		"no challenge":        {query(f.web, "code_challenge", "", "code_challenge_method", ""), "invalid_request", "st 1&ü"},
		"no challenge native": {query(f.native, "code_challenge", "", "code_challenge_method", ""), "invalid_request", "st 1&ü"},
		"plain":               {query(f.web, "code_challenge_method", "plain"), "invalid_request", "st 1&ü"},
		"no method":           {query(f.web, "code_challenge_method", ""), "invalid_request", "st 1&ü"},
		"no method, exempt":   {query(old, "code_challenge_method", ""), "invalid_request", "st 1&ü"},
		"method alone":        {query(old, "code_challenge", ""), "invalid_request", "st 1&ü"},
		"short challenge":     {query(f.web, "code_challenge", challenge[1:]), "invalid_request", "st 1&ü"},
		"padded challenge":    {query(f.web, "code_challenge", challenge+"="), "invalid_request", "st 1&ü"},
		"base64 challenge":    {query(f.web, "code_challenge", strings.Replace(challenge, "-", "+", 1)), "invalid_request", "st 1&ü"},
		"loose challenge":     {query(f.web, "code_challenge", challenge[:42]+"N"), "invalid_request", "st 1&ü"},
		"unknown scope":       {query(f.web, "scope", "trade nothing"), "invalid_scope", "st 1&ü"},
		"scope not held":      {query(f.web, "scope", "refund"), "invalid_scope", "st 1&ü"},
		"scope syntax":        {query(f.web, "scope", "trade\"x"), "invalid_scope", "st 1&ü"},
		"resource":            {query(f.web, "resource", "https://elsewhere.example.com"), "invalid_target", "st 1&ü"},
		"request":             {query(f.web, "request", "eyJ"), "request_not_supported", "st 1&ü"},
		"request_uri":         {query(f.web, "request_uri", "urn:x"), "request_uri_not_supported", "st 1&ü"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.Authorize(t.Context(), c.query)
			var redirect *oauth.RedirectError
			require.ErrorAs(t, err, &redirect)
			require.NoError(t, redirect.Err)
			u, err := url.Parse(redirect.URL())
			require.NoError(t, err)
			q := u.Query()
			require.Equal(t, c.code, q.Get("error"))
			require.Equal(t, c.state, q.Get("state"))
			require.Equal(t, c.state == "", !q.Has("state"))
			require.Equal(t, issuer, q.Get("iss"))
			require.Regexp(t, `^[\x20-\x21\x23-\x5B\x5D-\x7E]+$`, q.Get("error_description"))
			require.False(t, q.Has("code"))
		})
	}
}

func TestAuthorize(t *testing.T) {
	f := newFixture(t)
	old := f.set(f.newApp(platform.Web), platform.OAuthSettings{RedirectURIs: []string{callback}, WithoutPKCE: true})
	for name, c := range map[string]struct {
		query string
		check func(t *testing.T, r *oauth.AuthorizationRequest)
	}{
		"all scopes": {query(f.web), func(t *testing.T, r *oauth.AuthorizationRequest) {
			require.Equal(t, []string{"item", "trade"}, r.Scopes)
			require.Equal(t, challenge, r.Challenge)
			require.Equal(t, "st 1&ü", r.State)
			require.True(t, r.RedirectGiven)
		}},
		"one scope":             {query(f.web, "scope", "trade"), scopes("trade")},
		"the basic scope":       {query(f.web, "scope", "basic"), scopes()},
		"scopes twice":          {query(f.web, "scope", "trade  item basic trade"), scopes("item", "trade")},
		"unknown parameters":    {query(f.web) + "&x=1&x=2&prompt=none", scopes("item", "trade")},
		"empty parameters":      {query(f.web) + "&scope=&resource=&state=", scopes("item", "trade")},
		"without PKCE":          {query(old, "code_challenge", "", "code_challenge_method", ""), scopes("item", "trade")},
		"exempt but with PKCE":  {query(old), scopes("item", "trade")},
		"another loopback port": {query(f.native, "redirect_uri", "http://127.0.0.1:50000/cb"), scopes("item", "trade")},
		"no loopback port":      {query(f.native, "redirect_uri", "http://127.0.0.1/cb"), scopes("item", "trade")},
		"resources": {query(f.web, "resource", issuer) + "&resource=https%3A%2F%2Freports.example.com&resource=https%3A%2F%2Freports.example.com", func(t *testing.T, r *oauth.AuthorizationRequest) {
			require.Equal(t, []string{issuer, "https://reports.example.com"}, r.Resources)
		}},
		"the only redirect URI": {query(f.web, "redirect_uri", ""), func(t *testing.T, r *oauth.AuthorizationRequest) {
			require.Equal(t, callback, r.RedirectURI)
			require.False(t, r.RedirectGiven)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := f.Authorize(t.Context(), c.query)
			require.NoError(t, err)
			c.check(t, r)
			again, err := f.Authorize(t.Context(), r.RawQuery)
			require.NoError(t, err)
			require.Equal(t, r, again)
		})
	}
}

// Only packages within their period can be asked for.
func TestScopesInTheirPeriod(t *testing.T) {
	f := newFixture(t)
	period := platform.Period{From: start.Add(time.Hour), Until: start.Add(2 * time.Hour)}
	_, err := f.service.GrantPackage(t.Context(), "test", f.web.ID, "refund", period)
	require.NoError(t, err)
	for _, held := range []bool{false, true, false} {
		all, err := f.Authorize(t.Context(), query(f.web))
		require.NoError(t, err)
		require.Equal(t, held, slices.Contains(all.Scopes, "refund"))
		_, err = f.Authorize(t.Context(), query(f.web, "scope", "refund"))
		require.Equal(t, held, err == nil)
		f.pass(time.Hour)
	}
}

func scopes(want ...string) func(*testing.T, *oauth.AuthorizationRequest) {
	return func(t *testing.T, r *oauth.AuthorizationRequest) {
		t.Helper()
		require.Equal(t, want, append([]string(nil), r.Scopes...))
	}
}

// The answer goes to the redirect URI as it was registered, with the state as it
// was sent, and says who answers.
func TestApproveAndDeny(t *testing.T) {
	f := newFixture(t)
	r, err := f.Authorize(t.Context(), query(f.web))
	require.NoError(t, err)
	to, err := f.Approve(t.Context(), r, f.user.ID, "")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(to, callback+"&code=oc_"), to)
	u, err := url.Parse(to)
	require.NoError(t, err)
	require.Equal(t, "st 1&ü", u.Query().Get("state"))
	require.Equal(t, issuer, u.Query().Get("iss"))

	u, err = url.Parse(f.Deny(r))
	require.NoError(t, err)
	require.Equal(t, "access_denied", u.Query().Get("error"))
	require.Equal(t, "st 1&ü", u.Query().Get("state"))
	require.Equal(t, issuer, u.Query().Get("iss"))

	_, err = f.service.DisableUser(t.Context(), "test", f.user.ID)
	require.NoError(t, err)
	_, err = f.Approve(t.Context(), r, f.user.ID, "")
	var redirect *oauth.RedirectError
	require.ErrorAs(t, err, &redirect)
	require.Equal(t, "access_denied", redirect.Code)
}

func TestCovered(t *testing.T) {
	f := newFixture(t)
	covered := func(app *platform.App, changes ...string) bool {
		r, err := f.Authorize(t.Context(), query(app, changes...))
		require.NoError(t, err)
		grant, err := f.Covered(t.Context(), r, f.user.ID)
		require.NoError(t, err)
		return grant != ""
	}
	require.False(t, covered(f.web))
	f.code(f.web, "scope", "trade")
	require.True(t, covered(f.web, "scope", "trade"))
	require.True(t, covered(f.web, "scope", "basic"))
	require.False(t, covered(f.web, "scope", "trade item"))
	require.False(t, covered(f.other, "scope", "trade"), "the grant is another app's")
	f.pass(oauth.RefreshTokenLifetime)
	require.False(t, covered(f.web, "scope", "trade"), "the grant has ended")
	f.code(f.web)
	require.True(t, covered(f.web))
	require.False(t, covered(f.web, "prompt", "login consent"), "the app wants the page")
	f.code(f.native)
	require.False(t, covered(f.native), "any program could listen on the loopback address")
}

// Without the merchant's word nothing lasts longer than the grant that the
// merchant agreed to, and nothing comes after it was revoked.
func TestApproveCovered(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	r, grant := f.agreed()
	agreed, err := f.store.Grant(ctx, grant)
	require.NoError(t, err)

	f.pass(oauth.RefreshTokenLifetime - time.Hour)
	tokens := f.exchange(f.web, f.codeUnder(r, grant))
	require.Equal(t, 3600, tokens.num("expires_in"))
	refresh, err := f.store.Token(ctx, oauth.HashOf(tokens.str("refresh_token")))
	require.NoError(t, err)
	require.Equal(t, agreed.ExpiresAt, refresh.ExpiresAt)
	now, err := f.store.Grant(ctx, grant)
	require.NoError(t, err)
	require.Equal(t, agreed, now)

	wider := *r
	wider.Scopes = []string{"item", "refund"}
	_, err = f.Approve(ctx, &wider, f.user.ID, grant)
	require.ErrorIs(t, err, oauth.ErrNotCovered)
	_, err = f.service.RevokeGrant(ctx, "test", grant)
	require.NoError(t, err)
	_, err = f.Approve(ctx, r, f.user.ID, grant)
	require.ErrorIs(t, err, oauth.ErrNotCovered)
	f.code(f.web)
	_, err = f.Approve(ctx, r, f.user.ID, grant)
	require.ErrorIs(t, err, oauth.ErrNotCovered, "that it was agreed to again is another grant")
	f.pass(oauth.RefreshTokenLifetime)
	_, err = f.store.GrantOf(ctx, f.user.ID, f.web.Number, platform.Production, f.clock())
	require.ErrorIs(t, err, platform.ErrNotFound)
}

func TestAuthorizeStoreDown(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.store.Close())
	_, err := f.Authorize(t.Context(), query(f.web))
	var page *oauth.PageError
	require.ErrorAs(t, err, &page)
	require.GreaterOrEqual(t, page.Status, 500)
	require.Error(t, errors.Unwrap(err))
	require.NotContains(t, page.Description, "sql")
}

func TestNewRefusesIssuers(t *testing.T) {
	f := newFixture(t)
	for _, bad := range []string{"", "open.example.com", "http://open.example.com", "https://open.example.com/", "https://open.example.com/shop", "https://open.example.com?x", "https://open.example.com#x", "https://u@open.example.com", "https://"} {
		_, err := oauth.New(oauth.Options{Store: f.store, Apps: f.store, Issuer: bad})
		require.ErrorContains(t, err, "issuer", bad)
	}
}
