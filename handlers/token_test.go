package handlers_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule"
	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// prover is a client with a key that tokens are bound to.
type prover struct {
	t   *testing.T
	key *ecdsa.PrivateKey
}

func newProver(t *testing.T) *prover {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return &prover{t, key}
}

func (p *prover) thumbprint() string {
	sum, err := (&jose.JSONWebKey{Key: p.key.Public()}).Thumbprint(crypto.SHA256)
	require.NoError(p.t, err)
	return base64.RawURLEncoding.EncodeToString(sum)
}

// proof makes one for a GET of url with the token; changes are names and values
// of claims.
func (p *prover) proof(url, token string, changes ...any) string {
	p.t.Helper()
	ath := sha256.Sum256([]byte(token))
	claims := map[string]any{
		"jti": rand.Text(), "htm": "GET", "htu": url, "iat": time.Now().Unix(),
		"ath": base64.RawURLEncoding.EncodeToString(ath[:]),
	}
	for i := 0; i < len(changes); i += 2 {
		claims[changes[i].(string)] = changes[i+1]
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: p.key}, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	require.NoError(p.t, err)
	value, err := jwt.Signed(signer).Claims(claims).Serialize()
	require.NoError(p.t, err)
	return value
}

// token makes an access token of a merchant for the app, as the authorization
// server does: bound to the key with that thumbprint, or to none.
func (w *world) token(app *platform.App, thumbprint string) (user, value string) {
	w.t.Helper()
	module, err := caddy.ActiveContext().App("open_platform")
	require.NoError(w.t, err)
	ctx, now := w.t.Context(), time.Now()
	a, err := module.(*caddymodule.App).Authorization(ctx)
	require.NoError(w.t, err)
	u, err := a.Store.UserByIdentity(ctx, "https://passport.example.com", "shop-1", "Shop 1", now)
	require.NoError(w.t, err)
	family := oauth.Family(rand.Text())
	code := &oauth.Code{
		Hash: oauth.HashOf(rand.Text()), Family: family, App: app.Number, Environment: platform.Production, User: u.ID,
		RedirectURI: "https://isv.example.com/", Scopes: []string{"user"}, IssuedAt: now, ExpiresAt: now.Add(time.Minute),
	}
	require.NoError(w.t, a.Store.Authorize(ctx, &platform.Grant{
		User: u.ID, App: app.ID, AppNumber: app.Number, Environment: platform.Production,
		Scopes: code.Scopes, CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}, code))
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	value = "at_" + base64.RawURLEncoding.EncodeToString(raw)
	require.NoError(w.t, a.Store.SaveTokens(ctx, &oauth.Token{
		Hash: oauth.HashOf(value), Family: family, Kind: oauth.AccessToken, Grant: code.Grant, App: app.Number,
		Environment: platform.Production, User: u.ID, Scopes: code.Scopes, Key: thumbprint, IssuedAt: now, ExpiresAt: now.Add(time.Hour),
	}))
	return u.ID, value
}

const merchantURL = "http://gate.test/v1/merchants/7"

// TestDPoP: a token that is bound to a key is good with a proof of that key for
// this very call, once, and for nothing else.
func TestDPoP(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, "open_gate production\n reverse_proxy UPSTREAM")
	app, c := w.app(platform.Production, "user")
	p, thief := newProver(t), newProver(t)
	user, token := w.token(app, p.thumbprint())
	_, free := w.token(app, "")
	used := p.proof(merchantURL, token)

	for name, header := range map[string][]string{
		"a proof":              {"Authorization", "DPoP " + token, "DPoP", used},
		"in any letters":       {"Authorization", "dpop " + token, "dpop", p.proof("HTTP://GATE.test:80/v1/merchants/7", token)},
		"a query in the proof": {"Authorization", "DPoP " + token, "DPoP", p.proof(merchantURL+"?fields=none", token)},
		"no bound token":       {"Authorization", "Bearer " + free},
		"one proof too many":   {"Authorization", "Bearer " + free, "DPoP", p.proof(merchantURL, free), "DPoP", "x"},
	} {
		require.True(t, t.Run(name, func(t *testing.T) {
			rec := w.do(c.request(t, "GET", "/v1/merchants/7?fields=all", "", header...))
			require.Equal(t, http.StatusOK, rec.Code, rec.Body)
			s := one(t, got)
			require.Equal(t, user, s.header.Get("X-Open-User-Id"))
			require.NotContains(t, s.header, "Authorization")
			require.NotContains(t, s.header, "Dpop")
		}))
	}

	const algorithms = `, algs="ES256 EdDSA PS256 RS256"`
	const proof, key, bearer = `DPoP error="invalid_dpop_proof"` + algorithms, `DPoP error="invalid_token"` + algorithms,
		`Bearer realm="open_platform", error="invalid_token"`
	now := time.Now()
	for name, test := range map[string]struct {
		challenge, scheme, token string
		proofs                   []string
	}{
		"as a bearer":        {bearer, "Bearer", token, nil},
		"as a bearer, prove": {bearer, "Bearer", token, []string{p.proof(merchantURL, token)}},
		"no proof":           {proof, "DPoP", token, nil},
		"an empty proof":     {proof, "DPoP", token, []string{""}},
		"nonsense":           {proof, "DPoP", token, []string{"x"}},
		"two proofs":         {proof, "DPoP", token, []string{p.proof(merchantURL, token), p.proof(merchantURL, token)}},
		"used before":        {proof, "DPoP", token, []string{used}},
		"changed":            {proof, "DPoP", token, []string{used[:len(used)-8] + "AAAAAAAA"}},
		"another method":     {proof, "DPoP", token, []string{p.proof(merchantURL, token, "htm", "POST")}},
		"another scheme":     {proof, "DPoP", token, []string{p.proof("https://gate.test/v1/merchants/7", token)}},
		"another host":       {proof, "DPoP", token, []string{p.proof("http://gate.example/v1/merchants/7", token)}},
		"another path":       {proof, "DPoP", token, []string{p.proof("http://gate.test/v1/merchants/8", token)}},
		"old":                {proof, "DPoP", token, []string{p.proof(merchantURL, token, "iat", now.Add(-3*time.Minute).Unix())}},
		"of the future":      {proof, "DPoP", token, []string{p.proof(merchantURL, token, "iat", now.Add(3*time.Minute).Unix())}},
		"another token":      {proof, "DPoP", token, []string{p.proof(merchantURL, free)}},
		"no token in it":     {proof, "DPoP", token, []string{p.proof(merchantURL, token, "ath", nil)}},
		"another key":        {key, "DPoP", token, []string{thief.proof(merchantURL, token)}},
		"no bound token":     {key, "DPoP", free, []string{p.proof(merchantURL, free)}},
		"an unknown token":   {key, "DPoP", "at_" + strings.Repeat("x", 43), []string{p.proof(merchantURL, "at_"+strings.Repeat("x", 43))}},
	} {
		t.Run(name, func(t *testing.T) {
			header := []string{"Authorization", test.scheme + " " + test.token}
			for _, proof := range test.proofs {
				header = append(header, "DPoP", proof)
			}
			rec := w.do(c.request(t, "GET", "/v1/merchants/7", "", header...))
			detail := refused(t, rec, http.StatusUnauthorized, "token_invalid")
			require.Equal(t, test.challenge, rec.Header().Get("WWW-Authenticate"), detail)
			require.NotContains(t, rec.Body.String(), test.token)
			require.Empty(t, got)
		})
	}

	rec := w.do(c.request(t, "GET", "/v1/merchants/7", "", "Authorization", "DPoP", "DPoP", p.proof(merchantURL, token)))
	refused(t, rec, http.StatusUnauthorized, "token_missing")
	require.Equal(t, `DPoP algs="ES256 EdDSA PS256 RS256"`, rec.Header().Get("WWW-Authenticate"))

	rec = w.do(c.request(t, "GET", "/v1/products", "", "Authorization", "DPoP "+token, "DPoP", "x"))
	require.Equal(t, http.StatusOK, rec.Code, "who needs no token asks for no proof")
	s := one(t, got)
	require.NotContains(t, s.header, "Authorization")
	require.NotContains(t, s.header, "Dpop")
}

// TestEveryHeaderAtOnce: a call that has all that the gate can say gets all of it.
func TestEveryHeaderAtOnce(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, "open_gate production\n reverse_proxy UPSTREAM")
	app, c := w.app(platform.Production, "user")
	user, token := w.token(app, "")
	_, err := w.service.SetAPIStatus(t.Context(), "test", "user.get", "", platform.Deprecated, time.Now().Add(time.Hour))
	require.NoError(t, err)
	_, err = w.service.PutPlan(t.Context(), "test", platform.Plan{Name: "limited", App: platform.Limits{Quota: limit.Quota{Day: 10}}})
	require.NoError(t, err)
	_, err = w.service.SetAppPlan(t.Context(), "test", app.ID, "limited")
	require.NoError(t, err)
	rec := w.do(c.request(t, "GET", "/v1/merchants/7", "", "Authorization", "Bearer "+token, "Connection", "X-Open-User-Id, X-Hop"))
	require.Equal(t, http.StatusOK, rec.Code, rec.Body)
	for _, name := range []string{"X-Open-Request-Id", "Deprecation", "Sunset", "RateLimit", "RateLimit-Policy"} {
		require.NotEmpty(t, rec.Header().Get(name), name)
	}
	s := one(t, got)
	require.Equal(t, user, s.header.Get("X-Open-User-Id"))
	require.Equal(t, "user", s.header.Get("X-Open-Scopes"))
	require.Len(t, reserved(s.header), 7)
}

// TestDPoPAsSent: a proof is of the URL that the client knows, whatever a proxy
// in front or the site makes of it.
func TestDPoPAsSent(t *testing.T) {
	const sent = "gate.test/open/v1/merchants/7"
	for name, test := range map[string]struct{ trusted, forwarded, url string }{
		"no proxy":        {"", "", "http://" + sent},
		"trusted proxy":   {"127.0.0.0/8", "https", "https://" + sent},
		"its plain calls": {"127.0.0.0/8", "http", "http://" + sent},
		"anybody":         {"192.0.2.1", "https", "http://" + sent},
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := witness(t)
			s := setup{upstream: address, site: "handle_path /open/* {\n open_gate production\n reverse_proxy UPSTREAM \n}"}
			if test.trusted != "" {
				s.options = "servers {\n trusted_proxies static " + test.trusted + "\n}"
			}
			w := s.run(t)
			app, c := w.app(platform.Production, "user")
			p := newProver(t)
			_, token := w.token(app, p.thumbprint())
			ask := func(url string) int {
				r := c.request(t, "GET", "/open/v1/merchants/7?x=1", "", "Authorization", "DPoP "+token, "DPoP", p.proof(url, token))
				if test.forwarded != "" {
					r.Header.Set("X-Forwarded-Proto", test.forwarded)
				}
				return w.do(r).Code
			}
			require.Equal(t, http.StatusOK, ask(test.url))
			for _, other := range []string{"http://" + sent, "https://" + sent, "http://gate.test/v1/merchants/7", "https://gate.test/v1/merchants/7"} {
				if other != test.url {
					require.Equal(t, http.StatusUnauthorized, ask(other), other)
				}
			}
		})
	}
}
