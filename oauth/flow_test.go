package oauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// grantsPage is the page "My authorizations".
func (w *world) grantsPage() string { return w.site.URL + "/oauth/grants" }

// TestAuthorize goes the whole way with an unmodified client: log in, agree, get
// a token, refresh it. The second time the merchant is not asked.
func TestAuthorize(t *testing.T) {
	w := newWorld(t, "open_oauth")
	b := w.browser()
	address, verifier := w.start("trade")

	login := b.get(address)
	require.Equal(t, http.StatusOK, login.StatusCode)
	require.Contains(t, login.body, "旺店助手 ERP")
	consent := b.logIn(login)
	require.Equal(t, "/oauth/authorize", consent.Request.URL.Path, "after the log-in the browser goes on by GET")
	for _, said := range []string{"旺店助手 ERP", "App of a software vendor", "小明数码旗舰店", "交易管理", "Orders, their status", hostOf(w.isv.URL)} {
		require.Contains(t, consent.body, said)
	}
	require.NotContains(t, consent.body, "物流服务", "it was not asked for")

	back := b.submit(consent, "/oauth/authorize", "decision", "approve")
	to, err := back.Location()
	require.NoError(t, err)
	require.Equal(t, "state-4711", to.Query().Get("state"))
	require.Equal(t, w.site.URL, to.Query().Get("iss"))
	require.Equal(t, "1", to.Query().Get("shop"))
	token, err := w.exchange(back.code(t), verifier, "trade")
	require.NoError(t, err)
	require.NotEmpty(t, token.AccessToken)
	require.NotEmpty(t, token.RefreshToken)

	again, verifier := w.start("trade")
	_, err = w.exchange(b.get(again).code(t), verifier, "trade")
	require.NoError(t, err)
	asked := b.get(again + "&prompt=consent")
	require.Equal(t, http.StatusOK, asked.StatusCode, "prompt=consent asks again")
	more, _ := w.start("trade", "logistics")
	require.Equal(t, http.StatusOK, b.get(more).StatusCode, "a further package is asked for")
}

func TestDeny(t *testing.T) {
	w := newWorld(t, "open_oauth")
	b := w.browser()
	address, _ := w.start()
	back := b.submit(b.logIn(b.get(address)), "/oauth/authorize", "decision", "deny")
	require.Equal(t, http.StatusSeeOther, back.StatusCode)
	to, err := back.Location()
	require.NoError(t, err)
	require.Equal(t, "access_denied", to.Query().Get("error"))
	require.Equal(t, "state-4711", to.Query().Get("state"))
	require.NotContains(t, b.get(w.grantsPage()).body, "旺店助手")
}

// TestBadRequestsShowAPage: where app or redirect URI are not to be trusted, the
// browser is sent nowhere.
func TestBadRequestsShowAPage(t *testing.T) {
	w := newWorld(t, "open_oauth")
	address, _ := w.start()
	for name, change := range map[string]func(url.Values){
		"unknown app":        func(q url.Values) { q.Set("client_id", "ak_nobody") },
		"no app":             func(q url.Values) { q.Del("client_id") },
		"other redirect URI": func(q url.Values) { q.Set("redirect_uri", "https://evil.example/") },
		"longer one":         func(q url.Values) { q.Set("redirect_uri", w.callback()+"&x=1") },
		"two redirect URIs":  func(q url.Values) { q.Add("redirect_uri", "https://evil.example/") },
	} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(address)
			require.NoError(t, err)
			q := u.Query()
			change(q)
			u.RawQuery = q.Encode()
			page := w.browser().get(u.String())
			require.Equal(t, http.StatusBadRequest, page.StatusCode)
			require.Empty(t, page.Header.Get("Location"))
			require.Contains(t, page.Header.Get("Content-Type"), "text/html")
			require.NotContains(t, page.body, "href=\"https://evil", "no link either")
			require.Contains(t, page.body, "For the developer")
		})
	}
	t.Run("the app hears of the rest", func(t *testing.T) {
		back := w.browser().get(strings.Replace(address, "response_type=code", "response_type=token", 1))
		require.Equal(t, http.StatusSeeOther, back.StatusCode)
		require.Contains(t, back.Header.Get("Location"), "error=unsupported_response_type")
	})
}

// TestGrants: the merchant sees the authorizations of the own shop alone, and
// ends them.
func TestGrants(t *testing.T) {
	w := newWorld(t, "open_oauth")
	b, token := w.authorize("trade")
	ctx := t.Context()
	_, err := w.service.CreateUser(ctx, "test", "other", "Other shop", password)
	require.NoError(t, err)

	other := w.browser()
	page := other.submit(other.get(w.grantsPage()), "/oauth/login", "login", "other", "password", password)
	require.Contains(t, page.body, "No app has access")

	page = b.get(w.grantsPage())
	require.Contains(t, page.body, "旺店助手 ERP")
	_, fields := page.form(t, "/oauth/grants")

	// Another merchant cannot use the form.
	require.Equal(t, http.StatusForbidden, other.do(http.MethodPost, w.grantsPage(), fields).StatusCode)
	_, err = w.service.InspectToken(ctx, token.AccessToken)
	require.NoError(t, err)

	page = b.submit(page, "/oauth/grants")
	require.Equal(t, http.StatusOK, page.StatusCode)
	require.Contains(t, page.body, "旺店助手 ERP has no access")
	require.NotContains(t, page.body, "<li class")
	_, err = w.service.InspectToken(ctx, token.AccessToken)
	require.ErrorIs(t, err, platform.ErrNotFound, "tokens die with the grant")
	require.NotContains(t, other.get(page.Request.URL.String()).body, "旺店助手", "whose it was is nobody else's business")

	// Once more is no mistake.
	require.Equal(t, http.StatusOK, b.do(http.MethodPost, w.grantsPage(), fields).StatusCode)
}

// TestOtherPathsGoOn: what is not for the authorization server is the site's.
func TestOtherPathsGoOn(t *testing.T) {
	w := newWorld(t, "open_oauth")
	b := w.browser()
	for _, path := range []string{"/", "/oauth", "/oauthority", "//oauth/login", "/x/../oauth/login", "/.well-known/openid-configuration"} {
		require.Equal(t, "not for the authorization server", b.get(w.site.URL+path).body, path)
	}
	page := b.get(w.site.URL + "/oauth/nothing")
	require.Equal(t, http.StatusNotFound, page.StatusCode)
	require.Contains(t, page.Header.Get("Content-Type"), "text/html")
	metadata := b.get(w.site.URL + "/.well-known/oauth-authorization-server")
	require.Contains(t, metadata.body, `"issuer":"`+w.site.URL+`"`)
	page = b.do(http.MethodDelete, w.site.URL+"/oauth/authorize", nil)
	require.Equal(t, http.StatusMethodNotAllowed, page.StatusCode)
	require.Equal(t, "GET, HEAD, POST", page.Header.Get("Allow"))
}

// TestLanguages: the address, else the cookie, else the browser says.
func TestLanguages(t *testing.T) {
	w := newWorld(t, "open_oauth")
	page := w.site.URL + "/oauth/login"
	for header, want := range map[string]string{
		"": "en", "zh": "zh-CN", "zh-TW,en;q=0.5": "zh-CN", "en-GB,zh;q=0.9": "en", "de,fr": "en", "en;q=0.2, zh;q=0.3": "zh-CN", ";;q=,zh;q=x": "en",
	} {
		b := w.browser()
		b.header.Set("Accept-Language", header)
		require.Equal(t, want, b.get(page).Header.Get("Content-Language"), header)
	}
	b := w.browser()
	b.header.Set("Accept-Language", "en")
	require.Equal(t, "zh-CN", b.get(page+"?lang=zh").Header.Get("Content-Language"))
	require.Equal(t, "zh-CN", b.get(page).Header.Get("Content-Language"), "it is remembered")
	require.Equal(t, "zh-CN", b.get(page+"?lang=%3Cscript%3E").Header.Get("Content-Language"))
}

// TestNamesAreText: what apps and merchants are called cannot become markup, nor
// turn the direction of writing.
func TestNamesAreText(t *testing.T) {
	w := newWorld(t, "open_oauth")
	var err error
	w.app, w.secret = w.newApp(`<b onclick="x()">Evil</b> & Co`, "trade")
	_, err = w.service.CreateUser(t.Context(), "test", "markup", "<img src=x> \u202epohs\u2069", password)
	require.NoError(t, err)
	b := w.browser()
	address, _ := w.start()
	page := b.submit(b.get(address), "/oauth/login", "login", "markup", "password", password)
	require.Contains(t, page.body, "&lt;b onclick=")
	require.NotContains(t, page.body, "<b onclick")
	require.NotContains(t, page.body, "<img")
	require.Contains(t, page.body, "&lt;img src=x&gt; pohs")
}
