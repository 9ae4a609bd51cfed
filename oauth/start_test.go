package oauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule"
	core "github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// hosted turns the vendor's app into one that the market can start.
func (w *world) hosted() {
	w.t.Helper()
	app, secret, err := w.service.CreateApp(w.t.Context(), "test", platform.NewApp{
		Name: "旺店助手 ERP", Kind: platform.ISV, Mode: platform.Hosted, Environment: platform.Production, Packages: []string{"trade", "logistics"},
	})
	require.NoError(w.t, err)
	w.secret = secret.Secret
	w.app, err = w.service.SetOAuth(w.t.Context(), "test", app.ID, platform.OAuthSettings{
		RedirectURIs: []string{w.callback()}, InitiateLoginURI: w.isv.URL + "/start?from=market",
	})
	require.NoError(w.t, err)
}

// link is what the market gives out.
func (w *world) link(o core.StartOptions) string {
	w.t.Helper()
	app, err := caddy.ActiveContext().App("open_platform")
	require.NoError(w.t, err)
	if o.Issuer == "" {
		o.Issuer = w.site.URL
	}
	o.Lifetime = time.Hour
	link, err := app.(*caddymodule.App).StartLink(w.t.Context(), w.app.Key, o)
	require.NoError(w.t, err)
	require.WithinDuration(w.t, time.Now().Add(time.Hour), link.ExpiresAt, time.Minute)
	return link.URL
}

// TestStart: the merchant opens the market's link, logs in, comes to the app, and
// from there by an ordinary authorization back; the second time nobody is asked.
func TestStart(t *testing.T) {
	w := newWorld(t, "open_oauth")
	w.hosted()
	b := w.browser()
	link := w.link(core.StartOptions{})
	login := b.get(link)
	require.Equal(t, http.StatusOK, login.StatusCode)
	require.Contains(t, login.body, "Log in to open 旺店助手 ERP")
	require.Contains(t, login.Header.Get("Content-Security-Policy"), "form-action 'self' https:", "the log-in leads on to the app")
	started := func(there answer) url.Values {
		t.Helper()
		require.Equal(t, http.StatusSeeOther, there.StatusCode, there.body)
		require.Equal(t, "no-referrer", there.Header.Get("Referrer-Policy"))
		to, err := there.Location()
		require.NoError(t, err)
		require.Equal(t, "/start", to.Path)
		q := to.Query()
		require.Equal(t, []string{"market", w.site.URL, w.app.Key, w.shop.ID}, []string{q.Get("from"), q.Get("iss"), q.Get("client_id"), q.Get("login_hint")})
		require.Equal(t, 2, strings.Count(q.Get("start_token"), "."))
		return q
	}
	wrong := b.submit(login, "/oauth/login", "login", "xiaoming", "password", "wrong")
	require.Contains(t, wrong.body, "Log in to open 旺店助手 ERP")
	first := started(b.logIn(wrong))
	second := started(b.get(link))
	require.NotEqual(t, first.Get("start_token"), second.Get("start_token"))

	address, verifier := w.start("trade")
	consent := b.get(address)
	require.Equal(t, http.StatusOK, consent.StatusCode, "a start authorizes nothing")
	_, err := w.exchange(b.submit(consent, "/oauth/authorize", "decision", "approve").code(t), verifier, "trade")
	require.NoError(t, err)
	address, verifier = w.start("trade")
	_, err = w.exchange(b.get(address).code(t), verifier, "trade")
	require.NoError(t, err)

	// My authorizations lead to it, too.
	page := b.get(w.grantsPage())
	_, after, found := strings.Cut(page.body, `href="/oauth/start?link=`)
	require.True(t, found, page.body)
	own, _, _ := strings.Cut(after, `"`)
	started(b.get(w.site.URL + "/oauth/start?link=" + own))
	_, err = w.service.SuspendApp(t.Context(), "test", w.app.ID)
	require.NoError(t, err)
	require.NotContains(t, b.get(w.grantsPage()).body, "/oauth/start")
}

// TestBadStart: a link that is not good shows a page, logged in or not, and leads
// nowhere.
func TestBadStart(t *testing.T) {
	w := newWorld(t, "open_oauth")
	w.hosted()
	good := w.link(core.StartOptions{})
	in, out := w.browser(), w.browser()
	in.logIn(in.get(w.grantsPage()))
	refused := func(link, says string) {
		t.Helper()
		for _, b := range []*browser{in, out} {
			page := b.get(link)
			require.Equal(t, http.StatusBadRequest, page.StatusCode)
			require.Empty(t, page.Header.Get("Location"))
			require.Contains(t, page.body, says)
			require.NotContains(t, page.body, w.isv.URL)
		}
	}
	const useless = "This link does not work"
	for _, link := range []string{
		w.site.URL + "/oauth/start", w.site.URL + "/oauth/start?link=", w.site.URL + "/oauth/start?link=x", good[:len(good)-3], good + "AAAA",
		good + "&link=" + good[strings.Index(good, "=")+1:], good + "&x=%zz", w.link(core.StartOptions{Environment: platform.Sandbox}),
	} {
		refused(link, useless)
	}
	require.Equal(t, http.StatusMethodNotAllowed, in.do(http.MethodPost, good, url.Values{}).StatusCode)
	_, err := w.service.SetOAuth(t.Context(), "test", w.app.ID, platform.OAuthSettings{RedirectURIs: []string{w.callback()}})
	require.NoError(t, err)
	refused(good, "This app cannot be opened from here")
	_, err = w.service.SuspendApp(t.Context(), "test", w.app.ID)
	require.NoError(t, err)
	refused(good, "This app is suspended")
}

// TestStartIssuer: where the configuration names the issuer of the environment, a
// link needs none.
func TestStartIssuer(t *testing.T) {
	w := newWorld(t, "open_oauth {\n\tissuer https://open.example.com\n}")
	w.hosted()
	running, err := caddy.ActiveContext().App("open_platform")
	require.NoError(t, err)
	app := running.(*caddymodule.App)
	link, err := app.StartLink(t.Context(), w.app.ID, core.StartOptions{Lifetime: time.Hour})
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(link.URL, "https://open.example.com/oauth/start?link="), link.URL)
	_, err = app.StartLink(t.Context(), w.app.ID, core.StartOptions{Environment: platform.Sandbox, Lifetime: time.Hour})
	require.ErrorContains(t, err, "issuer")
	_, err = app.StartLink(t.Context(), "ak_nobody", core.StartOptions{Lifetime: time.Hour})
	require.ErrorIs(t, err, platform.ErrNotFound)
}
