package oauth

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"go.uber.org/zap"

	core "github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// consentView is what the consent page shows.
type consentView struct {
	App      appView
	Shop     string
	Scopes   []scope
	Until    date
	ReturnTo string
	// UserCode is what the device shows that asks; empty where none does.
	UserCode             string
	Form, Action         string
	LogOut, LogOutAction string
	Grants               string
}

// authorize is the authorization endpoint (RFC 6749 section 3.1): it has the
// merchant log in and agree, unless both is done already.
func (s *site) authorize(w http.ResponseWriter, r *http.Request) {
	request, err := s.server.Authorize(r.Context(), r.URL.RawQuery)
	if err != nil {
		s.refused(w, r, err)
		return
	}
	allowFormTo(w.Header(), request.RedirectURI)
	in, u, ok := s.visit(w, r)
	if !ok {
		return
	}
	if u == nil {
		s.showLogIn(w, r, in, s.authorizeErrand(languageOf(r), request), logInTry{})
		return
	}
	if s.approveCovered(w, r, request, u) {
		return
	}
	s.showConsent(w, r, in, u, question{
		app: request.App, scopes: request.Scopes, returnTo: returnTo(languageOf(r), request.RedirectURI),
		form: formConsent, target: request.RawQuery, action: pathAuthorize, page: pathAuthorize + "?" + request.RawQuery,
	})
}

// approveCovered answers a request that an earlier grant covers, and tells
// whether it did.
func (s *site) approveCovered(w http.ResponseWriter, r *http.Request, request *core.AuthorizationRequest, u *platform.User) bool {
	grant, err := s.server.Covered(r.Context(), request, u.ID)
	if err != nil {
		s.failed(w, r, err)
		return true
	}
	if grant == "" {
		return false
	}
	to, err := s.server.Approve(r.Context(), request, u.ID, grant)
	switch {
	case errors.Is(err, core.ErrNotCovered):
		return false
	case err != nil:
		s.refused(w, r, err)
	default:
		redirect(w, to)
	}
	return true
}

// question is what a merchant is asked.
type question struct {
	app    *platform.App
	scopes []string
	// returnTo says where the merchant goes afterwards.
	returnTo string
	userCode string
	// form is what the answer is for, target what it is about; action takes it,
	// and page is the page of the question.
	form, target, action, page string
}

// showConsent asks the merchant whether an app may act.
func (s *site) showConsent(w http.ResponseWriter, r *http.Request, in *session, u *platform.User, q question) {
	t := languageOf(r)
	shown, err := s.scopes(r, t, q.scopes)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	v := consentView{
		App: s.appView(t, q.app), Shop: plain(u.Name), Scopes: shown,
		Until:    s.date(t, s.now().Add(core.RefreshTokenLifetime)),
		ReturnTo: q.returnTo, UserCode: q.userCode,
		Action: q.action, LogOutAction: pathLogout, Grants: pathGrants,
	}
	if v.Form, err = s.newForm(q.form, in, u, q.target); err == nil && s.sessions {
		v.LogOut, err = s.newForm(formLogOut, in, u, q.page)
	}
	if err != nil {
		s.failed(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, consentPage, view{T: t, Title: fmt.Sprintf(t.AsksAccess, v.App.Name), Body: v})
}

// returnTo says where the merchant goes afterwards.
func returnTo(t *words, redirectURI string) string {
	u, err := url.Parse(redirectURI)
	if err != nil || u.Scheme != "https" {
		return t.ThisDevice
	}
	return u.Host
}

// decide takes the merchant's answer. The request is checked anew: what came back
// is not trusted, and the app may have changed meanwhile.
func (s *site) decide(w http.ResponseWriter, r *http.Request) {
	in, u, ok := s.visit(w, r)
	if !ok {
		return
	}
	f, code := s.readForm(w, r, in, formConsent)
	if code == "" && (u == nil || u.ID != f.User) {
		code = problemExpiredForm
	}
	if code != "" {
		s.problem(w, r, http.StatusForbidden, code)
		return
	}
	request, err := s.server.Authorize(r.Context(), f.Target)
	if err != nil {
		s.refused(w, r, err)
		return
	}
	allowFormTo(w.Header(), request.RedirectURI)
	switch r.PostForm.Get("decision") {
	case "approve":
		to, err := s.server.Approve(r.Context(), request, u.ID, "")
		if err != nil {
			s.refused(w, r, err)
			return
		}
		redirect(w, to)
	case "deny":
		redirect(w, s.server.Deny(request))
	default:
		s.problem(w, r, http.StatusBadRequest, problemExpiredForm)
	}
}

// refused answers a request that the core refused: the app hears of it, or else
// the merchant alone.
func (s *site) refused(w http.ResponseWriter, r *http.Request, err error) {
	if back, ok := errors.AsType[*core.RedirectError](err); ok {
		s.logFailure(r, back.Err)
		redirect(w, back.URL())
		return
	}
	page, ok := errors.AsType[*core.PageError](err)
	if !ok {
		s.failed(w, r, err)
		return
	}
	s.logFailure(r, page.Err)
	t := languageOf(r)
	p := t.problem(page.Code)
	if page.Status >= http.StatusInternalServerError {
		p = t.problem(problemUnavailable)
	}
	s.show(w, r, page.Status, messagePage, view{T: t, Title: p.Title, Body: message{
		Text: []string{p.Text}, Code: page.Code, Detail: page.Description,
	}})
}

// failed answers a request that the platform could not serve.
func (s *site) failed(w http.ResponseWriter, r *http.Request, err error) {
	s.logFailure(r, err)
	w.Header().Set("Retry-After", "1")
	s.problem(w, r, http.StatusServiceUnavailable, problemUnavailable)
}

func (s *site) logFailure(r *http.Request, err error) {
	if err != nil {
		s.logger.Error("page not served", zap.String("path", r.URL.Path), zap.Error(err))
	}
}
