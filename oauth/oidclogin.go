package oauth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	logInCookie = "__Host-op_login"
	// maxLogInCookie is what browsers keep of a cookie, and a little less (RFC
	// 6265 section 6.1).
	maxLogInCookie = 4000
	// logInLifetime is how long a merchant may take at the provider.
	logInLifetime = 30 * time.Minute
)

// logIn is what the browser's cookie says while its merchant is at the provider:
// sealed, and for the browser that set out alone. Of several at a time the last one
// counts.
type logIn struct {
	// State and Nonce tie the provider's answer and its ID token to this log-in,
	// Verifier ties the code to it (RFC 7636).
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	// Session is the ID of the session that it began in.
	Session string `json:"i"`
	// Provider is who was asked, by issuer and client.
	Provider string `json:"p"`
	// Target is the page of ours that the merchant wants.
	Target string `json:"t"`
	// Until ends it, in Unix seconds.
	Until int64 `json:"x"`
}

// redirectURI is where the provider sends the merchant back to.
func (s *site) redirectURI() string { return s.issuer + pathCallback }

// startLogIn sends the merchant to the provider (OpenID Connect Core 1.0 section
// 3.1.2.1), with PKCE, state and nonce.
func (s *site) startLogIn(w http.ResponseWriter, r *http.Request, in *session, target string) {
	d, err := s.oidc.describe(r.Context())
	if err != nil {
		s.logFailure(r, err)
		s.noProvider(w, r, target)
		return
	}
	l := logIn{
		State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Session: in.ID,
		Provider: s.oidc.id(), Target: target, Until: s.now().Add(logInLifetime).Unix(),
	}
	value, err := s.seal(sealedLogIn, l)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	if len(value) > maxLogInCookie {
		s.problem(w, r, http.StatusRequestURITooLong, problemTooLarge)
		return
	}
	// Lax: the way back is a link from another site.
	http.SetCookie(w, &http.Cookie{
		Name: logInCookie, Value: value, Path: "/", MaxAge: int(logInLifetime.Seconds()),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	options := []oauth2.AuthCodeOption{
		oauth2.S256ChallengeOption(l.Verifier), oidc.Nonce(l.Nonce), oauth2.SetAuthURLParam("ui_locales", languageOf(r).Tag),
	}
	if in.Again {
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"))
	}
	redirect(w, s.oidc.oauth(d, s.redirectURI()).AuthCodeURL(l.State, options...))
}

// loggedIn takes the merchant back from the provider. The session that follows is a
// new one.
func (s *site) loggedIn(w http.ResponseWriter, r *http.Request) {
	in, err := s.session(w, r)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	said, l := s.answerOf(r, in)
	if l == nil {
		// Not of a log-in that this browser began: somebody else's, or an old one.
		s.problem(w, r, http.StatusForbidden, problemExpiredForm)
		return
	}
	u, err := s.merchantOf(r, said, l)
	if !errors.Is(err, errNoProvider) { // else the same answer may be good yet: it is used up only by the exchange
		forgetLogIn(w)
	}
	switch {
	case errors.Is(err, errNoProvider):
		s.logFailure(r, err)
		s.noProvider(w, r, l.Target)
		return
	case errors.Is(err, errNotProven):
		s.logFailure(r, err)
		s.trouble(w, r, http.StatusForbidden, problemLogIn, l.Target)
		return
	case err == nil && u.Status != platform.UserActive:
		s.problem(w, r, http.StatusForbidden, problemDisabled)
		return
	case err == nil:
		_, err = s.startSession(w, u)
	}
	if err != nil {
		s.failed(w, r, err)
		return
	}
	redirect(w, l.Target)
}

// answerOf reads the provider's answer, and the log-in that it belongs to; nil
// where this browser began none that fits.
func (s *site) answerOf(r *http.Request, in *session) (url.Values, *logIn) {
	said, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, nil
	}
	for _, values := range said {
		if len(values) != 1 { // RFC 6749 section 3.1
			return nil, nil
		}
	}
	c, err := r.Cookie(logInCookie)
	if err != nil {
		return nil, nil
	}
	var l logIn
	if !s.open(sealedLogIn, c.Value, &l) || s.now().Unix() >= l.Until || l.Session != in.ID || l.Provider != s.oidc.id() ||
		subtle.ConstantTimeCompare([]byte(l.State), []byte(said.Get("state"))) != 1 {
		return nil, nil
	}
	return said, &l
}

// merchantOf finds out who the merchant is, and takes in one that is not known
// yet. The error is errNotProven, errNoProvider, or that of our own store.
func (s *site) merchantOf(r *http.Request, said url.Values, l *logIn) (*platform.User, error) {
	d, err := s.oidc.describe(r.Context())
	if err != nil {
		return nil, err
	}
	if err := s.oidc.checkAnswer(d, said); err != nil {
		return nil, err
	}
	if err := s.useState(r, l); err != nil {
		return nil, err
	}
	who, err := s.oidc.identify(r.Context(), d, s.redirectURI(), said.Get("code"), l)
	if err != nil {
		return nil, err
	}
	u, err := s.platform.Store.UserByIdentity(r.Context(), s.oidc.config.Issuer, who.subject, who.name, s.now())
	if err != nil {
		return nil, fmt.Errorf("finding the merchant: %w", err)
	}
	return u, nil
}

// useState uses the state: it serves once, on all nodes.
func (s *site) useState(r *http.Request, l *logIn) error {
	nonce := sha256.Sum256([]byte("log-in\x00" + l.State))
	_, err := s.platform.Ledger.Spend(r.Context(), s.now(), &limit.Spend{Nonce: nonce[:], Expiry: time.Unix(l.Until, 0)})
	if errors.Is(err, limit.ErrUsed) {
		return fmt.Errorf("%w: the answer came before", errNotProven)
	}
	if err != nil {
		return fmt.Errorf("using a log-in once: %w", err)
	}
	return nil
}

// noProvider says that the provider does not work, and how to try again.
func (s *site) noProvider(w http.ResponseWriter, r *http.Request, target string) {
	w.Header().Set("Retry-After", "5")
	s.trouble(w, r, http.StatusServiceUnavailable, problemProvider, target)
}

// trouble shows what went wrong at a log-in, and leads to where it began.
func (s *site) trouble(w http.ResponseWriter, r *http.Request, status int, code, target string) {
	t := languageOf(r)
	p := t.problem(code)
	s.show(w, r, status, messagePage, view{T: t, Title: p.Title, Body: message{Text: []string{p.Text}, Link: target, LinkText: t.TryAgain}})
}

// forgetLogIn ends the log-in in the browser.
func forgetLogIn(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{
		Name: logInCookie, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}
