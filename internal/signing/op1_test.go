package signing

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const (
	testSecret = "sk_test_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	testNonce  = "b7c1f0a94d2e4c3f"
	testApp    = "ak_1"
)

var testNow = time.Unix(1_700_000_000, 0)

// pair is a signing key with its verification key.
type pair struct {
	method  string
	signing *SigningKey
	key     *Key
}

func secretPair(tb testing.TB, dialect, method, secret string, number int) pair {
	tb.Helper()
	s, err := NewSigningSecret(dialect, method, []byte(secret))
	require.NoError(tb, err)
	k, err := NewSecretKey(dialect, method, number, []byte(secret))
	require.NoError(tb, err)
	return pair{method: s.method, signing: s, key: k}
}

func publicPair(tb testing.TB, private any, public any, number int) pair {
	tb.Helper()
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(tb, err)
	publicDER, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(tb, err)
	s, err := NewSigningPrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}))
	require.NoError(tb, err)
	k, err := NewPublicKey(number, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER}))
	require.NoError(tb, err)
	return pair{method: s.method, signing: s, key: k}
}

func ed25519Pair(tb testing.TB, number int) pair {
	tb.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(tb, err)
	return publicPair(tb, private, public, number)
}

// testRSA is made once: making an RSA key is slow.
var testRSA = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func rsaPair(tb testing.TB, number int) pair {
	tb.Helper()
	private, err := testRSA()
	require.NoError(tb, err)
	return publicPair(tb, private, &private.PublicKey, number)
}

// headerPairs are keys of all the methods that a header dialect signs with.
func headerPairs(tb testing.TB, dialect string) []pair {
	tb.Helper()
	return []pair{secretPair(tb, dialect, "", testSecret, 1), ed25519Pair(tb, 1), rsaPair(tb, 1)}
}

// get and post are calls without a signature.
func get() *Request {
	return &Request{
		Method: "GET", Scheme: "https", Authority: "api.example.com",
		Path: "/v1/shops/42", RawQuery: "a=1&b=%20", Header: http.Header{},
	}
}

func post() *Request {
	r := get()
	r.Method = "POST"
	r.Body = []byte(`{"sku":"A"}`)
	r.BodyRead = true
	r.ContentLength = int64(len(r.Body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer at_1")
	return r
}

func mustSet(tb testing.TB, names ...string) *Set {
	tb.Helper()
	s, err := NewSet(names...)
	require.NoError(tb, err)
	return s
}

// signedBy is r with the signature of a dialect.
func signedBy(tb testing.TB, dialect string, r *Request, p pair, number int) *Request {
	tb.Helper()
	signed, err := Sign(dialect, r, Credentials{AppKey: testApp, KeyNumber: number, Key: p.signing}, testNow, testNonce)
	require.NoError(tb, err)
	out := *r
	out.Header, out.RawQuery, out.Body = signed.Header, signed.RawQuery, signed.Body
	return &out
}

// admit runs r through all that a gate does.
func admit(set *Set, r *Request, opt Options, keys ...*Key) (*Claim, int, error) {
	c := new(Claim)
	if err := set.Claim(c, r); err != nil {
		return nil, -1, err
	}
	i, err := c.Verify(r, keys, opt)
	if err != nil {
		return nil, -1, err
	}
	return c, i, c.CheckBody(r.Body)
}

// resign puts a signature with the given parameters on r, so that a test can
// make what Sign never would.
func resign(tb testing.TB, r *Request, p pair, label, list, params string) {
	tb.Helper()
	text := "(" + list + ")" + params
	base, err := appendBase(nil, r, list, text, false)
	require.NoError(tb, err)
	signature, err := p.signing.makeSignature(base)
	require.NoError(tb, err)
	r.Header.Set(headerInput, label+"="+text)
	r.Header.Set(headerSignature, label+"=:"+base64Strict.EncodeToString(signature)+":")
}

const (
	fullList   = `"@method" "@authority" "@path" "@query"`
	bodyList   = fullList + ` "content-digest" "content-type" "authorization"`
	goodParams = `;created=1700000000;nonce="` + testNonce + `";keyid="` + testApp + `";tag="op1"`
)

func TestOp1Accepts(t *testing.T) {
	set := mustSet(t, "op1")
	p := secretPair(t, "op1", "", testSecret, 1)
	for name, change := range map[string]func(r *Request){
		"as it is":                         func(*Request) {},
		"authority in upper case":          func(r *Request) { r.Authority = "API.Example.com" },
		"default port in the authority":    func(r *Request) { r.Authority = "api.example.com:443" },
		"body not read yet":                func(r *Request) { r.BodyRead = false },
		"a header that nobody covers":      func(r *Request) { r.Header.Set("X-Trace", "1") },
		"white space around the values":    func(r *Request) { r.Header.Set("Content-Type", " application/json\t") },
		"white space around the signature": func(r *Request) { r.Header.Set(headerSignature, r.Header.Get(headerSignature)+" ") },
		"another signature before": func(r *Request) {
			r.Header.Set(headerInput, `sig1=("@method";req);created=1;x="\"a,b)", `+r.Header.Get(headerInput))
			r.Header.Set(headerSignature, "sig1=:AAAA:, "+r.Header.Get(headerSignature))
		},
		"another signature after": func(r *Request) {
			r.Header.Set(headerInput, r.Header.Get(headerInput)+`,sig1=();created=1;flag;n=-1.5;t=tok;b=:AAAA:`)
			r.Header.Set(headerSignature, r.Header.Get(headerSignature)+",sig1=:AAAA:")
		},
		"another label": func(r *Request) {
			r.Header.Set(headerInput, "x"+r.Header.Get(headerInput))
			r.Header.Set(headerSignature, "x"+r.Header.Get(headerSignature))
		},
		"300 s old": func(r *Request) {
			resign(t, r, p, "op", bodyList, strings.Replace(goodParams, "1700000000", "1699999700", 1))
		},
		"300 s early": func(r *Request) {
			resign(t, r, p, "op", bodyList, strings.Replace(goodParams, "1700000000", "1700000300", 1))
		},
		"the key's alg": func(r *Request) { resign(t, r, p, "op", bodyList, goodParams+`;alg="hmac-sha256"`) },
		"expires later": func(r *Request) { resign(t, r, p, "op", bodyList, goodParams+`;expires=1700000000`) },
		"any order": func(r *Request) {
			resign(t, r, p, "op", `"authorization" "@query" "content-type" "@path" "content-digest" "@authority" "@method"`, goodParams)
		},
		"params reordered": func(r *Request) {
			resign(t, r, p, "op", bodyList, `;tag="op1";keyid="ak_1";nonce="`+testNonce+`"; created=1700000000`)
		},
		"no body, digest of nothing": func(r *Request) {
			r.Body, r.ContentLength = nil, 0
			r.Header.Set(headerDigest, "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:")
			resign(t, r, p, "op", bodyList, goodParams)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := signedBy(t, "op1", post(), p, 0)
			change(r)
			c, i, err := admit(set, r, Options{Now: testNow}, p.key)
			require.NoError(t, err)
			require.Zero(t, i)
			require.Equal(t, testApp, c.AppKey)
			require.Equal(t, testNonce, c.Nonce)
			require.Equal(t, "n:"+testNonce, string(c.ReplayID(nil, r)))
			_, has := c.Digest()
			require.True(t, has)
		})
	}
}

func TestOp1Refuses(t *testing.T) {
	set := mustSet(t, "op1")
	p := secretPair(t, "op1", "", testSecret, 1)
	anew := func(list, params string) func(r *Request) {
		return func(r *Request) { resign(t, r, p, "op", list, params) }
	}
	swap := func(old, with string) func(r *Request) {
		return anew(bodyList, strings.Replace(goodParams, old, with, 1))
	}
	for name, test := range map[string]struct {
		want   error
		change func(r *Request)
	}{
		"no signature":              {ErrMissing, func(r *Request) { r.Header.Del(headerInput) }},
		"no Signature header":       {ErrMissing, func(r *Request) { r.Header.Del(headerSignature) }},
		"another tag":               {ErrMissing, swap(`"op1"`, `"op2"`)},
		"301 s old":                 {ErrTimestamp, swap("1700000000", "1699999699")},
		"301 s early":               {ErrTimestamp, swap("1700000000", "1700000301")},
		"far future":                {ErrTimestamp, swap("1700000000", "999999999999999")},
		"negative created":          {ErrMalformed, swap("1700000000", "-1")},
		"created not an integer":    {ErrMalformed, swap("1700000000", `"1700000000"`)},
		"created too long":          {ErrMalformed, swap("1700000000", "1700000000000000")},
		"no created":                {ErrMalformed, swap(";created=1700000000", "")},
		"created twice":             {ErrMalformed, swap(";created=1700000000", ";created=1700000000;created=1700000000")},
		"no nonce":                  {ErrMalformed, swap(`;nonce="`+testNonce+`"`, "")},
		"short nonce":               {ErrMalformed, swap(testNonce, testNonce[1:])},
		"long nonce":                {ErrMalformed, swap(testNonce, strings.Repeat("a", 65))},
		"nonce of other characters": {ErrMalformed, swap(testNonce, testNonce+".")},
		"no keyid":                  {ErrMalformed, swap(`;keyid="ak_1"`, "")},
		"empty keyid":               {ErrMalformed, swap(`"ak_1"`, `""`)},
		"key number 0":              {ErrMalformed, swap(`"ak_1"`, `"ak_1#0"`)},
		"key number +1":             {ErrMalformed, swap(`"ak_1"`, `"ak_1#+1"`)},
		"key number missing":        {ErrMalformed, swap(`"ak_1"`, `"ak_1#"`)},
		"unknown key number":        {ErrInvalid, swap(`"ak_1"`, `"ak_1#2"`)},
		"keyid with an escape":      {ErrMalformed, swap(`"ak_1"`, `"ak\\1"`)},
		"unknown parameter":         {ErrMalformed, anew(bodyList, goodParams+`;x=1`)},
		"alg of another key":        {ErrMethod, anew(bodyList, goodParams+`;alg="ed25519"`)},
		"alg that op1 has not":      {ErrMethod, anew(bodyList, goodParams+`;alg="rsa-pss-sha512"`)},
		"expired":                   {ErrTimestamp, anew(bodyList, goodParams+`;expires=1699999999`)},
		"expired at 0":              {ErrTimestamp, anew(bodyList, goodParams+`;expires=0`)},
		"no @method":                {ErrInvalid, anew(strings.Replace(bodyList, `"@method" `, "", 1), goodParams)},
		"no @authority":             {ErrInvalid, anew(strings.Replace(bodyList, `"@authority" `, "", 1), goodParams)},
		"no @path":                  {ErrInvalid, anew(strings.Replace(bodyList, `"@path" `, "", 1), goodParams)},
		"no @query":                 {ErrInvalid, anew(strings.Replace(bodyList, `"@query" `, "", 1), goodParams)},
		"no content-digest":         {ErrInvalid, anew(strings.Replace(bodyList, `"content-digest" `, "", 1), goodParams)},
		"no content-type":           {ErrInvalid, anew(strings.Replace(bodyList, `"content-type" `, "", 1), goodParams)},
		"no authorization":          {ErrInvalid, anew(strings.Replace(bodyList, ` "authorization"`, "", 1), goodParams)},
		"nothing covered":           {ErrInvalid, anew("", goodParams)},
		"component twice":           {ErrMalformed, anew(bodyList+` "@path"`, goodParams)},
		"unknown component":         {ErrMalformed, func(r *Request) { r.Header.Set("X-A", "1"); anew(bodyList+` "x-a"`, goodParams)(r) }},
		"@target-uri":               {ErrMalformed, anew(bodyList+` "@target-uri"`, goodParams)},
		"component with parameter": {ErrMalformed, func(r *Request) {
			r.Header.Set(headerInput, strings.Replace(r.Header.Get(headerInput), `"@path"`, `"@path";req`, 1))
		}},
		"component in upper case": {ErrMalformed, func(r *Request) {
			r.Header.Set(headerInput, strings.Replace(r.Header.Get(headerInput), "content-type", "Content-Type", 1))
		}},
		"covered header twice":     {ErrMalformed, func(r *Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }},
		"covered header gone":      {ErrInvalid, func(r *Request) { r.Header.Del("Authorization") }},
		"header with a line break": {ErrMalformed, func(r *Request) { r.Header.Set("Authorization", "a\nb") }},
		"two Signature-Input":      {ErrMalformed, func(r *Request) { r.Header.Add(headerInput, "sig1=();created=1") }},
		"two Signature":            {ErrMalformed, func(r *Request) { r.Header.Add(headerSignature, "sig1=:AAAA:") }},
		"two signatures of op1": {ErrMalformed, func(r *Request) {
			for _, name := range []string{headerInput, headerSignature} {
				r.Header.Set(name, r.Header.Get(name)+", b"+r.Header.Get(name))
			}
		}},
		"label twice":              {ErrMalformed, func(r *Request) { r.Header.Set(headerInput, r.Header.Get(headerInput)+`, op=();tag="x"`) }},
		"label twice in Signature": {ErrMalformed, func(r *Request) { r.Header.Set(headerSignature, r.Header.Get(headerSignature)+", op=:AAAA:") }},
		"label not in Signature":   {ErrMalformed, func(r *Request) { r.Header.Set(headerSignature, "x"+r.Header.Get(headerSignature)) }},
		"signature not base64":     {ErrMalformed, func(r *Request) { r.Header.Set(headerSignature, "op=:????:") }},
		"signature without padding": {ErrMalformed, func(r *Request) {
			r.Header.Set(headerSignature, strings.ReplaceAll(r.Header.Get(headerSignature), "=:", ":"))
		}},
		"line break in signature": {ErrMalformed, func(r *Request) {
			r.Header.Set(headerSignature, strings.Replace(r.Header.Get(headerSignature), "op=:", "op=:\n", 1))
		}},
		"empty signature": {ErrInvalid, func(r *Request) { r.Header.Set(headerSignature, "op=::") }},
		"short signature": {ErrInvalid, func(r *Request) { r.Header.Set(headerSignature, "op=:AAAA:") }},
		"huge signature":  {ErrMalformed, func(r *Request) { r.Header.Set(headerSignature, "op=:"+strings.Repeat("A", 4096)+":") }},
		"cut short":       {ErrMalformed, func(r *Request) { r.Header.Set(headerInput, `op=("@method;tag="op1"`) }},
		"two digests": {ErrMalformed, func(r *Request) {
			r.Header.Set(headerDigest, r.Header.Get(headerDigest)+", "+r.Header.Get(headerDigest))
		}},
		"digest header twice": {ErrMalformed, func(r *Request) { r.Header.Add(headerDigest, r.Header.Get(headerDigest)) }},
		"digest of sha-512":   {ErrMalformed, func(r *Request) { r.Header.Set(headerDigest, "sha-512=:AAAA:") }},
		"digest without end":  {ErrMalformed, func(r *Request) { r.Header.Set(headerDigest, strings.TrimSuffix(r.Header.Get(headerDigest), ":")) }},
		"digest without name": {ErrMalformed, func(r *Request) {
			r.Header.Set(headerDigest, strings.TrimPrefix(r.Header.Get(headerDigest), digestPrefix))
		}},
		"digest empty": {ErrMalformed, func(r *Request) { r.Header.Set(headerDigest, "sha-256=:") }},
		"another body": {ErrDigest, func(r *Request) { r.Body = []byte(`{"sku":"B"}`) }},
		"body dropped": {ErrDigest, func(r *Request) { r.Body, r.ContentLength = nil, 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			r := signedBy(t, "op1", post(), p, 0)
			test.change(r)
			_, _, err := admit(set, r, Options{Now: testNow}, p.key)
			require.ErrorIs(t, err, test.want)
			require.True(t, reasoned(err))
		})
	}
}

func TestKeyNumbers(t *testing.T) {
	for id, want := range map[string]int{"ak": 0, "ak#1": 1, "ak#9": 9, "ak#10": 10, "ak#999": 999} {
		appKey, n, ok := keyNumber(id)
		require.True(t, ok, id)
		require.Equal(t, "ak", appKey)
		require.Equal(t, want, n)
	}
	for _, id := range []string{"", "#1", "ak#", "ak#0", "ak#01", "ak#-1", "ak#+1", "ak#1000", "ak#1#2", "ak#1 "} {
		_, _, ok := keyNumber(id)
		require.False(t, ok, id)
	}
}

// TestSignHeaderRefuses: what no verifier could read is not signed.
func TestSignHeaderRefuses(t *testing.T) {
	p := secretPair(t, "rfc9421", "", testSecret, 1)
	for _, test := range []struct {
		appKey, nonce string
		number        int
		says          string
	}{
		{`a"b`, testNonce, 0, "app key"},
		{`a\b`, testNonce, 0, "app key"},
		{"a#1", testNonce, 0, "app key"},
		{"ak", testNonce, 1000, "app key"},
		{"ak", testNonce, -1, "app key"},
		{"ak", `a"b`, 0, "nonce"},
		{"ak", "a\nb", 0, "nonce"},
	} {
		_, err := Sign("rfc9421", get(), Credentials{AppKey: test.appKey, KeyNumber: test.number, Key: p.signing}, testNow, test.nonce)
		require.ErrorContains(t, err, "the "+test.says+" must be printable")
	}
	twice := get()
	twice.Header["Content-Type"] = []string{"a/b", "a/c"}
	_, err := Sign("rfc9421", twice, Credentials{AppKey: "ak", Key: p.signing}, testNow, testNonce)
	require.ErrorIs(t, err, errTwice)
}

// TestSignTakesTheBodysDigest: a digest that came with the request gives way to
// that of the body, if there is one.
func TestSignTakesTheBodysDigest(t *testing.T) {
	p := secretPair(t, "op1", "", testSecret, 1)
	const other = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"
	full, none, unread := post(), post(), post()
	full.BodyRead = false
	none.Body, none.ContentLength = nil, 0
	unread.Body, unread.BodyRead = nil, false
	for _, r := range []*Request{full, none, unread} {
		r.Header.Set(headerDigest, other)
	}
	signed := signedBy(t, "op1", full, p, 0)
	_, _, err := admit(mustSet(t, "op1"), signed, Options{Now: testNow}, p.key)
	require.NoError(t, err)
	require.NotContains(t, signedBy(t, "op1", none, p, 0).Header, headerDigest)
	require.Equal(t, other, signedBy(t, "op1", unread, p, 0).Header.Get(headerDigest))
}

func TestOp1BodyNeedsDigest(t *testing.T) {
	p := secretPair(t, "op1", "", testSecret, 1)
	r := signedBy(t, "op1", get(), p, 0)
	for _, length := range []int64{-1, 5} {
		r.ContentLength = length
		_, _, err := admit(mustSet(t, "op1"), r, Options{Now: testNow}, p.key)
		require.ErrorIs(t, err, ErrInvalid, "a body came to a call that was signed without one")
	}
	r.ContentLength, r.Body, r.BodyRead = 0, []byte("x"), true
	_, _, err := admit(mustSet(t, "op1"), r, Options{Now: testNow}, p.key)
	require.ErrorIs(t, err, ErrInvalid)

	r = signedBy(t, "op1", post(), p, 0)
	r.ContentLength, r.Body = 0, nil
	c := new(Claim)
	require.NoError(t, mustSet(t, "op1").Claim(c, r))
	_, err = c.Verify(r, []*Key{p.key}, Options{Now: testNow})
	require.ErrorIs(t, err, ErrDigest, "a digest of something, and no body")
}

func TestOp1PlainHTTPDropsPort80(t *testing.T) {
	p := secretPair(t, "op1", "", testSecret, 1)
	r := get()
	r.Scheme = "http"
	r = signedBy(t, "op1", r, p, 0)
	r.Authority += ":80"
	_, _, err := admit(mustSet(t, "op1"), r, Options{Now: testNow}, p.key)
	require.NoError(t, err)
	r.Authority = "api.example.com:443"
	_, _, err = admit(mustSet(t, "op1"), r, Options{Now: testNow}, p.key)
	require.ErrorIs(t, err, ErrInvalid)
}

func TestOp1Rotation(t *testing.T) {
	set, opt := mustSet(t, "op1"), Options{Now: testNow}
	first, second := secretPair(t, "op1", "", testSecret, 1), secretPair(t, "op1", "", testSecret+"2", 2)

	for _, number := range []int{0, 2} {
		_, i, err := admit(set, signedBy(t, "op1", get(), second, number), opt, first.key, second.key)
		require.NoError(t, err)
		require.Equal(t, 1, i)
	}
	_, _, err := admit(set, signedBy(t, "op1", get(), second, 1), opt, first.key, second.key)
	require.ErrorIs(t, err, ErrInvalid, "the key number selects one key")
}

func TestOp1KeysOfOtherKinds(t *testing.T) {
	set, opt := mustSet(t, "op1"), Options{Now: testNow}
	for _, dialect := range []string{"op1", "rfc9421"} {
		pairs := headerPairs(t, dialect)
		for i, signer := range pairs {
			for j, verifier := range pairs {
				if i == j {
					continue
				}
				_, _, err := admit(mustSet(t, dialect), signedBy(t, dialect, post(), signer, 0), opt, verifier.key)
				require.Error(t, err, "%s: signed by %s, verified by %s", dialect, signer.method, verifier.method)
			}
		}
	}
	// The public key's own text as an HMAC secret: the classic confusion.
	p := ed25519Pair(t, 1)
	public, err := x509.MarshalPKIXPublicKey(p.key.public)
	require.NoError(t, err)
	forged := secretPair(t, "op1", "", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})), 1)
	_, _, err = admit(set, signedBy(t, "op1", get(), forged, 0), opt, p.key)
	require.ErrorIs(t, err, ErrInvalid)

	other := secretPair(t, "rfc9421", "", testSecret, 1)
	_, _, err = admit(set, signedBy(t, "op1", get(), secretPair(t, "op1", "", testSecret, 1), 0), opt, other.key)
	require.ErrorIs(t, err, ErrInvalid, "a secret serves one dialect only")
}

func TestOp1KnowsOneRSAPadding(t *testing.T) {
	p := rsaPair(t, 1)
	r := post()
	for alg, want := range map[string]error{algRSA: nil, algRSAPSS: ErrMethod, algEd25519: ErrMethod} {
		r := signedBy(t, "op1", r, p, 0)
		resign(t, r, p, "op", bodyList, goodParams+`;alg="`+alg+`"`)
		_, _, err := admit(mustSet(t, "op1"), r, Options{Now: testNow}, p.key)
		require.ErrorIs(t, err, want)
	}
}

func TestOp1SignRefuses(t *testing.T) {
	p := secretPair(t, "op1", "", testSecret, 1)
	for name, cred := range map[string]Credentials{
		"quote in the app key": {AppKey: `a"b`, Key: p.signing},
		"# in the app key":     {AppKey: "a#b", Key: p.signing},
		"line break":           {AppKey: "a\nb", Key: p.signing},
		"no app key":           {Key: p.signing},
		"no key":               {AppKey: "a"},
		"key number":           {AppKey: "a", KeyNumber: 1000, Key: p.signing},
		"another dialect":      {AppKey: "a", Key: secretPair(t, "shopee", "", "x", 1).signing},
	} {
		_, err := Sign("op1", get(), cred, testNow, testNonce)
		require.Error(t, err, name)
	}
	cred := Credentials{AppKey: "a", Key: p.signing}
	_, err := Sign("op1", get(), cred, testNow, "short")
	require.Error(t, err)
	streamed := post()
	streamed.Body, streamed.BodyRead = nil, false
	_, err = Sign("op1", streamed, cred, testNow, testNonce)
	require.ErrorContains(t, err, headerDigest)
}

func TestOp1SignKeepsRequest(t *testing.T) {
	p := secretPair(t, "op1", "", testSecret, 1)
	r := post()
	before := r.Header.Clone()
	signed, err := Sign("op1", r, Credentials{AppKey: testApp, Key: p.signing, Token: "at_2"}, testNow, testNonce)
	require.NoError(t, err)
	require.Equal(t, before, r.Header)
	require.Equal(t, "Bearer at_2", signed.Header.Get("Authorization"))

	c := new(Claim)
	out := *r
	out.Header = signed.Header
	require.NoError(t, mustSet(t, "op1").Claim(c, &out))
	header, query, body := Strip(c, &out)
	require.ElementsMatch(t, []string{headerSignature, headerInput}, header)
	require.Equal(t, r.RawQuery, query)
	require.Nil(t, body)
}

// drawCall draws a call of any shape that HTTP allows.
func drawCall(t *rapid.T) *Request {
	r := &Request{
		Method:    rapid.StringMatching(`[A-Z]{1,7}`).Draw(t, "method"),
		Scheme:    rapid.SampledFrom([]string{"http", "https"}).Draw(t, "scheme"),
		Authority: rapid.StringMatching(`[a-z0-9.-]{1,20}(:[1-9][0-9]{0,4})?`).Draw(t, "authority"),
		Path:      rapid.StringMatching(`/[!-"$->@-~]{0,30}`).Draw(t, "path"),
		RawQuery:  rapid.StringMatching(`[!-"$-~]{0,30}`).Draw(t, "query"),
		Header:    http.Header{},
		Body:      rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "body"),
		BodyRead:  true,
	}
	r.ContentLength = int64(len(r.Body))
	for _, name := range []string{"Content-Type", "Authorization"} {
		if rapid.Bool().Draw(t, name) {
			r.Header.Set(name, rapid.StringMatching(`[ -~]{0,30}`).Draw(t, name+" value"))
		}
	}
	return r
}

func TestHeaderDialectsRoundTrip(t *testing.T) {
	for _, dialect := range []string{"op1", "rfc9421"} {
		set := mustSet(t, dialect)
		for _, p := range headerPairs(t, dialect) {
			t.Run(dialect+"/"+p.method, rapid.MakeCheck(func(t *rapid.T) {
				r := drawCall(t)
				signed, err := Sign(dialect, r, Credentials{AppKey: testApp, Key: p.signing}, testNow, testNonce)
				require.NoError(t, err)
				r.Header = signed.Header
				_, _, err = admit(set, r, Options{Now: testNow}, p.key)
				require.NoError(t, err)

				flip(t, r, dialect == "op1")
				_, _, err = admit(set, r, Options{Now: testNow}, p.key)
				require.Error(t, err)
			}))
		}
	}
}

// flip changes one byte that the signature covers. The case of the authority
// and white space around values mean nothing: they are left alone.
func flip(t *rapid.T, r *Request, everyHeader bool) {
	other := func(s string) string {
		b := []byte(s)
		i := rapid.IntRange(0, len(b)-1).Draw(t, "position")
		b[i]++
		return string(b)
	}
	var changes []func()
	change := func(s *string) {
		if *s != "" {
			changes = append(changes, func() { *s = other(*s) })
		}
	}
	change(&r.Method)
	change(&r.Path)
	change(&r.RawQuery)
	changes = append(changes,
		func() { r.Authority = "x" + r.Authority },
		func() { r.Path += "/" },
		func() { r.RawQuery += "&" },
		func() {
			r.Header.Set(headerInput, strings.Replace(r.Header.Get(headerInput), "1700000000", "1700000001", 1))
		},
		func() { r.Header.Set(headerInput, strings.Replace(r.Header.Get(headerInput), testApp, "ak_2", 1)) },
		func() {
			r.Header.Set(headerInput, strings.Replace(r.Header.Get(headerInput), testNonce, "c"+testNonce[1:], 1))
		},
	)
	if len(r.Body) > 0 {
		changes = append(changes, func() { r.Body = []byte(other(string(r.Body))) })
	}
	changes = append(changes, func() { r.Body = append(r.Body, 0); r.ContentLength++ })
	for _, name := range []string{"Content-Type", "Authorization"} {
		if values, has := r.Header[name]; has {
			changes = append(changes, func() { r.Header.Set(name, "x"+values[0]) }, func() { r.Header.Del(name) })
		} else if everyHeader {
			changes = append(changes, func() { r.Header.Set(name, "") })
		}
	}
	rapid.SampledFrom(changes).Draw(t, "change")()
}

func TestNonceAlphabet(t *testing.T) {
	for length, want := range map[int]bool{0: false, 15: false, 16: true, 64: true, 65: false} {
		require.Equal(t, want, nonceOK(strings.Repeat("a", length)), length)
	}
	for b := range 256 {
		want := slices.Contains([]byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), byte(b))
		require.Equal(t, want, nonceOK(testNonce+string([]byte{byte(b)})), "byte %q", b)
	}
}
