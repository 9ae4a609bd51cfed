package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	// shopCount is how many merchants authorize apps at a time, each another one.
	shopCount = 16
	callback  = "https://isv.example.com/callback"
)

// shop is a merchant with a browser, and the app that it authorizes.
type shop struct {
	login, password string
	app             string // the appKey
	proof           string // of the app, as a header
	browser         *http.Client
	first           grantedTokens
}

// grantedTokens are what the token endpoint answers.
type grantedTokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// openShops makes n merchants in a store, and lets the first n apps be
// authorized. Their refresh tokens stay, as is the default.
func openShops(ctx context.Context, db *storage, n int) (shops []*shop, err error) {
	s, err := db.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("making merchants: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	service := platform.NewService(platform.ServiceOptions{
		Store: s, Now: time.Now, Rand: rand.Reader, OnChange: func(platform.Change) {},
	})
	for i := 1; i <= n; i++ {
		who := &shop{
			login: fmt.Sprintf("shop%d", i), password: rand.Text(),
			app: appKey(i), proof: basic(appKey(i), string(secret(i))),
		}
		if _, err := service.CreateUser(ctx, actor, who.login, who.login, who.password); err != nil {
			return nil, fmt.Errorf("making merchants: %w", err)
		}
		if _, err := service.SetOAuth(ctx, actor, who.app, platform.OAuthSettings{RedirectURIs: []string{callback}}); err != nil {
			return nil, fmt.Errorf("letting apps be authorized: %w", err)
		}
		shops = append(shops, who)
	}
	return shops, nil
}

// logIn begins the merchant's session, which lasts, and has it agree for the
// first time.
func (s *shop) logIn(ctx context.Context, base string, transport http.RoundTripper) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return fmt.Errorf("logging in: %w", err)
	}
	s.browser = &http.Client{
		Timeout: requestTimeout, Transport: transport, Jar: jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	address, verifier := s.request(base, false)
	page, err := s.send(ctx, http.MethodGet, address, nil, http.StatusOK)
	if err != nil {
		return fmt.Errorf("logging in: %w", err)
	}
	form, err := page.form("/oauth/login")
	if err != nil {
		return fmt.Errorf("logging in: %w", err)
	}
	form.Set("login", s.login)
	form.Set("password", s.password)
	if _, err = s.send(ctx, http.MethodPost, base+"/oauth/login", form, http.StatusSeeOther); err != nil {
		return fmt.Errorf("logging in: %w", err)
	}
	if s.first, err = s.finish(ctx, base, address, verifier, true); err == nil && (s.first.Access == "" || s.first.Refresh == "") {
		err = errors.New("the token endpoint gave no tokens")
	}
	return err
}

// authorize has the merchant authorize the app once more, and the app get
// tokens.
func (s *shop) authorize(ctx context.Context, base string, consent bool) (grantedTokens, error) {
	address, verifier := s.request(base, consent)
	return s.finish(ctx, base, address, verifier, consent)
}

// request is the authorization request of the app, by PKCE, and the verifier.
func (s *shop) request(base string, consent bool) (address, verifier string) {
	var random [32]byte
	_, _ = rand.Read(random[:])
	verifier = base64.RawURLEncoding.EncodeToString(random[:])
	challenge := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"response_type": {"code"}, "client_id": {s.app}, "redirect_uri": {callback}, "scope": {scopes}, "state": {verifier[:16]},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	if consent {
		query.Set("prompt", "consent")
	}
	return base + "/oauth/authorize?" + query.Encode(), verifier
}

// finish goes from the authorization request of a merchant who is logged in to
// the tokens. The consent page is expected, or is not.
func (s *shop) finish(ctx context.Context, base, address, verifier string, consent bool) (got grantedTokens, err error) {
	var back *page
	if consent {
		asked, err := s.send(ctx, http.MethodGet, address, nil, http.StatusOK)
		if err != nil {
			return got, fmt.Errorf("asking for consent: %w", err)
		}
		form, err := asked.form("/oauth/authorize")
		if err != nil {
			return got, fmt.Errorf("asking for consent: %w", err)
		}
		form.Set("decision", "approve")
		back, err = s.send(ctx, http.MethodPost, base+"/oauth/authorize", form, http.StatusSeeOther)
		if err != nil {
			return got, fmt.Errorf("agreeing: %w", err)
		}
	} else if back, err = s.send(ctx, http.MethodGet, address, nil, http.StatusSeeOther); err != nil {
		return got, fmt.Errorf("authorizing again: %w", err)
	}
	to, err := url.Parse(back.location)
	if err != nil {
		return got, fmt.Errorf("coming back to the app: %w", err)
	}
	code := to.Query().Get("code")
	if code == "" || to.Query().Get("state") != verifier[:16] {
		return got, fmt.Errorf("coming back to the app: no code or another state, error %q", to.Query().Get("error"))
	}
	answer, err := s.send(ctx, http.MethodPost, base+"/oauth/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback}, "code_verifier": {verifier},
	}, http.StatusOK)
	if err != nil {
		return got, fmt.Errorf("exchanging a code: %w", err)
	}
	if err := json.Unmarshal([]byte(answer.body), &got); err != nil {
		return got, fmt.Errorf("exchanging a code: %w", err)
	}
	return got, nil
}

// page is an answer, read to its end.
type page struct{ location, body string }

// send sends what the browser does, or what the app does to the token endpoint.
// Any status but the wanted is an error.
func (s *shop) send(ctx context.Context, method, address string, form url.Values, want int) (*page, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode())) //nolint:gosec // G704: a gateway of ours
	if err != nil {
		return nil, err
	}
	client := s.browser
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if req.URL.Path == "/oauth/token" {
		req.Header.Set("Authorization", s.proof)
		client = &http.Client{Timeout: requestTimeout, Transport: s.browser.Transport} // the app has no cookies
	} else if form != nil {
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	resp, err := client.Do(req) //nolint:gosec // G704: a gateway of ours
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		return nil, fmt.Errorf("%s; want %d: %.200s", resp.Status, want, body)
	}
	return &page{resp.Header.Get("Location"), string(body)}, nil
}

var (
	formTag = regexp.MustCompile(`(?s)<form method="post" action="([^"]+)">(.*?)</form>`)
	sealed  = regexp.MustCompile(`<input type="hidden" name="form" value="([^"]*)">`)
)

// form finds the form of a page that leads to path, with the one field that it
// has filled in.
func (p *page) form(path string) (url.Values, error) {
	for _, m := range formTag.FindAllStringSubmatch(p.body, -1) {
		if field := sealed.FindStringSubmatch(m[2]); m[1] == path && field != nil {
			return url.Values{"form": {html.UnescapeString(field[1])}}, nil
		}
	}
	return nil, fmt.Errorf("the page has no form that leads to %s: %.200s", path, p.body)
}
