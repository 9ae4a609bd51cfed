package oauth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// prover is a client with a key.
type prover struct {
	f   *fixture
	key *ecdsa.PrivateKey
}

func (f *fixture) prover() *prover {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(f.t, err)
	return &prover{f, key}
}

func (p *prover) thumbprint() string {
	sum, err := (&jose.JSONWebKey{Key: p.key.Public()}).Thumbprint(crypto.SHA256)
	require.NoError(p.f.t, err)
	return base64.RawURLEncoding.EncodeToString(sum)
}

// proof makes one for a POST of the token endpoint, with the changes that a test
// wants: nil removes a claim. The name "typ" is of the header.
func (p *prover) proof(changes ...any) string {
	p.f.t.Helper()
	claims := map[string]any{"jti": rand.Text(), "htm": "POST", "htu": issuer + "/oauth/token", "iat": p.f.clock().Unix()}
	typ := "dpop+jwt"
	for i := 0; i < len(changes); i += 2 {
		name := changes[i].(string)
		switch {
		case name == "typ":
			typ = changes[i+1].(string)
		case changes[i+1] == nil:
			delete(claims, name)
		default:
			claims[name] = changes[i+1]
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: p.key}, (&jose.SignerOptions{EmbedJWK: true}).WithType(jose.ContentType(typ)))
	require.NoError(p.f.t, err)
	value, err := jwt.Signed(signer).Claims(claims).Serialize()
	require.NoError(p.f.t, err)
	return value
}

// prove asks the token endpoint with proofs.
func (f *fixture) prove(app *platform.App, proofs []string, pairs ...string) reply {
	f.t.Helper()
	r := request("/oauth/token", f.as(app, pairs...))
	r.Header["Dpop"] = proofs
	return f.serve(f.TokenHandler(), r)
}

func codePairs(app *platform.App, code string) []string {
	return []string{"grant_type", "authorization_code", "code", code, "redirect_uri", app.OAuth.RedirectURIs[0], "code_verifier", verifier}
}

// Tokens that were asked for with a proof serve its key alone.
func TestDPoP(t *testing.T) {
	f := newFixture(t)
	p, thief := f.prover(), f.prover()
	r := f.prove(f.native, []string{p.proof()}, codePairs(f.native, f.code(f.native))...)
	require.Equal(t, 200, r.Code, r.Body)
	require.Equal(t, "DPoP", r.str("token_type"))
	token := r.str("access_token")

	call := func(p *prover, token string, changes ...any) error {
		sum := s256(token)
		proof := p.proof(append([]any{"htm", "GET", "htu", issuer + "/v1/orders", "ath", sum}, changes...)...)
		_, err := f.verifier.VerifyProof(t.Context(), token, platform.Proof{Headers: []string{proof}, Method: "GET", URL: issuer + "/v1/orders?page=2"}, f.native, platform.Production, "trade")
		return err
	}
	require.NoError(t, call(p, token))
	require.ErrorIs(t, f.verify(f.native, token, "trade"), platform.ErrTokenInvalid, "without a proof")
	require.ErrorIs(t, call(thief, token), platform.ErrTokenInvalid)
	for name, change := range map[string][]any{
		"another token":  {"ath", s256("x")},
		"no token":       {"ath", nil},
		"another method": {"htm", "POST"},
		"another path":   {"htu", issuer + "/v1/items"},
		"another host":   {"htu", "https://open.example.org/v1/orders"},
	} {
		require.ErrorIs(t, call(p, token, change...), platform.ErrProofInvalid, name)
	}
	require.NoError(t, call(p, token, "htu", "https://OPEN.example.com:443/v1/orders#x"))
	require.NoError(t, call(p, token, "jti", "again"))
	require.ErrorIs(t, call(p, token, "jti", "again"), platform.ErrProofInvalid)

	// The refresh token of a public app is bound too.
	refresh := []string{"grant_type", "refresh_token", "refresh_token", r.str("refresh_token")}
	requireError(t, f.token(f.native, refresh...), 400, "invalid_dpop_proof")
	requireError(t, f.prove(f.native, []string{thief.proof()}, refresh...), 400, "invalid_grant")
	next := f.prove(f.native, []string{p.proof()}, refresh...)
	require.Equal(t, 200, next.Code, next.Body)
	require.NoError(t, call(p, next.str("access_token")))
	requireError(t, f.token(f.native, "grant_type", "refresh_token", "refresh_token", next.str("refresh_token")), 400, "invalid_dpop_proof")

	// That of a confidential app is not; the app proves itself.
	web := f.prove(f.web, []string{p.proof()}, codePairs(f.web, f.code(f.web))...)
	info := f.introspect(f.web, web.str("access_token"))
	require.Equal(t, "DPoP", info.str("token_type"))
	require.Equal(t, map[string]any{"jkt": p.thumbprint()}, info.body["cnf"])
	require.Equal(t, "Bearer", f.refresh(f.web, web.str("refresh_token")).str("token_type"))
	require.Equal(t, "DPoP", f.prove(f.web, []string{p.proof()}, "grant_type", "client_credentials").str("token_type"))

	bearer := f.exchange(f.native, f.code(f.native)).str("access_token")
	require.ErrorIs(t, call(p, bearer), platform.ErrTokenInvalid, "a token that is not bound")
}

// An old refresh token ends the family only with the key that it is bound to:
// nobody who just copied it can end what the app has.
func TestDPoPReplayNeedsKey(t *testing.T) {
	f := newFixture(t)
	p, thief := f.prover(), f.prover()
	r := f.prove(f.native, []string{p.proof()}, codePairs(f.native, f.code(f.native))...)
	old := []string{"grant_type", "refresh_token", "refresh_token", r.str("refresh_token")}
	r = f.prove(f.native, []string{p.proof()}, old...)
	require.Equal(t, 200, r.Code, r.Body)
	requireError(t, f.token(f.native, old...), 400, "invalid_dpop_proof")
	requireError(t, f.prove(f.native, []string{thief.proof()}, old...), 400, "invalid_grant")
	_, err := f.store.Token(t.Context(), oauth.HashOf(r.str("refresh_token")))
	require.NoError(t, err)
	requireError(t, f.prove(f.native, []string{p.proof()}, old...), 400, "invalid_grant")
	_, err = f.store.Token(t.Context(), oauth.HashOf(r.str("refresh_token")))
	require.ErrorIs(t, err, platform.ErrNotFound)
}

func TestDPoPBindsCode(t *testing.T) {
	f := newFixture(t)
	p, thief := f.prover(), f.prover()
	code := func() []string { return codePairs(f.native, f.code(f.native, "dpop_jkt", p.thumbprint())) }
	require.Equal(t, 200, f.prove(f.native, []string{p.proof()}, code()...).Code)
	requireError(t, f.prove(f.native, []string{thief.proof()}, code()...), 400, "invalid_grant")
	requireError(t, f.token(f.native, code()...), 400, "invalid_dpop_proof")
	_, err := f.Authorize(t.Context(), query(f.native, "dpop_jkt", "x"))
	var redirect *oauth.RedirectError
	require.ErrorAs(t, err, &redirect)
}

// A proof that comes with a pushed request binds the code as dpop_jkt does.
func TestDPoPBindsPushed(t *testing.T) {
	f := newFixture(t)
	p, thief := f.prover(), f.prover()
	push := func(proofs []string, pairs ...string) reply {
		v, err := url.ParseQuery(query(f.native, pairs...))
		require.NoError(t, err)
		r := request("/oauth/par", v)
		r.Header["Dpop"] = proofs
		return f.serve(f.PushedHandler(), r)
	}
	at := []any{"htu", issuer + "/oauth/par"}
	for _, jkt := range []string{"", p.thumbprint()} {
		pushed := push([]string{p.proof(at...)}, "dpop_jkt", jkt)
		require.Equal(t, 201, pushed.Code, pushed.Body)
		r, err := f.Authorize(t.Context(), form("client_id", f.native.Key, "request_uri", pushed.str("request_uri")).Encode())
		require.NoError(t, err)
		require.Equal(t, p.thumbprint(), r.Key)
	}
	requireError(t, push([]string{p.proof(at...)}, "dpop_jkt", thief.thumbprint()), 400, "invalid_request")
	requireError(t, push([]string{p.proof()}), 400, "invalid_dpop_proof")
	requireError(t, push([]string{"x"}), 400, "invalid_dpop_proof")
}

// 1688's token address knows no proofs, and says so before it spends the code.
func TestDPoPCompat(t *testing.T) {
	f := newFixture(t)
	pairs := codePairs(f.web, f.code(f.web))
	r := request("/openapi/http/1/system.oauth2/getToken/"+f.web.Key, f.as(f.web, pairs...))
	r.Header.Set("DPoP", f.prover().proof())
	requireError(t, f.serve(f.CompatTokenHandler(), r), 400, "invalid_request")
	require.Equal(t, 200, f.token(f.web, pairs...).Code)
}

func TestProofs(t *testing.T) {
	f := newFixture(t)
	p := f.prover()
	ask := func(proofs ...string) reply { return f.prove(f.web, proofs, "grant_type", "client_credentials") }
	used := p.proof()
	require.Equal(t, 200, ask(used).Code)
	private, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: p.key},
		(&jose.SignerOptions{}).WithType("dpop+jwt").WithHeader("jwk", jose.JSONWebKey{Key: p.key}))
	require.NoError(t, err)
	leaking, err := jwt.Signed(private).Claims(map[string]any{"jti": "1", "htm": "POST", "htu": issuer + "/oauth/token", "iat": f.clock().Unix()}).Serialize()
	require.NoError(t, err)
	good := p.proof()
	for name, proofs := range map[string][]string{
		"used before":    {used},
		"two":            {p.proof(), p.proof()},
		"another type":   {p.proof("typ", "JWT")},
		"no jti":         {p.proof("jti", nil)},
		"no iat":         {p.proof("iat", nil)},
		"no htm":         {p.proof("htm", nil)},
		"no htu":         {p.proof("htu", nil)},
		"lower case":     {p.proof("htm", "post")},
		"another target": {p.proof("htu", issuer+"/oauth/revoke")},
		"old":            {p.proof("iat", f.clock().Add(-3*time.Minute).Unix())},
		"future":         {p.proof("iat", f.clock().Add(2*time.Minute).Unix())},
		"no key":         {assertion(t, p.key, jose.ES256, map[string]any{"jti": "1"})},
		"private key":    {leaking},
		"changed":        {good[:len(good)-4] + "AAAA"},
		"nonsense":       {"x"},
		"none":           {"eyJhbGciOiJub25lIiwidHlwIjoiZHBvcCtqd3QifQ.e30."},
	} {
		t.Run(name, func(t *testing.T) { requireError(t, ask(proofs...), 400, "invalid_dpop_proof") })
	}
}

// A request that is refused for something else uses no proof: anybody could fill
// the memory of them.
func TestProofsAreUsedLast(t *testing.T) {
	f := newFixture(t)
	nonces := limit.NewMemoryNonces(limit.NonceOptions{})
	s, err := oauth.New(oauth.Options{
		Store: f.store, Apps: f.store, Issuer: issuer, Now: f.clock, DPoP: true, Activation: issuer + "/oauth/activate",
		Ledger: &limit.Local{Limits: limit.NewMemory(limit.MemoryOptions{}), Nonces: nonces},
	})
	require.NoError(t, err)
	proof := f.prover().proof()
	ask := func(pairs ...string) reply {
		r := request("/oauth/token", f.as(f.native, pairs...))
		r.Header["Dpop"] = []string{proof}
		return f.serve(s.TokenHandler(), r)
	}
	bound := codePairs(f.native, f.code(f.native, "dpop_jkt", f.prover().thumbprint()))
	for name, pairs := range map[string][]string{
		"no grant type":     {},
		"another one":       {"grant_type", "password"},
		"no secret":         {"grant_type", "client_credentials"},
		"a made-up code":    codePairs(f.native, "ac_"+strings.Repeat("A", 43)),
		"another's code":    codePairs(f.native, f.code(f.web)),
		"another key":       bound,
		"a made-up refresh": {"grant_type", "refresh_token", "refresh_token", "rt_" + strings.Repeat("A", 43)},
		"a made-up device":  {"grant_type", "urn:ietf:params:oauth:grant-type:device_code", "device_code", "dc_" + strings.Repeat("A", 43)},
		"no device waiting": {"grant_type", "urn:ietf:params:oauth:grant-type:device_code", "device_code", f.device(f.native).str("device_code")},
	} {
		require.Equal(t, 400, ask(pairs...).Code, name)
		require.Zero(t, nonces.Stats().Entries, name)
	}
	require.Equal(t, 200, ask(codePairs(f.native, f.code(f.native))...).Code)
	require.Equal(t, 1, nonces.Stats().Entries)
	requireError(t, ask(codePairs(f.native, f.code(f.native))...), 400, "invalid_dpop_proof")
}

// While no more proofs can be remembered, a client is told to come again.
func TestProofsLedgerFull(t *testing.T) {
	f := newFixture(t)
	var reported error
	s, err := oauth.New(oauth.Options{
		Store: f.store, Apps: f.store, Issuer: issuer, Now: f.clock, DPoP: true,
		Report: func(_ *http.Request, err error) { reported = err },
		Ledger: &limit.Local{Limits: limit.NewMemory(limit.MemoryOptions{}), Nonces: limit.NewMemoryNonces(limit.NonceOptions{Max: 1})},
	})
	require.NoError(t, err)
	p := f.prover()
	ask := func() reply {
		r := request("/oauth/token", f.as(f.web, "grant_type", "client_credentials"))
		r.Header.Set("DPoP", p.proof())
		return f.serve(s.TokenHandler(), r)
	}
	require.Equal(t, 200, ask().Code)
	refused := ask()
	requireError(t, refused, 503, "temporarily_unavailable")
	require.Equal(t, "1", refused.Header().Get("Retry-After"))
	require.ErrorIs(t, reported, limit.ErrFull)
}

// Where nobody checks proofs none is promised.
func TestWithoutDPoP(t *testing.T) {
	f := newFixture(t)
	s, err := oauth.New(oauth.Options{Store: f.store, Apps: f.store, Issuer: issuer, Now: f.clock})
	require.NoError(t, err)
	r := request("/oauth/token", f.as(f.web, "grant_type", "client_credentials"))
	r.Header.Set("DPoP", f.prover().proof())
	require.Equal(t, "Bearer", f.serve(s.TokenHandler(), r).str("token_type"))
	r = request("/", nil)
	r.Method = http.MethodGet
	require.NotContains(t, f.serve(s.MetadataHandler(), r).body, "dpop_signing_alg_values_supported")
}
