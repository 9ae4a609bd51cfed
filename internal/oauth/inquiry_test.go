package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (f *fixture) revoke(app *platform.App, token string, pairs ...string) reply {
	f.t.Helper()
	return f.serve(f.RevokeHandler(), request("/oauth/revoke", f.as(app, append(pairs, "token", token)...)))
}

func TestIntrospect(t *testing.T) {
	f := newFixture(t)
	r := f.exchange(f.web, f.code(f.web, "scope", "trade"))
	f.pass(time.Minute)
	require.Equal(t, map[string]any{
		"active": true, "scope": "trade", "client_id": f.web.Key, "token_type": "Bearer", "sub": f.user.ID, "iss": issuer,
		"iat": float64(start.Unix()), "exp": float64(start.Add(oauth.AccessTokenLifetime).Unix()),
	}, f.introspect(f.web, r.str("access_token")).body)
	refresh := f.introspect(f.web, r.str("refresh_token"))
	require.Equal(t, true, refresh.body["active"])
	require.NotContains(t, refresh.body, "token_type")
	require.Equal(t, "no-store", refresh.Header().Get("Cache-Control"))

	require.False(t, f.active(f.other, r.str("access_token")), "another app's")
	for _, token := range []string{"x", "at_" + strings.Repeat("A", 43), strings.Repeat("x", 9000), "\x00"} {
		require.False(t, f.active(f.web, token))
	}
	requireError(t, f.introspect(f.native, r.str("access_token")), 401, "invalid_client")
	requireError(t, f.introspect(f.web, ""), 400, "invalid_request")

	f.pass(oauth.AccessTokenLifetime - time.Minute)
	require.False(t, f.active(f.web, r.str("access_token")), "expired")
	require.True(t, f.active(f.web, r.str("refresh_token")))
	_, err := f.service.DisableUser(t.Context(), "test", f.user.ID)
	require.NoError(t, err)
	require.False(t, f.active(f.web, r.str("refresh_token")), "the merchant is disabled")
}

// An access token that was seen before costs no look into the store, until
// something ends it.
func TestIntrospectLooksOnce(t *testing.T) {
	f := newFixture(t)
	c := &counting{}
	f.Server = f.node(f.store, f.counted(c))
	granted := f.exchange(f.web, f.code(f.web)).str("access_token")
	own := f.serve(f.TokenHandler(), request("/oauth/token", f.as(f.web, "grant_type", "client_credentials"))).str("access_token")
	for range 3 {
		require.True(t, f.active(f.web, granted))
		require.True(t, f.active(f.web, own))
		require.False(t, f.active(f.other, own))
	}
	require.EqualValues(t, 2, c.looks.Load())

	// The verifier hears of revocations as it does behind the gate.
	for _, token := range []string{granted, own} {
		require.Equal(t, 200, f.revoke(f.web, token).Code)
	}
	f.Tokens.ForgetAll()
	require.False(t, f.active(f.web, granted))
	require.False(t, f.active(f.web, own))
}

func TestIntrospectReplaced(t *testing.T) {
	f := newFixture(t)
	f.web = f.set(f.web, platform.OAuthSettings{RedirectURIs: []string{callback}, Refresh: platform.RotateRefresh})
	first := f.exchange(f.web, f.code(f.web))
	second := f.refresh(f.web, first.str("refresh_token"))
	require.False(t, f.active(f.web, first.str("refresh_token")))
	require.True(t, f.active(f.web, second.str("refresh_token")), "asking is no replay")
}

func TestRevoke(t *testing.T) {
	f := newFixture(t)
	bystander := f.exchange(f.web, f.code(f.web))
	r := f.exchange(f.web, f.code(f.web))
	more := f.refresh(f.web, r.str("refresh_token"))

	for _, token := range []string{"x", "at_" + strings.Repeat("A", 43), "\xf0\x9f\x98\x80"} {
		require.Equal(t, 200, f.revoke(f.web, token).Code)
	}
	for _, token := range []string{r.str("access_token"), r.str("refresh_token")} {
		require.Equal(t, 200, f.revoke(f.other, token).Code, "told nothing about another app's")
		require.Equal(t, 200, f.revoke(f.native, token).Code)
		require.True(t, f.active(f.web, token))
	}
	out := f.revoke(f.web, r.str("access_token"), "token_type_hint", "refresh_token")
	require.Equal(t, 200, out.Code)
	require.JSONEq(t, "{}", out.Body.String(), "some clients want JSON")
	require.Equal(t, "application/json", out.Header().Get("Content-Type"))
	require.Equal(t, "no-store", out.Header().Get("Cache-Control"))
	require.False(t, f.active(f.web, r.str("access_token")))
	require.True(t, f.active(f.web, r.str("refresh_token")))
	require.True(t, f.active(f.web, more.str("access_token")))

	require.Equal(t, 200, f.revoke(f.web, r.str("refresh_token"), "token_type_hint", "nonsense").Code)
	require.False(t, f.active(f.web, r.str("refresh_token")))
	require.False(t, f.active(f.web, more.str("access_token")), "it hangs from the same authorization")
	require.True(t, f.active(f.web, bystander.str("access_token")))
	requireError(t, f.revoke(f.web, ""), 400, "invalid_request")

	client := f.serve(f.TokenHandler(), request("/oauth/token", f.as(f.web, "grant_type", "client_credentials"))).str("access_token")
	require.True(t, f.active(f.web, client))
	require.Equal(t, 200, f.revoke(f.web, client).Code)
	require.False(t, f.active(f.web, client), "it has no grant, but a family")

	own := f.exchange(f.native, f.code(f.native))
	require.Equal(t, 200, f.revoke(f.native, own.str("refresh_token")).Code, "a public app names itself")
	requireError(t, f.refresh(f.native, own.str("refresh_token")), 400, "invalid_grant")
}

func TestMetadata(t *testing.T) {
	f := newFixture(t)
	w := httptest.NewRecorder()
	f.MetadataHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/.well-known/oauth-authorization-server", nil))
	require.Equal(t, 200, w.Code)
	require.JSONEq(t, `{
		"issuer": "https://open.example.com",
		"authorization_endpoint": "https://open.example.com/oauth/authorize",
		"token_endpoint": "https://open.example.com/oauth/token",
		"revocation_endpoint": "https://open.example.com/oauth/revoke",
		"introspection_endpoint": "https://open.example.com/oauth/introspect",
		"scopes_supported": ["item", "refund", "trade"],
		"response_types_supported": ["code"],
		"response_modes_supported": ["query"],
		"grant_types_supported": ["authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:device_code"],
		"device_authorization_endpoint": "https://open.example.com/oauth/device",
		"token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"],
		"revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"],
		"introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt"],
		"token_endpoint_auth_signing_alg_values_supported": ["EdDSA", "RS256", "PS256"],
		"revocation_endpoint_auth_signing_alg_values_supported": ["EdDSA", "RS256", "PS256"],
		"introspection_endpoint_auth_signing_alg_values_supported": ["EdDSA", "RS256", "PS256"],
		"pushed_authorization_request_endpoint": "https://open.example.com/oauth/par",
		"dpop_signing_alg_values_supported": ["ES256", "EdDSA", "PS256", "RS256"],
		"jwks_uri": "https://open.example.com/oauth/jwks",
		"code_challenge_methods_supported": ["S256"],
		"authorization_response_iss_parameter_supported": true
	}`, w.Body.String())
	w = httptest.NewRecorder()
	f.MetadataHandler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	require.Equal(t, 405, w.Code)
}

func (f *fixture) compat(app *platform.App, rawQuery string, v url.Values) reply {
	f.t.Helper()
	r := request("/openapi/http/1/system.oauth2/getToken/"+app.Key, v)
	r.URL.RawQuery = rawQuery
	return f.serve(f.CompatTokenHandler(), r)
}

func TestCompat(t *testing.T) {
	f := newFixture(t)
	f.web = f.set(f.web, platform.OAuthSettings{RedirectURIs: []string{callback}, WithoutPKCE: true})
	code := func() string { return f.code(f.web, "code_challenge", "", "code_challenge_method", "") }
	ask := func(rawQuery string, pairs ...string) reply {
		return f.compat(f.web, rawQuery, form(append(pairs, "client_secret", f.secrets[f.web.Key])...))
	}
	grant := "grant_type=authorization_code&need_refresh_token=true&client_id=" + f.web.Key + "&redirect_uri=" + url.QueryEscape(callback)

	r := ask(grant, "code", code())
	require.Equal(t, 200, r.Code, r.Body)
	require.Equal(t, "36000", r.body["expires_in"])
	require.Equal(t, "20260831130607000+0800", r.str("refresh_token_timeout"))
	require.Equal(t, "网店", r.str("resource_owner"))
	require.Equal(t, f.user.ID, r.str("memberId"))
	require.Equal(t, f.user.ID, r.str("aliId"))
	require.True(t, f.active(f.web, r.str("access_token")))

	refresh := r.str("refresh_token")
	again := ask("", "grant_type", "refresh_token", "refresh_token", refresh)
	require.Equal(t, 200, again.Code, again.Body)
	require.NotContains(t, again.body, "refresh_token")
	require.NotContains(t, again.body, "refresh_token_timeout")
	require.Equal(t, "网店", again.str("resource_owner"))
	more := ask("", "grant_type", "refresh_token", "refresh_token", refresh, "need_refresh_token", "true")
	require.True(t, f.active(f.web, more.str("refresh_token")))
	require.Equal(t, 200, f.refresh(f.web, refresh).Code, "the earlier one stays valid")

	for _, need := range []string{"", "&need_refresh_token=false"} {
		r := ask("grant_type=authorization_code"+need, "code", code(), "redirect_uri", callback)
		require.Equal(t, 200, r.Code, r.Body)
		require.NotContains(t, r.body, "refresh_token")
	}
	requireError(t, ask(grant+"&code="+code()), 400, "invalid_request")
	requireError(t, ask(grant+"&client_secret="+f.secrets[f.web.Key], "code", code()), 400, "invalid_request")
	requireError(t, ask(grant, "code", code(), "grant_type", "authorization_code"), 400, "invalid_request")
	requireError(t, ask("", "client_id", f.other.Key, "grant_type", "client_credentials"), 400, "invalid_request")
	requireError(t, f.compat(f.other, "", form("client_secret", f.secrets[f.web.Key], "grant_type", "client_credentials")), 401, "invalid_client")

	login, err := f.service.CreateUser(t.Context(), "test", "shop-owner", "A shop", "correct horse battery staple")
	require.NoError(t, err)
	f.user = login
	require.Equal(t, "shop-owner", ask(grant, "code", code()).str("resource_owner"))
	plain := f.serve(f.CompatTokenHandler(), func() *http.Request {
		r := request("/openapi/http/1/system.oauth2/getToken/"+f.web.Key, f.as(f.web, "grant_type", "client_credentials"))
		r.TLS = nil
		return r
	}())
	requireError(t, plain, 400, "invalid_request")
}
