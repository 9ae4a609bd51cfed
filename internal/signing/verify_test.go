package signing

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOp1Allocations guards the hot path: a claim and a verification with an
// HMAC key, headers parsed already.
func TestOp1Allocations(t *testing.T) {
	p := secretPair(t, "op1", "", testSecret, 1)
	set, opt := mustSet(t, Names()...), Options{Now: testNow}
	r := signedBy(t, "op1", post(), p, 0)
	keys := []*Key{p.key}
	id := make([]byte, 0, 128)
	allocations := testing.AllocsPerRun(1000, func() {
		var c Claim
		if err := set.Claim(&c, r); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Verify(r, keys, opt); err != nil {
			t.Fatal(err)
		}
		if err := c.CheckBody(r.Body); err != nil {
			t.Fatal(err)
		}
		id = c.ReplayID(id[:0], r)
	})
	require.LessOrEqual(t, allocations, 5.0)
}

// TestRefusalAllocations: a wrong signature must not cost more than a good one.
func TestRefusalAllocations(t *testing.T) {
	p, other := secretPair(t, "op1", "", testSecret, 1), secretPair(t, "op1", "", "other", 1)
	set, opt := mustSet(t, "op1"), Options{Now: testNow}
	r := signedBy(t, "op1", post(), p, 0)
	keys := []*Key{other.key}
	allocations := testing.AllocsPerRun(1000, func() {
		var c Claim
		if err := set.Claim(&c, r); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Verify(r, keys, opt); err == nil {
			t.Fatal("accepted")
		}
	})
	require.LessOrEqual(t, allocations, 5.0)
}

func BenchmarkVerify(b *testing.B) {
	for _, dialect := range []string{"op1", "rfc9421"} {
		for _, p := range headerPairs(b, dialect) {
			for _, call := range []*Request{get(), post()} {
				r := signedBy(b, dialect, call, p, 0)
				set, opt, keys := mustSet(b, dialect), Options{Now: testNow}, []*Key{p.key}
				b.Run(dialect+"/"+p.method+"/"+r.Method, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						var c Claim
						if err := set.Claim(&c, r); err != nil {
							b.Fatal(err)
						}
						if _, err := c.Verify(r, keys, opt); err != nil {
							b.Fatal(err)
						}
						if err := c.CheckBody(r.Body); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

func BenchmarkRefuse(b *testing.B) {
	p, other := secretPair(b, "op1", "", testSecret, 1), secretPair(b, "op1", "", "other", 1)
	set, opt, keys := mustSet(b, "op1"), Options{Now: testNow}, []*Key{other.key}
	r := signedBy(b, "op1", post(), p, 0)
	b.ReportAllocs()
	for b.Loop() {
		var c Claim
		if err := set.Claim(&c, r); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Verify(r, keys, opt); err == nil {
			b.Fatal("accepted")
		}
	}
}

// FuzzClaim feeds any bytes to the readers of headers.
func FuzzClaim(f *testing.F) {
	p := secretPair(f, "op1", "", testSecret, 1)
	for _, call := range []*Request{get(), post()} {
		for _, dialect := range []string{"op1", "rfc9421"} {
			r := signedBy(f, dialect, call, secretPair(f, dialect, "", testSecret, 1), 1)
			f.Add(r.Header.Get(headerInput), r.Header.Get(headerSignature), r.Header.Get(headerDigest), r.Path, r.RawQuery, r.Body)
		}
	}
	f.Add(`a=("@query-param";name="a" "x-a";sf);created=1;keyid="\"", b=();x=:AA:;y=?1;z`, "a=:AA==:", "sha-512=:A:", "", "a=%zz", []byte{})
	set, err := NewSet("op1", "rfc9421")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, input, signature, digest, path, query string, content []byte) {
		r := get()
		r.Path, r.RawQuery, r.Body, r.BodyRead, r.ContentLength = path, query, content, true, int64(len(content))
		r.Header = http.Header{headerInput: {input}, headerSignature: {signature}, headerDigest: {digest}}
		var c Claim
		set.Candidates(r)
		if err := set.Claim(&c, r); err != nil {
			require.True(t, reasoned(err), "%v", err)
			return
		}
		require.NotEmpty(t, c.AppKey)
		for _, bare := range []bool{false, true} {
			if _, err := c.Verify(r, []*Key{p.key}, Options{Now: c.Time, Bare: bare}); err != nil {
				require.True(t, reasoned(err), "%v", err)
			}
		}
		c.ReplayID(nil, r)
		Strip(&c, r)
		_ = c.CheckBody(content)
	})
}

// FuzzVerifyChanged changes a signed call of op1 anywhere: it is refused unless
// the change means nothing.
func FuzzVerifyChanged(f *testing.F) {
	p := secretPair(f, "op1", "", testSecret, 1)
	set, err := NewSet("op1")
	require.NoError(f, err)
	good := signedBy(f, "op1", post(), p, 0)
	list := func(r *Request) []string {
		return []string{
			r.Method, r.Authority, r.Path, r.RawQuery, r.Header.Get("Content-Type"), r.Header.Get("Authorization"),
			r.Header.Get(headerDigest), r.Header.Get(headerInput), r.Header.Get(headerSignature), string(r.Body),
		}
	}
	for field, value := range list(good) {
		for _, position := range []int{0, len(value) / 2, len(value) - 1} {
			f.Add(uint8(field), uint16(position), byte(1), false)
			f.Add(uint8(field), uint16(position), byte('\n'), true)
		}
	}
	f.Fuzz(func(t *testing.T, field uint8, position uint16, change byte, insert bool) {
		values := list(good)
		field %= uint8(len(values))
		value := []byte(values[field])
		at := int(position) % len(value)
		if insert {
			value = append(value[:at:at], append([]byte{change}, value[at:]...)...)
		} else {
			value[at] ^= change
		}
		before := values[field]
		values[field] = string(value)
		r := *good
		r.Method, r.Authority, r.Path, r.RawQuery = values[0], values[1], values[2], values[3]
		r.Header = http.Header{
			"Content-Type": {values[4]}, "Authorization": {values[5]},
			headerDigest: {values[6]}, headerInput: {values[7]}, headerSignature: {values[8]},
		}
		r.Body = []byte(values[9])
		_, _, err := admit(set, &r, Options{Now: testNow}, p.key)
		switch {
		case meaningless(int(field), before, values[field]):
			return
		case err == nil:
			t.Fatalf("field %d changed from %q to %q and was accepted", field, before, values[field])
		default:
			require.True(t, reasoned(err), "%v", err)
		}
	})
}

// meaningless tells whether a change of a field leaves its meaning: the case
// of the authority, white space around a header's value or its members, and
// members and parameters that say nothing about our signature.
func meaningless(field int, before, after string) bool {
	const authority, firstHeader, signature, body = 1, 4, 8, 9
	trim := func(s string) string { return strings.Trim(s, " \t") }
	switch {
	case before == after:
		return true
	case field == authority:
		return strings.EqualFold(before, after)
	case field == signature:
		// A Signature header with the same bytes under the same label.
		return bytes.Contains([]byte(after), []byte(before[len("op=:"):len(before)-1])) && strings.HasPrefix(trim(after), "op=:")
	case field >= firstHeader && field < body:
		return trim(before) == trim(after)
	}
	return false
}
