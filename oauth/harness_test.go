package oauth_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/caddy-openplatform/openplatform/caddymodule"
	_ "github.com/caddy-openplatform/openplatform/handlers"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	_ "github.com/caddy-openplatform/openplatform/oauth"
)

// password is that of every merchant.
const password = "correct horse battery"

// world is a Caddy that runs in this process, behind TLS, with a vendor's site
// beside it.
type world struct {
	t       *testing.T
	service *platform.Service
	// site is where open_oauth is, isv is the app's own.
	site, isv *httptest.Server
	app       *platform.App
	secret    string
	shop      *platform.User
	// dir is where its store is, config what Caddy runs.
	dir    string
	config []byte
}

// newWorld runs a site with the given lines, and makes an app and a merchant.
func newWorld(t *testing.T, lines string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	text := fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage file_system DIR/caddy
	log {
		output discard
	}
	open_platform {
		storage sqlite DIR/op.db
		catalog %s
		time_zone Asia/Shanghai
	}
}
http://:1 {
	bind 127.0.0.1
	%s
	respond "not for the authorization server"
}
`, "../examples/mall.openapi.yaml", lines)
	text = strings.ReplaceAll(text, "DIR", w.dir)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	require.NoError(t, err)
	// The server is called directly, so any free port will do.
	w.config = bytes.ReplaceAll(config, []byte(`"127.0.0.1:1"`), []byte(`"127.0.0.1:0"`))
	require.NoError(t, caddy.Load(w.config, true))

	app, err := caddy.ActiveContext().App("open_platform")
	require.NoError(t, err)
	w.service = app.(*caddymodule.App).Service()
	w.site = httptest.NewTLSServer(w.server())
	t.Cleanup(w.site.Close)
	w.isv = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!doctype html><title>The vendor's site</title><h1>Back at the vendor</h1>")
	}))
	t.Cleanup(w.isv.Close)
	w.app, w.secret = w.newApp("旺店助手 ERP", "trade", "logistics", "user")
	w.shop, err = w.service.CreateUser(t.Context(), "test", "xiaoming", "小明数码旗舰店", password)
	require.NoError(t, err)
	return w
}

// server is what serves the site in the configuration that runs.
func (w *world) server() http.Handler {
	w.t.Helper()
	web, err := caddy.ActiveContext().App("http")
	require.NoError(w.t, err)
	return web.(*caddyhttp.App).Servers["srv0"]
}

// newApp makes a vendor's app with a redirect URI on its site.
func (w *world) newApp(name string, packages ...string) (*platform.App, string) {
	w.t.Helper()
	ctx := context.Background()
	app, secret, err := w.service.CreateApp(ctx, "test", platform.NewApp{
		Name: name, Kind: platform.ISV, Environment: platform.Production, Packages: packages,
	})
	require.NoError(w.t, err)
	app, err = w.service.SetOAuth(ctx, "test", app.ID, platform.OAuthSettings{RedirectURIs: []string{w.callback()}})
	require.NoError(w.t, err)
	return app, secret.Secret
}

func (w *world) callback() string { return w.isv.URL + "/callback?shop=1" }

// client is the app's OAuth client, unmodified.
func (w *world) client(scopes ...string) *oauth2.Config {
	return &oauth2.Config{
		ClientID: w.app.Key, ClientSecret: w.secret, RedirectURL: w.callback(), Scopes: scopes,
		Endpoint: oauth2.Endpoint{AuthURL: w.site.URL + "/oauth/authorize", TokenURL: w.site.URL + "/oauth/token"},
	}
}

// start is where the app sends the merchant, with the verifier for the code.
func (w *world) start(scopes ...string) (address, verifier string) {
	verifier = oauth2.GenerateVerifier()
	return w.client(scopes...).AuthCodeURL("state-4711", oauth2.S256ChallengeOption(verifier)), verifier
}

// exchange gets a token for a code.
func (w *world) exchange(code, verifier string, scopes ...string) (*oauth2.Token, error) {
	ctx := context.WithValue(w.t.Context(), oauth2.HTTPClient, w.site.Client())
	return w.client(scopes...).Exchange(ctx, code, oauth2.VerifierOption(verifier))
}

// browser is what a merchant has: it keeps cookies and stops before it leaves for
// the vendor's site.
type browser struct {
	t      *testing.T
	client *http.Client
	header http.Header
}

func (w *world) browser() *browser {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(w.t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.site.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &browser{w.t, &http.Client{Transport: transport, Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Host == hostOf(w.isv.URL) {
			return http.ErrUseLastResponse
		}
		return nil
	}}, http.Header{}}
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(u.Hostname(), u.Port())
}

// answer is a page, read to its end.
type answer struct {
	*http.Response
	body string
}

// do sends a request as the browser does.
func (b *browser) do(method, address string, form url.Values) answer {
	b.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, address, body)
	require.NoError(b.t, err)
	req.Header = b.header.Clone()
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if req.Header.Get("Sec-Fetch-Site") == "" {
			req.Header.Set("Sec-Fetch-Site", "same-origin")
		}
	}
	resp, err := b.client.Do(req)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return answer{resp, string(data)}
}

func (b *browser) get(address string) answer {
	b.t.Helper()
	return b.do(http.MethodGet, address, nil)
}

var (
	formTag  = regexp.MustCompile(`(?s)<form method="post" action="([^"]+)">(.*?)</form>`)
	inputTag = regexp.MustCompile(`<input[^>]*?name="([^"]+)"[^>]*>`)
	valueOf  = regexp.MustCompile(`value="([^"]*)"`)
)

// form finds the form of a page that leads to path, with what its fields hold.
func (a answer) form(t *testing.T, path string) (address string, fields url.Values) {
	t.Helper()
	for _, m := range formTag.FindAllStringSubmatch(a.body, -1) {
		if m[1] != path {
			continue
		}
		fields = url.Values{}
		for _, in := range inputTag.FindAllStringSubmatch(m[2], -1) {
			value := ""
			if v := valueOf.FindStringSubmatch(in[0]); v != nil {
				value = html.UnescapeString(v[1])
			}
			fields.Set(in[1], value)
		}
		to, err := a.Request.URL.Parse(m[1])
		require.NoError(t, err)
		return to.String(), fields
	}
	require.FailNow(t, "the page has no form for "+path, "%d\n%s", a.StatusCode, a.body)
	return "", nil
}

// submit fills in the form that leads to path and sends it.
func (b *browser) submit(page answer, path string, pairs ...string) answer {
	b.t.Helper()
	address, fields := page.form(b.t, path)
	for i := 0; i < len(pairs); i += 2 {
		fields.Set(pairs[i], pairs[i+1])
	}
	return b.do(http.MethodPost, address, fields)
}

// logIn goes from the page to log in to what follows.
func (b *browser) logIn(page answer) answer {
	b.t.Helper()
	return b.submit(page, "/oauth/login", "login", "xiaoming", "password", password)
}

// code is what the browser takes back to the vendor.
func (a answer) code(t *testing.T) string {
	t.Helper()
	require.Equal(t, http.StatusSeeOther, a.StatusCode, a.body)
	to, err := a.Location()
	require.NoError(t, err)
	require.Equal(t, "/callback", to.Path)
	require.NotEmpty(t, to.Query().Get("code"), to)
	return to.Query().Get("code")
}

// authorize has the merchant of a fresh browser log in and agree.
func (w *world) authorize(scopes ...string) (*browser, *oauth2.Token) {
	w.t.Helper()
	b := w.browser()
	address, verifier := w.start(scopes...)
	back := b.submit(b.logIn(b.get(address)), "/oauth/authorize", "decision", "approve")
	token, err := w.exchange(back.code(w.t), verifier, scopes...)
	require.NoError(w.t, err)
	return b, token
}
