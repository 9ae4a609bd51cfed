package signing

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNames(t *testing.T) {
	require.Equal(t, []string{
		"op1", "aop1688", "top", "dewu", "jd", "pdd", "doudian", "kuaishou",
		"lazada", "aliexpress", "shopee", "rfc9421",
	}, Names())
	for _, name := range Names() {
		require.True(t, Known(name))
		require.NotEmpty(t, Methods(name), name)
	}
	require.False(t, Known("sigv4"))
	require.Nil(t, Methods("sigv4"))
	require.False(t, OptIn("sigv4", "md5"))
	require.Equal(t, []string{"hmac-sha256", "ed25519", "rsa-v1_5-sha256"}, Methods("op1"))
	for _, method := range Methods("op1") {
		require.False(t, OptIn("op1", method))
	}

	Methods("op1")[0] = "changed"
	require.Equal(t, "hmac-sha256", Methods("op1")[0], "callers get a copy")
}

func TestNewSetRefuses(t *testing.T) {
	_, err := NewSet("op1", "opl")
	require.ErrorContains(t, err, `"opl"`)
	require.ErrorContains(t, err, "op1, aop1688")
	_, err = NewSet("op1", "op1")
	require.ErrorContains(t, err, "twice")
	_, err = NewSet()
	require.Error(t, err)
}

func TestSetTakesFirstInOrder(t *testing.T) {
	generic := signedBy(t, "rfc9421", post(), secretPair(t, "rfc9421", "", testSecret, 1), 0)
	op1 := signedBy(t, "op1", post(), secretPair(t, "op1", "", testSecret, 1), 0)
	both := *op1
	both.Header = op1.Header.Clone()
	both.Header.Set(headerInput, op1.Header.Get(headerInput)+", "+generic.Header.Get(headerInput))
	both.Header.Set(headerSignature, op1.Header.Get(headerSignature)+", "+generic.Header.Get(headerSignature))
	form := *op1
	form.Header = op1.Header.Clone()
	form.Header.Set("Content-Type", formType)
	form.Body, form.BodyRead = nil, false

	for _, test := range []struct {
		names []string
		r     *Request
		want  string
		all   []string
	}{
		{[]string{"op1", "rfc9421"}, op1, "op1", []string{"op1"}},
		{[]string{"rfc9421", "op1"}, op1, "op1", []string{"op1"}},
		{[]string{"op1", "rfc9421"}, generic, "rfc9421", []string{"rfc9421"}},
		{[]string{"op1", "rfc9421"}, &both, "op1", []string{"op1", "rfc9421"}},
		{[]string{"rfc9421", "op1"}, &both, "rfc9421", []string{"rfc9421", "op1"}},
		{[]string{"top", "dewu", "op1"}, &form, "op1", []string{"op1"}},
	} {
		set := mustSet(t, test.names...)
		var c Claim
		require.NoError(t, set.Claim(&c, test.r))
		require.Equal(t, test.want, c.Dialect)
		require.Equal(t, test.all, set.Candidates(test.r))
	}

	var c Claim
	form.Header.Del(headerInput)
	require.ErrorIs(t, mustSet(t, "top", "dewu", "op1").Claim(&c, &form), ErrBodyNeeded, "no header tells it")
	all := mustSet(t, Names()...)
	require.ErrorIs(t, all.Claim(&c, get()), ErrMissing)
	require.Empty(t, all.Candidates(get()))
}

func TestClaimIsReused(t *testing.T) {
	p := secretPair(t, "op1", "", testSecret, 1)
	set, opt := mustSet(t, "op1"), Options{Now: testNow}
	var c Claim
	require.NoError(t, set.Claim(&c, signedBy(t, "op1", post(), p, 1)))

	require.Error(t, set.Claim(&c, get()))
	require.Equal(t, Claim{}, c, "nothing is left of the earlier call")
	_, err := c.Verify(get(), []*Key{p.key}, opt)
	require.ErrorIs(t, err, ErrMissing)
	require.Zero(t, c.Window(opt))

	half := signedBy(t, "op1", post(), p, 1)
	half.Header.Set(headerDigest, "none")
	require.ErrorIs(t, set.Claim(&c, half), ErrMalformed)
	_, err = c.Verify(half, []*Key{p.key}, opt)
	require.ErrorIs(t, err, ErrMissing, "a claim that failed verifies nothing")
	require.Empty(t, c.ReplayID(nil, get()))
	_, query, _ := Strip(&c, get())
	require.Equal(t, get().RawQuery, query)
}

func TestVerifyWithoutKeys(t *testing.T) {
	r := signedBy(t, "op1", get(), secretPair(t, "op1", "", testSecret, 1), 0)
	_, i, err := admit(mustSet(t, "op1"), r, Options{Now: testNow})
	require.ErrorIs(t, err, ErrInvalid)
	require.Equal(t, -1, i)
}

func TestWindowAndSkew(t *testing.T) {
	p := secretPair(t, "op1", "", testSecret, 1)
	r := signedBy(t, "op1", get(), p, 0)
	for _, test := range []struct {
		skew, off time.Duration
		ok        bool
	}{
		{0, 300 * time.Second, true},
		{0, 300*time.Second + 1, false},
		{time.Minute, time.Minute, true},
		{time.Minute, time.Minute + 1, false},
	} {
		for _, off := range []time.Duration{test.off, -test.off} {
			c, _, err := admit(mustSet(t, "op1"), r, Options{Now: testNow.Add(off), Skew: test.skew}, p.key)
			if !test.ok {
				require.ErrorIs(t, err, ErrTimestamp)
				continue
			}
			require.NoError(t, err)
			require.Greater(t, c.Window(Options{Skew: test.skew}), test.off, "a replay is remembered as long as it would be accepted")
		}
	}
}

func TestSignUnknownDialect(t *testing.T) {
	_, err := Sign("sigv4", get(), Credentials{}, testNow, "")
	require.ErrorContains(t, err, `"sigv4"`)
}
