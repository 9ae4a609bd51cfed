package oauth_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const initiate = "https://isv.example.com/start?from=market"

func serveRaw(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func getRequest(target string) *http.Request {
	return httptest.NewRequest(http.MethodGet, issuer+target, nil)
}

// hosted is an app that the market can start.
func (f *fixture) hosted() *platform.App {
	f.t.Helper()
	return f.set(f.newApp(platform.Hosted), platform.OAuthSettings{RedirectURIs: []string{callback}, InitiateLoginURI: initiate})
}

// link is what the admin API makes, its parameter alone.
func (f *fixture) link(app *platform.App, o oauth.StartOptions) string {
	f.t.Helper()
	address, _, err := oauth.StartURL(rand.Reader, f.masters, app, o, f.clock())
	require.NoError(f.t, err)
	u, err := url.Parse(address)
	require.NoError(f.t, err)
	require.Equal(f.t, "/oauth/start", u.Path)
	return u.Query().Get("link")
}

var forADay = oauth.StartOptions{Issuer: issuer, Lifetime: 24 * time.Hour}

func TestStart(t *testing.T) {
	f := newFixture(t)
	app := f.hosted()
	request, err := f.OpenStart(t.Context(), f.link(app, forADay))
	require.NoError(t, err)
	require.Equal(t, app.ID, request.App.ID)
	to, err := f.Start(request, f.user.ID)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(to, initiate+"&"), to)
	u, err := url.Parse(to)
	require.NoError(t, err)
	q := u.Query()
	require.Equal(t, []string{"market", issuer, app.Key, f.user.ID}, []string{q.Get("from"), q.Get("iss"), q.Get("client_id"), q.Get("login_hint")})
	require.Len(t, q, 5)

	// The app checks the token with the keys that are published.
	token, err := jwt.ParseSigned(q.Get("start_token"), []jose.SignatureAlgorithm{jose.ES256})
	require.NoError(t, err)
	require.Equal(t, "start+jwt", token.Headers[0].ExtraHeaders[jose.HeaderType])
	var keys jose.JSONWebKeySet
	require.NoError(t, json.Unmarshal(serveRaw(f.JWKSHandler(), getRequest("/oauth/jwks")).Body.Bytes(), &keys))
	published := keys.Key(token.Headers[0].KeyID)
	require.Len(t, published, 1)
	var claims map[string]any
	require.NoError(t, token.Claims(published[0], &claims))
	require.NotEmpty(t, claims["jti"])
	delete(claims, "jti")
	require.Equal(t, map[string]any{
		"iss": issuer, "sub": f.user.ID, "aud": app.Key, "iat": float64(start.Unix()), "exp": float64(start.Add(2 * time.Minute).Unix()),
	}, claims)
	again, err := f.Start(request, f.user.ID)
	require.NoError(t, err)
	require.NotEqual(t, to, again, "each start has a token of its own")

	// It is no access token, and no client assertion.
	_, err = f.verifier.Verify(t.Context(), q.Get("start_token"), app, platform.Production, "trade")
	require.ErrorIs(t, err, platform.ErrTokenInvalid)
	requireError(t, f.serve(f.TokenHandler(), requestOf(q.Get("start_token"))), 401, "invalid_client")
}

// requestOf authenticates with the token as an assertion.
func requestOf(token string) *http.Request {
	return request("/oauth/token", form("grant_type", "client_credentials", "client_assertion", token,
		"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"))
}

// A link that is not good is a page, and never a redirect.
func TestBadStartLinks(t *testing.T) {
	f := newFixture(t)
	app := f.hosted()
	good := f.link(app, forADay)
	refused := func(link, code string) {
		t.Helper()
		_, err := f.OpenStart(t.Context(), link)
		var page *oauth.PageError
		require.ErrorAs(t, err, &page)
		require.Equal(t, code, page.Code)
		require.Equal(t, http.StatusBadRequest, page.Status)
	}
	foreign, _, err := oauth.StartURL(rand.Reader, [][]byte{bytes.Repeat([]byte{7}, 32)}, app, forADay, f.clock())
	require.NoError(t, err)
	_, foreign, _ = strings.Cut(foreign, "link=")
	request := f.serve(f.PushedHandler(), request("/oauth/par", f.as(f.web, "response_type", "code", "redirect_uri", callback,
		"code_challenge", challenge, "code_challenge_method", "S256")))
	other := "A"
	if good[0] == 'A' {
		other = "B"
	}
	for _, link := range []string{
		"", "x", good[:len(good)-1], good + "A", other + good[1:], strings.Repeat("A", 5000), foreign,
		strings.TrimPrefix(request.str("request_uri"), "urn:ietf:params:oauth:request_uri:"),
	} {
		refused(link, "invalid_link")
	}
	sandbox := forADay
	sandbox.Environment = platform.Sandbox
	refused(f.link(app, sandbox), "invalid_link")
	_, err = f.OpenStart(t.Context(), good)
	require.NoError(t, err)

	f.set(app, platform.OAuthSettings{RedirectURIs: []string{callback}})
	refused(good, "not_startable")
	f.set(app, platform.OAuthSettings{InitiateLoginURI: initiate})
	_, err = f.service.SuspendApp(t.Context(), "test", app.ID)
	require.NoError(t, err)
	refused(good, "unauthorized_client")
	_, err = f.service.ResumeApp(t.Context(), "test", app.ID)
	require.NoError(t, err)

	f.pass(24*time.Hour - time.Second)
	_, err = f.OpenStart(t.Context(), good)
	require.NoError(t, err)
	f.pass(time.Second)
	refused(good, "invalid_link")
	good = f.link(app, forADay)
	require.NoError(t, f.service.DeleteApp(t.Context(), "test", app.ID))
	refused(good, "invalid_client")
}

// Links outlive a change of the master key, as long as the earlier one is kept.
func TestStartLinkOutlivesKey(t *testing.T) {
	f := newFixture(t)
	good := f.link(f.hosted(), forADay)
	fresh := bytes.Repeat([]byte{7}, 32)
	f.masters = [][]byte{fresh, f.masters[0]}
	_, err := f.OpenStart(t.Context(), good)
	require.NoError(t, err)
	f.masters = [][]byte{fresh}
	_, err = f.OpenStart(t.Context(), good)
	require.Error(t, err)
}

func TestStartURLMistakes(t *testing.T) {
	f := newFixture(t)
	app := f.hosted()
	for name, c := range map[string]struct {
		o     oauth.StartOptions
		field string
	}{
		"no issuer":   {oauth.StartOptions{Lifetime: time.Hour}, "issuer"},
		"plain http":  {oauth.StartOptions{Issuer: "http://open.example.com", Lifetime: time.Hour}, "issuer"},
		"slash":       {oauth.StartOptions{Issuer: issuer + "/", Lifetime: time.Hour}, "issuer"},
		"environment": {oauth.StartOptions{Issuer: issuer, Environment: "moon", Lifetime: time.Hour}, "environment"},
		"no time":     {oauth.StartOptions{Issuer: issuer}, "valid"},
		"too short":   {oauth.StartOptions{Issuer: issuer, Lifetime: time.Minute - 1}, "valid"},
		"too long":    {oauth.StartOptions{Issuer: issuer, Lifetime: oauth.MaxStartLifetime + 1}, "valid"},
	} {
		_, _, err := oauth.StartURL(rand.Reader, f.masters, app, c.o, f.clock())
		var mistake *platform.FieldError
		require.ErrorAs(t, err, &mistake, name)
		require.Equal(t, c.field, mistake.Field, name)
		require.Equal(t, name == "no issuer", mistake.Problem == "the configuration names none", name)
	}
	suspended, bare, web := *app, *app, *app
	web.Mode = platform.Web
	suspended.Status = platform.Suspended
	bare.OAuth.InitiateLoginURI = ""
	for _, a := range []*platform.App{f.native, &suspended, &bare, &web} {
		require.False(t, oauth.CanStart(a))
		_, _, err := oauth.StartURL(rand.Reader, f.masters, a, forADay, f.clock())
		require.ErrorIs(t, err, platform.ErrConflict)
	}
	require.True(t, oauth.CanStart(app))
}

// An issuer is compared byte by byte, so its scheme is written in one way.
func TestIssuerInLowerCase(t *testing.T) {
	require.NoError(t, oauth.CheckIssuer(issuer))
	for _, upper := range []string{"HTTPS://open.example.com", "Https://open.example.com", "hTTps://open.example.com"} {
		require.ErrorContains(t, oauth.CheckIssuer(upper), "write https://open.example.com")
	}
	for _, bad := range []string{"", "HTTP", "HTTPS:", "HTTPS://", "http://open.example.com", "HTTP://open.example.com"} {
		require.Error(t, oauth.CheckIssuer(bad), bad)
	}
}
