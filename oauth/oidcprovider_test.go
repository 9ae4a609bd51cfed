package oauth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"
)

const (
	oidcClient = "the platform"
	oidcSecret = "the platform's secret: 4711"
)

// badProvider is an OpenID provider that can be told to answer what no real one
// does. How the passport gets on with a real one is tested with the whole binary.
type badProvider struct {
	*httptest.Server
	t   *testing.T
	key *ecdsa.PrivateKey
	// ca is a file with its certificate.
	ca string

	mu sync.Mutex
	// subject is who is logged in there.
	subject string
	// asked are the authorization requests so far, the codes of the last one by
	// what was asked.
	asked []url.Values
	codes map[string]url.Values
	// What is answered otherwise than is right, where set.
	describe  func(map[string]any)
	answer    func(url.Values)
	claims    func(map[string]any)
	sign      func(claims map[string]any) string
	userinfo  map[string]any
	instead   map[string]http.HandlerFunc
	exchanges int
}

func newBadProvider(t *testing.T) *badProvider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p := &badProvider{t: t, key: key, subject: "shop-1", codes: map[string]url.Values{}, instead: map[string]http.HandlerFunc{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", p.serveDescription)
	mux.HandleFunc("/auth", p.serveAuth)
	mux.HandleFunc("POST /token", p.serveToken)
	mux.HandleFunc("/keys", p.serveKeys)
	mux.HandleFunc("/me", p.serveUserinfo)
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		instead := p.instead[r.URL.Path]
		p.mu.Unlock()
		if instead != nil {
			instead(w, r)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	p.ca = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(p.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}), 0o600))
	return p
}

// directive is open_oauth with this provider.
func (p *badProvider) directive() string {
	return `open_oauth {
		passport oidc {
			issuer ` + p.URL + `
			client_id "` + oidcClient + `"
			client_secret "` + oidcSecret + `"
			ca ` + p.ca + `
		}
	}`
}

// set changes how the provider answers.
func (p *badProvider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// fail has a path answered with a status.
func (p *badProvider) fail(path string, status int) {
	p.set(func() {
		p.instead[path] = func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"error":"a long story"}`))
		}
	})
}

// heal undoes all that was set.
func (p *badProvider) heal() {
	p.set(func() {
		p.instead = map[string]http.HandlerFunc{}
		p.describe, p.answer, p.claims, p.sign, p.userinfo = nil, nil, nil, nil, nil
	})
}

func (p *badProvider) serveDescription(w http.ResponseWriter, _ *http.Request) {
	d := map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
		"userinfo_endpoint": p.URL + "/me", "end_session_endpoint": p.URL + "/end",
		"id_token_signing_alg_values_supported":          []string{"ES256", "HS256", "none"},
		"authorization_response_iss_parameter_supported": true,
	}
	if p.describe != nil {
		p.describe(d)
	}
	p.write(w, d)
}

// serveAuth agrees at once.
func (p *badProvider) serveAuth(w http.ResponseWriter, r *http.Request) {
	asked := r.URL.Query()
	p.asked = append(p.asked, asked)
	code := rand.Text()
	p.codes[code] = asked
	to := url.Values{"code": {code}, "state": {asked.Get("state")}, "iss": {p.URL}}
	if p.answer != nil {
		p.answer(to)
	}
	http.Redirect(w, r, asked.Get("redirect_uri")+"?"+to.Encode(), http.StatusFound)
}

func (p *badProvider) serveToken(w http.ResponseWriter, r *http.Request) {
	p.exchanges++
	id, secret, _ := r.BasicAuth()
	id, _ = url.QueryUnescape(id)
	secret, _ = url.QueryUnescape(secret)
	asked := p.codes[r.PostFormValue("code")]
	delete(p.codes, r.PostFormValue("code"))
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if id != oidcClient || secret != oidcSecret || asked == nil || r.PostFormValue("redirect_uri") != asked.Get("redirect_uri") ||
		base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
		return
	}
	claims := map[string]any{
		"iss": p.URL, "sub": p.subject, "aud": oidcClient, "nonce": asked.Get("nonce"), "name": "Shop of " + p.subject,
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
	}
	if p.claims != nil {
		p.claims(claims)
	}
	sign := p.signed
	if p.sign != nil {
		sign = p.sign
	}
	p.write(w, map[string]any{"access_token": "at", "token_type": "Bearer", "expires_in": 60, "id_token": sign(claims)})
}

// signed is an ID token as it should be.
func (p *badProvider) signed(claims map[string]any) string {
	return signedBy(p.t, jose.SigningKey{Algorithm: jose.ES256, Key: p.key}, claims)
}

func signedBy(t *testing.T, key jose.SigningKey, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithHeader("kid", "1").WithType("JWT"))
	require.NoError(t, err)
	token, err := jwt.Signed(signer).Claims(maps.Clone(claims)).Serialize()
	require.NoError(t, err)
	return token
}

func (p *badProvider) serveKeys(w http.ResponseWriter, _ *http.Request) {
	p.write(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}}})
}

func (p *badProvider) serveUserinfo(w http.ResponseWriter, _ *http.Request) {
	info := p.userinfo
	if info == nil {
		info = map[string]any{"sub": p.subject}
	}
	p.write(w, info)
}

func (p *badProvider) write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// last is the last authorization request.
func (p *badProvider) last() url.Values {
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NotEmpty(p.t, p.asked)
	return p.asked[len(p.asked)-1]
}
