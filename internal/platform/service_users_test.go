package platform_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const password = "correct horse battery"

// home is where merchants log in from, abroad is another network.
var home, abroad = netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("203.0.113.9")

func (f *fixture) user(tb testing.TB) *platform.User {
	tb.Helper()
	u, err := f.CreateUser(tb.Context(), "test", "Shop-1@example.com", "演示店", password)
	require.NoError(tb, err)
	return u
}

func TestUserLife(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	u := f.user(t)
	require.Regexp(t, `^usr_[0-9A-Za-z]{20}$`, u.ID)
	require.Equal(t, "shop-1@example.com", u.Login)
	require.Regexp(t, `^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`, string(u.Password.Reveal()))
	require.Equal(t, []platform.Change{{Kind: platform.ChangeUser, Key: u.ID}}, f.changes)
	for _, ref := range []string{u.ID, "shop-1@example.com", "SHOP-1@example.com"} {
		got, err := f.User(ctx, ref)
		require.NoError(t, err)
		require.Equal(t, u, got)
	}
	got, err := f.CheckPassword(ctx, home, "SHOP-1@EXAMPLE.COM", password)
	require.NoError(t, err)
	require.Equal(t, u, got)
	_, err = f.CreateUser(ctx, "test", "SHOP-1@example.com", "Other", password)
	require.ErrorIs(t, err, platform.ErrConflict)

	_, err = f.DisableUser(ctx, "cli:ann", u.Login)
	require.NoError(t, err)
	_, err = f.CheckPassword(ctx, home, u.Login, password)
	require.ErrorIs(t, err, platform.ErrLogin)
	users, err := f.Users(ctx, platform.UserFilter{Status: platform.UserDisabled}, platform.Page{})
	require.NoError(t, err)
	require.Len(t, users, 1)
	_, err = f.EnableUser(ctx, "cli:ann", u.ID)
	require.NoError(t, err)
	_, err = f.SetPassword(ctx, "cli:ann", u.ID, "another password")
	require.NoError(t, err)
	_, err = f.CheckPassword(ctx, home, u.Login, password)
	require.ErrorIs(t, err, platform.ErrLogin)
	_, err = f.CheckPassword(ctx, home, u.Login, "another password")
	require.NoError(t, err)
	require.Len(t, f.changes, 4)

	var actions []string
	for _, e := range f.entries(t) {
		require.Equal(t, u.ID, e.Target)
		actions = append(actions, e.Action)
		require.NotContains(t, string(e.Before)+string(e.After), "argon2id")
	}
	require.Equal(t, []string{"user.password", "user.enable", "user.disable", "user.create"}, actions)

	outside, err := f.store.UserByIdentity(ctx, "https://idp", "s", "Outside", start)
	require.NoError(t, err)
	_, err = f.SetPassword(ctx, "test", outside.ID, password)
	require.ErrorIs(t, err, platform.ErrConflict)
	for _, ref := range []string{"usr_none", "nobody", ""} {
		_, err = f.User(ctx, ref)
		require.ErrorIs(t, err, platform.ErrNotFound, ref)
		_, err = f.DisableUser(ctx, "test", ref)
		require.ErrorIs(t, err, platform.ErrNotFound, ref)
	}
}

func TestUserMistakes(t *testing.T) {
	f := newFixture(t)
	for field, all := range map[string][][3]string{
		"login": {
			{"", "Shop", password},
			{"a b", "Shop", password},
			{"a\x00", "Shop", password},
			{"usr_a", "Shop", password},
			{"USR_a", "Shop", password},
			{"\xff", "Shop", password},
			{strings.Repeat("a", 101), "Shop", password},
			{"a/b", "Shop", password},
		},
		"name":     {{"a", "", password}, {"a", "a\x01", password}, {"a", strings.Repeat("a", 101), password}},
		"password": {{"a", "Shop", ""}, {"a", "Shop", "elevenchars"}, {"a", "Shop", strings.Repeat("a", 257)}, {"a", "Shop", "\xff" + password}},
	} {
		for _, c := range all {
			_, err := f.CreateUser(t.Context(), "test", c[0], c[1], c[2])
			requireField(t, err, field)
			require.NotContains(t, err.Error(), password)
		}
	}
	_, err := f.Users(t.Context(), platform.UserFilter{Status: "gone"}, platform.Page{})
	requireField(t, err, "status")
	_, err = f.SetPassword(t.Context(), "test", "nobody", "short")
	requireField(t, err, "password")
	require.Empty(t, f.entries(t))
}

// Wrong passwords are slowed down, for a login that somebody has and for one
// that nobody has alike, and the right one does not get around it.
func TestLockout(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.user(t)
	for _, login := range []string{"shop-1@example.com", "nobody"} {
		for range 5 {
			_, err := f.CheckPassword(ctx, home, login, "wrong password")
			require.ErrorIs(t, err, platform.ErrLogin)
		}
		wait := time.Second
		for range 12 {
			var locked *platform.LockedError
			_, err := f.CheckPassword(ctx, home, login, password)
			require.ErrorAs(t, err, &locked, login)
			require.Equal(t, wait, locked.RetryAfter, login)
			f.now = f.now.Add(wait)
			_, err = f.CheckPassword(ctx, home, login, "wrong password")
			require.ErrorIs(t, err, platform.ErrLogin)
			wait = min(2*wait, 15*time.Minute)
		}
	}
	f.now = f.now.Add(15 * time.Minute)
	_, err := f.CheckPassword(ctx, home, "Shop-1@example.com", password)
	require.NoError(t, err, "after the wait the right one is good")
	for range 5 {
		_, err := f.CheckPassword(ctx, home, "shop-1@example.com", "wrong password")
		require.ErrorIs(t, err, platform.ErrLogin, "and the count begins anew")
	}
	_, err = f.CheckPassword(ctx, home, "shop-1@example.com", password)
	require.ErrorContains(t, err, "too many wrong passwords; try again in 1s")
	_, err = f.SetPassword(ctx, "test", "shop-1@example.com", password)
	require.NoError(t, err)
	_, err = f.CheckPassword(ctx, home, "shop-1@example.com", password)
	require.NoError(t, err, "a new password ends the wait")
	for range 5 {
		_, err = f.CheckPassword(ctx, home, "nobody2", "wrong password")
		require.ErrorIs(t, err, platform.ErrLogin)
	}
	f.now = f.now.Add(25 * time.Hour)
	for range 5 {
		_, err = f.CheckPassword(ctx, home, "nobody2", "wrong password")
		require.ErrorIs(t, err, platform.ErrLogin, "a day later it is forgotten")
	}
}

// Who guesses keeps out only those who are as near, for as long as one likes; it
// takes many networks to slow a login down for all.
func TestLockoutElsewhere(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.user(t)
	locked := func(from netip.Addr, password string) time.Duration {
		var e *platform.LockedError
		if _, err := f.CheckPassword(ctx, from, "shop-1@example.com", password); errors.As(err, &e) {
			return e.RetryAfter
		}
		return 0
	}
	for range 40 { // a night
		for locked(abroad, "wrong password") == 0 {
			require.Zero(t, locked(home, password))
		}
		require.NotZero(t, locked(netip.MustParseAddr("203.0.113.200"), password), "a neighbour")
		require.Zero(t, locked(home, password))
		f.now = f.now.Add(15 * time.Minute)
	}
	f.now = f.now.Add(25 * time.Hour)
	customer := func(n byte) netip.Addr { return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 6: n, 15: n}) }
	for n := range byte(10) {
		for range 5 {
			require.Zero(t, locked(customer(n), "wrong password"))
		}
	}
	require.Equal(t, 90*time.Second, locked(home, password))
	f.now = f.now.Add(90 * time.Second)
	require.Zero(t, locked(home, password), "one a while comes in")
	_, err := f.SetPassword(ctx, "test", "shop-1@example.com", password)
	require.NoError(t, err)
	require.Zero(t, locked(customer(1), password), "a new password ends all waits")
}

// A password that could not be looked at is no guess.
func TestLockoutWithoutStore(t *testing.T) {
	f := newFixture(t)
	f.user(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 60 {
		_, err := f.CheckPassword(gone, home, "shop-1@example.com", password)
		require.ErrorIs(t, err, platform.ErrUnavailable)
	}
	_, err := f.CheckPassword(t.Context(), home, "shop-1@example.com", password)
	require.NoError(t, err)
}

// Many guesses at once are no more than many one after the other.
func TestLockoutInParallel(t *testing.T) {
	f := newFixture(t)
	f.user(t)
	const parallel = 40
	errs := make([]error, parallel)
	var wg sync.WaitGroup
	for i := range parallel {
		wg.Go(func() { _, errs[i] = f.CheckPassword(t.Context(), home, "shop-1@example.com", "wrong password") })
	}
	wg.Wait()
	looked := 0
	for _, err := range errs {
		if errors.Is(err, platform.ErrLogin) {
			looked++
		}
	}
	require.Equal(t, 5, looked)
}

// Whoever has gone does not wait for a turn to hash.
func TestHashingEndsWithItsContext(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.CheckPassword(ctx, home, "nobody", password)
	require.ErrorIs(t, err, platform.ErrUnavailable)
}
