package oauth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule"
)

const sessionCookie = "__Host-op_session"

// cookie is what the answer sets, or nil.
func (a answer) cookie(name string) *http.Cookie {
	for _, c := range a.Cookies() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// TestHeaders holds every page, also of a mistake, to what keeps it from being
// framed, kept, scripted, or told of to other sites.
func TestHeaders(t *testing.T) {
	w := newWorld(t, "open_oauth")
	b, _ := w.authorize("trade")
	address, _ := w.start("trade", "logistics")
	fresh := w.browser()
	for name, page := range map[string]answer{
		"log in":     fresh.get(address),
		"bad log in": fresh.submit(fresh.get(address), "/oauth/login", "login", "xiaoming", "password", "wrong"),
		"consent":    b.get(address),
		"grants":     b.get(w.grantsPage()),
		"log out":    b.get(w.site.URL + "/oauth/logout"),
		"mistake":    b.get(w.site.URL + "/oauth/authorize"),
		"no page":    b.get(w.site.URL + "/oauth/nothing"),
		"no form":    b.do(http.MethodPost, w.site.URL+"/oauth/authorize", url.Values{}),
	} {
		t.Run(name, func(t *testing.T) {
			h := page.Header
			policy := h.Get("Content-Security-Policy")
			for _, directive := range []string{"default-src 'none'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
				require.Contains(t, policy, directive)
			}
			require.NotContains(t, policy, "unsafe")
			require.Equal(t, "DENY", h.Get("X-Frame-Options"))
			require.Equal(t, "no-referrer", h.Get("Referrer-Policy"))
			require.Equal(t, "no-store", h.Get("Cache-Control"))
			require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
			for name := range h {
				require.False(t, strings.HasPrefix(name, "Access-Control-"), name)
			}
			require.NotContains(t, page.body, "<script")
			require.NotContains(t, page.body, " style=")
			require.NotContains(t, page.body, "http://")
		})
	}
	t.Run("nobody may read it from elsewhere", func(t *testing.T) {
		evil := w.browser()
		evil.header.Set("Origin", "https://evil.example")
		evil.header.Set("Access-Control-Request-Method", "POST")
		for _, method := range []string{http.MethodOptions, http.MethodGet} {
			require.Empty(t, evil.do(method, address, nil).Header.Get("Access-Control-Allow-Origin"))
		}
	})
}

// TestSession: the cookie is the browser's alone, new at log-in and log-out, and
// of no use to who had it before.
func TestSession(t *testing.T) {
	w := newWorld(t, "open_oauth")
	b := w.browser()
	login := b.get(w.grantsPage())
	before := login.cookie(sessionCookie)
	require.NotNil(t, before)
	require.True(t, before.HttpOnly)
	require.True(t, before.Secure)
	require.Equal(t, http.SameSiteLaxMode, before.SameSite)
	require.Equal(t, "/", before.Path)
	require.Empty(t, before.Domain)

	// The answer to the password itself: 303, and another cookie.
	stop := b.client.CheckRedirect
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	in := b.logIn(login)
	require.Equal(t, http.StatusSeeOther, in.StatusCode)
	during := in.cookie(sessionCookie)
	require.NotNil(t, during)
	require.NotEqual(t, before.Value, during.Value)
	b.client.CheckRedirect = stop

	with := func(value, host string) answer {
		thief := w.browser()
		thief.header.Set("Cookie", sessionCookie+"="+value)
		req, err := http.NewRequest(http.MethodGet, w.grantsPage(), nil)
		require.NoError(t, err)
		req.Header = thief.header
		if host != "" {
			req.Host = host
		}
		resp, err := thief.client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		body := make([]byte, 1<<16)
		n, _ := resp.Body.Read(body)
		return answer{resp, string(body[:n])}
	}
	const loggedIn = "My authorizations"
	require.Contains(t, with(during.Value, "").body, loggedIn)
	require.NotContains(t, with(before.Value, "").body, loggedIn, "who planted the session is not logged in by it")
	require.NotContains(t, with(during.Value, "other.example").body, loggedIn, "it is for one site")
	middle := len(during.Value) / 2
	flipped := during.Value[:middle] + string(during.Value[middle]^1) + during.Value[middle+1:]
	for _, made := range []string{"", "x", "x.y", flipped, strings.Repeat("A", 4000), during.Value[:len(during.Value)-2]} {
		require.NotContains(t, with(made, "").body, loggedIn, made)
	}

	page := b.get(w.grantsPage())
	require.Contains(t, page.body, loggedIn)
	_, old := page.form(t, "/oauth/logout")
	out := b.submit(page, "/oauth/logout")
	require.Equal(t, "/oauth/login", out.Request.URL.Path)
	require.NotContains(t, b.get(w.grantsPage()).body, loggedIn)
	require.Equal(t, http.StatusForbidden, b.do(http.MethodPost, w.site.URL+"/oauth/logout", old).StatusCode, "a form of the session before")
}

// changedAt is s with another character at i.
func changedAt(s string, i int) string {
	if s[i] == 'A' {
		return s[:i] + "B" + s[i+1:]
	}
	return s[:i] + "A" + s[i+1:]
}

// TestForeignForms: what decides comes from our own page, given to this browser.
func TestForeignForms(t *testing.T) {
	w := newWorld(t, "open_oauth")
	b := w.browser()
	address, _ := w.start()
	consent := b.logIn(b.get(address))
	to, fields := consent.form(t, "/oauth/authorize")
	fields.Set("decision", "approve")

	with := func(change func(url.Values)) url.Values {
		changed := url.Values{}
		for k, v := range fields {
			changed[k] = append([]string(nil), v...)
		}
		change(changed)
		return changed
	}
	other := w.browser()
	_, others := other.logIn(other.get(address)).form(t, "/oauth/authorize")
	_, logout := consent.form(t, "/oauth/logout")
	for name, sent := range map[string]url.Values{
		"without the field":          with(func(v url.Values) { v.Del("form") }),
		"with a made-up one":         with(func(v url.Values) { v.Set("form", "aaaa.bbbb") }),
		"with a changed one":         with(func(v url.Values) { v.Set("form", changedAt(v.Get("form"), 60)) }),
		"with another session's":     with(func(v url.Values) { v.Set("form", others.Get("form")) }),
		"with another form's":        with(func(v url.Values) { v.Set("form", logout.Get("form")) }),
		"with the session as a form": with(func(v url.Values) { v.Set("form", consent.Request.Header.Get("Cookie")) }),
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, http.StatusForbidden, b.do(http.MethodPost, to, sent).StatusCode)
		})
	}
	for name, header := range map[string][2]string{
		"another site's":      {"Sec-Fetch-Site", "cross-site"},
		"another subdomain's": {"Sec-Fetch-Site", "same-site"},
	} {
		t.Run(name, func(t *testing.T) {
			b.header.Set(header[0], header[1])
			defer b.header.Del(header[0])
			require.Equal(t, http.StatusForbidden, b.do(http.MethodPost, to, fields).StatusCode)
		})
	}
	t.Run("in the address", func(t *testing.T) {
		page := b.get(address + "&decision=approve&form=" + url.QueryEscape(fields.Get("form")))
		require.Equal(t, http.StatusOK, page.StatusCode, "it asks")
	})
	t.Run("too long", func(t *testing.T) {
		sent := with(func(v url.Values) { v.Set("x", strings.Repeat("x", 1<<20)) })
		require.Equal(t, http.StatusForbidden, b.do(http.MethodPost, to, sent).StatusCode)
	})
	require.Equal(t, http.StatusSeeOther, b.do(http.MethodPost, to, fields).StatusCode, "the form itself is good")
}

// TestOldBrowsers know no Sec-Fetch-Site, but Origin, which our own pages have
// them hide.
func TestOldBrowsers(t *testing.T) {
	w := newWorld(t, "open_oauth")
	for origin, want := range map[string]int{
		"": http.StatusOK, "null": http.StatusOK, w.site.URL: http.StatusOK,
		"https://evil.example": http.StatusForbidden, strings.Replace(w.site.URL, "https", "http", 1): http.StatusForbidden,
	} {
		b := w.browser()
		_, fields := b.get(w.grantsPage()).form(t, "/oauth/login")
		fields.Set("login", "xiaoming")
		fields.Set("password", password)
		req, err := http.NewRequest(http.MethodPost, w.site.URL+"/oauth/login", strings.NewReader(fields.Encode()))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		resp, err := b.client.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, want, resp.StatusCode, origin)
	}
}

// TestLogInEnds where the account is disabled, or its password is another.
func TestLogInEnds(t *testing.T) {
	w := newWorld(t, "open_oauth")
	ctx := t.Context()
	b := w.browser()
	const loggedIn = "My authorizations"
	require.Contains(t, b.logIn(b.get(w.grantsPage())).body, loggedIn)

	_, err := w.service.SetPassword(ctx, "test", w.shop.ID, "another fine password")
	require.NoError(t, err)
	page := b.get(w.grantsPage())
	require.NotContains(t, page.body, loggedIn)
	page = b.submit(page, "/oauth/login", "login", "xiaoming", "password", "another fine password")
	require.Contains(t, page.body, loggedIn)

	address, _ := w.start()
	consent := b.get(address)
	_, err = w.service.DisableUser(ctx, "test", w.shop.ID)
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, b.submit(consent, "/oauth/authorize", "decision", "approve").StatusCode)
	page = b.get(w.grantsPage())
	require.NotContains(t, page.body, loggedIn)
	page = b.submit(page, "/oauth/login", "login", "xiaoming", "password", "another fine password")
	require.Equal(t, http.StatusForbidden, page.StatusCode)
}

// from is the site as a browser at another address sees it.
func (w *world) from(address string) *httptest.Server {
	w.t.Helper()
	site := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = net.JoinHostPort(address, "4711")
		w.site.Config.Handler.ServeHTTP(rw, r)
	}))
	w.t.Cleanup(site.Close)
	return site
}

// TestGuessing passwords is answered by a wait in the end: of whom comes from the
// network of the guesser, not of the merchant elsewhere.
func TestGuessing(t *testing.T) {
	w := newWorld(t, "open_oauth")
	b := w.browser()
	page := b.get(w.grantsPage())
	for range 5 {
		page = b.submit(page, "/oauth/login", "login", "xiaoming", "password", "a wrong password")
		require.Equal(t, http.StatusForbidden, page.StatusCode)
		require.Contains(t, page.body, `value="xiaoming"`, "the name need not be typed again")
		require.NotContains(t, page.body, "a wrong password")
	}
	page = b.submit(page, "/oauth/login", "login", "xiaoming", "password", password)
	require.Equal(t, http.StatusTooManyRequests, page.StatusCode)
	require.NotEmpty(t, page.Header.Get("Retry-After"))
	require.Contains(t, page.body, "too many attempts")

	elsewhere := w.from("203.0.113.7")
	owner := w.browser()
	page = owner.logIn(owner.get(elsewhere.URL + "/oauth/grants"))
	require.Equal(t, http.StatusOK, page.StatusCode)
	require.Contains(t, page.body, "My authorizations")
}

// TestManyLogIns: one address has only so many passwords hashed, of whatever
// names.
func TestManyLogIns(t *testing.T) {
	w := newWorld(t, "open_oauth")
	b := w.browser()
	page := b.get(w.grantsPage())
	form, tries := page, 0
	for page.StatusCode != http.StatusTooManyRequests {
		require.Less(t, tries, 1000)
		page = b.submit(form, "/oauth/login", "login", "a b", "password", password) // nobody can have such a name, so it costs no hash
		tries++
	}
	require.Greater(t, tries, 100)
	require.Equal(t, "1", page.Header.Get("Retry-After"))
	require.Contains(t, page.body, "too many attempts")

	elsewhere, owner := w.from("127.0.0.9"), w.browser()
	require.Contains(t, owner.logIn(owner.get(elsewhere.URL+"/oauth/grants")).body, "My authorizations")
}

// TestProofsLeaveTheGateItsNonces: what the authorization server remembers is not
// in the gate's memory, which strangers must not fill.
func TestProofsLeaveTheGateItsNonces(t *testing.T) {
	w := newWorld(t, "open_oauth")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	require.NoError(t, err)
	proof, err := jwt.Signed(signer).Claims(map[string]any{
		"jti": rand.Text(), "htm": "POST", "htu": w.site.URL + "/oauth/token", "iat": time.Now().Unix(),
	}).Serialize()
	require.NoError(t, err)
	b := w.browser()
	b.header.Set("DPoP", proof)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {w.app.Key}, "client_secret": {w.secret}}
	require.Equal(t, http.StatusOK, b.do(http.MethodPost, w.site.URL+"/oauth/token", form).StatusCode)
	require.Contains(t, b.do(http.MethodPost, w.site.URL+"/oauth/token", form).body, "it was used before")

	app, err := caddy.ActiveContext().App("open_platform")
	require.NoError(t, err)
	require.Zero(t, app.(*caddymodule.App).Status(t.Context()).NonceEntries)
}

// TestPlainHTTP gets a page that says so, and no cookie.
func TestPlainHTTP(t *testing.T) {
	w := newWorld(t, "open_oauth")
	plain := httptest.NewServer(w.site.Config.Handler)
	defer plain.Close()
	for _, forged := range []string{"", "https"} {
		req, err := http.NewRequest(http.MethodGet, plain.URL+"/oauth/login", nil)
		require.NoError(t, err)
		req.Header.Set("X-Forwarded-Proto", forged)
		resp, err := plain.Client().Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusForbidden, resp.StatusCode, "a client's own word counts for nothing")
		require.Empty(t, resp.Cookies())
	}
}
