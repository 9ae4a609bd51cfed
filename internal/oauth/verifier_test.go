package oauth_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (f *fixture) verify(app *platform.App, token, scope string) error {
	_, err := f.verifier.Verify(f.t.Context(), token, app, platform.Production, scope)
	return err
}

func TestVerify(t *testing.T) {
	f := newFixture(t)
	r := f.exchange(f.web, f.code(f.web, "scope", "trade"))
	token := r.str("access_token")
	user, err := f.verifier.Verify(t.Context(), token, f.web, platform.Production, "trade")
	require.NoError(t, err)
	require.Equal(t, platform.TokenUser{ID: f.user.ID, Scopes: "trade"}, user)
	require.NoError(t, f.verify(f.web, token, "basic"))
	require.ErrorIs(t, f.verify(f.web, token, "item"), platform.ErrScopeInsufficient)
	require.ErrorIs(t, f.verify(f.web, "", "trade"), platform.ErrTokenMissing)
	require.ErrorIs(t, f.verify(f.other, token, "trade"), platform.ErrTokenInvalid)
	require.ErrorIs(t, f.verify(f.web, r.str("refresh_token"), "trade"), platform.ErrTokenInvalid)
	_, err = f.verifier.Verify(t.Context(), token, f.web, platform.Sandbox, "trade")
	require.ErrorIs(t, err, platform.ErrTokenInvalid)
	for _, bad := range []string{"x", "at_" + strings.Repeat("A", 43), token + "A", "AT" + token[2:], strings.Repeat("x", 9000)} {
		require.ErrorIs(t, f.verify(f.web, bad, "trade"), platform.ErrTokenInvalid)
	}
	require.NoError(t, f.verify(f.web, f.exchange(f.web, f.code(f.web, "resource", issuer)).str("access_token"), "trade"))
	f.pass(oauth.AccessTokenLifetime)
	require.ErrorIs(t, f.verify(f.web, token, "trade"), platform.ErrTokenExpired)
}

// A warm token is taken away at once by whatever ends it.
func TestVerifyAfterRevocation(t *testing.T) {
	f := newFixture(t)
	bystander := f.exchange(f.web, f.code(f.web)).str("access_token")
	f.user, _ = f.store.UserByIdentity(t.Context(), "https://passport.example.com", "shop-2", "shop", f.clock())
	require.NoError(t, f.verify(f.web, bystander, "trade"))
	var tokens reply
	for name, revoke := range map[string]func() error{
		"access token": func() error { f.revoke(f.web, tokens.str("access_token")); return nil },
		"family":       func() error { f.revoke(f.web, tokens.str("refresh_token")); return nil },
		"grant": func() error {
			g, err := f.store.GrantOf(t.Context(), f.user.ID, f.web.Number, platform.Production, f.clock())
			if err == nil {
				_, err = f.service.RevokeGrant(t.Context(), "test", g.ID)
			}
			return err
		},
		"by staff": func() error {
			_, err := f.service.RevokeToken(t.Context(), "test", tokens.str("access_token"))
			return err
		},
		"merchant": func() error { _, err := f.service.DisableUser(t.Context(), "test", f.user.ID); return err },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.service.EnableUser(t.Context(), "test", f.user.ID)
			require.NoError(t, err)
			tokens = f.exchange(f.web, f.code(f.web))
			require.NoError(t, f.verify(f.web, tokens.str("access_token"), "trade"))
			require.NoError(t, revoke())
			require.ErrorIs(t, f.verify(f.web, tokens.str("access_token"), "trade"), platform.ErrTokenInvalid)
			require.NoError(t, f.verify(f.web, bystander, "trade"))
		})
	}
}

// A revocation is remembered for as long as tokens are: also for those that were
// seen while that was longer.
func TestVerifyAfterResize(t *testing.T) {
	f := newFixture(t)
	r := f.exchange(f.web, f.code(f.web))
	require.NoError(t, f.verify(f.web, r.str("access_token"), "trade"))
	f.verifier.Resize(oauth.DefaultTokens, time.Second)
	f.revoke(f.web, r.str("refresh_token"))
	for range 3 { // in which it is forgotten
		f.pass(time.Minute)
		f.verifier.Apply(platform.Change{Kind: platform.ChangeUser, Key: "usr_another"})
	}
	require.ErrorIs(t, f.verify(f.web, r.str("access_token"), "trade"), platform.ErrTokenInvalid)
}

// counting counts the looks into the store, and can fail or hold them.
type counting struct {
	oauth.Store
	looks atomic.Int64
	err   error
	// reached is told of a look that was answered, which then waits for hold.
	reached, hold chan struct{}
}

func (c *counting) Token(ctx context.Context, h oauth.Hash) (*oauth.Token, error) {
	n := c.looks.Add(1)
	if c.err != nil {
		return nil, c.err
	}
	t, err := c.Store.Token(ctx, h)
	if n == 1 && c.hold != nil {
		c.reached <- struct{}{}
		<-c.hold
	}
	return t, err
}

func (f *fixture) counted(c *counting) *oauth.Verifier {
	f.t.Helper()
	c.Store = f.store
	v, err := oauth.NewVerifier(c, oauth.VerifierOptions{Resources: []string{issuer}, Now: f.clock})
	require.NoError(f.t, err)
	f.t.Cleanup(v.Close)
	return v
}

func TestVerifyLooksOnce(t *testing.T) {
	f := newFixture(t)
	token := f.exchange(f.web, f.code(f.web)).str("access_token")
	c := &counting{}
	v := f.counted(c)
	unknown := "at_" + strings.Repeat("A", 43)
	for range 5 {
		_, err := v.Verify(t.Context(), token, f.web, platform.Production, "trade")
		require.NoError(t, err)
		_, err = v.Verify(t.Context(), unknown, f.web, platform.Production, "trade")
		require.ErrorIs(t, err, platform.ErrTokenInvalid)
	}
	require.EqualValues(t, 2, c.looks.Load())
	v.Apply(platform.Change{Kind: platform.ChangeGrant, Key: "gr_of another"})
	v.Apply(platform.Change{Kind: platform.ChangeApp, Key: f.web.Key})
	_, err := v.Verify(t.Context(), token, f.web, platform.Production, "trade")
	require.NoError(t, err)
	require.EqualValues(t, 2, c.looks.Load(), "what concerns others costs no look")

	c.err = platform.ErrUnavailable
	_, err = v.Verify(t.Context(), token, f.web, platform.Production, "trade")
	require.NoError(t, err, "a warm token needs no store")
	v.ForgetAll()
	_, err = v.Verify(t.Context(), token, f.web, platform.Production, "trade")
	require.ErrorIs(t, err, platform.ErrUnavailable)
	require.NotErrorIs(t, err, platform.ErrTokenInvalid)
	c.err = nil
	_, err = v.Verify(t.Context(), token, f.web, platform.Production, "trade")
	require.NoError(t, err)
}

// A look that began before a revocation does not bring the token back.
func TestVerifyDuringRevocation(t *testing.T) {
	f := newFixture(t)
	r := f.exchange(f.web, f.code(f.web))
	c := &counting{reached: make(chan struct{}), hold: make(chan struct{})}
	v := f.counted(c)
	result := make(chan error)
	go func() {
		_, err := v.Verify(context.Background(), r.str("access_token"), f.web, platform.Production, "trade")
		result <- err
	}()
	<-c.reached
	require.Equal(t, 200, f.revoke(f.web, r.str("refresh_token")).Code)
	grant, err := f.store.GrantOf(t.Context(), f.user.ID, f.web.Number, platform.Production, f.clock())
	require.NoError(t, err)
	v.Apply(platform.Change{Kind: platform.ChangeGrant, Key: grant.ID})
	close(c.hold)
	require.ErrorIs(t, <-result, platform.ErrTokenInvalid)
	require.EqualValues(t, 2, c.looks.Load())
}

func TestVerifyWarmAllocatesNothing(t *testing.T) {
	f := newFixture(t)
	token := f.exchange(f.web, f.code(f.web)).str("access_token")
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := f.verifier.Verify(ctx, token, f.web, platform.Production, "trade"); err != nil {
			panic(err)
		}
	}))
}

func BenchmarkVerifyWarm(b *testing.B) {
	f := newFixture(b)
	token := f.exchange(f.web, f.code(f.web)).str("access_token")
	v, err := oauth.NewVerifier(f.store, oauth.VerifierOptions{Now: func() time.Time { return start }})
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(context.Background(), token, f.web, platform.Production, "trade"); err != nil {
			b.Fatal(errors.Unwrap(err))
		}
	}
}

// A merchant who is enabled again has valid tokens at once, also those that were
// refused meanwhile. What else changes makes no refused token worth a look.
func TestVerifyAfterEnable(t *testing.T) {
	f := newFixture(t)
	token := f.exchange(f.web, f.code(f.web)).str("access_token")
	require.NoError(t, f.verify(f.web, token, "trade"))
	for range 2 {
		_, err := f.service.DisableUser(t.Context(), "test", f.user.ID)
		require.NoError(t, err)
		require.ErrorIs(t, f.verify(f.web, token, "trade"), platform.ErrTokenInvalid)
		_, err = f.service.EnableUser(t.Context(), "test", f.user.ID)
		require.NoError(t, err)
		require.NoError(t, f.verify(f.web, token, "trade"))
	}
	c := &counting{}
	v := f.counted(c)
	for _, change := range []platform.Change{
		{}, {Kind: platform.ChangeGrant, Key: "gr_x"}, {Kind: platform.ChangeToken, Key: "fam_x"}, {Kind: platform.ChangeUser, Key: f.user.ID},
	} {
		v.Apply(change)
		_, err := v.Verify(t.Context(), "at_"+strings.Repeat("A", 43), f.web, platform.Production, "trade")
		require.ErrorIs(t, err, platform.ErrTokenInvalid)
	}
	require.EqualValues(t, 2, c.looks.Load(), "the first time, and for the merchant")
}
