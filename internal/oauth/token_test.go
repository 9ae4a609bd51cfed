package oauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

func TestExchangeCode(t *testing.T) {
	f := newFixture(t)
	r := f.exchange(f.web, f.code(f.web, "scope", "trade"))
	require.Equal(t, http.StatusOK, r.Code, r.Body)
	require.Equal(t, "no-store", r.Header().Get("Cache-Control"))
	require.Equal(t, "application/json", r.Header().Get("Content-Type"))
	require.Regexp(t, `^at_[\w-]{43}$`, r.str("access_token"))
	require.Regexp(t, `^rt_[\w-]{43}$`, r.str("refresh_token"))
	require.Equal(t, "Bearer", r.str("token_type"))
	require.Equal(t, 36000, r.num("expires_in"))
	require.Equal(t, "trade", r.str("scope"))
	require.Len(t, r.body, 5)
	require.True(t, f.active(f.web, r.str("access_token")))
}

// A code serves only the request that it was given for.
func TestCodeIsBound(t *testing.T) {
	f := newFixture(t)
	old := f.set(f.newApp(platform.Web), platform.OAuthSettings{RedirectURIs: []string{callback}, WithoutPKCE: true})
	for name, c := range map[string]struct {
		app     *platform.App
		changes []string // of the authorization request
		by      *platform.App
		pairs   []string // of the exchange; "" removes one
	}{
		"another app":            {app: f.web, by: f.other},
		"another redirect URI":   {app: f.web, by: f.web, pairs: []string{"redirect_uri", callback + "2"}},
		"no redirect URI":        {app: f.web, by: f.web, pairs: []string{"redirect_uri", ""}},
		"redirect URI not given": {app: f.web, changes: []string{"redirect_uri", ""}, by: f.web, pairs: []string{"redirect_uri", callback + "2"}},
		"another loopback port":  {app: f.native, changes: []string{"redirect_uri", "http://127.0.0.1:5000/cb"}, by: f.native},
		"no verifier":            {app: f.web, by: f.web, pairs: []string{"code_verifier", ""}},
		"another verifier":       {app: f.web, by: f.web, pairs: []string{"code_verifier", verifier[1:] + "A"}},
		"the challenge itself":   {app: f.web, by: f.web, pairs: []string{"code_verifier", challenge}},
		"short verifier":         {app: f.web, changes: []string{"code_challenge", s256("short")}, by: f.web, pairs: []string{"code_verifier", "short"}},
		"verifier, no challenge": {app: old, changes: []string{"code_challenge", "", "code_challenge_method", ""}, by: old},
	} {
		t.Run(name, func(t *testing.T) {
			code := f.code(c.app, c.changes...)
			v := f.as(c.by, "grant_type", "authorization_code", "code", code, "redirect_uri", c.app.OAuth.RedirectURIs[0], "code_verifier", verifier)
			for i := 0; i < len(c.pairs); i += 2 {
				v.Set(c.pairs[i], c.pairs[i+1])
			}
			requireError(t, f.serve(f.TokenHandler(), request("/oauth/token", v)), 400, "invalid_grant")
			// The code is spent: nothing about it can be guessed.
			requireError(t, f.exchange(c.app, code), 400, "invalid_grant")
		})
	}
	t.Run("no redirect URI in either", func(t *testing.T) {
		code := f.code(f.web, "redirect_uri", "")
		v := f.as(f.web, "grant_type", "authorization_code", "code", code, "code_verifier", verifier)
		require.Equal(t, 200, f.serve(f.TokenHandler(), request("/oauth/token", v)).Code)
	})
	t.Run("neither challenge nor verifier", func(t *testing.T) {
		code := f.code(old, "code_challenge", "", "code_challenge_method", "")
		require.Equal(t, 200, f.token(old, "grant_type", "authorization_code", "code", code, "redirect_uri", callback).Code)
	})
	t.Run("in its last second", func(t *testing.T) {
		code := f.code(f.web)
		f.pass(oauth.CodeLifetime - time.Second)
		require.Equal(t, 200, f.exchange(f.web, code).Code)
	})
	t.Run("expired", func(t *testing.T) {
		code := f.code(f.web)
		f.pass(oauth.CodeLifetime)
		requireError(t, f.exchange(f.web, code), 400, "invalid_grant")
	})
	t.Run("merchant disabled", func(t *testing.T) {
		code := f.code(f.web)
		_, err := f.service.DisableUser(t.Context(), "test", f.user.ID)
		require.NoError(t, err)
		requireError(t, f.exchange(f.web, code), 400, "invalid_grant")
	})
	for name, code := range map[string]string{"empty": "", "unknown": "oc_" + strings.Repeat("A", 43), "no code": "x", "long": strings.Repeat("o", 9000)} {
		t.Run(name, func(t *testing.T) {
			want := "invalid_grant"
			if code == "" {
				want = "invalid_request"
			}
			requireError(t, f.exchange(f.web, code), 400, want)
		})
	}
}

// Of many that exchange a code at the same time one gets tokens, and these are
// revoked, as the others show a replay. So it is with a refresh token that
// rotates.
func TestUsedOnce(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		f := newFixture(t)
		f.requireUsedOnce(f.Server)
	})
	t.Run("two nodes on postgres", func(t *testing.T) {
		dsn := testserver.NewPostgres(t).Database(t)
		open := func(keys *store.Keyring, o store.Options) (*store.Store, error) {
			return store.OpenPostgres(t.Context(), dsn, keys, o)
		}
		f := newFixtureOn(t, open)
		keys, err := store.NewKeyring(make([]byte, 32))
		require.NoError(t, err)
		second, err := open(keys, store.Options{Now: f.clock})
		require.NoError(t, err)
		defer func() { require.NoError(t, second.Close()) }()
		f.requireUsedOnce(f.Server, f.node(second, nil))
	})
}

func (f *fixture) requireUsedOnce(nodes ...*oauth.Server) {
	f.t.Helper()
	for range 50 {
		f.requireOneReply(nodes, f.as(f.web, "grant_type", "authorization_code",
			"code", f.code(f.web), "redirect_uri", callback, "code_verifier", verifier))
	}
	f.web = f.set(f.web, platform.OAuthSettings{RedirectURIs: []string{callback}, Refresh: platform.RotateRefresh})
	for range 50 {
		old := f.exchange(f.web, f.code(f.web)).str("refresh_token")
		f.requireOneReply(nodes, f.as(f.web, "grant_type", "refresh_token", "refresh_token", old))
	}
}

// requireOneReply sends the same request twenty times at once.
func (f *fixture) requireOneReply(nodes []*oauth.Server, v url.Values) {
	t := f.t
	t.Helper()
	replies := make([]reply, 20)
	var wg sync.WaitGroup
	for i := range replies {
		wg.Go(func() { replies[i] = f.serve(nodes[i%len(nodes)].TokenHandler(), request("/oauth/token", v)) })
	}
	wg.Wait()
	got := 0
	for _, r := range replies {
		if r.Code != http.StatusOK {
			requireError(t, r, 400, "invalid_grant")
			continue
		}
		got++
		require.False(t, f.active(f.web, r.str("access_token")))
		require.False(t, f.active(f.web, r.str("refresh_token")))
	}
	require.LessOrEqual(t, got, 1)
}

func TestReplayedCodeRevokes(t *testing.T) {
	f := newFixture(t)
	untouched := f.exchange(f.web, f.code(f.web))
	code := f.code(f.web)
	r := f.exchange(f.web, code)
	later := f.refresh(f.web, r.str("refresh_token"))
	require.Equal(t, 200, later.Code)
	requireError(t, f.exchange(f.web, code), 400, "invalid_grant")
	for _, token := range []string{r.str("access_token"), r.str("refresh_token"), later.str("access_token")} {
		require.False(t, f.active(f.web, token))
	}
	require.True(t, f.active(f.web, untouched.str("access_token")))
}

func TestRefreshKeeps(t *testing.T) {
	f := newFixture(t)
	first := f.exchange(f.web, f.code(f.web))
	old := first.str("refresh_token")
	for range 3 {
		f.pass(time.Hour)
		r := f.refresh(f.web, old)
		require.Equal(t, 200, r.Code, r.Body)
		require.NotContains(t, r.body, "refresh_token")
		require.Equal(t, "item trade", r.str("scope"))
		require.True(t, f.active(f.web, r.str("access_token")))
	}
	narrow := f.refresh(f.web, old, "scope", "trade")
	require.Equal(t, "trade", narrow.str("scope"))
	require.Equal(t, "item trade", f.refresh(f.web, old).str("scope"), "narrowing is for one access token")
	for _, scope := range []string{"refund", "trade refund", "trade item refund"} {
		requireError(t, f.refresh(f.web, old, "scope", scope), 400, "invalid_scope")
	}
	requireError(t, f.refresh(f.other, old), 400, "invalid_grant")
	requireError(t, f.refresh(f.web, first.str("access_token")), 400, "invalid_grant")
	requireError(t, f.refresh(f.web, "rt_"+strings.Repeat("A", 43)), 400, "invalid_grant")
	requireError(t, f.refresh(f.web, ""), 400, "invalid_request")

	f.pass(oauth.RefreshTokenLifetime - 4*time.Hour)
	last := f.refresh(f.web, old)
	require.Equal(t, 3600, last.num("expires_in"), "an access token ends with what it hangs from")
	f.pass(time.Hour)
	requireError(t, f.refresh(f.web, old), 400, "invalid_grant")
}

// A refresh token of a public app serves once; a second time shows that it was
// stolen.
func TestRefreshRotates(t *testing.T) {
	f := newFixture(t)
	rotating := f.set(f.newApp(platform.Web), platform.OAuthSettings{RedirectURIs: []string{callback}, Refresh: platform.RotateRefresh})
	for name, app := range map[string]*platform.App{"public": f.native, "by setting": rotating} {
		t.Run(name, func(t *testing.T) {
			first := f.exchange(app, f.code(app))
			second := f.refresh(app, first.str("refresh_token"), "scope", "trade")
			require.Equal(t, 200, second.Code, second.Body)
			require.NotEqual(t, first.str("refresh_token"), second.str("refresh_token"))
			third := f.refresh(app, second.str("refresh_token"))
			require.Equal(t, "item trade", third.str("scope"), "a successor covers what its predecessor did")

			requireError(t, f.refresh(f.other, first.str("refresh_token")), 400, "invalid_grant")
			require.Equal(t, 200, f.refresh(app, third.str("refresh_token")).Code, "another app's try revokes nothing")
			requireError(t, f.refresh(app, first.str("refresh_token")), 400, "invalid_grant")
			requireError(t, f.refresh(app, third.str("refresh_token")), 400, "invalid_grant")
			_, err := f.verifier.Verify(t.Context(), third.str("access_token"), app, platform.Production, "trade")
			require.Error(t, err)
		})
	}
	t.Run("in parallel", func(t *testing.T) {
		for range 20 {
			old := f.exchange(f.native, f.code(f.native)).str("refresh_token")
			replies := make([]reply, 10)
			var wg sync.WaitGroup
			for i := range replies {
				wg.Go(func() { replies[i] = f.refresh(f.native, old) })
			}
			wg.Wait()
			given := 0
			for _, r := range replies {
				if r.Code == 200 {
					given++
					requireError(t, f.refresh(f.native, r.str("refresh_token")), 400, "invalid_grant")
				}
			}
			require.LessOrEqual(t, given, 1)
		}
	})
}

func TestRefreshEndsWithGrant(t *testing.T) {
	f := newFixture(t)
	r := f.exchange(f.web, f.code(f.web))
	grant, err := f.store.GrantOf(t.Context(), f.user.ID, f.web.Number, platform.Production, f.clock())
	require.NoError(t, err)
	_, err = f.service.RevokeGrant(t.Context(), "test", grant.ID)
	require.NoError(t, err)
	requireError(t, f.refresh(f.web, r.str("refresh_token")), 400, "invalid_grant")
	require.False(t, f.active(f.web, r.str("access_token")))
}

// No code outlives its grant, and a merchant is asked anew before tokens would
// last less than they are meant to.
func TestGrantEndsSoon(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	r, grant := f.agreed()
	f.pass(oauth.RefreshTokenLifetime - oauth.AccessTokenLifetime)
	still, err := f.Covered(ctx, r, f.user.ID)
	require.NoError(t, err)
	require.Equal(t, grant, still, "for as long as an access token")
	f.pass(time.Second)
	still, err = f.Covered(ctx, r, f.user.ID)
	require.NoError(t, err)
	require.Empty(t, still)

	f.pass(oauth.AccessTokenLifetime - 31*time.Second)
	last, late := f.codeUnder(r, grant), f.codeUnder(r, grant)
	f.pass(29 * time.Second)
	require.Equal(t, 1, f.exchange(f.web, last).num("expires_in"))
	f.pass(time.Second)
	requireError(t, f.exchange(f.web, late), 400, "invalid_grant")
}
