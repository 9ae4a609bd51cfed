package oauth_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (f *fixture) jwks() *jose.JSONWebKeySet {
	f.t.Helper()
	w := httptest.NewRecorder()
	f.JWKSHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/oauth/jwks", nil))
	require.Equal(f.t, 200, w.Code)
	var set jose.JSONWebKeySet
	require.NoError(f.t, json.Unmarshal(w.Body.Bytes(), &set))
	for _, k := range set.Keys {
		require.True(f.t, k.IsPublic() && k.Valid())
	}
	require.NotContains(f.t, w.Body.String(), `"d"`)
	return &set
}

// An access token that is a JWT can be checked with the published keys alone,
// and lives and dies like any other.
func TestJWT(t *testing.T) {
	f := newFixture(t)
	f.web = f.set(f.web, platform.OAuthSettings{RedirectURIs: []string{callback}, Tokens: platform.JWTToken})
	r := f.exchange(f.web, f.code(f.web, "scope", "trade"))
	require.Equal(t, 200, r.Code, r.Body)
	token := r.str("access_token")

	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	require.NoError(t, err)
	require.Equal(t, "at+jwt", parsed.Headers[0].ExtraHeaders["typ"])
	var claims map[string]any
	require.NoError(t, parsed.Claims(f.jwks(), &claims))
	require.NotEmpty(t, claims["jti"])
	delete(claims, "jti")
	require.Equal(t, map[string]any{
		"iss": issuer, "sub": f.user.ID, "aud": issuer, "client_id": f.web.Key, "scope": "trade",
		"iat": float64(start.Unix()), "exp": float64(start.Add(oauth.AccessTokenLifetime).Unix()),
	}, claims)

	require.NoError(t, f.verify(f.web, token, "trade"))
	require.ErrorIs(t, f.verify(f.web, token+"A", "trade"), platform.ErrTokenInvalid)
	require.ErrorIs(t, f.verify(f.other, token, "trade"), platform.ErrTokenInvalid)
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = f.verify(f.web, token, "trade") }))
	require.True(t, f.active(f.web, token))
	require.Equal(t, 200, f.revoke(f.web, token).Code)
	require.False(t, f.active(f.web, token))
	require.ErrorIs(t, f.verify(f.web, token, "trade"), platform.ErrTokenInvalid)

	own := f.token(f.web, "grant_type", "client_credentials", "resource", "https://reports.example.com").str("access_token")
	parsed, err = jwt.ParseSigned(own, []jose.SignatureAlgorithm{jose.ES256})
	require.NoError(t, err)
	require.NoError(t, parsed.Claims(f.jwks(), &claims))
	require.Equal(t, []any{f.web.Key, "https://reports.example.com"}, []any{claims["sub"], claims["aud"]})
}

// Keys follow each other; what the last one signed can be checked for long, and
// the next one is known before it signs.
func TestKeysRotate(t *testing.T) {
	f := newFixture(t)
	f.web = f.set(f.web, platform.OAuthSettings{RedirectURIs: []string{callback}, Tokens: platform.JWTToken})
	kid := func() string {
		r := f.token(f.web, "grant_type", "client_credentials")
		require.Equal(t, 200, r.Code, r.Body)
		parsed, err := jwt.ParseSigned(r.str("access_token"), []jose.SignatureAlgorithm{jose.ES256})
		require.NoError(t, err)
		return parsed.Headers[0].KeyID
	}
	before, published := kid(), f.jwks()
	require.Equal(t, before, kid())
	f.pass(90 * 24 * time.Hour)
	after := kid()
	require.NotEqual(t, before, after)
	require.Len(t, published.Key(after), 1, "published ahead")
	require.Len(t, f.jwks().Key(before), 1, "still published")

	f.masters = [][]byte{[]byte(strings.Repeat("n", 32)), f.masters[0]}
	require.Empty(t, published.Key(kid()))
	require.Len(t, f.jwks().Key(after), 1, "an older secret still verifies")
	f.masters = f.masters[:1]
	require.Empty(t, f.jwks().Key(after))

	bare, err := oauth.New(oauth.Options{Store: f.store, Apps: f.store, Issuer: issuer})
	require.NoError(t, err)
	w := httptest.NewRecorder()
	bare.JWKSHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/oauth/jwks", nil))
	require.Equal(t, 404, w.Code)
	w = httptest.NewRecorder()
	bare.MetadataHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	require.NotContains(t, w.Body.String(), "jwks_uri")
	require.NotContains(t, w.Body.String(), "pushed_authorization_request_endpoint")
}

// assertion makes what private_key_jwt sends.
func assertion(t testing.TB, key any, alg jose.SignatureAlgorithm, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
	require.NoError(t, err)
	value, err := jwt.Signed(signer).Claims(claims).Serialize()
	require.NoError(t, err)
	return value
}

func (f *fixture) addKey(app *platform.App, env platform.Environment) ed25519.PrivateKey {
	f.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(f.t, err)
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(f.t, err)
	_, err = f.service.AddPublicKey(f.t.Context(), "test", app.ID, env, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	require.NoError(f.t, err)
	return private
}

func TestPrivateKeyJWT(t *testing.T) {
	f := newFixture(t)
	key, sandboxKey, otherKey := f.addKey(f.web, platform.Production), f.addKey(f.web, platform.Sandbox), f.addKey(f.other, platform.Production)
	claims := func(changes ...any) map[string]any {
		c := map[string]any{
			"iss": f.web.Key, "sub": f.web.Key, "aud": issuer, "jti": rand.Text(),
			"exp": f.clock().Add(time.Minute).Unix(), "iat": f.clock().Unix(),
		}
		for i := 0; i < len(changes); i += 2 {
			c[changes[i].(string)] = changes[i+1]
			if changes[i+1] == nil {
				delete(c, changes[i].(string))
			}
		}
		return c
	}
	const kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	port := 0
	ask := func(value string, pairs ...string) reply {
		port++
		r := request("/oauth/token", form(append(pairs, "grant_type", "client_credentials", "client_assertion", value, "client_assertion_type", kind)...))
		r.RemoteAddr = "10.0.0." + strconv.Itoa(port) + ":1"
		return f.serve(f.TokenHandler(), r)
	}
	value := assertion(t, key, jose.EdDSA, claims())
	require.Equal(t, 200, ask(value).Code)
	requireError(t, ask(value), 401, "invalid_client") // a replay
	require.Equal(t, 200, ask(assertion(t, key, jose.EdDSA, claims("aud", []string{"https://x.example", issuer + "/oauth/token"})), "client_id", f.web.Key).Code)

	for name, bad := range map[string]string{
		"other app's key":   assertion(t, otherKey, jose.EdDSA, claims()),
		"other environment": assertion(t, sandboxKey, jose.EdDSA, claims()),
		"unknown app":       assertion(t, key, jose.EdDSA, claims("iss", "ak_0", "sub", "ak_0")),
		"other subject":     assertion(t, key, jose.EdDSA, claims("sub", f.other.Key)),
		"no subject":        assertion(t, key, jose.EdDSA, claims("sub", nil)),
		"other audience":    assertion(t, key, jose.EdDSA, claims("aud", "https://open.example.org")),
		"no audience":       assertion(t, key, jose.EdDSA, claims("aud", nil)),
		"expired":           assertion(t, key, jose.EdDSA, claims("exp", f.clock().Add(-2*time.Minute).Unix())),
		"no expiry":         assertion(t, key, jose.EdDSA, claims("exp", nil)),
		"lasts long":        assertion(t, key, jose.EdDSA, claims("exp", f.clock().Add(time.Hour).Unix())),
		"from the future":   assertion(t, key, jose.EdDSA, claims("iat", f.clock().Add(2*time.Minute).Unix())),
		"not yet":           assertion(t, key, jose.EdDSA, claims("nbf", f.clock().Add(2*time.Minute).Unix())),
		"no jti":            assertion(t, key, jose.EdDSA, claims("jti", nil)),
		"no iss":            assertion(t, key, jose.EdDSA, claims("iss", nil)),
		"signed by secret":  assertion(t, []byte(f.secrets[f.web.Key]), jose.HS256, claims()),
		"none":              "eyJhbGciOiJub25lIn0.e30.",
		"nonsense":          "x",
		"long":              strings.Repeat("x", 10_000),
	} {
		t.Run(name, func(t *testing.T) { requireError(t, ask(bad), 401, "invalid_client") })
	}
	requireError(t, ask(assertion(t, key, jose.EdDSA, claims()), "client_secret", f.secrets[f.web.Key]), 400, "invalid_request")
	requireError(t, ask(assertion(t, key, jose.EdDSA, claims()), "client_id", f.other.Key), 400, "invalid_request")
	requireError(t, f.serve(f.TokenHandler(), request("/oauth/token", form("client_assertion", value))), 400, "invalid_request")
}

func TestPushedRequest(t *testing.T) {
	f := newFixture(t)
	push := func(app *platform.App, rawQuery string) reply {
		v, err := url.ParseQuery(rawQuery)
		require.NoError(t, err)
		if app.Mode != platform.Client {
			v.Set("client_secret", f.secrets[app.Key])
		}
		return f.serve(f.PushedHandler(), request("/oauth/par", v))
	}
	for _, app := range []*platform.App{f.web, f.native} {
		plain := query(app, "scope", "trade", "resource", issuer, "prompt", "consent")
		r := push(app, plain)
		require.Equal(t, 201, r.Code, r.Body)
		require.Equal(t, 90, r.num("expires_in"))
		require.Regexp(t, `^urn:ietf:params:oauth:request_uri:[\w-]+$`, r.str("request_uri"))
		require.NotContains(t, r.str("request_uri"), f.secrets[app.Key])
		at := form("client_id", app.Key, "request_uri", r.str("request_uri"), "scope", "item").Encode()
		got, err := f.Authorize(t.Context(), at)
		require.NoError(t, err)
		want, err := f.Authorize(t.Context(), plain)
		require.NoError(t, err)
		want.RawQuery = got.RawQuery
		require.Equal(t, want, got, "nothing but what was pushed counts")
		require.True(t, got.AskAgain)

		var page *oauth.PageError
		for name, bad := range map[string]string{
			"another app": form("client_id", f.other.Key, "request_uri", r.str("request_uri")).Encode(),
			"no app":      form("request_uri", r.str("request_uri")).Encode(),
			"twice":       at + "&request_uri=x",
			"changed":     strings.Replace(at, "request_uri%3A", "request_uri%3AA", 1),
			"short":       form("client_id", app.Key, "request_uri", "urn:ietf:params:oauth:request_uri:AAAA").Encode(),
		} {
			_, err = f.Authorize(t.Context(), bad)
			require.ErrorAs(t, err, &page, name)
		}
		f.pass(90 * time.Second)
		_, err = f.Authorize(t.Context(), at)
		require.ErrorAs(t, err, &page)
		_, err = f.Authorize(t.Context(), got.RawQuery)
		require.NoError(t, err, "a page that is open is not hurried")
	}
	requireError(t, push(f.web, query(f.web, "redirect_uri", "https://evil.example")), 400, "invalid_request")
	requireError(t, push(f.web, query(f.web, "code_challenge_method", "plain")), 400, "invalid_request")
	requireError(t, push(f.web, query(f.web, "scope", "refund")), 400, "invalid_scope")
	requireError(t, push(f.web, query(f.web, "request_uri", "urn:x")), 400, "invalid_request")
	requireError(t, push(f.web, query(f.web, "state", strings.Repeat("x", 4000))), 413, "invalid_request")
	wrong := query(f.web) + "&client_secret=x"
	v, _ := url.ParseQuery(wrong)
	requireError(t, f.serve(f.PushedHandler(), request("/oauth/par", v)), 401, "invalid_client")
}
