package store

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func TestCodeIsRedeemedOnce(t *testing.T) { onBoth(t, testCodeIsRedeemedOnce) }

func testCodeIsRedeemedOnce(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	ctx := t.Context()
	g, c := o.authorize(t, "one", "trade")
	for range 2 {
		looked, err := o.Code(ctx, c.Hash)
		require.NoError(t, err)
		require.Equal(t, c, looked)
	}
	got, err := o.RedeemCode(ctx, c.Hash, testTime)
	require.NoError(t, err)
	require.Equal(t, c, got)
	for _, name := range []string{"one", "other"} {
		_, err = o.Code(ctx, hashOf(name))
		require.ErrorIs(t, err, platform.ErrNotFound)
	}
	require.NoError(t, o.SaveTokens(ctx, o.token(g, "one", "at", oauth.AccessToken), o.token(g, "one", "rt", oauth.RefreshToken)))

	// A replay takes back what the code gave, and what it would give yet.
	_, err = o.RedeemCode(ctx, c.Hash, testTime)
	require.ErrorIs(t, err, oauth.ErrReplayed)
	require.Equal(t, []platform.Change{{Kind: platform.ChangeToken, Key: "fam_one"}}, o.changes())
	o.requireGone(t, "at", "rt")
	require.ErrorIs(t, o.SaveTokens(ctx, o.token(g, "one", "at2", oauth.AccessToken)), platform.ErrConflict)
	for range 2 { // it stays a replay, and nobody is told again
		_, err = o.RedeemCode(ctx, c.Hash, testTime)
		require.ErrorIs(t, err, oauth.ErrReplayed)
	}
	require.Len(t, o.changes(), 1)
	_, err = o.RedeemCode(ctx, hashOf("other"), testTime)
	require.ErrorIs(t, err, platform.ErrNotFound)
	// The grant itself holds on.
	g, err = o.Grant(ctx, g.ID)
	require.NoError(t, err)
	require.True(t, g.Live(testTime))
}

// Of twenty who exchange a code at once one gets it, on one node and on two.
func TestCodeIsRedeemedOnceInParallel(t *testing.T) {
	for _, c := range []struct {
		name   string
		engine engineTest
		nodes  int
	}{{"sqlite", engines[0], 1}, {"postgres", engines[1], 1}, {"two nodes", engines[1], 2}} {
		t.Run(c.name, func(t *testing.T) {
			database := c.engine.database(t)
			nodes := make([]oauthStore, c.nodes)
			for i := range nodes {
				nodes[i] = openOAuthStore(t, c.engine, database)
			}
			for round := range 50 {
				name := fmt.Sprint("code", round)
				g, code := nodes[0].authorize(t, name, "trade")
				const parallel = 20
				errs := make([]error, parallel)
				var wg sync.WaitGroup
				begin := make(chan struct{})
				for i := range parallel {
					node := nodes[i%len(nodes)]
					wg.Go(func() {
						<-begin
						_, err := node.RedeemCode(t.Context(), code.Hash, testTime)
						if err == nil { // who got it saves tokens, as far as no replay was quicker
							err = node.SaveTokens(t.Context(), node.token(g, name, "at"+name, oauth.AccessToken))
							if errors.Is(err, platform.ErrConflict) {
								err = nil
							}
						}
						errs[i] = err
					})
				}
				close(begin)
				wg.Wait()
				won := 0
				for _, err := range errs {
					if err == nil {
						won++
					} else {
						require.ErrorIs(t, err, oauth.ErrReplayed)
					}
				}
				require.Equal(t, 1, won)
				nodes[0].requireGone(t, "at"+name)
			}
		})
	}
}
