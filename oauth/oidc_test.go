package oauth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const logInCookie = "__Host-op_login"

// stopAtCallback keeps the browser from coming back from the provider; the address
// that it would come to is what it ends at.
func (b *browser) stopAtCallback() (undo func()) {
	follow := b.client.CheckRedirect
	b.client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if r.URL.Path == "/oauth/callback" {
			return http.ErrUseLastResponse
		}
		return follow(r, via)
	}
	return func() { b.client.CheckRedirect = follow }
}

// toCallback goes as far as the provider's answer, and returns the address of the
// answer.
func (b *browser) toCallback(address string) *url.URL {
	b.t.Helper()
	defer b.stopAtCallback()()
	sent := b.get(address)
	require.Equal(b.t, http.StatusFound, sent.StatusCode, sent.body)
	to, err := sent.Location()
	require.NoError(b.t, err)
	return to
}

// with is an address with other parameters; nil takes one out.
func with(u *url.URL, name string, values ...string) string {
	changed, query := *u, u.Query()
	query[name] = values
	changed.RawQuery = query.Encode()
	return changed.String()
}

const myGrants = "My authorizations"

// loggedIn tells whether the browser's session is somebody's.
func (b *browser) loggedIn(w *world) bool {
	b.t.Helper()
	return strings.Contains(b.get(w.site.URL+"/oauth/logout").body, "Apps that you authorized keep their access")
}

// TestOIDC: a merchant logs in with the provider, agrees, and logs out.
func TestOIDC(t *testing.T) {
	p := newBadProvider(t)
	w := newWorld(t, p.directive())
	b := w.browser()
	before := b.get(w.site.URL + "/oauth/logout").cookie(sessionCookie)
	address, verifier := w.start("trade")
	back := b.toCallback(address + "&lang=zh")

	asked := p.last()
	require.Equal(t, oidcClient, asked.Get("client_id"))
	require.Equal(t, "code", asked.Get("response_type"))
	require.Equal(t, "openid profile", asked.Get("scope"))
	require.Equal(t, w.site.URL+"/oauth/callback", asked.Get("redirect_uri"))
	require.Equal(t, "S256", asked.Get("code_challenge_method"))
	require.Len(t, asked.Get("code_challenge"), 43)
	require.GreaterOrEqual(t, len(asked.Get("state")), 26)
	require.GreaterOrEqual(t, len(asked.Get("nonce")), 26)
	require.Equal(t, "zh-CN", asked.Get("ui_locales"))
	require.Empty(t, asked.Get("prompt"))

	stop := b.client.CheckRedirect
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	in := b.get(back.String())
	b.client.CheckRedirect = stop
	require.Equal(t, http.StatusSeeOther, in.StatusCode, in.body)
	require.Equal(t, "no-store", in.Header.Get("Cache-Control"))
	require.Equal(t, address[len(w.site.URL):]+"&lang=zh", in.Header.Get("Location"))
	require.NotEqual(t, before.Value, in.cookie(sessionCookie).Value, "a session of before the log-in is nobody's")
	require.Negative(t, in.cookie(logInCookie).MaxAge)

	consent := b.get(address + "&lang=en")
	require.Contains(t, consent.body, "<b>Shop of shop-1</b>")
	require.Contains(t, consent.Header.Get("Content-Security-Policy"), "form-action 'self' https:")
	_, err := w.exchange(b.submit(consent, "/oauth/authorize", "decision", "approve").code(t), verifier, "trade")
	require.NoError(t, err)
	require.Len(t, p.asked, 1, "who is logged in is not sent to the provider")
	users, err := w.service.Users(t.Context(), platform.UserFilter{Text: "Shop of shop-1"}, platform.Page{})
	require.NoError(t, err)
	require.Len(t, users, 1)
	require.Equal(t, [2]string{p.URL, "shop-1"}, [2]string{users[0].Issuer, users[0].Subject})

	out := b.submit(b.get(w.grantsPage()), "/oauth/logout")
	require.Equal(t, "/oauth/logout", out.Request.URL.Path)
	require.Contains(t, out.body, "still be logged in at "+hostOf(p.URL))
	require.Contains(t, html.UnescapeString(out.body), `href="`+p.URL+`/end?client_id=the+platform"`)
	require.False(t, b.loggedIn(w))
	require.Contains(t, b.get(w.grantsPage()).body, myGrants)
	require.Equal(t, "login", p.last().Get("prompt"), "after a log-out the provider asks anew")

	p.set(func() { p.subject = "shop-2" })
	other := b.submit(b.get(address+"&prompt=consent"), "/oauth/logout")
	require.Contains(t, other.body, "<b>Shop of shop-2</b>", "another account, another merchant")
	require.Equal(t, "login", p.last().Get("prompt"))
	users, err = w.service.Users(t.Context(), platform.UserFilter{}, platform.Page{})
	require.NoError(t, err)
	require.Len(t, users, 3, "with the one of newWorld")
}

// TestOIDCAnswers: what comes to the callback logs in who set out in this browser,
// once, or nobody.
func TestOIDCAnswers(t *testing.T) {
	p := newBadProvider(t)
	w := newWorld(t, p.directive())
	for name, c := range map[string]struct {
		change  func(back *url.URL) string
		problem string
	}{
		"no state":             {func(u *url.URL) string { return with(u, "state") }, "expired"},
		"another state":        {func(u *url.URL) string { return with(u, "state", strings.Repeat("A", 26)) }, "expired"},
		"state twice":          {func(u *url.URL) string { return with(u, "state", u.Query().Get("state"), "x") }, "expired"},
		"code twice":           {func(u *url.URL) string { return with(u, "code", u.Query().Get("code"), "x") }, "expired"},
		"another issuer":       {func(u *url.URL) string { return with(u, "iss", "https://evil.example") }, "not logged in"},
		"issuer with a slash":  {func(u *url.URL) string { return with(u, "iss", p.URL+"/") }, "not logged in"},
		"no issuer":            {func(u *url.URL) string { return with(u, "iss") }, "not logged in"},
		"no code":              {func(u *url.URL) string { return with(u, "code") }, "not logged in"},
		"a made-up code":       {func(u *url.URL) string { return with(u, "code", "made-up") }, "not logged in"},
		"the merchant refused": {func(u *url.URL) string { return with(u, "error", "access_denied") }, "not logged in"},
		"nothing":              {func(u *url.URL) string { return w.site.URL + u.Path }, "expired"},
		"what cannot be read":  {func(u *url.URL) string { return u.String() + "&%zz" }, "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			b := w.browser()
			address, _ := w.start("trade")
			page := b.get(c.change(b.toCallback(address)))
			require.Equal(t, http.StatusForbidden, page.StatusCode)
			require.Contains(t, page.body, c.problem)
			require.NotContains(t, page.body, "code=", "the address of the page has a code in it")
			require.False(t, b.loggedIn(w))
		})
	}
	t.Run("a provider that names no issuer", func(t *testing.T) {
		plain := newBadProvider(t)
		plain.set(func() {
			plain.describe = func(d map[string]any) { delete(d, "authorization_response_iss_parameter_supported") }
		})
		w := newWorld(t, plain.directive())
		b := w.browser()
		require.Contains(t, b.get(with(b.toCallback(w.grantsPage()), "iss")).body, myGrants)
		b = w.browser()
		page := b.get(with(b.toCallback(w.grantsPage()), "iss", "https://evil.example"))
		require.Equal(t, http.StatusForbidden, page.StatusCode, "one that it does name must be right")
	})
}

// TestOIDCForeignAnswer: nobody can log somebody else's browser in.
func TestOIDCForeignAnswer(t *testing.T) {
	p := newBadProvider(t)
	w := newWorld(t, p.directive())
	mallory, victim := w.browser(), w.browser()
	back := mallory.toCallback(w.grantsPage())
	for _, prepare := range []func(){
		func() {},
		func() { victim.get(w.site.URL + "/oauth/logout") },
		func() { victim.toCallback(w.grantsPage()) },
	} {
		prepare()
		page := victim.get(back.String())
		require.Equal(t, http.StatusForbidden, page.StatusCode)
		require.False(t, victim.loggedIn(w))
	}
	require.Contains(t, mallory.get(back.String()).body, myGrants, "it is good in the browser that it was for")
	own := victim.toCallback(w.grantsPage())
	victim.get(w.site.URL + "/oauth/callback?state=x&code=y")
	require.Contains(t, victim.get(own.String()).body, myGrants, "and what others send does not end a log-in")
}

// TestOIDCReplay: an answer serves once, also with the cookies of then.
func TestOIDCReplay(t *testing.T) {
	p := newBadProvider(t)
	w := newWorld(t, p.directive())
	b := w.browser()
	back := b.toCallback(w.grantsPage())
	site, err := url.Parse(w.site.URL)
	require.NoError(t, err)
	cookies := b.client.Jar.Cookies(site)
	require.Contains(t, b.get(back.String()).body, myGrants)
	require.Equal(t, http.StatusForbidden, b.get(back.String()).StatusCode)

	exchanges := p.exchanges
	thief := w.browser()
	thief.client.Jar.SetCookies(site, cookies)
	page := thief.get(back.String())
	require.Equal(t, http.StatusForbidden, page.StatusCode)
	require.Contains(t, page.body, "not logged in")
	require.Equal(t, exchanges, p.exchanges, "the provider is not asked again")
}

// TestOIDCLeadsNowhereElse: after the log-in the browser goes where it set out to,
// whatever the addresses say.
func TestOIDCLeadsNowhereElse(t *testing.T) {
	p := newBadProvider(t)
	w := newWorld(t, p.directive())
	b := w.browser()
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	const evil = "&target=https://evil.example&next=//evil.example&return_to=https://evil.example"
	begun := b.get(w.site.URL + "/oauth/login?lang=en" + evil)
	require.Equal(t, http.StatusSeeOther, begun.StatusCode)
	require.True(t, strings.HasPrefix(begun.Header.Get("Location"), p.URL+"/auth?"), begun.Header.Get("Location"))
	back, err := b.get(begun.Header.Get("Location")).Location()
	require.NoError(t, err)
	in := b.get(back.String() + evil)
	require.Equal(t, http.StatusSeeOther, in.StatusCode)
	require.Equal(t, "/oauth/grants", in.Header.Get("Location"))
}

// TestOIDCTokens: an ID token that does not hold in every respect logs nobody in.
func TestOIDCTokens(t *testing.T) {
	p := newBadProvider(t)
	w := newWorld(t, p.directive())
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	unsigned := func(claims map[string]any) string {
		payload, err := json.Marshal(claims)
		require.NoError(t, err)
		return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload) + "."
	}
	set := func(name string, value any) func(map[string]any) {
		return func(c map[string]any) { c[name] = value }
	}
	without := func(name string) func(map[string]any) { return func(c map[string]any) { delete(c, name) } }
	for name, c := range map[string]struct {
		claims func(map[string]any)
		sign   func(map[string]any) string
	}{
		"signed with another key": {sign: func(c map[string]any) string {
			return signedBy(t, jose.SigningKey{Algorithm: jose.ES256, Key: other}, c)
		}},
		"signed with our own secret": {sign: func(c map[string]any) string {
			return signedBy(t, jose.SigningKey{Algorithm: jose.HS256, Key: []byte(oidcSecret + oidcSecret)}, c)
		}},
		"not signed":               {sign: unsigned},
		"none":                     {sign: func(map[string]any) string { return "" }},
		"no token":                 {sign: func(map[string]any) string { return "a.b.c" }},
		"another issuer":           {claims: set("iss", "https://evil.example")},
		"issuer with a slash":      {claims: set("iss", p.URL+"/")},
		"no issuer":                {claims: without("iss")},
		"another audience":         {claims: set("aud", "somebody else")},
		"no audience":              {claims: without("aud")},
		"several, and no azp":      {claims: set("aud", []string{oidcClient, "somebody else"})},
		"azp of another":           {claims: set("azp", "somebody else")},
		"azp that is no text":      {claims: set("azp", 7)},
		"expired":                  {claims: set("exp", time.Now().Add(-time.Second).Unix())},
		"without an end":           {claims: without("exp")},
		"not yet":                  {claims: set("nbf", time.Now().Add(time.Hour).Unix())},
		"another nonce":            {claims: set("nonce", "x")},
		"no nonce":                 {claims: without("nonce")},
		"no subject":               {claims: without("sub")},
		"a subject that is a book": {claims: set("sub", strings.Repeat("s", 257))},
		"another access token":     {claims: set("at_hash", "AAAAAAAAAAAAAAAAAAAAAA")},
	} {
		t.Run(name, func(t *testing.T) {
			p.set(func() { p.claims, p.sign = c.claims, c.sign })
			defer p.heal()
			b := w.browser()
			page := b.get(w.grantsPage())
			require.Equal(t, http.StatusForbidden, page.StatusCode, page.body)
			require.Contains(t, page.body, "not logged in")
			require.Contains(t, page.body, `href="/oauth/grants"`, "to try again")
			require.False(t, b.loggedIn(w))
		})
	}
	users, err := w.service.Users(t.Context(), platform.UserFilter{}, platform.Page{})
	require.NoError(t, err)
	require.Len(t, users, 1, "nobody was taken in")

	t.Run("several audiences, and azp is ours", func(t *testing.T) {
		p.set(func() {
			p.claims = func(c map[string]any) { c["aud"], c["azp"] = []string{oidcClient, "somebody else"}, oidcClient }
		})
		defer p.heal()
		require.Contains(t, w.browser().get(w.grantsPage()).body, myGrants)
	})
}

// TestOIDCNames: the shop's name comes from the ID token, or else from the userinfo
// endpoint; and never from somebody else's.
func TestOIDCNames(t *testing.T) {
	p := newBadProvider(t)
	w := newWorld(t, p.directive())
	noName := func(c map[string]any) { delete(c, "name") }
	for _, c := range []struct {
		name     string
		claims   func(map[string]any)
		userinfo map[string]any
		broken   bool
		want     string
	}{
		{"userinfo of another", noName, map[string]any{"sub": "shop-9", "name": "Nine"}, false, "· shop-1<"},
		{"broken userinfo", noName, nil, true, "· shop-1<"},
		{"userinfo", noName, map[string]any{"sub": "shop-1", "name": "From there"}, false, "· From there<"},
		{"no name goes on with the one of before", noName, map[string]any{"sub": "shop-1", "name": 7}, false, "· From there<"},
		{"ID token", nil, map[string]any{"sub": "shop-1", "name": "From there"}, false, "· Shop of shop-1<"},
		{"characters that hide", func(c map[string]any) { c["name"] = "A\u202eB\n" + strings.Repeat("长", 200) }, nil, false, "· AB" + strings.Repeat("长", 98) + "<"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.set(func() { p.claims, p.userinfo = c.claims, c.userinfo })
			if c.broken {
				p.fail("/me", http.StatusInternalServerError)
			}
			defer p.heal()
			require.Contains(t, w.browser().get(w.grantsPage()).body, c.want)
		})
	}
}

// TestOIDCDisabled: a merchant that the platform disabled hears so, and is not sent
// back and forth.
func TestOIDCDisabled(t *testing.T) {
	p := newBadProvider(t)
	w := newWorld(t, p.directive())
	b := w.browser()
	require.Contains(t, b.get(w.grantsPage()).body, myGrants)
	users, err := w.service.Users(t.Context(), platform.UserFilter{Text: "Shop of"}, platform.Page{})
	require.NoError(t, err)
	require.Len(t, users, 1)
	_, err = w.service.DisableUser(t.Context(), "test", users[0].ID)
	require.NoError(t, err)
	page := b.get(w.grantsPage())
	require.Equal(t, http.StatusForbidden, page.StatusCode)
	require.Contains(t, page.body, "disabled")
	require.False(t, b.loggedIn(w))
	_, err = w.service.EnableUser(t.Context(), "test", users[0].ID)
	require.NoError(t, err)
	require.Contains(t, b.get(w.grantsPage()).body, myGrants)
}

// TestOIDCLongRequest: what does not fit into a cookie is refused, and not lost on
// the way.
func TestOIDCLongRequest(t *testing.T) {
	p := newBadProvider(t)
	w := newWorld(t, p.directive())
	address, _ := w.start()
	b := w.browser()
	require.Equal(t, http.StatusOK, b.get(address+"&x="+strings.Repeat("x", 1500)).StatusCode)
	page := w.browser().get(address + "&x=" + strings.Repeat("x", 4000))
	require.Equal(t, http.StatusRequestURITooLong, page.StatusCode)
	require.Nil(t, page.cookie(logInCookie))
}
