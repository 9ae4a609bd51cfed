package oauth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	core "github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/testserver/chromium"
)

// patience bounds what Chromium does on a busy machine.
const patience = 2 * time.Minute

// screen is a window of Chromium: its width and the language that it asks for.
type screen struct {
	width    int64
	language string
	dark     bool
}

func (s screen) String() string {
	name := fmt.Sprintf("%s-%d", s.language, s.width)
	if s.dark {
		name += "-dark"
	}
	return name
}

// tab is a page in a Chromium of its own.
type tab struct {
	t        *testing.T
	ctx      context.Context
	screen   screen
	pictures string
	// complaints are what Chromium has to say about the pages.
	complaints chan string
}

// open starts Chromium.
func (s screen) open(t *testing.T) *tab {
	t.Helper()
	ctx := chromium.New(t, patience, s.language, int(s.width))
	b := &tab{t: t, ctx: ctx, screen: s, pictures: os.Getenv("SCREENSHOTS"), complaints: make(chan string, 64)}
	if b.pictures == "" {
		b.pictures = t.TempDir()
	}
	chromedp.ListenTarget(ctx, func(event any) {
		if e, ok := event.(*cdplog.EventEntryAdded); ok && (e.Entry.Level == cdplog.LevelError || e.Entry.Source == cdplog.SourceSecurity) {
			b.complaints <- fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
		}
	})
	theme := "light"
	if s.dark {
		theme = "dark"
	}
	b.run(
		cdplog.Enable(), network.Enable(),
		network.SetExtraHTTPHeaders(network.Headers{"Accept-Language": s.language}),
		emulation.SetDeviceMetricsOverride(s.width, 844, 1, s.width < 600),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}),
	)
	return b
}

func (b *tab) run(actions ...chromedp.Action) {
	b.t.Helper()
	require.NoError(b.t, chromedp.Run(b.ctx, actions...))
}

// follow runs actions and waits until the page that they lead to has loaded.
func (b *tab) follow(actions ...chromedp.Action) {
	b.t.Helper()
	_, err := chromedp.RunResponse(b.ctx, actions...)
	require.NoError(b.t, err)
}

// check holds the page to what every page of ours must be, and takes a picture.
func (b *tab) check(name string) {
	b.t.Helper()
	var shot []byte
	var found struct {
		Overflow   int64    `json:"overflow"`
		Language   string   `json:"language"`
		Headings   int      `json:"headings"`
		Unlabelled []string `json:"unlabelled"`
		Small      []string `json:"small"`
		Scripts    int      `json:"scripts"`
		Styled     bool     `json:"styled"`
	}
	b.run(chromedp.Evaluate(`({
		overflow: document.documentElement.scrollWidth - window.innerWidth,
		language: document.documentElement.lang,
		headings: document.querySelectorAll("h1").length,
		unlabelled: [...document.querySelectorAll("input:not([type=hidden])")].filter(e => !e.labels.length).map(e => e.name),
		small: [...document.querySelectorAll("button, .button, summary, input:not([type=hidden])")]
			.filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 44 && !e.classList.contains("link")).map(e => e.outerHTML),
		scripts: document.scripts.length,
		styled: getComputedStyle(document.body).display == "flex",
	})`, &found), chromedp.FullScreenshot(&shot, 100))
	require.NoError(b.t, os.WriteFile(filepath.Join(b.pictures, b.screen.String()+"-"+name+".png"), shot, 0o600))
	require.LessOrEqual(b.t, found.Overflow, int64(0), "%s is wider than the window", name)
	require.Contains(b.t, found.Language, b.screen.language[:2])
	require.Equal(b.t, 1, found.Headings)
	require.Empty(b.t, found.Unlabelled)
	require.Empty(b.t, found.Small, "too small for a finger")
	require.Zero(b.t, found.Scripts)
	require.True(b.t, found.Styled, "the style sheet is not in force")
}

// quiet requires that Chromium had nothing to complain of.
func (b *tab) quiet() {
	b.t.Helper()
	for {
		select {
		case said := <-b.complaints:
			require.Fail(b.t, "Chromium complains", said)
		default:
			return
		}
	}
}

// at is the address of the page.
func (b *tab) at() (address string) {
	b.t.Helper()
	b.run(chromedp.Location(&address))
	return address
}

// press clicks what a selector finds.
func press(selector string) chromedp.Action {
	return chromedp.Click(selector, chromedp.ByQuery)
}

// fill types into a field.
func fill(selector, text string) chromedp.Action {
	return chromedp.SendKeys(selector, text, chromedp.ByQuery)
}

// TestPages clicks through all pages in Chromium, on a phone and on a desk, in
// both languages.
func TestPages(t *testing.T) {
	w := newWorld(t, "open_oauth")
	for _, s := range []screen{{390, "zh-CN", false}, {1280, "zh-CN", false}, {390, "en", false}, {1280, "en", false}, {390, "zh-CN", true}, {1280, "en", true}} {
		t.Run(s.String(), func(t *testing.T) {
			b := s.open(t)
			address, verifier := w.start()

			b.follow(chromedp.Navigate(address))
			b.check("login")
			b.quiet()
			b.follow(fill("#login", "xiaoming"), fill("#password", "not the password"), press("main button"))
			b.check("login-wrong")
			<-b.complaints // a status of 403

			b.follow(fill("#password", password), press("main button"))
			b.check("consent")
			b.follow(press("button[value=approve]"))
			b.quiet()
			require.Contains(t, b.at(), w.callback())
			var code string
			b.run(chromedp.Evaluate(`new URLSearchParams(location.search).get("code")`, &code))
			_, err := w.exchange(code, verifier)
			require.NoError(t, err)

			// The second time there is nothing to ask.
			b.follow(chromedp.Navigate(address))
			require.Contains(t, b.at(), w.callback())

			b.follow(chromedp.Navigate(w.site.URL + "/oauth/grants"))
			b.check("grants")
			b.run(press("summary"), chromedp.WaitVisible("details .button", chromedp.ByQuery))
			b.check("grants-revoke")
			b.follow(press("details .button"))
			b.check("grants-revoked")
			b.follow(press(".head button"))
			b.check("login-grants")
			b.quiet()

			b.follow(chromedp.Navigate(w.site.URL + "/oauth/authorize?client_id=" + w.app.Key + "&redirect_uri=https://elsewhere.example/&response_type=code"))
			b.check("error")
			<-b.complaints // a status of 400
			b.quiet()
		})
	}
}

// TestDevicePages clicks through the pages for devices, and through a start from
// the app market.
func TestDevicePages(t *testing.T) {
	w := newWorld(t, "open_oauth")
	w.hosted()
	scanner := w.native("仓库扫码枪 Scanner")
	for _, s := range []screen{{390, "zh-CN", false}, {1280, "zh-CN", false}, {390, "en", false}, {1280, "en", false}, {390, "en", true}} {
		t.Run(s.String(), func(t *testing.T) {
			b := s.open(t)
			d := w.device(scanner)
			b.follow(chromedp.Navigate(d.VerificationURI))
			b.check("device-login")
			b.follow(fill("#login", "xiaoming"), fill("#password", password), press("main button"))
			b.check("device-type")
			b.quiet()
			b.follow(fill("#user_code", "bbbbbbbb"), press("main button"))
			b.check("device-wrong")
			<-b.complaints // a status of 400
			b.follow(chromedp.Evaluate(`document.querySelector("#user_code").value = ""`, nil), fill("#user_code", strings.ToLower(d.UserCode)), press("main button"))
			b.check("device-consent")
			b.follow(press("button[value=approve]"))
			b.check("device-done")
			b.quiet()
			require.Contains(t, w.poll(scanner, d).body, "access_token")

			d = w.device(scanner)
			b.follow(chromedp.Navigate(d.VerificationURIComplete))
			b.follow(press("button[value=deny]"))
			b.check("device-denied")
			b.quiet()

			b.follow(chromedp.Navigate(w.site.URL + "/oauth/logout"))
			b.follow(press("main button"))
			b.follow(chromedp.Navigate(w.link(core.StartOptions{})))
			b.check("start-login")
			b.follow(fill("#login", "xiaoming"), fill("#password", password), press("main button"))
			b.quiet()
			require.Contains(t, b.at(), w.isv.URL+"/start?from=market&iss=")
			b.follow(chromedp.Navigate(w.site.URL + "/oauth/start?link=x"))
			b.check("start-error")
			<-b.complaints // a status of 400

			address, _ := w.start()
			b.follow(chromedp.Navigate(address))
			if !strings.Contains(b.at(), w.callback()) { // who comes first is asked
				b.follow(press("button[value=approve]"))
			}
			b.follow(chromedp.Navigate(w.site.URL + "/oauth/grants"))
			b.check("grants-start")
			b.follow(press("a.button"))
			require.Contains(t, b.at(), w.isv.URL+"/start?from=market&iss=")
			b.quiet()
		})
	}
}

// TestProviderPages looks at the pages that only an OpenID provider brings about.
func TestProviderPages(t *testing.T) {
	p := newBadProvider(t)
	w := newWorld(t, p.directive())
	for _, s := range []screen{{390, "zh-CN", false}, {1280, "zh-CN", false}, {390, "en", false}, {1280, "en", true}} {
		t.Run(s.String(), func(t *testing.T) {
			b := s.open(t)
			p.fail("/token", http.StatusInternalServerError)
			b.follow(chromedp.Navigate(w.grantsPage()))
			b.check("provider-down")
			<-b.complaints // a status of 503
			p.heal()
			b.follow(press("main .button"))
			b.check("provider-grants")
			b.follow(press(".head button"))
			b.check("provider-logged-out")
			p.set(func() { p.answer = func(to url.Values) { to.Set("error", "access_denied") } })
			b.follow(chromedp.Navigate(w.grantsPage()))
			b.check("provider-refused")
			<-b.complaints // a status of 403
			p.heal()
			address, _ := w.start("trade")
			b.follow(chromedp.Navigate(address + "&prompt=consent"))
			b.follow(press("button[value=approve]"))
			require.Contains(t, b.at(), w.callback())
			b.quiet()
		})
	}
}

// TestLanguageSwitch: the other language is one click away, and stays.
func TestLanguageSwitch(t *testing.T) {
	w := newWorld(t, "open_oauth")
	b := screen{390, "zh-CN", false}.open(t)
	address, _ := w.start()
	b.follow(chromedp.Navigate(address))
	var title string
	b.follow(press("nav a"))
	b.run(chromedp.Text("h1", &title, chromedp.ByQuery))
	require.Equal(t, "Log in", title)
	b.follow(fill("#login", "xiaoming"), fill("#password", password), press("main button"))
	b.run(chromedp.Text("h1", &title, chromedp.ByQuery))
	require.Contains(t, title, "asks for access")
}

// TestCallbackLeadsOn: an app may send the merchant on from its redirect URI to
// another of its hosts, although browsers hold all redirects that follow a form
// to the policy of its page.
func TestCallbackLeadsOn(t *testing.T) {
	w := newWorld(t, "open_oauth")
	w.isv.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/callback" {
			http.Redirect(rw, r, strings.Replace(w.isv.URL, "127.0.0.1", "localhost", 1)+"/elsewhere", http.StatusFound)
		}
	})
	b := screen{390, "en", false}.open(t)
	address, _ := w.start()
	b.follow(chromedp.Navigate(address))
	b.follow(fill("#login", "xiaoming"), fill("#password", password), press("main button"))
	b.follow(press("button[value=approve]"))
	require.Contains(t, b.at(), "/elsewhere")
}
