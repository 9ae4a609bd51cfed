package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// oauthStore is a store with an app and a user, and with what was told of
// revocations.
type oauthStore struct {
	*Store
	app  *platform.App
	user *platform.User
	mu   *sync.Mutex
	told *[]platform.Change
}

func newOAuthStore(t *testing.T, e engineTest) oauthStore {
	t.Helper()
	return openOAuthStore(t, e, e.database(t))
}

func openOAuthStore(t *testing.T, e engineTest, database string) oauthStore {
	t.Helper()
	o := oauthStore{app: testApp("a"), user: testUser("a"), mu: &sync.Mutex{}, told: &[]platform.Change{}}
	o.Store = e.with(t, database, testKeyring(t, 1), Options{OnChange: func(c platform.Change) {
		o.mu.Lock()
		defer o.mu.Unlock()
		*o.told = append(*o.told, c)
	}})
	if a, err := o.App(t.Context(), o.app.ID); err == nil { // another node was first
		o.app = a
		return o
	}
	putApps(t, o.Store, o.app)
	putUsers(t, o.Store, o.user)
	return o
}

func testUser(n string) *platform.User {
	return &platform.User{
		ID: "usr_" + n, Login: "login_" + n, Name: "店 " + n, Status: platform.UserActive,
		Password: platform.NewSecret([]byte("$argon2id$" + n)), CreatedAt: testTime, UpdatedAt: testTime,
	}
}

func putUsers(t *testing.T, s *Store, users ...*platform.User) {
	t.Helper()
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		for _, u := range users {
			if err := tx.PutUser(ctx, u); err != nil {
				return err
			}
		}
		return nil
	})
}

func hashOf(s string) oauth.Hash { return sha256.Sum256([]byte(s)) }

// authorize makes a grant and the code of the name.
func (o oauthStore) authorize(t *testing.T, name string, scopes ...string) (*platform.Grant, *oauth.Code) {
	t.Helper()
	g := &platform.Grant{
		User: o.user.ID, App: o.app.ID, AppNumber: o.app.Number, Environment: platform.Production, Scopes: scopes,
		CreatedAt: testTime, ExpiresAt: testTime.Add(180 * day),
	}
	c := &oauth.Code{
		Hash: hashOf(name), Family: oauth.Family("fam_" + name), App: o.app.Number, Environment: platform.Production, User: o.user.ID,
		RedirectURI: "https://a/b", RedirectGiven: true, Challenge: "challenge", Scopes: scopes, Resources: []string{"https://r/ 1"}, Key: "thumb",
		IssuedAt: testTime, ExpiresAt: testTime.Add(2 * time.Minute),
	}
	require.NoError(t, o.Authorize(t.Context(), g, c))
	return g, c
}

// token is a token of the family of the code of the name.
func (o oauthStore) token(g *platform.Grant, code, name string, kind oauth.TokenKind) *oauth.Token {
	return &oauth.Token{
		Hash: hashOf(name), Family: oauth.Family("fam_" + code), Kind: kind, Grant: g.ID, App: o.app.Number, Environment: platform.Production,
		User: g.User, Scopes: []string{"trade"}, Resources: []string{"https://r"}, Key: "thumb", IssuedAt: testTime, ExpiresAt: testTime.Add(10 * time.Hour),
	}
}

// changes are what was told so far.
func (o oauthStore) changes() []platform.Change {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]platform.Change{}, *o.told...)
}

func (o oauthStore) requireGone(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := o.Token(t.Context(), hashOf(name))
		require.ErrorIs(t, err, platform.ErrNotFound, name)
	}
}

// families counts the rows that hold families together.
func (o oauthStore) families(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, o.readers.QueryRow(`SELECT count(*) FROM oauth_families`).Scan(&n))
	return n
}

func TestUsers(t *testing.T) { onBoth(t, testUsers) }

func testUsers(t *testing.T, e engineTest) {
	s := e.empty(t)
	ctx := t.Context()
	a, b := testUser("a"), testUser("b")
	b.Status, b.Name = platform.UserDisabled, "50%_Off"
	putUsers(t, s, a, b)
	for _, load := range []func() (*platform.User, error){
		func() (*platform.User, error) { return s.User(ctx, "usr_a") },
		func() (*platform.User, error) { return s.UserByLogin(ctx, "login_a") },
	} {
		got, err := load()
		require.NoError(t, err)
		require.Equal(t, a, got)
		require.Equal(t, "$argon2id$a", string(got.Password.Reveal()))
	}
	a.Name, a.Password, a.UpdatedAt = "new", platform.NewSecret([]byte("other")), testTime.Add(time.Hour)
	putUsers(t, s, a)
	got, err := s.User(ctx, "usr_a")
	require.NoError(t, err)
	require.Equal(t, a, got)
	taken := testUser("c")
	taken.Login = "login_a"
	require.ErrorIs(t, s.Update(ctx, func(tx platform.Tx) error { return tx.PutUser(ctx, taken) }), platform.ErrConflict)
	for _, bad := range []string{"", "nobody", "x\x00", "\xff"} {
		_, err := s.User(ctx, bad)
		require.ErrorIs(t, err, platform.ErrNotFound)
		_, err = s.UserByLogin(ctx, bad)
		require.ErrorIs(t, err, platform.ErrNotFound)
	}
	ids := func(f platform.UserFilter, p platform.Page) (ids []string) {
		users, err := s.Users(ctx, f, p)
		require.NoError(t, err)
		for _, u := range users {
			ids = append(ids, u.ID)
		}
		return ids
	}
	require.Equal(t, []string{"usr_a", "usr_b"}, ids(platform.UserFilter{}, platform.Page{}))
	require.Equal(t, []string{"usr_a"}, ids(platform.UserFilter{}, platform.Page{Limit: 1}))
	require.Equal(t, []string{"usr_b"}, ids(platform.UserFilter{}, platform.Page{After: "usr_a"}))
	require.Equal(t, []string{"usr_b"}, ids(platform.UserFilter{Status: platform.UserDisabled}, platform.Page{}))
	require.Equal(t, []string{"usr_b"}, ids(platform.UserFilter{Text: "0%_oFF"}, platform.Page{}))
	require.Equal(t, []string{"usr_a"}, ids(platform.UserFilter{Text: "login_a"}, platform.Page{}))
	require.Empty(t, ids(platform.UserFilter{Text: "\x00"}, platform.Page{}))
}

// An outside passport's user is made once, however many ask.
func TestUserByIdentity(t *testing.T) { onBoth(t, testUserByIdentity) }

func testUserByIdentity(t *testing.T, e engineTest) {
	s := e.empty(t)
	ids := make([]string, 20)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			u, err := s.UserByIdentity(t.Context(), "https://idp", "s1", "Shop", testTime)
			if err == nil {
				ids[i] = u.ID
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.Regexp(t, `^usr_[0-9A-Za-z]{20}$`, id)
		require.Equal(t, ids[0], id)
	}
	u, err := s.UserByIdentity(t.Context(), "https://idp", "s1", "Renamed", testTime.Add(time.Hour))
	require.NoError(t, err)
	got, err := s.User(t.Context(), ids[0])
	require.NoError(t, err)
	require.Equal(t, u, got)
	require.Equal(t, &platform.User{
		ID: ids[0], Name: "Renamed", Status: platform.UserActive, Issuer: "https://idp", Subject: "s1", CreatedAt: testTime, UpdatedAt: testTime.Add(time.Hour),
	}, got)
	other, err := s.UserByIdentity(t.Context(), "https://other", "s1", "", testTime)
	require.NoError(t, err)
	require.NotEqual(t, u.ID, other.ID, "the subject is the issuer's")
	require.Equal(t, "s1", other.Name)
	_, err = s.UserByIdentity(t.Context(), "https://idp", "", "x", testTime)
	require.ErrorIs(t, err, platform.ErrConflict)
}

func TestAuthorize(t *testing.T) { onBoth(t, testAuthorize) }

func testAuthorize(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	ctx := t.Context()
	g, c := o.authorize(t, "one", "trade", "item", "trade")
	require.Regexp(t, `^gr_[0-9A-Za-z]{20}$`, g.ID)
	require.Equal(t, g.ID, c.Grant)
	require.Equal(t, []string{"item", "trade"}, g.Scopes)
	got, err := o.Grant(ctx, g.ID)
	require.NoError(t, err)
	require.Equal(t, g, got)
	of, err := o.GrantOf(ctx, o.user.ID, o.app.Number, platform.Production, testTime)
	require.NoError(t, err)
	require.Equal(t, g, of)
	for _, none := range []func() (*platform.Grant, error){
		func() (*platform.Grant, error) {
			return o.GrantOf(ctx, o.user.ID, o.app.Number, platform.Sandbox, testTime)
		},
		func() (*platform.Grant, error) {
			return o.GrantOf(ctx, o.user.ID, o.app.Number, platform.Production, g.ExpiresAt)
		},
		func() (*platform.Grant, error) { return o.Grant(ctx, "gr_none\x00") },
	} {
		_, err := none()
		require.ErrorIs(t, err, platform.ErrNotFound)
	}

	// The same grant becomes wider and longer, and never shorter.
	wider := *g
	wider.Scopes, wider.CreatedAt, wider.ExpiresAt = []string{"logistics"}, testTime.Add(day), testTime.Add(day)
	code := *c
	code.Hash, code.Family = hashOf("two"), "fam_two"
	require.NoError(t, o.Authorize(ctx, &wider, &code))
	require.Equal(t, g.ID, wider.ID)
	require.Equal(t, []string{"item", "logistics", "trade"}, wider.Scopes)
	require.Equal(t, testTime, wider.CreatedAt)
	require.Equal(t, g.ExpiresAt, wider.ExpiresAt)
	got, err = o.Grant(ctx, g.ID)
	require.NoError(t, err)
	require.Equal(t, &wider, got)

	// One that has ended gives nothing to its successor.
	require.NoError(t, o.SaveTokens(ctx, o.token(g, "one", "old", oauth.AccessToken)))
	late := platform.Grant{
		User: o.user.ID, AppNumber: o.app.Number, Environment: platform.Production, Scopes: []string{"trade"},
		CreatedAt: g.ExpiresAt, ExpiresAt: g.ExpiresAt.Add(day),
	}
	code.Hash, code.Family = hashOf("three"), "fam_three"
	require.NoError(t, o.Authorize(ctx, &late, &code))
	require.NotEqual(t, g.ID, late.ID)
	require.Equal(t, []string{"trade"}, late.Scopes)
	o.requireGone(t, "old")

	list := func(f platform.GrantFilter, p platform.Page) []platform.Grant {
		grants, err := o.Grants(ctx, f, p)
		require.NoError(t, err)
		return grants
	}
	require.Len(t, list(platform.GrantFilter{}, platform.Page{}), 2)
	require.Len(t, list(platform.GrantFilter{User: o.user.ID, App: o.app.ID}, platform.Page{}), 2)
	require.Len(t, list(platform.GrantFilter{}, platform.Page{Limit: 1}), 1)
	live := list(platform.GrantFilter{LiveAt: g.ExpiresAt}, platform.Page{})
	require.Len(t, live, 1)
	require.Equal(t, late.ID, live[0].ID)
	require.Equal(t, o.app.ID, live[0].App)
	require.Empty(t, list(platform.GrantFilter{User: "usr_none"}, platform.Page{}))
	require.Empty(t, list(platform.GrantFilter{App: "app_none"}, platform.Page{}))

	// Nobody authorizes for somebody who is not there.
	stranger := late
	stranger.User, code.Hash, code.Family = "usr_none", hashOf("four"), "fam_four"
	require.ErrorIs(t, o.Authorize(ctx, &stranger, &code), platform.ErrConflict)
	_, err = o.RedeemCode(ctx, hashOf("four"), testTime)
	require.ErrorIs(t, err, platform.ErrNotFound)
	// An app takes with it what hangs from it.
	put(t, o.Store, func(ctx context.Context, tx platform.Tx) error { return tx.DeleteApp(ctx, o.app.ID) })
	require.Empty(t, list(platform.GrantFilter{}, platform.Page{}))
	require.Zero(t, o.families(t))
}

// Many authorize at once: it is one grant, with the scopes of all.
func TestAuthorizeTogether(t *testing.T) { onBoth(t, testAuthorizeTogether) }

func testAuthorizeTogether(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	const n = 20
	grants := make([]platform.Grant, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			grants[i] = platform.Grant{
				User: o.user.ID, AppNumber: o.app.Number, Environment: platform.Sandbox, Scopes: []string{fmt.Sprintf("s%02d", i)},
				CreatedAt: testTime, ExpiresAt: testTime.Add(day),
			}
			errs[i] = o.Authorize(t.Context(), &grants[i], &oauth.Code{Hash: hashOf(fmt.Sprint(i)), Family: oauth.Family(fmt.Sprint(i)), ExpiresAt: testTime, IssuedAt: testTime})
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	g, err := o.Grant(t.Context(), grants[0].ID)
	require.NoError(t, err)
	require.Len(t, g.Scopes, n)
	require.Equal(t, n, o.families(t))
}

func TestCodeIsRedeemedOnce(t *testing.T) { onBoth(t, testCodeIsRedeemedOnce) }

func testCodeIsRedeemedOnce(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	ctx := t.Context()
	g, c := o.authorize(t, "one", "trade")
	got, err := o.RedeemCode(ctx, c.Hash, testTime)
	require.NoError(t, err)
	require.Equal(t, c, got)
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

// Of many who use a rotating refresh token at once one gets new ones, and the
// others show the replay.
func TestReplaceTokenInParallel(t *testing.T) { onBoth(t, testReplaceTokenInParallel) }

func testReplaceTokenInParallel(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	for round := range 10 {
		name := fmt.Sprint("code", round)
		g, _ := o.authorize(t, name, "trade")
		require.NoError(t, o.SaveTokens(t.Context(), o.token(g, name, "rt"+name, oauth.RefreshToken)))
		const parallel = 10
		errs := make([]error, parallel)
		var wg sync.WaitGroup
		for i := range parallel {
			wg.Go(func() {
				errs[i] = o.ReplaceToken(t.Context(), hashOf("rt"+name), testTime, o.token(g, name, fmt.Sprint(name, i), oauth.RefreshToken))
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
}

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
			if err := c.insertTokens(t.Context(), []*oauth.Token{o.token(g, name, name, oauth.AccessToken)}); err != nil {
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

// What has ended goes, in batches; what is alive stays, and so does what shows
// a replay.
func TestPrune(t *testing.T) { onBoth(t, testPrune) }

func testPrune(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	ctx := t.Context()
	g, _ := o.authorize(t, "one", "trade")
	_, err := o.RedeemCode(ctx, hashOf("one"), testTime)
	require.NoError(t, err)
	at, rt := o.token(g, "one", "at", oauth.AccessToken), o.token(g, "one", "rt", oauth.RefreshToken)
	rt.ExpiresAt = testTime.Add(180 * day)
	require.NoError(t, o.SaveTokens(ctx, at, rt))
	o.authorize(t, "unused", "trade")
	const own = pruneBatch + 50
	tokens := make([]*oauth.Token, own)
	for i := range tokens {
		tokens[i] = o.token(g, "own", fmt.Sprint("own", i), oauth.AccessToken)
		tokens[i].Grant = ""
	}
	for i := 0; i < own; i += 50 {
		require.NoError(t, o.SaveTokens(ctx, tokens[i:i+50]...))
	}
	count := func(table string) (n int) {
		require.NoError(t, o.readers.QueryRow(`SELECT count(*) FROM `+table).Scan(&n))
		return n
	}
	maintain := func(at time.Time) {
		t.Helper()
		require.NoError(t, o.Maintain(ctx, at, Retention{}))
	}

	maintain(testTime.Add(12 * time.Minute)) // 10 minutes after its end the code is still known
	_, err = o.RedeemCode(ctx, hashOf("unused"), testTime)
	require.NoError(t, err)
	require.Equal(t, []int{2, own + 2, 2, 1}, []int{count("oauth_codes"), count("oauth_tokens"), count("oauth_families"), count("grants")})

	maintain(testTime.Add(day + time.Hour)) // codes, and the family that never had a token
	require.Equal(t, []int{0, own + 2, 1, 1}, []int{count("oauth_codes"), count("oauth_tokens"), count("oauth_families"), count("grants")})

	n, err := o.Prune(ctx, testTime.Add(11*time.Hour))
	require.NoError(t, err)
	require.Equal(t, own+1, n)
	require.Equal(t, []int{1, 1, 1}, []int{count("oauth_tokens"), count("oauth_families"), count("grants")})
	_, err = o.Token(ctx, rt.Hash)
	require.NoError(t, err)

	maintain(testTime.Add(182 * day))
	require.Equal(t, []int{0, 0, 0}, []int{count("oauth_tokens"), count("oauth_families"), count("grants")})

	// A grant that was revoked goes a day later, with what it has.
	g, _ = o.authorize(t, "two", "trade")
	put(t, o.Store, func(ctx context.Context, tx platform.Tx) error { return tx.RevokeGrant(ctx, g.ID, testTime) })
	maintain(testTime.Add(day - time.Hour))
	require.Equal(t, 1, count("grants"))
	maintain(testTime.Add(day + time.Hour))
	require.Zero(t, count("grants"))
}

// A replay on one node is told to the others.
func TestReplayIsToldToAllNodes(t *testing.T) {
	dsn := postgresDatabase(t)
	a, b := openOAuthStore(t, engines[1], dsn), openOAuthStore(t, engines[1], dsn)
	told := watch(t, b.Store)
	_, code := a.authorize(t, "one", "trade")
	_, err := a.RedeemCode(t.Context(), code.Hash, testTime)
	require.NoError(t, err)
	_, err = b.RedeemCode(t.Context(), code.Hash, testTime)
	require.ErrorIs(t, err, oauth.ErrReplayed)
	require.Contains(t, told.next(t), "fam_one")
	require.Empty(t, a.changes())
	require.Len(t, b.changes(), 1)
}

// queryPlan is how SQLite would run the query.
func queryPlan(t *testing.T, s *Store, query string) string {
	t.Helper()
	rows, err := s.readers.Query(`EXPLAIN QUERY PLAN ` + query)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	var plan strings.Builder
	for rows.Next() {
		var id, parent, unused int
		var detail string
		require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
		plan.WriteString(detail + "\n")
	}
	require.NoError(t, rows.Err())
	return plan.String()
}

// Pruning and revoking read indexes, whatever the tables' size.
func TestOAuthIndexes(t *testing.T) {
	s := engines[0].empty(t)
	for query, index := range map[string]string{
		`SELECT hash FROM oauth_tokens WHERE expires_at < 1 ORDER BY expires_at LIMIT 10`:                                     "oauth_tokens_expiry",
		`SELECT hash FROM oauth_codes WHERE expires_at < 1 ORDER BY expires_at LIMIT 10`:                                      "oauth_codes_expiry",
		`SELECT id FROM grants WHERE coalesce(revoked_at, expires_at) < 1 ORDER BY coalesce(revoked_at, expires_at) LIMIT 10`: "grants_ended",
		`DELETE FROM oauth_tokens WHERE family = 'a'`:                                                                         "oauth_tokens_family",
		`DELETE FROM oauth_families WHERE grant_id = 'a'`:                                                                     "oauth_families_grant",
		`SELECT id FROM grants WHERE user_id = 'a' AND app = 1 AND environment = 'b' AND revoked_at IS NULL`:                  "grants_live",
		`SELECT id FROM grants g WHERE g.id > '' AND g.user_id = 'a' ORDER BY g.id LIMIT 10`:                                  "grants_user",
		`SELECT id FROM grants g WHERE g.id > '' AND g.app = 7 ORDER BY g.id LIMIT 10`:                                        "grants_app",
		`SELECT id FROM users WHERE issuer = 'a' AND subject = 'b'`:                                                           "users_identity",
	} {
		plan := queryPlan(t, s, query)
		require.Contains(t, plan, index, query)
		require.NotContains(t, plan, "TEMP B-TREE", query)
	}
}

// BenchmarkOAuth measures what an exchange asks of the store, one step at a time.
func BenchmarkOAuth(b *testing.B) {
	for _, e := range engines {
		s := e.empty(b)
		ctx := b.Context()
		a, u := testApp("a"), testUser("0")
		const users = 1000
		if err := s.Update(ctx, func(tx platform.Tx) error {
			err := tx.PutApp(ctx, a)
			for i := range users {
				err = errors.Join(err, tx.PutUser(ctx, testUser(fmt.Sprint(i))))
			}
			return err
		}); err != nil {
			b.Fatal(err)
		}
		var count atomic.Int64
		next := func() (oauth.Hash, oauth.Family) {
			name := fmt.Sprint("x", count.Add(1))
			return hashOf(name), oauth.Family(name)
		}
		authorize := func() (*platform.Grant, *oauth.Code, error) {
			g := &platform.Grant{User: fmt.Sprint("usr_", count.Load()%users), AppNumber: a.Number, Environment: platform.Production, Scopes: []string{"trade"}, CreatedAt: testTime, ExpiresAt: testTime.Add(180 * day)}
			c := &oauth.Code{App: a.Number, Environment: platform.Production, User: g.User, Scopes: g.Scopes, IssuedAt: testTime, ExpiresAt: testTime.Add(time.Minute)}
			c.Hash, c.Family = next()
			return g, c, s.Authorize(ctx, g, c)
		}
		token := func(family oauth.Family, grant string) *oauth.Token {
			t := &oauth.Token{Family: family, Kind: oauth.AccessToken, Grant: grant, App: a.Number, Environment: platform.Production, User: u.ID, Scopes: []string{"trade"}, IssuedAt: testTime, ExpiresAt: testTime.Add(time.Hour)}
			t.Hash, _ = next()
			return t
		}
		g, c, err := authorize()
		if err != nil {
			b.Fatal(err)
		}
		known := token(c.Family, g.ID)
		if err := s.SaveTokens(ctx, known); err != nil {
			b.Fatal(err)
		}
		for _, step := range []struct {
			name string
			run  func() error
		}{
			{"client credentials", func() error { return s.SaveTokens(ctx, token("own", "")) }},
			{"token pair", func() error { return s.SaveTokens(ctx, token(c.Family, g.ID), token(c.Family, g.ID)) }},
			{"authorize", func() error { _, _, err := authorize(); return err }},
			{"redeem", func() error {
				_, code, err := authorize()
				if err == nil {
					_, err = s.RedeemCode(ctx, code.Hash, testTime)
				}
				return err
			}},
			{"load", func() error { _, err := s.Token(ctx, known.Hash); return err }},
		} {
			b.Run(step.name+" "+e.name, func(b *testing.B) {
				b.SetParallelism(8)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := step.run(); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
