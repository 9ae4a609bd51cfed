package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
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
	g := o.grant(scopes...)
	c := &oauth.Code{
		Hash: hashOf(name), Family: oauth.Family("fam_" + name), App: o.app.Number, Environment: platform.Production, User: o.user.ID,
		RedirectURI: "https://a/b", RedirectGiven: true, Challenge: "challenge", Scopes: scopes, Resources: []string{"https://r/ 1"}, Key: "thumb",
		IssuedAt: testTime, ExpiresAt: testTime.Add(2 * time.Minute),
	}
	require.NoError(t, o.Authorize(t.Context(), g, c))
	return g, c
}

// grant is what the user authorizes.
func (o oauthStore) grant(scopes ...string) *platform.Grant {
	return &platform.Grant{
		User: o.user.ID, App: o.app.ID, AppNumber: o.app.Number, Environment: platform.Production, Scopes: scopes,
		CreatedAt: testTime, ExpiresAt: testTime.Add(180 * day),
	}
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
	wider.ID = ""
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

	// One that is named covers what it does, and stays as it is.
	named := wider
	named.Scopes, named.CreatedAt, named.ExpiresAt = []string{"trade"}, testTime.Add(day), testTime.Add(300*day)
	code.Hash, code.Family = hashOf("named"), "fam_named"
	require.NoError(t, o.Authorize(ctx, &named, &code))
	require.Equal(t, wider, named)
	require.Equal(t, wider.ExpiresAt, code.Until)
	got, err = o.Grant(ctx, g.ID)
	require.NoError(t, err)
	require.Equal(t, &wider, got)
	for _, change := range []func(*platform.Grant){
		func(g *platform.Grant) { g.Scopes = []string{"trade", "refund"} },
		func(g *platform.Grant) { g.CreatedAt = g.ExpiresAt },
		func(g *platform.Grant) { g.ID = "gr_none" },
		func(g *platform.Grant) { g.Environment = platform.Sandbox },
	} {
		other := wider
		change(&other)
		code.Hash, code.Family = hashOf("none"), "fam_none"
		require.ErrorIs(t, o.Authorize(ctx, &other, &code), platform.ErrConflict)
	}

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

	// Those of the other environment take no place in a page.
	tried := late
	tried.ID, tried.Environment, code.Hash, code.Family = "", platform.Sandbox, hashOf("tried"), "fam_tried"
	code.Environment = platform.Sandbox
	require.NoError(t, o.Authorize(ctx, &tried, &code))
	require.Len(t, list(platform.GrantFilter{Environment: platform.Production}, platform.Page{}), 2)
	sandbox := list(platform.GrantFilter{Environment: platform.Sandbox}, platform.Page{Limit: 1})
	require.Len(t, sandbox, 1)
	require.Equal(t, tried.ID, sandbox[0].ID)
	code.Environment = platform.Production

	// Nobody authorizes for somebody who is not there.
	stranger := late
	stranger.ID = ""
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
