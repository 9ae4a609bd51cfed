package oauth_test

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	issuer   = "https://open.example.com"
	callback = "https://isv.example.com/callback?shop=1"
	loopback = "http://127.0.0.1:4711/cb"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)

// challenge is of verifier: the pair of RFC 7636 appendix B.
const challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// fixture is a server on a real store, with a confidential app (web), one that
// is public (native), another confidential one, and a merchant.
type fixture struct {
	*oauth.Server
	t        testing.TB
	store    *store.Store
	service  *platform.Service
	web      *platform.App
	native   *platform.App
	other    *platform.App
	secrets  map[string]string // by appKey
	user     *platform.User
	verifier *oauth.Verifier
	masters  [][]byte // what keys are made of

	mu  sync.Mutex
	now time.Time
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return newFixtureOn(t, func(keys *store.Keyring, o store.Options) (*store.Store, error) {
		return store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "store.db"), keys, o)
	})
}

func newFixtureOn(t testing.TB, open func(*store.Keyring, store.Options) (*store.Store, error)) *fixture {
	t.Helper()
	f := &fixture{t: t, now: start, secrets: map[string]string{}, masters: [][]byte{make([]byte, 32)}}
	keys, err := store.NewKeyring(make([]byte, 32))
	require.NoError(t, err)
	var onChange func(platform.Change)
	changed := func(c platform.Change) { onChange(c) }
	f.store, err = open(keys, store.Options{Now: f.clock, OnChange: changed})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.store.Close()) })
	f.verifier, err = oauth.NewVerifier(f.store, oauth.VerifierOptions{Resources: []string{issuer}, Now: f.clock})
	require.NoError(t, err)
	t.Cleanup(f.verifier.Close)
	onChange = f.verifier.Apply
	f.service = platform.NewService(platform.ServiceOptions{Store: f.store, Now: f.clock, OnChange: changed})
	for _, name := range []string{"trade", "item", "refund"} {
		_, err := f.service.PutPackage(t.Context(), "test", platform.Package{Name: name})
		require.NoError(t, err)
	}
	f.web = f.newApp(platform.Web, callback)
	f.other = f.newApp(platform.Web, callback)
	f.native = f.newApp(platform.Client, loopback)
	f.user, err = f.store.UserByIdentity(t.Context(), "https://passport.example.com", "shop-1", "网店", f.now)
	require.NoError(t, err)
	f.Server = f.node(f.store, f.verifier)
	return f
}

// node makes a server on a store.
func (f *fixture) node(st *store.Store, tokens *oauth.Verifier) *oauth.Server {
	f.t.Helper()
	s, err := oauth.New(oauth.Options{
		Store: st, Apps: st, Tokens: tokens, Catalog: f.service.Catalog, Issuer: issuer, Now: f.clock,
		Activation: issuer + "/oauth/activate",
		DPoP:       true,
		Secrets:    func() [][]byte { return f.masters },
		Resources:  []string{issuer, "https://reports.example.com"},
		Report:     func(_ *http.Request, err error) { f.t.Errorf("reported: %v", err) },
	})
	require.NoError(f.t, err)
	return s
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fixture) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fixture) newApp(mode platform.AppMode, redirects ...string) *platform.App {
	f.t.Helper()
	app, secret, err := f.service.CreateApp(f.t.Context(), "test", platform.NewApp{
		Name: "app", Kind: platform.ISV, Mode: mode, Environment: platform.Production, Packages: []string{"trade", "item"},
	})
	require.NoError(f.t, err)
	f.secrets[app.Key] = secret.Secret
	return f.set(app, platform.OAuthSettings{RedirectURIs: redirects})
}

func (f *fixture) set(app *platform.App, o platform.OAuthSettings) *platform.App {
	f.t.Helper()
	app, err := f.service.SetOAuth(f.t.Context(), "test", app.ID, o)
	require.NoError(f.t, err)
	return app
}

// query is an authorization request of the app that is in order, with the
// changes that a test wants: "" removes a parameter.
func query(app *platform.App, changes ...string) string {
	q := url.Values{
		"client_id": {app.Key}, "redirect_uri": {app.OAuth.RedirectURIs[0]}, "response_type": {"code"}, "state": {"st 1&ü"},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	for i := 0; i < len(changes); i += 2 {
		q.Set(changes[i], changes[i+1])
		if changes[i+1] == "" {
			q.Del(changes[i])
		}
	}
	return q.Encode()
}

// code has the merchant approve the request and returns the code.
func (f *fixture) code(app *platform.App, changes ...string) string {
	f.t.Helper()
	r, err := f.Authorize(f.t.Context(), query(app, changes...))
	require.NoError(f.t, err)
	return f.codeUnder(r, "")
}

// codeUnder answers a request under a grant, or on the page if there is none, and
// returns the code.
func (f *fixture) codeUnder(r *oauth.AuthorizationRequest, grant string) string {
	f.t.Helper()
	to, err := f.Approve(f.t.Context(), r, f.user.ID, grant)
	require.NoError(f.t, err)
	u, err := url.Parse(to)
	require.NoError(f.t, err)
	require.NotEmpty(f.t, u.Query().Get("code"))
	return u.Query().Get("code")
}

// agreed has the merchant agree to a request of the web app, and returns another one
// with the grant that covers it.
func (f *fixture) agreed() (r *oauth.AuthorizationRequest, grant string) {
	f.t.Helper()
	r, err := f.Authorize(f.t.Context(), query(f.web))
	require.NoError(f.t, err)
	f.code(f.web)
	grant, err = f.Covered(f.t.Context(), r, f.user.ID)
	require.NoError(f.t, err)
	require.NotEmpty(f.t, grant)
	return r, grant
}

// reply is an answer of an endpoint.
type reply struct {
	*httptest.ResponseRecorder
	body map[string]any
}

func (r reply) str(name string) string { s, _ := r.body[name].(string); return s }

func (r reply) num(name string) int { n, _ := r.body[name].(float64); return int(n) }

// form turns pairs into a form.
func form(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

// request is a POST over TLS.
func request(target string, v url.Values) *http.Request {
	r := httptest.NewRequest(http.MethodPost, issuer+target, strings.NewReader(v.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.TLS = &tls.ConnectionState{}
	r.RemoteAddr = "203.0.113.7:1234"
	return r
}

func (f *fixture) serve(h http.Handler, r *http.Request) reply {
	f.t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	out := reply{ResponseRecorder: w}
	if w.Body.Len() > 0 {
		require.NoError(f.t, json.Unmarshal(w.Body.Bytes(), &out.body))
	}
	return out
}

// token asks the token endpoint as the app, which authenticates as it should.
func (f *fixture) token(app *platform.App, pairs ...string) reply {
	f.t.Helper()
	return f.serve(f.TokenHandler(), request("/oauth/token", f.as(app, pairs...)))
}

func (f *fixture) as(app *platform.App, pairs ...string) url.Values {
	v := form(append([]string{"client_id", app.Key}, pairs...)...)
	if app.Mode != platform.Client {
		v.Set("client_secret", f.secrets[app.Key])
	}
	return v
}

// exchange gives a code for tokens, and refresh a refresh token.
func (f *fixture) exchange(app *platform.App, code string, pairs ...string) reply {
	f.t.Helper()
	return f.token(app, append([]string{
		"grant_type", "authorization_code", "code", code, "redirect_uri", app.OAuth.RedirectURIs[0], "code_verifier", verifier,
	}, pairs...)...)
}

func (f *fixture) refresh(app *platform.App, token string, pairs ...string) reply {
	f.t.Helper()
	return f.token(app, append([]string{"grant_type", "refresh_token", "refresh_token", token}, pairs...)...)
}

func (f *fixture) introspect(app *platform.App, token string) reply {
	f.t.Helper()
	return f.serve(f.IntrospectHandler(), request("/oauth/introspect", f.as(app, "token", token)))
}

func (f *fixture) active(app *platform.App, token string) bool {
	f.t.Helper()
	r := f.introspect(app, token)
	require.Equal(f.t, http.StatusOK, r.Code)
	if !r.body["active"].(bool) {
		require.Len(f.t, r.body, 1, "of a token that is not active nothing is told")
	}
	return r.body["active"].(bool)
}

// requireError checks a refusal as RFC 6749 section 5.2 has it.
func requireError(t testing.TB, r reply, status int, code string) {
	t.Helper()
	require.Equal(t, code, r.str("error"), r.Body.String())
	require.Equal(t, status, r.Code)
	require.Regexp(t, `^[\x20-\x21\x23-\x5B\x5D-\x7E]+$`, r.str("error_description"))
	require.Equal(t, "no-store", r.Header().Get("Cache-Control"))
	require.Len(t, r.body, 2)
}

func s256(v string) string {
	sum := sha256.Sum256([]byte(v))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
