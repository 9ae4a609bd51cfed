package oauth_test

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
)

// here is where the merchant sits.
var here = netip.MustParseAddr("198.51.100.7")

// Case, dash and spaces do not matter; what is mistyped is told.
func TestUserCodeIsForgiving(t *testing.T) {
	f := newFixture(t)
	d := f.device(f.native)
	code := d.str("user_code")
	for _, typed := range []string{code, strings.ToLower(code), strings.ReplaceAll(code, "-", ""), " " + strings.ReplaceAll(code, "-", " ") + " "} {
		r, err := f.DeviceRequest(t.Context(), typed, f.user.ID, here)
		require.NoError(t, err, typed)
		require.Equal(t, code, r.UserCode)
	}
	for _, typed := range []string{"", code[:8], code + "B", "AEIO-UUUU", d.str("device_code")} {
		_, err := f.DeviceRequest(t.Context(), typed, f.user.ID, here)
		require.ErrorIs(t, err, oauth.ErrUserCode, typed)
	}
}

// Who guesses user codes waits, wherever the merchant's log-in is used; other
// merchants do not.
func TestUserCodeGuessing(t *testing.T) {
	f := newFixture(t)
	d := f.device(f.native)
	wrong := "BBBB-BBBB"
	guess := func(user string, from netip.Addr, code string) error {
		_, err := f.DeviceRequest(t.Context(), code, user, from)
		return err
	}
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }
	for i := range 10 {
		require.ErrorIs(t, guess(f.user.ID, address(i), wrong), oauth.ErrUserCode)
		require.ErrorIs(t, guess(f.user.ID, address(i), "mistyped"), oauth.ErrUserCode)
	}
	var wait *oauth.WaitError
	require.ErrorAs(t, guess(f.user.ID, address(11), d.str("user_code")), &wait, "the right one neither")
	require.Equal(t, 10*time.Second, wait.RetryAfter)
	require.NoError(t, guess("usr_other", address(1), d.str("user_code")))
	f.pass(wait.RetryAfter)
	require.NoError(t, guess(f.user.ID, here, d.str("user_code")))

	// One address with many log-ins.
	for i := range 100 {
		require.ErrorIs(t, guess("usr_"+string(rune('a'+i%26))+string(rune('a'+i/26)), here, wrong), oauth.ErrUserCode)
	}
	require.ErrorAs(t, guess("usr_fresh", here, d.str("user_code")), &wait)
}

// Many guesses at once are no more than many one after the other.
func TestUserCodeGuessingInParallel(t *testing.T) {
	f := newFixture(t)
	const parallel = 200
	errs := make([]error, parallel)
	var wg sync.WaitGroup
	for i := range parallel {
		wg.Go(func() { _, errs[i] = f.DeviceRequest(t.Context(), "BBBB-BBBB", f.user.ID, here) })
	}
	wg.Wait()
	looked := 0
	for _, err := range errs {
		if errors.Is(err, oauth.ErrUserCode) {
			looked++
		}
	}
	require.Equal(t, 10, looked)
}

// Right secrets never count, however many come at once; wrong ones all do.
func TestSecretsInParallel(t *testing.T) {
	f := newFixture(t)
	const parallel = 50
	at := func(secret string) (codes [parallel]int) {
		var wg sync.WaitGroup
		for i := range codes {
			wg.Go(func() {
				v := f.as(f.web, "grant_type", "client_credentials")
				if secret != "" {
					v.Set("client_secret", secret)
				}
				codes[i] = f.serve(f.TokenHandler(), request("/oauth/token", v)).Code
			})
		}
		wg.Wait()
		return codes
	}
	right := at("")
	require.NotContains(t, right, http.StatusTooManyRequests)
	wrong := 0
	for _, code := range at("wrong") {
		if code == http.StatusUnauthorized {
			wrong++
		}
	}
	f.pass(time.Duration(wrong-10) * 10 * time.Second)
	require.Equal(t, http.StatusTooManyRequests, f.token(f.web, "grant_type", "client_credentials").Code)
	f.pass(10 * time.Second)
	require.Equal(t, http.StatusOK, f.token(f.web, "grant_type", "client_credentials").Code)
}

// What costs a row without a secret is slowed down for each address.
func TestDeviceStartsAreSlowed(t *testing.T) {
	f := newFixture(t)
	for range 10 {
		require.Equal(t, http.StatusOK, f.device(f.native).Code)
	}
	r := f.device(f.native)
	requireError(t, r, http.StatusTooManyRequests, "temporarily_unavailable")
	require.Equal(t, "10", r.Header().Get("Retry-After"))
	elsewhere := request("/oauth/device", f.as(f.native))
	elsewhere.RemoteAddr = "203.0.113.8:1234"
	require.Equal(t, http.StatusOK, f.serve(f.DeviceHandler(), elsewhere).Code)
	require.Equal(t, http.StatusOK, f.token(f.web, "grant_type", "client_credentials").Code, "nothing else waits")
	f.pass(10 * time.Second)
	require.Equal(t, http.StatusOK, f.device(f.native).Code)
}
