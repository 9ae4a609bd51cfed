package oauth

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	core "github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// loginView is what the page to log in shows.
type loginView struct {
	App *appView
	// Why says what for.
	Why            string
	Problem, Login string
	Form, Action   string
}

// logInTry is what came of an attempt before.
type logInTry struct {
	status  int
	problem string
	login   string
}

// askLogIn is the page to log in for itself.
func (s *site) askLogIn(w http.ResponseWriter, r *http.Request) {
	in, u, ok := s.visit(w, r)
	if !ok {
		return
	}
	if u != nil {
		redirect(w, pathGrants)
		return
	}
	s.showLogIn(w, r, in, s.errandTo(r, languageOf(r), pathGrants), logInTry{})
}

// errand is what a merchant logs in for.
type errand struct {
	// target is the page to go on with.
	target string
	// app is what asks, or nil; why says what for.
	app *platform.App
	why string
	// leadsTo is where target may redirect to, or empty.
	leadsTo string
}

// errandTo says what a merchant logs in for on the way to one of our pages. Where
// that asks for nothing that holds, it is the page of grants.
func (s *site) errandTo(r *http.Request, t *words, target string) errand {
	path, query, _ := strings.Cut(target, "?")
	switch path {
	case pathAuthorize:
		if request, err := s.server.Authorize(r.Context(), query); err == nil {
			return s.authorizeErrand(t, request)
		}
	case pathStart:
		link := linkIn(query)
		if start, err := s.server.OpenStart(r.Context(), link); err == nil {
			return s.startErrand(t, start, link)
		}
	case pathActivate:
		return errand{target: target, why: t.LogInDevice}
	}
	return errand{target: pathGrants, why: t.LogInGrants}
}

func (s *site) authorizeErrand(t *words, request *core.AuthorizationRequest) errand {
	return errand{
		target: pathAuthorize + "?" + request.RawQuery, app: request.App, why: fmt.Sprintf(t.LogInFor, plain(request.App.Name)),
		leadsTo: request.RedirectURI,
	}
}

// showLogIn asks who the merchant is, and then goes on with the errand. An OpenID
// provider asks on a page of its own; where another passport says who it is, there
// is nothing to ask.
func (s *site) showLogIn(w http.ResponseWriter, r *http.Request, in *session, e errand, try logInTry) {
	t := languageOf(r)
	if !s.sessions {
		s.show(w, r, http.StatusForbidden, messagePage, view{T: t, Title: t.NotLoggedInTitle, Body: message{Text: []string{t.NotLoggedInText}}})
		return
	}
	if s.oidc != nil {
		s.startLogIn(w, r, in, e.target)
		return
	}
	allowFormTo(w.Header(), e.leadsTo)
	v := loginView{Why: e.why, Problem: try.problem, Login: try.login, Action: pathLogin}
	if e.app != nil {
		a := s.appView(t, e.app)
		v.App = &a
	}
	var err error
	if v.Form, err = s.newForm(formLogIn, in, nil, e.target); err != nil {
		s.failed(w, r, err)
		return
	}
	path, query, _ := strings.Cut(e.target, "?")
	s.show(w, r, cmp.Or(try.status, http.StatusOK), loginPage, view{T: t, Title: t.LogInTitle, Body: v, Switch: path + otherLanguage(query, t.OtherTag)})
}

// logIn checks name and password. The session that follows is a new one, and the
// browser goes on with GET.
func (s *site) logIn(w http.ResponseWriter, r *http.Request) {
	in, err := s.session(w, r)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	f, code := s.readForm(w, r, in, formLogIn)
	if code != "" {
		s.problem(w, r, http.StatusForbidden, code)
		return
	}
	login := r.PostForm.Get("login")
	u, err := s.checkPassword(r, login)
	if err != nil {
		s.logInFailed(w, r, in, f, login, err)
		return
	}
	if _, err := s.startSession(w, u); err != nil {
		s.failed(w, r, err)
		return
	}
	redirect(w, f.Target)
}

// checkPassword finds the merchant whose password it is. How often one address may
// have one hashed is bounded for all names together.
func (s *site) checkPassword(r *http.Request, login string) (*platform.User, error) {
	from := clientIP(r)
	if err := s.platform.Guesses.LogIn(s.now(), from); err != nil {
		return nil, err
	}
	return s.platform.Service.CheckPassword(r.Context(), from, login, r.PostForm.Get("password"))
}

// logInFailed shows the form again, and what was wrong.
func (s *site) logInFailed(w http.ResponseWriter, r *http.Request, in *session, f form, login string, err error) {
	t := languageOf(r)
	try := logInTry{status: http.StatusForbidden, problem: t.WrongPassword, login: login}
	var retry time.Duration
	if locked, ok := errors.AsType[*platform.LockedError](err); ok {
		retry = locked.RetryAfter
	} else if wait, ok := errors.AsType[*core.WaitError](err); ok {
		retry = wait.RetryAfter
	} else if !errors.Is(err, platform.ErrLogin) {
		s.failed(w, r, err)
		return
	}
	if retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(retry.Seconds()))))
		try.status, try.problem = http.StatusTooManyRequests, t.LockedOut
	}
	s.showLogIn(w, r, in, s.errandTo(r, t, f.Target), try)
}

// askLogOut asks whether to log out: a link from elsewhere must not do so.
func (s *site) askLogOut(w http.ResponseWriter, r *http.Request) {
	in, u, ok := s.visit(w, r)
	if !ok {
		return
	}
	t := languageOf(r)
	if u == nil || !s.sessions {
		s.show(w, r, http.StatusOK, messagePage, view{T: t, Title: t.LoggedOutTitle, Body: s.loggedOut(t)})
		return
	}
	field, err := s.newForm(formLogOut, in, u, pathLogout)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, messagePage, view{T: t, Title: t.LogOutTitle, Body: message{
		Text: []string{t.LogOutText}, Button: t.LogOut, Action: pathLogout, Form: field,
	}})
}

// loggedOut says that nobody is logged in here, and where somebody may still be.
func (s *site) loggedOut(t *words) message {
	if s.oidc != nil {
		if there := s.oidc.endSession(); there != nil {
			return message{Text: []string{fmt.Sprintf(t.StillAt, there.Host)}, Link: there.String(), LinkText: t.LogOutThere}
		}
	}
	return message{Text: []string{t.LoggedOutText}}
}

// afterLogOut is where the browser goes from a page that needs somebody to be
// logged in. The provider would log the same merchant in again.
func (s *site) afterLogOut() string {
	if s.oidc != nil {
		return pathLogout
	}
	return pathLogin
}

// logOut ends the session of this browser.
func (s *site) logOut(w http.ResponseWriter, r *http.Request) {
	in, err := s.session(w, r)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	f, code := s.readForm(w, r, in, formLogOut)
	if code != "" {
		s.problem(w, r, http.StatusForbidden, code)
		return
	}
	if err := s.keepSession(w, &session{Again: true}); err != nil {
		s.failed(w, r, err)
		return
	}
	redirect(w, f.Target)
}
