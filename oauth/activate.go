package oauth

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"

	core "github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// userCodeParameter is that of RFC 8628 section 3.3.1.
const userCodeParameter = "user_code"

// activateView is what the page shows where merchants type the codes of devices.
type activateView struct {
	Problem, UserCode    string
	Action               string
	Shop                 string
	LogOut, LogOutAction string
}

// activate is the page for merchants whose device has no browser (RFC 8628
// section 3.3). A code in the address leads to the question at once: the merchant
// compares it there with the device's. The form to type one is sent by GET, since
// it changes nothing.
func (s *site) activate(w http.ResponseWriter, r *http.Request) {
	in, u, ok := s.visit(w, r)
	if !ok {
		return
	}
	typed := r.URL.Query().Get(userCodeParameter)
	if u == nil {
		s.showLogIn(w, r, in, s.errandTo(r, languageOf(r), activateAddress(typed)), logInTry{})
		return
	}
	if typed == "" {
		s.showActivate(w, r, in, u, http.StatusOK, activateView{})
		return
	}
	request, err := s.server.DeviceRequest(r.Context(), typed, u.ID, clientIP(r))
	if err != nil {
		s.deviceRefused(w, r, in, u, typed, err)
		return
	}
	s.showConsent(w, r, in, u, question{
		app: request.App, scopes: request.Scopes, returnTo: languageOf(r).YourDevice, userCode: request.UserCode,
		form: formDevice, target: request.UserCode, action: pathActivate, page: activateAddress(request.UserCode),
	})
}

// activateAddress is the page with a code typed in, if there is one.
func activateAddress(userCode string) string {
	if userCode == "" {
		return pathActivate
	}
	return pathActivate + "?" + url.Values{userCodeParameter: {userCode}}.Encode()
}

func (s *site) showActivate(w http.ResponseWriter, r *http.Request, in *session, u *platform.User, status int, v activateView) {
	t := languageOf(r)
	v.Action, v.LogOutAction, v.Shop = pathActivate, pathLogout, plain(u.Name)
	if s.sessions {
		var err error
		if v.LogOut, err = s.newForm(formLogOut, in, u, activateAddress(v.UserCode)); err != nil {
			s.failed(w, r, err)
			return
		}
	}
	s.show(w, r, status, activatePage, view{T: t, Title: t.DeviceTitle, Body: v, Switch: pathActivate + otherLanguage("", t.OtherTag)})
}

// deviceRefused shows the form again where the code is wrong, and else what is.
func (s *site) deviceRefused(w http.ResponseWriter, r *http.Request, in *session, u *platform.User, typed string, err error) {
	t := languageOf(r)
	if wait, ok := errors.AsType[*core.WaitError](err); ok {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.RetryAfter.Seconds()))))
		s.showActivate(w, r, in, u, http.StatusTooManyRequests, activateView{Problem: t.LockedOut, UserCode: typed})
		return
	}
	if errors.Is(err, core.ErrUserCode) {
		s.showActivate(w, r, in, u, http.StatusBadRequest, activateView{Problem: t.WrongCode, UserCode: typed})
		return
	}
	s.refused(w, r, err)
}

// decideDevice takes the merchant's answer. The device is looked for anew: it may
// have been answered, and the app may have changed meanwhile.
func (s *site) decideDevice(w http.ResponseWriter, r *http.Request) {
	in, u, ok := s.visit(w, r)
	if !ok {
		return
	}
	f, code := s.readForm(w, r, in, formDevice)
	if code == "" && (u == nil || u.ID != f.User) {
		code = problemExpiredForm
	}
	if code != "" {
		s.problem(w, r, http.StatusForbidden, code)
		return
	}
	request, err := s.server.DeviceRequest(r.Context(), f.Target, u.ID, clientIP(r))
	if err != nil {
		s.deviceRefused(w, r, in, u, f.Target, err)
		return
	}
	t := languageOf(r)
	title, text := t.DeviceDoneTitle, t.DeviceDoneText
	switch r.PostForm.Get("decision") {
	case "approve":
		err = s.server.ApproveDevice(r.Context(), request, u.ID)
	case "deny":
		title, text = t.DeviceDenied, t.DeviceDeniedText
		err = s.server.DenyDevice(r.Context(), request)
	default:
		s.problem(w, r, http.StatusBadRequest, problemExpiredForm)
		return
	}
	if err != nil {
		s.deviceRefused(w, r, in, u, f.Target, err)
		return
	}
	s.show(w, r, http.StatusOK, messagePage, view{T: t, Title: title, Body: message{Text: []string{fmt.Sprintf(text, plain(request.App.Name))}}})
}
