package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Tokens are saved while their grant, or family, is revoked: whoever comes
// first, none of them holds afterwards.
func TestRevocationWinsEveryRace(t *testing.T) { onBoth(t, testRevocationWinsEveryRace) }

func testRevocationWinsEveryRace(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	saved, refused := 0, 0
	for round := range 40 {
		name := fmt.Sprint("code", round)
		g, _ := o.authorize(t, name, "trade")
		require.NoError(t, o.SaveTokens(t.Context(), o.token(g, name, "rt"+name, oauth.RefreshToken)))
		const parallel = 6
		errs := make([]error, parallel)
		var wg sync.WaitGroup
		for i := range parallel {
			wg.Go(func() {
				next := o.token(g, name, fmt.Sprint(name, i), oauth.AccessToken)
				if i == 0 {
					errs[i] = o.ReplaceToken(t.Context(), hashOf("rt"+name), testTime, next)
				} else {
					errs[i] = o.SaveTokens(t.Context(), next)
				}
			})
		}
		wg.Go(func() {
			if round%2 == 0 {
				require.NoError(t, o.RevokeFamily(t.Context(), oauth.Family("fam_"+name)))
				return
			}
			require.NoError(t, o.Update(t.Context(), func(tx platform.Tx) error { return tx.RevokeGrant(t.Context(), g.ID, testTime) }))
		})
		wg.Wait()
		for i, err := range errs {
			if err == nil {
				saved++
			} else {
				require.True(t, errors.Is(err, platform.ErrConflict) || errors.Is(err, platform.ErrNotFound), err)
				refused++
			}
			o.requireGone(t, fmt.Sprint(name, i))
		}
	}
	t.Logf("%d saved before the revocation, %d refused after it", saved, refused)
}

// A token that is being saved holds a revocation up, and goes with it.
func TestRevocationWaitsForATokenThatIsBeingSaved(t *testing.T) {
	o := newOAuthStore(t, engines[1])
	for name, revoke := range map[string]func(*platform.Grant) error{
		"family": func(*platform.Grant) error { return o.RevokeFamily(t.Context(), "fam_family") },
		"grant": func(g *platform.Grant) error {
			return o.Update(t.Context(), func(tx platform.Tx) error { return tx.RevokeGrant(t.Context(), g.ID, testTime) })
		},
		"app": func(*platform.Grant) error {
			return o.Update(t.Context(), func(tx platform.Tx) error { return tx.DeleteApp(t.Context(), o.app.ID) })
		},
	} {
		if _, err := o.App(t.Context(), o.app.ID); err != nil {
			o.app.Number = 0
			putApps(t, o.Store, o.app)
		}
		g, _ := o.authorize(t, name, "trade")
		done := make(chan error, 1)
		require.NoError(t, o.transaction(t.Context(), o.issuing(), nil, func(c *conn) error {
			rows := tokenRows([]*oauth.Token{o.token(g, name, name, oauth.AccessToken)})
			if _, err := c.exec(t.Context(), insertTokens(1), rows...); err != nil {
				return err
			}
			go func() { done <- revoke(g) }()
			require.Eventually(t, func() bool {
				waiting := 0
				err := o.readers.QueryRow(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting)
				return err == nil && waiting == 1
			}, 10*time.Second, 5*time.Millisecond)
			return nil
		}))
		require.NoError(t, <-done)
		o.requireGone(t, name)
		require.ErrorIs(t, o.SaveTokens(t.Context(), o.token(g, name, name+"2", oauth.AccessToken)), platform.ErrConflict)
	}
}

func TestRevokeGrant(t *testing.T) { onBoth(t, testRevokeGrant) }

func testRevokeGrant(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	ctx := t.Context()
	g, c := o.authorize(t, "one", "trade")
	require.NoError(t, o.SaveTokens(ctx, o.token(g, "one", "at", oauth.AccessToken)))
	put(t, o.Store, func(ctx context.Context, tx platform.Tx) error {
		return tx.RevokeGrant(ctx, g.ID, testTime.Add(time.Hour))
	})
	got, err := o.Grant(ctx, g.ID)
	require.NoError(t, err)
	require.Equal(t, testTime.Add(time.Hour), got.RevokedAt)
	o.requireGone(t, "at")
	_, err = o.GrantOf(ctx, o.user.ID, o.app.Number, platform.Production, testTime)
	require.ErrorIs(t, err, platform.ErrNotFound)
	require.ErrorIs(t, o.Update(ctx, func(tx platform.Tx) error { return tx.RevokeGrant(ctx, g.ID, testTime) }), platform.ErrNotFound)
	// A code that waits gives nothing.
	_, err = o.RedeemCode(ctx, c.Hash, testTime)
	require.NoError(t, err)
	require.ErrorIs(t, o.SaveTokens(ctx, o.token(g, "one", "at2", oauth.AccessToken)), platform.ErrConflict)
	// A new authorization is a new grant.
	again, _ := o.authorize(t, "two", "item")
	require.NotEqual(t, g.ID, again.ID)
	require.Equal(t, []string{"item"}, again.Scopes)
}
