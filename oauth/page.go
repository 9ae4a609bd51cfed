package oauth

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

//go:embed pages
var files embed.FS

var (
	loginPage    = parsePage("login.html")
	consentPage  = parsePage("consent.html")
	activatePage = parsePage("activate.html")
	grantsPage   = parsePage("grants.html")
	messagePage  = parsePage("message.html")
)

// parsePage reads a page and the frame around it.
func parsePage(name string) *template.Template {
	return template.Must(template.ParseFS(files, "pages/layout.html", "pages/"+name))
}

// style is the style sheet; stylePath changes with it, so that browsers may keep
// it.
var style, stylePath = readStyle()

func readStyle() (data []byte, path string) {
	data, err := files.ReadFile("pages/style.css")
	if err != nil {
		panic(err) // it is embedded
	}
	sum := sha256.Sum256(data)
	return data, pathStyle + "?v=" + hex.EncodeToString(sum[:6])
}

func serveStyle(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/css; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(style))
}

// contentPolicy lets a page load nothing but its style sheet, send forms nowhere
// but to us, and be shown in no frame (RFC 9700 section 4.16).
const contentPolicy = "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"

// protect sets the headers that all answers to browsers have.
func protect(h http.Header) {
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// allowFormTo lets the forms of a page lead to the redirect URI: browsers hold
// the redirects that follow a form to its policy too.
func allowFormTo(h http.Header, redirectURI string) {
	if source := formSource(redirectURI); source != "" {
		allowForms(h, source)
	}
}

// allowForms adds a source to form-action, with which the policy ends.
func allowForms(h http.Header, source string) {
	h.Set("Content-Security-Policy", h.Get("Content-Security-Policy")+" "+source)
}

// formSource is what form-action has to allow for a redirect URI.
func formSource(redirectURI string) string {
	u, err := url.Parse(redirectURI)
	switch {
	case err != nil || u.Scheme == "":
		return ""
	case u.Scheme == "https":
		// Not the origin alone: apps send the merchant on from their redirect URI,
		// to a host of their own choice.
		return "https:"
	case u.Scheme == "http":
		addr, err := netip.ParseAddr(u.Hostname())
		switch {
		case err != nil:
			return "" // only loopback addresses may be registered
		case addr.Is6():
			return "http:" // a policy cannot name them
		}
		return "http://" + u.Host
	}
	return u.Scheme + ":" // a private one, of an app on the merchant's device
}

// view is one page.
type view struct {
	T     *words
	Title string
	// Wide is for pages with more than a card.
	Wide bool
	Body any

	// Switch leads to the same page in the other language. Empty: where the
	// browser is.
	Switch string

	// The rest is the frame's.
	Host, Style string
}

// show answers with a page.
func (s *site) show(w http.ResponseWriter, r *http.Request, status int, t *template.Template, v view) {
	v.Host, v.Style = s.host, stylePath
	// The address that a provider sent the merchant to holds a code.
	if r.Method == http.MethodGet && v.Switch == "" && r.URL.Path != pathCallback {
		v.Switch = otherLanguage(r.URL.RawQuery, v.T.OtherTag)
	}
	var page bytes.Buffer
	if err := t.Execute(&page, v); err != nil {
		s.logger.Error("page not made", zap.String("path", r.URL.Path), zap.Error(err))
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", v.T.Tag)
	h.Set("Vary", "Accept-Language, Cookie")
	w.WriteHeader(status)
	// The browser may have gone.
	_, _ = w.Write(page.Bytes())
}

// otherLanguage is the address of the same page in another language.
func otherLanguage(rawQuery, tag string) string {
	var kept []string
	for pair := range strings.SplitSeq(rawQuery, "&") {
		if pair != "" && !strings.HasPrefix(pair, languageParameter+"=") {
			kept = append(kept, pair)
		}
	}
	return "?" + strings.Join(append(kept, languageParameter+"="+tag), "&")
}

// message is a page that says one thing, and may ask whether to do it.
type message struct {
	Text []string
	// Code and Detail are for the developer of the app.
	Code, Detail string
	// Form, if there is one, is sent to Action by Button.
	Button, Action, Form string
	// Link, if there is one, leads on.
	Link, LinkText string
}

// problem shows what is wrong.
func (s *site) problem(w http.ResponseWriter, r *http.Request, status int, code string) {
	t := languageOf(r)
	p := t.problem(code)
	s.show(w, r, status, messagePage, view{T: t, Title: p.Title, Body: message{Text: []string{p.Text}}})
}

// appView is an app as pages show it.
type appView struct{ Letter, Name, Kind, Sandbox string }

// appView describes an app. Its name is shown as one line, without characters
// that could make it look like something else.
func (s *site) appView(t *words, a *platform.App) appView {
	v := appView{Name: plain(a.Name), Kind: t.Merchant}
	if a.Kind == platform.ISV {
		v.Kind = t.ISV
	}
	if s.environment == platform.Sandbox {
		v.Sandbox = t.Sandbox
	}
	first, _ := utf8.DecodeRuneInString(v.Name)
	v.Letter = string(unicode.ToUpper(first))
	return v
}

// plain takes control and format characters out of a name: line breaks, marks
// that turn the direction of writing.
func plain(name string) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || unicode.Is(unicode.Cf, c) {
			return -1
		}
		return c
	}, name))
}

// date is a day, for people and for machines.
type date struct{ Text, Machine string }

func (s *site) date(t *words, at time.Time) date {
	at = at.In(s.platform.Location)
	return date{at.Format(t.Date), at.Format(time.RFC3339)}
}

// scope is a package as pages show it.
type scope struct{ Title, Description string }

// scopes describes packages. One that is no more in the catalog has its name
// alone.
func (s *site) scopes(r *http.Request, t *words, names []string) ([]scope, error) {
	if len(names) == 0 {
		return []scope{{t.Basic, t.BasicText}}, nil
	}
	c, err := s.platform.Catalog(r.Context())
	if err != nil {
		return nil, err
	}
	shown := make([]scope, len(names))
	for i, name := range names {
		shown[i].Title = name
		for _, p := range c.Packages {
			if p.Name == name && p.Title != "" {
				shown[i] = scope{p.Title, p.Description}
			}
		}
	}
	return shown, nil
}
