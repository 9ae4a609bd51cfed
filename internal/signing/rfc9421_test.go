package signing

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/remitly-oss/httpsig-go"
	"github.com/remitly-oss/httpsig-go/keyman"
	"github.com/stretchr/testify/require"
)

const genericParams = `;created=1700000000;keyid="` + testApp + `"`

func TestRFC9421Accepts(t *testing.T) {
	set := mustSet(t, "rfc9421")
	p := secretPair(t, "rfc9421", "", testSecret, 1)
	for name, change := range map[string]func(r *Request){
		"full": func(r *Request) { resign(t, r, p, "sig1", bodyList, genericParams) },
		"target-uri": func(r *Request) {
			resign(t, r, p, "x", `"@method" "@target-uri" "@authority" "content-digest" "authorization"`, genericParams)
		},
		"other headers": func(r *Request) {
			r.Header["X-A"] = []string{"1", " 2 "}
			resign(t, r, p, "x", bodyList+` "x-a" "@scheme" "@request-target" "host"`, genericParams)
		},
		"query parameter": func(r *Request) {
			resign(t, r, p, "x", bodyList+` "@query-param";name="a" "@query-param";name="b"`, genericParams)
		},
		"nonce and tag": func(r *Request) {
			resign(t, r, p, "x", bodyList, genericParams+`;nonce="a.b=";tag="app";alg="hmac-sha256"`)
		},
		"expires at once": func(r *Request) { resign(t, r, p, "x", bodyList, genericParams+`;expires=1700000000`) },
		"key number":      func(r *Request) { resign(t, r, p, "x", bodyList, `;created=1700000000;keyid="ak_1#1"`) },
		"beside op1's": func(r *Request) {
			resign(t, r, p, "x", bodyList, genericParams)
			r.Header.Add(headerInput, `op=("@method");tag="op1"`)
			r.Header.Add(headerSignature, "op=:AAAA:")
		},
		"digest among others": func(r *Request) {
			r.Header.Set(headerDigest, "md5=:AAAA:, "+r.Header.Get(headerDigest))
			resign(t, r, p, "x", bodyList, genericParams)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := signedBy(t, "rfc9421", post(), p, 0)
			require.Contains(t, r.Header.Get(headerInput), `;alg="hmac-sha256"`)
			change(r)
			c, _, err := admit(set, r, Options{Now: testNow}, p.key)
			require.NoError(t, err)
			require.Equal(t, testApp, c.AppKey)
			require.NotEmpty(t, c.ReplayID(nil, r))
		})
	}
}

func TestRFC9421Refuses(t *testing.T) {
	set := mustSet(t, "rfc9421")
	p := secretPair(t, "rfc9421", "", testSecret, 1)
	anew := func(list, params string) func(r *Request) {
		return func(r *Request) { resign(t, r, p, "sig1", list, params) }
	}
	var distinct strings.Builder
	for i := range maxComponents + 1 {
		fmt.Fprintf(&distinct, `"x-%d" `, i)
	}
	header := func(name, value string) func(r *Request) {
		return func(r *Request) { r.Header.Set(name, value) }
	}
	for name, test := range map[string]struct {
		want   error
		change func(r *Request)
	}{
		"no created":           {ErrTimestamp, anew(bodyList, `;keyid="ak_1"`)},
		"old":                  {ErrTimestamp, anew(bodyList, `;created=1699999699;keyid="ak_1"`)},
		"expired":              {ErrTimestamp, anew(bodyList, `;created=1699999990;expires=1699999999;keyid="ak_1"`)},
		"expires before":       {ErrMalformed, anew(bodyList, `;created=1700000000;expires=1699999999;keyid="ak_1"`)},
		"no keyid":             {ErrMalformed, anew(bodyList, `;created=1700000000`)},
		"unknown parameter":    {ErrMalformed, anew(bodyList, genericParams+`;x=1`)},
		"parameter twice":      {ErrMalformed, anew(bodyList, genericParams+`;keyid="ak_2"`)},
		"no method":            {ErrInvalid, anew(strings.Replace(bodyList, `"@method" `, "", 1), genericParams)},
		"no authority":         {ErrInvalid, anew(strings.Replace(bodyList, `"@authority" `, "", 1), genericParams)},
		"path alone":           {ErrInvalid, anew(strings.Replace(bodyList, `"@query" `, "", 1), genericParams)},
		"no digest":            {ErrInvalid, anew(fullList, genericParams)},
		"no authorization":     {ErrInvalid, anew(strings.Replace(bodyList, ` "authorization"`, "", 1), genericParams)},
		"component twice":      {ErrMalformed, anew(bodyList+` "@path"`, genericParams)},
		"many components":      {ErrMalformed, header(headerInput, "sig1=("+strings.Repeat(`"a" `, 65)+");created=1")},
		"65 components":        {ErrMalformed, header(headerInput, "sig1=("+distinct.String()+")"+genericParams)},
		"unknown component":    {ErrMalformed, header(headerInput, `sig1=("@status" "@method" "@authority" "@path" "@query" "content-digest" "authorization")`+genericParams)},
		"component parameter":  {ErrMalformed, header(headerInput, `sig1=("content-type";sf "@method" "@authority" "@path" "@query" "content-digest" "authorization")`+genericParams)},
		"bad query-param":      {ErrMalformed, header(headerInput, `sig1=("@query-param" "@method" "@authority" "@path" "@query" "content-digest" "authorization")`+genericParams)},
		"missing query-param":  {ErrInvalid, header(headerInput, `sig1=("@query-param";name="zz" "@method" "@authority" "@path" "@query" "content-digest" "authorization")`+genericParams)},
		"missing header":       {ErrInvalid, header(headerInput, `sig1=("x-none" "@method" "@authority" "@path" "@query" "content-digest" "authorization")`+genericParams)},
		"two signatures":       {ErrMalformed, header(headerInput, `a=();created=1, b=();created=1`)},
		"no Signature":         {ErrMissing, func(r *Request) { r.Header.Del(headerSignature) }},
		"not a dictionary":     {ErrMalformed, header(headerInput, "???")},
		"alg unknown":          {ErrMethod, anew(bodyList, genericParams+`;alg="ecdsa-p256-sha256"`)},
		"digest of md5 alone":  {ErrMalformed, header(headerDigest, "md5=:AAAA:")},
		"digest not a dict":    {ErrMalformed, header(headerDigest, "sha-256")},
		"digest sha-256 twice": {ErrMalformed, func(r *Request) { r.Header.Add(headerDigest, r.Header.Get(headerDigest)) }},
		"digest sha-512 twice": {ErrMalformed, header(headerDigest, "sha-512=:"+strings.Repeat("A", 86)+"==:, sha-512=:"+strings.Repeat("A", 86)+"==:")},
		"digest without end":   {ErrMalformed, header(headerDigest, "sha-256=:"+strings.Repeat("A", 43)+"=")},
		"digest as a string":   {ErrMalformed, header(headerDigest, `sha-256="`+strings.Repeat("A", 43)+`="`)},
		"text after a digest":  {ErrMalformed, header(headerDigest, "sha-256=:"+strings.Repeat("A", 43)+"=: x")},
		"another body":         {ErrDigest, func(r *Request) { r.Body = []byte("x") }},
		"only op1's":           {ErrMissing, header(headerInput, `op=();tag="op1"`)},
		"repeated query-param": {ErrMalformed, func(r *Request) {
			r.RawQuery = "a=1&%61=2"
			header(headerInput, `sig1=("@query-param";name="a" "@method" "@authority" "@path" "@query" "content-digest" "authorization")`+genericParams)(r)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := signedBy(t, "rfc9421", post(), p, 0)
			test.change(r)
			_, _, err := admit(set, r, Options{Now: testNow}, p.key)
			require.ErrorIs(t, err, test.want)
			require.True(t, reasoned(err))
		})
	}
}

// TestRFC9421ReplayID: the nonce tells calls apart where there is one, else the
// signature does.
func TestRFC9421ReplayID(t *testing.T) {
	p := secretPair(t, "rfc9421", "", testSecret, 1)
	id := func(list, params string) string {
		r := signedBy(t, "rfc9421", post(), p, 0)
		resign(t, r, p, "x", list, params)
		c, _, err := admit(mustSet(t, "rfc9421"), r, Options{Now: testNow}, p.key)
		require.NoError(t, err)
		return string(c.ReplayID(nil, r))
	}
	const nonce = `;nonce="` + testNonce + `"`
	require.Equal(t, "r:"+testNonce, id(bodyList, genericParams+nonce))
	require.Equal(t, "r:"+testNonce, id(fullList+` "content-digest" "authorization"`, genericParams+nonce))
	require.Len(t, id(bodyList, genericParams), 32)
	require.NotEqual(t, id(bodyList, genericParams), id(fullList+` "content-digest" "authorization"`, genericParams))
}

// TestRFC9421KeyID: a "#" that no number follows is a part of the app key.
func TestRFC9421KeyID(t *testing.T) {
	p := secretPair(t, "rfc9421", "", testSecret, 1)
	r := signedBy(t, "rfc9421", post(), p, 0)
	resign(t, r, p, "x", bodyList, `;created=1700000000;keyid="shop#main"`)
	c, _, err := admit(mustSet(t, "rfc9421"), r, Options{Now: testNow}, p.key)
	require.NoError(t, err)
	require.Equal(t, "shop#main", c.AppKey)
	require.Zero(t, c.KeyNumber)
}

func TestRFC9421SHA512(t *testing.T) {
	set := mustSet(t, "rfc9421")
	p := secretPair(t, "rfc9421", "", testSecret, 1)
	for _, beside := range []string{"", ", " + signedBy(t, "rfc9421", post(), p, 0).Header.Get(headerDigest)} {
		r := post()
		sum := sha512.Sum512(r.Body)
		r.Header.Set(headerDigest, "sha-512=:"+base64Strict.EncodeToString(sum[:])+":"+beside)
		resign(t, r, p, "sig1", bodyList, genericParams)
		_, _, err := admit(set, r, Options{Now: testNow}, p.key)
		require.NoError(t, err)

		changed := *r
		changed.Body = []byte("x")
		_, _, err = admit(set, &changed, Options{Now: testNow}, p.key)
		require.ErrorIs(t, err, ErrDigest)

		changed = *r
		changed.Body, changed.BodyRead = nil, false
		require.ErrorIs(t, set.Claim(new(Claim), &changed), ErrBodyNeeded, "only SHA-256 is streamed")
	}
}

// TestRFC9421Padding: the alg parameter, where there is one, names the padding.
func TestRFC9421Padding(t *testing.T) {
	p, opt := rsaPair(t, 1), Options{Now: testNow}
	private, err := testRSA()
	require.NoError(t, err)
	for _, padding := range []string{algRSA, algRSAPSS} {
		for _, named := range []string{"", algRSA, algRSAPSS} {
			r := signedBy(t, "rfc9421", post(), p, 0)
			params := genericParams
			if named != "" {
				params += `;alg="` + named + `"`
			}
			resign(t, r, p, "sig1", bodyList, params)
			if padding == algRSAPSS {
				base, err := appendBase(nil, r, bodyList, "("+bodyList+")"+params, false)
				require.NoError(t, err)
				sum := sha512.Sum512(base)
				signature, err := rsa.SignPSS(rand.Reader, private, crypto.SHA512, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
				require.NoError(t, err)
				r.Header.Set(headerSignature, "sig1=:"+base64Strict.EncodeToString(signature)+":")
			}
			_, _, err := admit(mustSet(t, "rfc9421"), r, opt, p.key)
			if named == "" || named == padding {
				require.NoError(t, err, "%s as %q", padding, named)
			} else {
				require.ErrorIs(t, err, ErrInvalid, "%s as %q", padding, named)
			}
		}
	}
}

// TestRFC9421QueryParam uses the example of RFC 9421, section 2.2.8.
func TestRFC9421QueryParam(t *testing.T) {
	r := get()
	r.RawQuery = "var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something&qux="
	base, err := appendBase(nil, r,
		`"@query-param";name="var" "@query-param";name="bar" "@query-param";name="fa%C3%A7ade%22%3A%20" "@query-param";name="qux"`, "()", false)
	require.NoError(t, err)
	require.Equal(t, strings.Join([]string{
		`"@query-param";name="var": this%20is%20a%20big%0Amultiline%20value`,
		`"@query-param";name="bar": with%20plus%20whitespace`,
		`"@query-param";name="fa%C3%A7ade%22%3A%20": something`,
		`"@query-param";name="qux": `,
		`"@signature-params": ()`,
	}, "\n"), string(base))
}

// TestBaseOfComponents: what each component stands for (RFC 9421, sections 2.1
// and 2.2). A signature covers no more than this text.
func TestBaseOfComponents(t *testing.T) {
	full := &Request{Method: "POST", Scheme: "https", Authority: "AZ.Example.com:443", Path: "/a%2Fb", RawQuery: "b=%41&&a=", Header: http.Header{"X-A": {" 1\t", "2, 3"}}}
	plain := &Request{Method: "get", Scheme: "http", Authority: "example.com:443", Header: http.Header{}}
	http80 := &Request{Scheme: "http", Authority: "[::1]:80"}
	https := &Request{Scheme: "https", Authority: "example.com:443"}
	for _, test := range []struct {
		r          *Request
		name, want string
	}{
		{full, "@method", "POST"},
		{plain, "@method", "get"},
		{full, "@authority", "az.example.com"},
		{https, "@authority", "example.com"},
		{plain, "@authority", "example.com:443"},
		{http80, "@authority", "[::1]"},
		{full, "@scheme", "https"},
		{full, "@path", "/a%2Fb"},
		{plain, "@path", "/"},
		{full, "@query", "?b=%41&&a="},
		{plain, "@query", "?"},
		{full, "@request-target", "/a%2Fb?b=%41&&a="},
		{plain, "@request-target", "/"},
		{full, "@target-uri", "https://az.example.com/a%2Fb?b=%41&&a="},
		{https, "@target-uri", "https://example.com/"},
		{full, "host", "AZ.Example.com:443"},
		{full, "x-a", "1, 2, 3"},
	} {
		base, err := appendBase(nil, test.r, `"`+test.name+`"`, "()", false)
		require.NoError(t, err, test.name)
		require.Equal(t, `"`+test.name+`": `+test.want+"\n"+`"@signature-params": ()`, string(base))
	}
}

// TestQueryParamRefuses: a parameter that cannot be told for sure is not signed.
func TestQueryParamRefuses(t *testing.T) {
	for _, test := range []struct {
		component, query string
		want             error
		says             string
	}{
		{`"@query-param";req`, "a=1", ErrMalformed, "write "},
		{`"@query-param";"a"`, "a=1", ErrMalformed, "write "},
		{`"@query-param";name=`, "a=1", ErrMalformed, "write "},
		{`"@query-param";name="`, "a=1", ErrMalformed, "must read"},
		{`"@query-param";name=a`, "a=1", ErrMalformed, "write "},
		{`"@query-param";name=aa"`, "a=1", ErrMalformed, "must read"},
		{`"@query-param";name="a";req`, "a=1", ErrMalformed, "write "},
		{`"@query-param";name="%z"`, "%25z=1", ErrMalformed, "has a bad escape"},
		{`"@query-param";name="a"`, "a=%z", ErrMalformed, "has a bad escape"},
		{`"@query-param";name="a"`, "a=1&%61=1", ErrMalformed, "occurs twice"},
		{`"@query-param";name="a"`, "b=1", ErrInvalid, "does not carry"},
	} {
		_, err := appendBase(nil, &Request{RawQuery: test.query}, test.component, "()", false)
		require.ErrorIs(t, err, test.want, test.component)
		require.ErrorContains(t, err, test.says, test.component)
	}
	base, err := appendBase(nil, &Request{RawQuery: "v=azAZ09*-._%7E@[`{/:"}, `"@query-param";name="v"`, "()", false)
	require.NoError(t, err)
	require.Contains(t, string(base), `"v": azAZ09*-._%7E%40%5B%60%7B%2F%3A`+"\n", "all but these are escaped")
}

// httpCall is r as the standard library has it.
func httpCall(t *testing.T, r *Request) *http.Request {
	t.Helper()
	target := r.Scheme + "://" + r.Authority + r.Path
	if r.RawQuery != "" {
		target += "?" + r.RawQuery
	}
	call, err := http.NewRequestWithContext(t.Context(), r.Method, target, bytes.NewReader(r.Body))
	require.NoError(t, err)
	call.Header = r.Header.Clone()
	return call
}

// TestOtherLibraryVerifies checks that a generic implementation of RFC 9421
// accepts what we sign.
func TestOtherLibraryVerifies(t *testing.T) {
	algorithms := map[string]httpsig.Algorithm{
		algHMAC: httpsig.Algo_HMAC_SHA256, algEd25519: httpsig.Algo_ED25519, algRSA: httpsig.Algo_RSA_v1_5_sha256,
	}
	for dialect, label := range map[string]string{"op1": "op", "rfc9421": "sig1"} {
		for _, p := range headerPairs(t, dialect) {
			for _, call := range []*Request{get(), post()} {
				r := signedBy(t, dialect, call, p, 0)
				keys := keyman.NewKeyFetchInMemory(map[string]httpsig.KeySpec{testApp: {
					KeyID: testApp, Algo: algorithms[p.method], PubKey: p.key.public, Secret: p.key.secret,
				}})
				result, err := httpsig.Verify(httpCall(t, r), keys, httpsig.VerifyProfile{
					SignatureLabel:         label,
					AllowedAlgorithms:      []httpsig.Algorithm{algorithms[p.method]},
					DisableTimeEnforcement: true,
				})
				require.NoError(t, err, "%s %s %s", dialect, p.method, call.Method)
				require.True(t, result.Verified)
			}
		}
	}
}

// TestOtherLibrarySigns checks that we accept what a generic implementation of
// RFC 9421 signs.
func TestOtherLibrarySigns(t *testing.T) {
	rsaKey, err := testRSA()
	require.NoError(t, err)
	secret, public := secretPair(t, "rfc9421", "", testSecret, 1), rsaPair(t, 1)
	for _, test := range []struct {
		algorithm httpsig.Algorithm
		with      httpsig.SigningKey
		key       *Key
	}{
		{httpsig.Algo_HMAC_SHA256, httpsig.SigningKey{Secret: []byte(testSecret)}, secret.key},
		{httpsig.Algo_RSA_v1_5_sha256, httpsig.SigningKey{Key: rsaKey}, public.key},
		{httpsig.Algo_RSA_PSS_SHA512, httpsig.SigningKey{Key: rsaKey}, public.key},
	} {
		for _, named := range []bool{false, true} {
			r := post()
			call := httpCall(t, r)
			metadata := []httpsig.Metadata{httpsig.MetaCreated, httpsig.MetaKeyID, httpsig.MetaNonce}
			if named {
				metadata = append(metadata, httpsig.MetaAlgorithm)
			}
			test.with.MetaKeyID = testApp
			require.NoError(t, httpsig.Sign(call, httpsig.SigningProfile{
				Algorithm: test.algorithm,
				Fields:    httpsig.Fields("@method", "@authority", "@path", "@query", "content-digest", "content-type", "authorization"),
				Metadata:  metadata,
			}, test.with))
			r.Header = call.Header

			c := new(Claim)
			require.NoError(t, mustSet(t, "rfc9421").Claim(c, r))
			require.WithinDuration(t, time.Now(), c.Time, time.Minute)
			_, err := c.Verify(r, []*Key{test.key}, Options{Now: c.Time})
			require.NoError(t, err, test.algorithm)
			require.NoError(t, c.CheckBody(r.Body))
		}
	}
}
