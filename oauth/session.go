package oauth

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	// sessionCookie has the prefix with which a browser takes it only from this
	// host, over TLS (RFC 6265bis section 4.1.3.2).
	sessionCookie = "__Host-op_session"
	// sessionLifetime is how long a merchant stays logged in.
	sessionLifetime = 8 * time.Hour
	// formLifetime is how long a form may be filled in.
	formLifetime = 30 * time.Minute
)

// The purposes for which something is sealed. What was sealed for one does not
// open for another.
const (
	sealedSession = "session"
	sealedForm    = "form"
	sealedLogIn   = "log-in"
)

// vault seals what goes through a browser.
type vault interface {
	Seal(purpose string, data []byte) (string, error)
	Unseal(purpose, text string) ([]byte, error)
}

// session is what the browser's cookie says. It is sealed with the master key,
// so that the browser can neither read nor change it, and every node can read
// it. Everybody has one, logged in or not: forms are bound to it.
type session struct {
	// ID is new at every log-in and log-out, so that nobody can be given one
	// that somebody else knows.
	ID string `json:"i"`
	// User is who logged in; empty while nobody has.
	User string `json:"u,omitempty"`
	// Password marks the password that was logged in with.
	Password string `json:"p,omitempty"`
	// Again says that somebody logged out: an OpenID provider is to ask who it is,
	// even if it knows.
	Again bool `json:"a,omitempty"`
	// Until ends it, in Unix seconds.
	Until int64 `json:"x"`
}

// session reads the session of the request. One that is missing, too old or not
// ours is replaced.
func (s *site) session(w http.ResponseWriter, r *http.Request) (*session, error) {
	if c, err := r.Cookie(sessionCookie); err == nil {
		var found session
		if s.open(sealedSession, c.Value, &found) && s.now().Unix() < found.Until {
			return &found, nil
		}
	}
	return s.startSession(w, nil)
}

// startSession begins a session of the user; nil is nobody.
func (s *site) startSession(w http.ResponseWriter, u *platform.User) (*session, error) {
	started := &session{}
	if u != nil {
		started.User, started.Password = u.ID, passwordMark(u)
	}
	return started, s.keepSession(w, started)
}

// keepSession gives the session a new ID and its time, and hands it to the
// browser.
func (s *site) keepSession(w http.ResponseWriter, started *session) error {
	started.ID, started.Until = rand.Text(), s.now().Add(sessionLifetime).Unix()
	value, err := s.seal(sealedSession, started)
	if err != nil {
		return err
	}
	// Lax, so that a merchant who comes from an app's own page is still logged in.
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	return nil
}

// seal makes a text of v that only this platform can read, for this issuer.
func (s *site) seal(purpose string, v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return s.vault.Seal(purpose+" "+s.issuer, data)
}

// open reads into v what seal made.
func (s *site) open(purpose, sealed string, v any) bool {
	data, err := s.vault.Unseal(purpose+" "+s.issuer, sealed)
	return err == nil && json.Unmarshal(data, v) == nil
}
