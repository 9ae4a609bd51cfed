package oauth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"math/big"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

var known = []string{"state", "scope", "resource"}

func TestParseParams(t *testing.T) {
	p, refused := parseParams("state=a+b%26&scope=&scope=x&other=1&other=2&resource=1&resource=2&&=", known)
	require.Nil(t, refused)
	require.Nil(t, p.refuseRepeated())
	require.Equal(t, map[string]string{"state": "a b&", "scope": "x"}, p.values)
	require.Equal(t, []string{"1", "2"}, p.resources)

	p, refused = parseParams("state=1&st%61te=1&state=1&scope=2&scope=3", known)
	require.Nil(t, refused)
	require.Equal(t, []string{"state", "scope"}, p.repeated)
	require.NotNil(t, p.refuseRepeated())

	for _, bad := range []string{"%", "%zz=1", "state=%2", "state=%ff", strings.Repeat("a&", maxParams+1)} {
		_, refused := parseParams(bad, known)
		require.NotNil(t, refused, bad)
	}
}

// What a form holds is what is read from it.
func TestParseParamsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := url.Values{}
		for _, name := range known {
			if v := rapid.String().Draw(t, name); v != "" {
				want.Set(name, v)
			}
		}
		p, refused := parseParams(want.Encode(), known)
		if refused != nil {
			t.Fatal(refused.description)
		}
		if p.get("state") != want.Get("state") || p.get("scope") != want.Get("scope") || strings.Join(p.resources, "") != want.Get("resource") {
			t.Fatalf("%v became %v", want, p)
		}
	})
}

func FuzzParseParams(f *testing.F) {
	f.Add("state=1&scope=trade")
	f.Add("state=%ff&&=&;")
	f.Fuzz(func(t *testing.T, raw string) {
		p, refused := parseParams(raw, known)
		if refused != nil {
			return
		}
		for name, v := range p.values {
			if v == "" || !utf8.ValidString(v) {
				t.Fatalf("%s: %q", name, v)
			}
		}
	})
}

// Appending to a redirect URI changes nothing of it, and gives parameters that
// are read as they were written.
func TestAddParamsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uri := rapid.SampledFrom([]string{"https://a.example/b", "https://a.example/b?", "https://a.example/b?x=1", "https://a.example/b?x=1&", "com.example.app:/cb"}).Draw(t, "uri")
		state := rapid.StringN(1, -1, -1).Draw(t, "state")
		got := addParams(uri, param{"code", "c"}, param{"state", state}, param{"empty", ""}, param{"iss", "https://i.example"})
		u, err := url.Parse(got)
		if err != nil || !strings.HasPrefix(got, uri) {
			t.Fatal(got, err)
		}
		q := u.Query()
		if q.Get("state") != state || q.Get("code") != "c" || q.Get("iss") != "https://i.example" || q.Has("empty") || q.Has("") {
			t.Fatal(got)
		}
	})
}

func TestASCII(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, c := range ascii(rapid.String().Draw(t, "s")) {
			if c < ' ' || c > '~' || c == '"' || c == '\\' {
				t.Fatalf("%q", c)
			}
		}
	})
}

func TestBasicProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id, secret := rapid.StringN(1, 20, -1).Draw(t, "id"), rapid.String().Draw(t, "secret")
		c, ok := parseBasic("Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret))))
		if !ok || c.id != id || c.secret != secret {
			t.Fatalf("%q %q became %v", id, secret, c)
		}
	})
}

// TestProofKeys: a key that is weak, or no public one, proves nothing.
func TestProofKeys(t *testing.T) {
	for bits, want := range map[int]bool{2047: false, 2048: true, 4096: true, 4097: false} {
		key := &rsa.PublicKey{N: new(big.Int).SetBit(new(big.Int), bits-1, 1), E: 65537}
		require.Equal(t, want, usableKey(&jose.JSONWebKey{Key: key}), "%d bits", bits)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	require.True(t, usableKey(&jose.JSONWebKey{Key: public}))
	require.False(t, usableKey(&jose.JSONWebKey{Key: private}))
	require.False(t, usableKey(nil))

	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: weak}, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	require.NoError(t, err)
	now := time.Unix(1_900_000_000, 0)
	proof, err := jwt.Signed(signer).Claims(map[string]any{"jti": "1", "htm": "GET", "htu": "https://a.test/", "iat": now.Unix()}).Serialize()
	require.NoError(t, err)
	_, _, err = checkProof(platform.Proof{Headers: []string{proof}, Method: "GET", URL: "https://a.test/"}, "", now)
	require.ErrorIs(t, err, platform.ErrProofInvalid)
	require.ErrorContains(t, err, "a public key as jwk")
}

func FuzzParseBasic(f *testing.F) {
	f.Add("Basic YTpi")
	f.Add("Basic")
	f.Add("basic  YTolZmY=")
	f.Fuzz(func(t *testing.T, header string) {
		if c, ok := parseBasic(header); ok && (c.id == "" || !utf8.ValidString(c.id+c.secret)) {
			t.Fatalf("%q", header)
		}
	})
}

func FuzzParseScope(f *testing.F) {
	f.Add("trade  item basic")
	f.Add("\"")
	f.Fuzz(func(t *testing.T, scope string) {
		names, refused := parseScope(scope)
		if refused != nil {
			return
		}
		again, refused := parseScope(formatScope(names))
		require.Nil(t, refused)
		require.Equal(t, names, again)
	})
}

// A confidential app is answered where it said, port and all.
func TestLoopbackIsForPublicApps(t *testing.T) {
	settings := platform.OAuthSettings{RedirectURIs: []string{"http://127.0.0.1:4711/cb"}}
	for mode, want := range map[platform.AppMode]bool{platform.Client: true, platform.Web: false, platform.Hosted: false} {
		app := &platform.App{Mode: mode, OAuth: settings}
		require.True(t, redirectAllowed(app, "http://127.0.0.1:4711/cb"))
		require.Equal(t, want, redirectAllowed(app, "http://127.0.0.1:4712/cb"), mode)
	}
}

// Nothing exempts a public app from PKCE.
func TestPublicAppsNeedPKCE(t *testing.T) {
	for mode, want := range map[platform.AppMode]bool{platform.Client: false, platform.Web: true, platform.Hosted: true} {
		app := &platform.App{Mode: mode, OAuth: platform.OAuthSettings{WithoutPKCE: true}}
		_, refused := checkChallenge(app, &params{})
		require.Equal(t, want, refused == nil, mode)
	}
}

// Only the port of a loopback address may differ, and nothing that browsers take
// for another host gets through.
func FuzzRedirectAllowed(f *testing.F) {
	app := &platform.App{Mode: platform.Client, OAuth: platform.OAuthSettings{
		RedirectURIs: []string{"http://127.0.0.1:4711/cb?a=1", "http://[::1]/cb", "com.example.app:/cb"},
	}}
	for _, seed := range []string{"http://127.0.0.1:1/cb?a=1", "http://[::1]:65535/cb", "http://127.0.0.1@evil.example/cb", "com.example.app:/cb"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		if !redirectAllowed(app, uri) || uri == "com.example.app:/cb" {
			return
		}
		u, err := url.Parse(uri)
		require.NoError(t, err, uri)
		a, err := netip.ParseAddr(u.Hostname())
		require.NoError(t, err, uri)
		require.True(t, a.IsLoopback() && u.User == nil && u.Path == "/cb" && u.Fragment == "" && u.Scheme == "http", uri)
	})
}

func FuzzVerifier(f *testing.F) {
	f.Add("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, challenge, verifier string) {
		app := &platform.App{Mode: platform.Client}
		got, refused := checkChallenge(app, &params{values: map[string]string{"code_challenge": challenge, "code_challenge_method": "S256"}})
		if refused == nil && got != challenge {
			t.Fatal(got)
		}
		if checkVerifier(challenge, verifier) == nil && challenge != "" && (len(verifier) < 43 || len(verifier) > 128 || challenge == verifier) {
			t.Fatalf("%q matches %q", verifier, challenge)
		}
	})
}

// The guard forgets those at rest, and never holds more than its bound.
func TestGuardIsBounded(t *testing.T) {
	g := NewGuard()
	now := time.Unix(1_700_000_000, 0)
	address := func(i int) netip.Addr {
		return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	}
	for i := range maxGuessers {
		g.charge(now, secretGuess("ak", address(i)))
		require.LessOrEqual(t, len(g.until), maxGuessers+1)
	}
	now = now.Add(time.Hour)
	for i := range maxGuessers {
		g.charge(now, secretGuess("ak", address(i)))
	}
	require.LessOrEqual(t, len(g.until), maxGuessers+1)
	require.Zero(t, NewGuard().wait(now, secretGuess("ak", netip.Addr{})))
}

// Revocations are kept as long as a token can be cached, and no longer.
func TestRevocationsAreBounded(t *testing.T) {
	var r revocations
	old := &seen{token: &Token{Grant: "g", Family: "f", User: "u"}}
	now := time.Unix(1_700_000_000, 0)
	r.add(platform.Change{Kind: platform.ChangeGrant, Key: "g"}, now, time.Minute)
	for i := range 3 {
		require.Equal(t, i < 2, r.concerns(&seen{token: &Token{Grant: "g"}}), i)
		now = now.Add(2 * time.Minute)
		r.add(platform.Change{Kind: platform.ChangeUser, Key: "another"}, now, time.Minute)
	}
	require.Len(t, r.recent, 1)
	require.False(t, r.concerns(old))
	for i := range maxRevocations + 1 {
		r.add(platform.Change{Kind: platform.ChangeUser, Key: url.QueryEscape(string(rune(i + 0x10000)))}, now, time.Minute)
	}
	require.LessOrEqual(t, len(r.recent), maxRevocations)
	require.True(t, r.concerns(old), "beyond the bound everything is looked at anew")
	fresh := &seen{token: &Token{Grant: "g"}}
	fresh.checked.Store(r.latest.Load())
	require.False(t, r.concerns(fresh))
}

func FuzzParseAssertion(f *testing.F) {
	f.Add("eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJhIn0.AAAA")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, value string) {
		token, id, refused := parseAssertion(&params{values: map[string]string{"client_assertion": value, "client_assertion_type": assertionType}})
		if (refused == nil) != (token != nil && id != "") {
			t.Fatalf("%q: %v %q", value, refused, id)
		}
	})
}

func FuzzCheckProof(f *testing.F) {
	f.Add("eyJhbGciOiJFUzI1NiIsInR5cCI6ImRwb3Arand0IiwiandrIjp7Imt0eSI6IkVDIiwiY3J2IjoiUC0yNTYiLCJ4IjoiQSIsInkiOiJBIn19.e30.AAAA")
	f.Fuzz(func(t *testing.T, proof string) {
		if thumbprint, _, err := checkProof(platform.Proof{Headers: []string{proof}, Method: "POST", URL: "https://open.example.com/oauth/token"}, "", time.Unix(1_700_000_000, 0)); err == nil {
			t.Fatalf("%q holds for %s", proof, thumbprint)
		}
	})
}

// What was not sealed here is not opened.
func FuzzOpenPushed(f *testing.F) {
	s := &Server{Options: Options{Issuer: "https://open.example.com", Secrets: func() [][]byte { return [][]byte{make([]byte, 32)} }}}
	f.Add(requestURIPrefix + "AAAA")
	f.Add(requestURIPrefix + strings.Repeat("A", 100))
	f.Fuzz(func(t *testing.T, uri string) {
		if v, ok := s.openPushed(uri); ok {
			t.Fatalf("%q became %v", uri, v)
		}
	})
}

func TestSameTarget(t *testing.T) {
	const target = "https://open.example.com/oauth/token"
	for _, same := range []string{target, target + "?x", target + "#x", "https://open.example.com:443/oauth/token", "HTTPS://OPEN.example.com/oauth/token"} {
		require.True(t, sameTarget(same, target), same)
	}
	for _, other := range []string{"", "/oauth/token", "http://open.example.com/oauth/token", target + "/", "https://open.example.com/oauth%2Ftoken", "https://a@open.example.com/oauth/token", "https://open.example.com:444/oauth/token"} {
		require.False(t, sameTarget(other, target), other)
	}
	require.True(t, sameTarget("http://gate.test:80/v1", "http://gate.test/v1"))
	require.False(t, sameTarget("http://gate.test:443/v1", "http://gate.test/v1"))
}
