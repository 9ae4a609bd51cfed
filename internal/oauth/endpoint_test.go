package oauth_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

func TestClientCredentials(t *testing.T) {
	f := newFixture(t)
	r := f.token(f.web, "grant_type", "client_credentials", "scope", "trade")
	require.Equal(t, 200, r.Code, r.Body)
	require.NotContains(t, r.body, "refresh_token")
	require.Equal(t, "trade", r.str("scope"))
	info := f.introspect(f.web, r.str("access_token"))
	require.Equal(t, f.web.Key, info.str("sub"))
	_, err := f.verifier.Verify(t.Context(), r.str("access_token"), f.web, platform.Production, "trade")
	require.Error(t, err, "it stands for no merchant")

	requireError(t, f.token(f.web, "grant_type", "client_credentials", "scope", "refund"), 400, "invalid_scope")
	requireError(t, f.token(f.native, "grant_type", "client_credentials"), 400, "unauthorized_client")
}

func TestGrantTypes(t *testing.T) {
	f := newFixture(t)
	requireError(t, f.token(f.web), 400, "invalid_request")
	for _, grant := range []string{"password", "implicit", "AUTHORIZATION_CODE", "urn:ietf:params:oauth:grant-type:jwt-bearer"} {
		requireError(t, f.token(f.web, "grant_type", grant, "username", "u", "password", "p"), 400, "unsupported_grant_type")
	}
}

func TestResources(t *testing.T) {
	f := newFixture(t)
	const reports = "https://reports.example.com"
	aud := func(r reply) any {
		require.Equal(t, 200, r.Code, r.Body)
		return f.introspect(f.web, r.str("access_token")).body["aud"]
	}
	both := f.exchange(f.web, f.code(f.web, "resource", reports))
	require.Equal(t, []any{reports}, aud(both))
	requireError(t, f.exchange(f.web, f.code(f.web, "resource", reports), "resource", issuer), 400, "invalid_target")
	requireError(t, f.refresh(f.web, both.str("refresh_token"), "resource", issuer), 400, "invalid_target")
	_, err := f.verifier.Verify(t.Context(), both.str("access_token"), f.web, platform.Production, "trade")
	require.Error(t, err, "the token is for another resource")

	free := f.exchange(f.web, f.code(f.web))
	require.Nil(t, aud(free))
	require.Equal(t, []any{issuer}, aud(f.refresh(f.web, free.str("refresh_token"), "resource", issuer)))
	require.Nil(t, aud(f.refresh(f.web, free.str("refresh_token"))))
}

// Whatever the endpoint, it takes only POST over TLS with a form in the body,
// and one proof of who asks.
func TestTransport(t *testing.T) {
	f := newFixture(t)
	handlers := map[string]http.Handler{"token": f.TokenHandler(), "revoke": f.RevokeHandler(), "introspect": f.IntrospectHandler()}
	good := f.as(f.web, "grant_type", "client_credentials", "token", "at_x")
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(f.web.Key+":"+f.secrets[f.web.Key]))
	for name, c := range map[string]struct {
		change func(r *http.Request)
		form   url.Values
		status int
		code   string
	}{
		"GET":                  {change: func(r *http.Request) { r.Method = http.MethodGet }, status: 405, code: "invalid_request"},
		"PUT":                  {change: func(r *http.Request) { r.Method = http.MethodPut }, status: 405, code: "invalid_request"},
		"plain HTTP":           {change: func(r *http.Request) { r.TLS = nil }, status: 400, code: "invalid_request"},
		"JSON":                 {change: func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, status: 400, code: "invalid_request"},
		"no type":              {change: func(r *http.Request) { r.Header.Del("Content-Type") }, status: 400, code: "invalid_request"},
		"secret in URL":        {change: func(r *http.Request) { r.URL.RawQuery = "client_secret=x" }, status: 400, code: "invalid_request"},
		"token in URL":         {change: func(r *http.Request) { r.URL.RawQuery = "a=b&token=x" }, status: 400, code: "invalid_request"},
		"code in URL":          {change: func(r *http.Request) { r.URL.RawQuery = "%63ode=x" }, status: 400, code: "invalid_request"},
		"repeated":             {form: url.Values{"client_id": {f.web.Key, f.web.Key}}, status: 400, code: "invalid_request"},
		"not UTF-8":            {form: url.Values{"client_id": {"\xff"}}, status: 400, code: "invalid_request"},
		"large":                {form: url.Values{"x": {strings.Repeat("x", 100_000)}}, status: 413, code: "invalid_request"},
		"two ways":             {change: func(r *http.Request) { r.Header.Set("Authorization", basic) }, status: 400, code: "invalid_request"},
		"two headers":          {form: form("grant_type", "client_credentials", "token", "at_x"), change: func(r *http.Request) { r.Header["Authorization"] = []string{basic, basic} }, status: 400, code: "invalid_request"},
		"other client_id":      {form: form("client_id", f.other.Key, "grant_type", "client_credentials", "token", "at_x"), change: func(r *http.Request) { r.Header.Set("Authorization", basic) }, status: 400, code: "invalid_request"},
		"Basic and assertion":  {form: form("client_assertion", "x", "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "grant_type", "client_credentials", "token", "at_x"), change: func(r *http.Request) { r.Header.Set("Authorization", basic) }, status: 400, code: "invalid_request"},
		"type of no assertion": {form: form("client_id", f.web.Key, "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), status: 400, code: "invalid_request"},
		"nobody":               {form: url.Values{}, status: 401, code: "invalid_client"},
		"no secret":            {form: form("client_id", f.web.Key), status: 401, code: "invalid_client"},
		"wrong secret":         {form: form("client_id", f.web.Key, "client_secret", "x"), status: 401, code: "invalid_client"},
		"other secret":         {form: form("client_id", f.web.Key, "client_secret", f.secrets[f.other.Key]), status: 401, code: "invalid_client"},
		"unknown app":          {form: form("client_id", "ak_0", "client_secret", f.secrets[f.web.Key]), status: 401, code: "invalid_client"},
		"NUL":                  {form: form("client_id", "a\x00b", "client_secret", "x"), status: 401, code: "invalid_client"},
		"public with a secret": {form: form("client_id", f.native.Key, "client_secret", f.secrets[f.native.Key]), status: 401, code: "invalid_client"},
		"Bearer":               {form: url.Values{}, change: func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, status: 401, code: "invalid_client"},
		"Bearer of a secret":   {form: form("grant_type", "client_credentials", "token", "at_x"), change: func(r *http.Request) { r.Header.Set("Authorization", strings.Replace(basic, "Basic", "Bearer", 1)) }, status: 401, code: "invalid_client"},
		"Basic alone":          {form: url.Values{}, change: func(r *http.Request) { r.Header.Set("Authorization", "Basic") }, status: 401, code: "invalid_client"},
		"Basic, wrong":         {form: url.Values{}, change: func(r *http.Request) { r.SetBasicAuth(f.web.Key, "x") }, status: 401, code: "invalid_client"},
		"Basic, %zz":           {form: url.Values{}, change: func(r *http.Request) { r.SetBasicAuth(f.web.Key, "%zz") }, status: 401, code: "invalid_client"},
	} {
		for endpoint, h := range handlers {
			t.Run(name+" "+endpoint, func(t *testing.T) {
				v := c.form
				if v == nil {
					v = good
				}
				r := request("/oauth/"+endpoint, v)
				r.RemoteAddr = "192.0.2." + strconv.Itoa(len(name)) + ":1"
				if c.change != nil {
					c.change(r)
				}
				out := f.serve(h, r)
				requireError(t, out, c.status, c.code)
				require.Equal(t, c.status == 401, out.Header().Get("WWW-Authenticate") != "")
				if c.status == 401 {
					require.Regexp(t, `^Basic realm=`, out.Header().Get("WWW-Authenticate"))
				}
				if c.status == 405 {
					require.Equal(t, "POST", out.Header().Get("Allow"))
				}
				require.NotContains(t, out.Body.String(), f.secrets[f.web.Key])
			})
		}
	}
	ask := func(v url.Values, auth string) int {
		r := request("/oauth/token", v)
		if auth != "" {
			r.Header.Set("Authorization", auth)
		}
		return f.serve(f.TokenHandler(), r).Code
	}
	cc := form("grant_type", "client_credentials")
	require.Equal(t, 200, ask(cc, basic))
	require.Equal(t, 200, ask(form("grant_type", "client_credentials", "client_id", f.web.Key), basic))
	require.Equal(t, 200, ask(f.as(f.web, "grant_type", "client_credentials", "unknown", "1", "unknown", "2", "scope", ""), ""))
	encoded := base64.StdEncoding.EncodeToString([]byte("%61" + f.web.Key[1:] + ":" + strings.Replace(f.secrets[f.web.Key], "_", "%5F", 1)))
	require.Equal(t, 200, ask(cc, "basic "+encoded))
	// What golang.org/x/oauth2 tries first for a public app.
	empty := base64.StdEncoding.EncodeToString([]byte(f.native.Key + ":"))
	require.Equal(t, 200, ask(form("grant_type", "authorization_code", "code", f.code(f.native), "redirect_uri", loopback, "code_verifier", verifier), "Basic "+empty))
}

func TestSecrets(t *testing.T) {
	f := newFixture(t)
	ask := func(secret string) int {
		return f.serve(f.TokenHandler(), request("/oauth/token", form("grant_type", "client_credentials", "client_id", f.web.Key, "client_secret", secret))).Code
	}
	add := func(env platform.Environment, dialect string) *platform.IssuedSecret {
		s, err := f.service.AddSecret(t.Context(), "test", f.web.ID, platform.SecretRequest{Environment: env, Dialect: dialect})
		require.NoError(t, err)
		return s
	}
	require.Equal(t, 401, ask(add(platform.Sandbox, signing.Op1).Secret), "of the other environment")
	second := add(platform.Production, signing.Op1)
	require.Equal(t, 200, ask(second.Secret))
	require.Equal(t, 200, ask(f.secrets[f.web.Key]), "both while they rotate")
	_, err := f.service.RevokeCredential(t.Context(), "test", f.web.ID, second.Number, 0)
	require.NoError(t, err)
	require.Equal(t, 401, ask(second.Secret))
	_, err = f.service.SuspendApp(t.Context(), "test", f.web.ID)
	require.NoError(t, err)
	require.Equal(t, 401, ask(f.secrets[f.web.Key]))
}

// Who guesses has to wait; the app itself, from elsewhere, has not.
func TestGuessingIsSlowedDown(t *testing.T) {
	f := newFixture(t)
	try := func(app *platform.App, address, secret string) reply {
		r := request("/oauth/token", form("grant_type", "client_credentials", "client_id", app.Key, "client_secret", secret))
		r.RemoteAddr = address
		return f.serve(f.TokenHandler(), r)
	}
	const guesser = "[2001:db8::1]:1"
	for range 10 {
		requireError(t, try(f.web, guesser, "guess"), 401, "invalid_client")
	}
	for _, address := range []string{guesser, "[2001:db8::2]:1"} {
		r := try(f.web, address, f.secrets[f.web.Key])
		requireError(t, r, 429, "invalid_client")
		require.Equal(t, "10", r.Header().Get("Retry-After"))
	}
	require.Equal(t, 200, try(f.web, "203.0.113.9:1", f.secrets[f.web.Key]).Code)
	require.Equal(t, 200, try(f.other, guesser, f.secrets[f.other.Key]).Code)
	f.pass(10 * time.Second)
	require.Equal(t, 200, try(f.web, guesser, f.secrets[f.web.Key]).Code)
	requireError(t, try(f.web, guesser, "guess"), 401, "invalid_client")
	requireError(t, try(f.web, guesser, "guess"), 429, "invalid_client")

	for i := range 200 {
		app := *f.web
		app.Key = "ak_" + strconv.Itoa(i)
		try(&app, "198.51.100.1:1", "guess")
	}
	requireError(t, try(f.other, "198.51.100.1:1", f.secrets[f.other.Key]), 429, "invalid_client")
}

func TestSecureIsAsked(t *testing.T) {
	f := newFixture(t)
	s, err := oauth.New(oauth.Options{
		Store: f.store, Apps: f.store, Issuer: issuer, Now: f.clock,
		Secure: func(r *http.Request) bool { return r.Header.Get("X-Forwarded-Proto") == "https" },
	})
	require.NoError(t, err)
	r := request("/oauth/token", f.as(f.web, "grant_type", "client_credentials"))
	r.TLS = nil
	w := httptest.NewRecorder()
	s.TokenHandler().ServeHTTP(w, r)
	require.Equal(t, 400, w.Code)
	r = request("/oauth/token", f.as(f.web, "grant_type", "client_credentials"))
	r.TLS = nil
	r.Header.Set("X-Forwarded-Proto", "https")
	w = httptest.NewRecorder()
	s.TokenHandler().ServeHTTP(w, r)
	require.Equal(t, 200, w.Code)
}

func TestEnvironments(t *testing.T) {
	f := newFixture(t)
	sandbox, err := oauth.New(oauth.Options{Store: f.store, Apps: f.store, Issuer: issuer, Now: f.clock, Environment: platform.Sandbox})
	require.NoError(t, err)
	secret, err := f.service.AddSecret(t.Context(), "test", f.web.ID, platform.SecretRequest{Environment: platform.Sandbox, Dialect: signing.Op1})
	require.NoError(t, err)
	tokens := f.exchange(f.web, f.code(f.web))
	ask := func(h http.Handler, pairs ...string) reply {
		return f.serve(h, request("/oauth/token", form(append(pairs, "client_id", f.web.Key, "client_secret", secret.Secret)...)))
	}
	requireError(t, ask(sandbox.TokenHandler(), "grant_type", "authorization_code", "code", f.code(f.web), "redirect_uri", callback, "code_verifier", verifier), 400, "invalid_grant")
	requireError(t, ask(sandbox.TokenHandler(), "grant_type", "refresh_token", "refresh_token", tokens.str("refresh_token")), 400, "invalid_grant")
	require.Equal(t, map[string]any{"active": false}, ask(sandbox.IntrospectHandler(), "token", tokens.str("access_token")).body)
	require.Equal(t, 200, ask(sandbox.RevokeHandler(), "token", tokens.str("refresh_token")).Code)
	require.True(t, f.active(f.web, tokens.str("access_token")))
}

// unreachable is where apps are while the database is down.
type unreachable struct{}

func (unreachable) AppByKey(context.Context, string) (*platform.App, error) {
	return nil, fmt.Errorf("loading from 10.0.0.9: %w", platform.ErrUnavailable)
}

// A failure that the client is not to blame for is told to the operator, and to
// the client only that it happened.
func TestStoreDown(t *testing.T) {
	f := newFixture(t)
	var reported error
	s, err := oauth.New(oauth.Options{
		Store: f.store, Apps: unreachable{}, Issuer: issuer, Now: f.clock,
		Report: func(_ *http.Request, err error) { reported = err },
	})
	require.NoError(t, err)
	r := f.serve(s.TokenHandler(), request("/oauth/token", f.as(f.web, "grant_type", "client_credentials")))
	requireError(t, r, 503, "temporarily_unavailable")
	require.Equal(t, "1", r.Header().Get("Retry-After"))
	require.NotContains(t, r.Body.String(), "10.0.0.9")
	require.ErrorIs(t, reported, platform.ErrUnavailable)
	_, err = s.Authorize(t.Context(), query(f.web))
	var page *oauth.PageError
	require.ErrorAs(t, err, &page)
	require.Equal(t, 503, page.Status)
	require.ErrorIs(t, err, platform.ErrUnavailable)
	require.NotContains(t, page.Description, "10.0.0.9")
}
