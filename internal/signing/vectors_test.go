package signing

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// vector is one known answer.
type vector struct {
	Name, Dialect, Method, URL, Body, Secret, Alg, Expect string

	Headers   map[string]any // a string, or a list of strings for a repeated header
	Form      [][2]string
	AppKey    string `json:"app_key"`
	Signature string `json:"expected_signature"`
	ToSign    string `json:"string_to_sign"`
	Now       *int64
	AlsoSeen  []struct {
		Signature string
		ToSign    string `json:"string_to_sign"`
	} `json:"also_seen"`
}

// ownName is our name of the vector's dialect.
func (v vector) ownName() string { return strings.TrimPrefix(v.Dialect, "native-") }

func (v vector) request(t *testing.T) *Request {
	t.Helper()
	scheme, rest, ok := strings.Cut(v.URL, "://")
	require.True(t, ok, "absolute url")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	r := &Request{
		Method: v.Method, Scheme: scheme, Authority: rest[:end],
		Header: http.Header{}, Body: []byte(v.Body), BodyRead: true, ContentLength: int64(len(v.Body)),
	}
	r.Path, r.RawQuery, _ = strings.Cut(rest[end:], "?")
	for name, value := range v.Headers {
		values, repeated := value.([]any)
		if !repeated {
			values = []any{value}
		}
		for _, one := range values {
			if http.CanonicalHeaderKey(name) == "Host" {
				r.Authority = one.(string)
				continue
			}
			r.Header.Add(name, one.(string))
		}
	}
	return r
}

func (v vector) secret(t *testing.T) []byte {
	t.Helper()
	if text, ok := strings.CutPrefix(v.Secret, "base64:"); ok {
		secret, err := base64.StdEncoding.DecodeString(text)
		require.NoError(t, err)
		return secret
	}
	return []byte(v.Secret)
}

func (v vector) public() bool { return strings.HasPrefix(v.Secret, "-----BEGIN PUBLIC KEY") }

func (v vector) options(c *Claim) Options {
	opt := Options{Now: c.Time, Bare: v.Dialect == "rfc9421"}
	if v.Now != nil {
		opt.Now = time.Unix(*v.Now, 0)
	}
	return opt
}

// method is the one that the app's key is pinned to.
func (v vector) method(c *Claim) string {
	switch {
	case v.ownName() == "op1" || v.ownName() == "rfc9421":
		return algHMAC
	case slices.Contains(Methods(v.ownName()), c.Method):
		return c.Method
	}
	return Methods(v.ownName())[0]
}

func (v vector) key(t *testing.T, c *Claim) *Key {
	t.Helper()
	var k *Key
	var err error
	if v.public() {
		k, err = NewPublicKey(max(1, c.KeyNumber), []byte(v.Secret))
	} else {
		k, err = NewSecretKey(v.ownName(), v.method(c), max(1, c.KeyNumber), v.secret(t))
	}
	require.NoError(t, err)
	return k
}

// verify runs r through all that a gate does.
func (v vector) verify(t *testing.T, r *Request) (*Claim, error) {
	t.Helper()
	set, err := NewSet(v.ownName())
	require.NoError(t, err)
	c := new(Claim)
	if err := set.Claim(c, r); err != nil {
		return nil, err
	}
	require.Equal(t, v.ownName(), c.Dialect)
	if _, err := c.Verify(r, []*Key{v.key(t, c)}, v.options(c)); err != nil {
		return nil, err
	}
	return c, c.CheckBody(r.Body)
}

func TestVectors(t *testing.T) {
	byDialect := readVectors(t, "testdata/vectors", os.Getenv("SIGNING_VECTORS"))
	for _, name := range Names() {
		if name == "op1" {
			name = "native-op1"
		}
		require.NotEmpty(t, byDialect[name], "no vectors of %s", name)
	}
	for dialect, vectors := range byDialect {
		t.Run(dialect, func(t *testing.T) {
			for _, v := range vectors {
				t.Run(v.Name, func(t *testing.T) {
					if !Known(v.ownName()) {
						skip := t.Skipf
						skip("scheme %s: not one of ours", dialect)
					}
					testVector(t, v)
				})
			}
		})
	}
}

// readVectors reads the folders; a later one replaces vectors of the same name.
func readVectors(t *testing.T, folders ...string) map[string][]vector {
	t.Helper()
	byDialect := map[string][]vector{}
	for _, folder := range folders {
		if folder == "" {
			continue
		}
		files, err := filepath.Glob(filepath.Join(folder, "*.json"))
		require.NoError(t, err)
		require.NotEmpty(t, files, "no vectors in %s", folder)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			var vectors []vector
			require.NoError(t, json.Unmarshal(text, &vectors), file)
			for _, v := range vectors {
				known := byDialect[v.Dialect]
				if i := slices.IndexFunc(known, func(k vector) bool { return k.Name == v.Name }); i >= 0 {
					known[i] = v
					continue
				}
				byDialect[v.Dialect] = append(known, v)
			}
		}
	}
	return byDialect
}

func testVector(t *testing.T, v vector) {
	t.Helper()
	r := v.request(t)
	c, err := v.verify(t, r)
	if v.Expect == "reject" {
		require.Error(t, err)
		require.True(t, reasoned(err), "the error %q wraps none of the reasons", err)
		return
	}
	require.NoError(t, err)
	if v.AppKey != "" {
		appKey, _, _ := strings.Cut(v.AppKey, "#")
		require.Equal(t, appKey, c.AppKey)
	}
	require.NotEmpty(t, c.ReplayID(nil, r))
	require.Positive(t, c.Window(v.options(c)))

	wrong := v
	wrong.Secret = "another secret"
	_, err = wrong.verify(t, r)
	require.ErrorIs(t, err, ErrInvalid, "another secret")

	for _, variant := range v.AlsoSeen {
		r := v.withSignature(t, variant.Signature)
		// An SDK that signs an empty token sends it too.
		const token = "access_token"
		if strings.Contains(variant.ToSign, token) && !strings.Contains(r.RawQuery+v.Body, token) {
			r.RawQuery += "&" + token + "="
		}
		_, err := v.verify(t, r)
		require.NoError(t, err, "variant %s", variant.ToSign)
	}

	if c.state.params == nil {
		h := c.state.header
		base, err := appendBase(nil, r, h.list, h.params, false)
		require.NoError(t, err)
		require.Equal(t, v.ToSign, string(base))
	}
	v.testSigning(t, c)
}

// withSignature is the request with another signature in its place.
func (v vector) withSignature(t *testing.T, signature string) *Request {
	t.Helper()
	r := v.request(t)
	replace := func(s string) string {
		s = strings.ReplaceAll(s, v.Signature, signature)
		return strings.ReplaceAll(s, url.QueryEscape(v.Signature), url.QueryEscape(signature))
	}
	r.RawQuery = replace(r.RawQuery)
	r.Body = []byte(replace(string(r.Body)))
	return r
}

// testSigning signs the request anew, without what signing had added.
func (v vector) testSigning(t *testing.T, c *Claim) {
	t.Helper()
	if v.public() {
		return // the private key is not at hand
	}
	key, err := NewSigningSecret(v.ownName(), v.method(c), v.secret(t))
	require.NoError(t, err)
	r := v.unsigned(t)
	cred := Credentials{AppKey: c.AppKey, KeyNumber: c.KeyNumber, Key: key}
	signed, err := Sign(v.ownName(), r, cred, c.Time, c.Nonce)
	require.NoError(t, err)

	again := *r
	again.Header, again.RawQuery, again.Body = signed.Header, signed.RawQuery, signed.Body
	again.ContentLength = int64(len(again.Body))
	_, err = v.verify(t, &again)
	require.NoError(t, err, "what Sign made")
	require.NotContains(t, signed.StringToSign, v.Secret)

	if !v.reproducible(c, signed) {
		return
	}
	require.Equal(t, strings.ReplaceAll(v.ToSign, v.Secret, "***"), signed.StringToSign)
	query, err := url.QueryUnescape(signed.RawQuery)
	require.NoError(t, err)
	body, err := url.QueryUnescape(string(signed.Body))
	if err != nil {
		body = string(signed.Body)
	}
	places := []string{query, signed.RawQuery, body, string(signed.Body), signed.Header.Get(headerSignature)}
	require.True(t, slices.ContainsFunc(places, func(place string) bool {
		return strings.Contains(place, v.Signature)
	}), "Sign gives another signature than %s", v.Signature)
}

// reproducible tells whether Sign must give the vector's own answer: the RFC
// leaves the list to the signer, and SDKs disagree on blank values.
func (v vector) reproducible(c *Claim, signed *Signed) bool {
	if c.state.params == nil {
		_, params, _ := strings.Cut(signed.Header.Get(headerInput), "=")
		return params == c.state.header.params
	}
	blank := slices.ContainsFunc(v.Form, func(pair [2]string) bool { return strings.TrimSpace(pair[1]) == "" })
	return !blank || strings.ReplaceAll(v.ToSign, v.Secret, "***") == signed.StringToSign
}

var (
	signParam  = regexp.MustCompile(`(^|&)(sign|_aop_signature)=[^&]*`)
	signMember = regexp.MustCompile(`("sign"\s*:\s*"[^"]*"\s*,)|(,\s*"sign"\s*:\s*"[^"]*")`)
)

func (v vector) unsigned(t *testing.T) *Request {
	t.Helper()
	r := v.request(t)
	for _, name := range []string{headerInput, headerSignature} {
		r.Header.Del(name)
	}
	r.RawQuery = strings.TrimPrefix(signParam.ReplaceAllString(r.RawQuery, ""), "&")
	switch media := r.Header.Get("Content-Type"); {
	case strings.HasPrefix(media, "application/x-www-form-urlencoded"):
		r.Body = []byte(strings.TrimPrefix(signParam.ReplaceAllString(v.Body, ""), "&"))
	case strings.HasPrefix(media, "application/json"):
		r.Body = []byte(signMember.ReplaceAllString(v.Body, ""))
	}
	r.ContentLength = int64(len(r.Body))
	return r
}

// reasons are the errors of which every refusal wraps one.
var reasons = []error{ErrMissing, ErrMalformed, ErrInvalid, ErrTimestamp, ErrDigest, ErrMethod, ErrBodyNeeded}

func reasoned(err error) bool {
	n := 0
	for _, reason := range reasons {
		if errors.Is(err, reason) {
			n++
		}
	}
	return n == 1
}
