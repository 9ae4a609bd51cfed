package oauth

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// What a form does.
const (
	formLogIn   = "login"
	formLogOut  = "logout"
	formConsent = "consent"
	formDevice  = "device"
	formRevoke  = "revoke"
)

// maxForm bounds the body of a form, in bytes.
const maxForm = 64 << 10

// form is the hidden field of every form of ours, sealed. It shows that the
// input comes from a page that this browser was given, for what it says: another
// site can neither read nor make one.
type form struct {
	Does string `json:"d"`
	// Session is the ID of the session that it was made for, User who was
	// logged in.
	Session string `json:"s"`
	User    string `json:"u,omitempty"`
	// Target is what the form is about: the query of the authorization request,
	// a user code, the page to go to, or a grant.
	Target string `json:"t"`
	// Until ends it, in Unix seconds.
	Until int64 `json:"x"`
}

// newForm makes the hidden field of a form.
func (s *site) newForm(does string, in *session, u *platform.User, target string) (string, error) {
	f := form{Does: does, Session: in.ID, Target: target, Until: s.now().Add(formLifetime).Unix()}
	if u != nil {
		f.User = u.ID
	}
	return s.seal(sealedForm, f)
}

// readForm reads a form that was sent, and checks that it was ours. The code is
// that of a problem, or empty.
func (s *site) readForm(w http.ResponseWriter, r *http.Request, in *session, does string) (f form, code string) {
	if !s.sameOrigin(r) {
		return form{}, problemForeign
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return form{}, problemTooLarge
		}
		return form{}, problemExpiredForm
	}
	if !s.open(sealedForm, r.PostForm.Get("form"), &f) {
		return form{}, problemExpiredForm
	}
	if f.Does != does || f.Session != in.ID || s.now().Unix() >= f.Until {
		return form{}, problemExpiredForm
	}
	return f, ""
}

// sameOrigin tells whether a form was sent from our own page, as far as the
// browser says. Where it says nothing, the sealed field decides alone. The
// origin is "null" in browsers that know no Sec-Fetch-Site, since our pages have
// them send no referrer.
func (s *site) sameOrigin(r *http.Request) bool {
	if fetched := r.Header.Get("Sec-Fetch-Site"); fetched != "" {
		return fetched == "same-origin"
	}
	origin := r.Header.Get("Origin")
	if origin == "" || origin == "null" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == "https" && (u.Host == r.Host || u.Host == s.host)
}
