package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Of many refresh tokens of a grant the newest stay, used ones and others, and
// no other grant loses any.
func TestPruneRefreshTokens(t *testing.T) { onBoth(t, testPruneRefreshTokens) }

func testPruneRefreshTokens(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	ctx := t.Context()
	const count = keepRefresh + 50
	first, _ := o.authorize(t, "first", "trade")
	o.authorize(t, "second", "trade")
	refresh := func(family, kind string, i int) *oauth.Token {
		r := o.token(first, family, fmt.Sprint(kind, i), oauth.RefreshToken)
		r.IssuedAt, r.ExpiresAt = testTime.Add(time.Duration(i)*time.Minute), testTime.Add(180*day)
		return r
	}
	for i := range count {
		family := "first" // it has the older ones
		if i >= 50 {
			family = "second"
		}
		used := refresh("second", "used", i)
		used.ReplacedAt = testTime
		require.NoError(t, o.SaveTokens(ctx, refresh(family, "live", i), used))
	}
	at := o.token(first, "second", "at", oauth.AccessToken)
	at.IssuedAt, at.ExpiresAt = testTime.Add(-time.Hour), testTime.Add(day)
	require.NoError(t, o.SaveTokens(ctx, at))

	o.user = testUser("b")
	putUsers(t, o.Store, o.user)
	bystander, _ := o.authorize(t, "other", "trade")
	require.NotEqual(t, first.ID, bystander.ID)
	require.NoError(t, o.SaveTokens(ctx, o.token(bystander, "other", "old", oauth.RefreshToken)))

	n, err := o.Prune(ctx, testTime.Add(-day))
	require.NoError(t, err)
	require.Equal(t, 2*50, n)
	for i := range count {
		for _, kind := range []string{"live", "used"} {
			_, err := o.Token(ctx, hashOf(fmt.Sprint(kind, i)))
			if i < 50 {
				require.ErrorIs(t, err, platform.ErrNotFound)
			} else {
				require.NoError(t, err)
			}
		}
	}
	for _, name := range []string{"at", "old"} {
		_, err := o.Token(ctx, hashOf(name))
		require.NoError(t, err)
	}
	require.Equal(t, 2, o.families(t), "the family whose tokens are gone is gone")
	n, err = o.Prune(ctx, testTime.Add(-day))
	require.NoError(t, err)
	require.Zero(t, n)
}

// An app that authorizes and refreshes every day, and asks for a
// fresh refresh token each time, leaves no more behind than is alive.
func TestTablesAreBoundedByWhatIsAlive(t *testing.T) { onBoth(t, testTablesAreBoundedByWhatIsAlive) }

func testTablesAreBoundedByWhatIsAlive(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	ctx := t.Context()
	sizes := func() map[string]int {
		sizes := map[string]int{}
		for _, table := range []string{"grants", "oauth_families", "oauth_codes", "oauth_tokens"} {
			var n int
			require.NoError(t, o.readers.QueryRow(`SELECT count(*) FROM `+table).Scan(&n))
			sizes[table] = n
		}
		return sizes
	}
	const days = 200
	var earlier map[string]int
	for today := range days {
		now := testTime.Add(time.Duration(today) * day)
		name := fmt.Sprint("day", today)
		g := &platform.Grant{
			User: o.user.ID, AppNumber: o.app.Number, Environment: platform.Production, Scopes: []string{"trade"}, CreatedAt: now, ExpiresAt: now.Add(180 * day),
		}
		require.NoError(t, o.Authorize(ctx, g, &oauth.Code{
			Hash: hashOf(name), Family: oauth.Family("fam_" + name), App: o.app.Number, Environment: platform.Production, User: o.user.ID,
			IssuedAt: now, ExpiresAt: now.Add(2 * time.Minute),
		}))
		_, err := o.RedeemCode(ctx, hashOf(name), now)
		require.NoError(t, err)
		token := func(what string, kind oauth.TokenKind, life time.Duration) *oauth.Token {
			token := o.token(g, name, name+what, kind)
			token.IssuedAt, token.ExpiresAt = now, now.Add(life)
			return token
		}
		own := token("own", oauth.AccessToken, 10*time.Hour)
		own.Grant, own.User = "", ""
		require.NoError(t, o.SaveTokens(ctx, own))
		require.NoError(t, o.SaveTokens(ctx, token("at", oauth.AccessToken, 10*time.Hour), token("rt", oauth.RefreshToken, 180*day)))
		require.NoError(t, o.SaveTokens(ctx, token("at2", oauth.AccessToken, 10*time.Hour), token("rt2", oauth.RefreshToken, 180*day)))
		_, err = o.Prune(ctx, now.Add(-keepEnded))
		require.NoError(t, err)
		if today == days-50 {
			earlier = sizes()
		}
	}
	// Two days' worth of what is short-lived, and the newest refresh tokens.
	require.Equal(t, map[string]int{"grants": 1, "oauth_families": keepRefresh / 2, "oauth_codes": 2, "oauth_tokens": keepRefresh + 2*3}, sizes())
	require.Equal(t, earlier, sizes())
}
