package store

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func TestTokens(t *testing.T) { onBoth(t, testTokens) }

func testTokens(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	ctx := t.Context()
	g, _ := o.authorize(t, "one", "trade")
	at, rt := o.token(g, "one", "at", oauth.AccessToken), o.token(g, "one", "rt", oauth.RefreshToken)
	own := &oauth.Token{
		Hash: hashOf("own"), Family: "fam_own", Kind: oauth.AccessToken, App: o.app.Number, Environment: platform.Sandbox,
		IssuedAt: testTime, ExpiresAt: testTime.Add(time.Hour),
	}
	require.NoError(t, o.SaveTokens(ctx))
	require.NoError(t, o.SaveTokens(ctx, at, rt, own))
	for _, want := range []*oauth.Token{at, rt, own} {
		got, err := o.Token(ctx, want.Hash)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	info, err := o.TokenInfo(ctx, rt.Hash)
	require.NoError(t, err)
	require.Equal(t, &platform.TokenInfo{
		Hash: rt.Hash, Refresh: true, Family: "fam_one", Grant: g.ID, User: o.user.ID, App: o.app.ID, AppKey: o.app.Key,
		Environment: platform.Production, Scopes: rt.Scopes, IssuedAt: rt.IssuedAt, ExpiresAt: rt.ExpiresAt,
	}, info)
	_, err = o.TokenInfo(ctx, hashOf("none"))
	require.ErrorIs(t, err, platform.ErrNotFound)
	// All or none: the second of these is there already.
	require.Error(t, o.SaveTokens(ctx, o.token(g, "one", "at9", oauth.AccessToken), at))
	o.requireGone(t, "at9")

	// A disabled user's tokens hold again when it is enabled.
	o.user.Status = platform.UserDisabled
	putUsers(t, o.Store, o.user)
	o.requireGone(t, "at", "rt")
	_, err = o.Token(ctx, own.Hash)
	require.NoError(t, err)
	o.user.Status = platform.UserActive
	putUsers(t, o.Store, o.user)

	// One token goes, then the family, then that of client credentials.
	require.NoError(t, o.RevokeToken(ctx, at.Hash))
	o.requireGone(t, "at")
	_, err = o.Token(ctx, rt.Hash)
	require.NoError(t, err)
	require.NoError(t, o.RevokeFamily(ctx, "fam_one"))
	o.requireGone(t, "rt")
	require.NoError(t, o.RevokeToken(ctx, own.Hash))
	o.requireGone(t, "own")
	change := func(family string) platform.Change { return platform.Change{Kind: platform.ChangeToken, Key: family} }
	require.Equal(t, []platform.Change{change("fam_one"), change("fam_one"), change("fam_own")}, o.changes())
	for _, again := range []error{o.RevokeToken(ctx, at.Hash), o.RevokeFamily(ctx, "fam_one"), o.RevokeFamily(ctx, "fam_none")} {
		require.NoError(t, again)
	}
	require.Len(t, o.changes(), 3)

	// With the last token its family goes, and one of client credentials alone.
	g, _ = o.authorize(t, "two", "trade")
	require.NoError(t, o.SaveTokens(ctx, o.token(g, "two", "last", oauth.AccessToken), own))
	require.Equal(t, 1, o.families(t))
	require.NoError(t, o.RevokeToken(ctx, hashOf("last")))
	require.Zero(t, o.families(t))
	require.NoError(t, o.RevokeFamily(ctx, "fam_own"))
	o.requireGone(t, "own")
}

func TestReplaceToken(t *testing.T) { onBoth(t, testReplaceToken) }

func testReplaceToken(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	ctx := t.Context()
	g, _ := o.authorize(t, "one", "trade")
	require.NoError(t, o.SaveTokens(ctx, o.token(g, "one", "rt0", oauth.RefreshToken)))
	at, rt := o.token(g, "one", "at1", oauth.AccessToken), o.token(g, "one", "rt1", oauth.RefreshToken)
	require.NoError(t, o.ReplaceToken(ctx, hashOf("rt0"), testTime.Add(time.Minute), at, rt))
	used, err := o.Token(ctx, hashOf("rt0"))
	require.NoError(t, err)
	require.Equal(t, testTime.Add(time.Minute), used.ReplacedAt)
	got, err := o.Token(ctx, rt.Hash)
	require.NoError(t, err)
	require.Equal(t, rt, got)

	// A replay takes all of the family, and saves nothing.
	require.ErrorIs(t, o.ReplaceToken(ctx, hashOf("rt0"), testTime, o.token(g, "one", "rt2", oauth.RefreshToken)), oauth.ErrReplayed)
	o.requireGone(t, "rt0", "at1", "rt1", "rt2")
	require.Equal(t, []platform.Change{{Kind: platform.ChangeToken, Key: "fam_one"}}, o.changes())
	err = o.ReplaceToken(ctx, hashOf("rt1"), testTime, o.token(g, "one", "rt3", oauth.RefreshToken))
	require.ErrorIs(t, err, platform.ErrConflict)
	o.requireGone(t, "rt3")
}

// Of twenty who use a rotating refresh token at once one gets new ones, and the
// others show the replay, on one node and on two.
func TestReplaceTokenInParallel(t *testing.T) {
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
				requireReplacedOnce(t, nodes, fmt.Sprint("code", round))
			}
		})
	}
}

func requireReplacedOnce(t *testing.T, nodes []oauthStore, name string) {
	t.Helper()
	o := nodes[0]
	g, _ := o.authorize(t, name, "trade")
	require.NoError(t, o.SaveTokens(t.Context(), o.token(g, name, "rt"+name, oauth.RefreshToken)))
	const parallel = 20
	errs := make([]error, parallel)
	var wg sync.WaitGroup
	for i := range parallel {
		node := nodes[i%len(nodes)]
		wg.Go(func() {
			errs[i] = node.ReplaceToken(t.Context(), hashOf("rt"+name), testTime, node.token(g, name, fmt.Sprint(name, i), oauth.RefreshToken))
		})
	}
	wg.Wait()
	won := 0
	for i, err := range errs {
		switch {
		case err == nil:
			won++
		case errors.Is(err, platform.ErrConflict), errors.Is(err, platform.ErrNotFound): // the family had gone meanwhile
		default:
			require.ErrorIs(t, err, oauth.ErrReplayed)
		}
		o.requireGone(t, fmt.Sprint(name, i))
	}
	require.Equal(t, 1, won)
}
