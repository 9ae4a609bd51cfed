package oauth

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	core "github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// grantsView is what "My authorizations" shows.
type grantsView struct {
	Shop string
	// Revoked says what was just done.
	Revoked              string
	Grants               []grantView
	Action               string
	LogOut, LogOutAction string
}

// grantView is one authorization.
type grantView struct {
	ID           string
	App          appView
	Scopes       string
	Since, Until date
	Warning      string
	Form         string
	// Start leads to the app; empty where it cannot be started from here.
	Start string
}

// maxGrants bounds the list on the page.
const maxGrants = 200

// grants is the page "My authorizations".
func (s *site) grants(w http.ResponseWriter, r *http.Request) {
	in, u, ok := s.visit(w, r)
	if !ok {
		return
	}
	if u == nil {
		s.showLogIn(w, r, in, s.errandTo(r, languageOf(r), pathGrants), logInTry{})
		return
	}
	t := languageOf(r)
	v := grantsView{Shop: plain(u.Name), Action: pathGrants, LogOutAction: pathLogout, Revoked: s.justRevoked(r, t, u)}
	err := s.listGrants(r, t, in, u, &v)
	if err == nil && s.sessions {
		v.LogOut, err = s.newForm(formLogOut, in, u, s.afterLogOut())
	}
	if err != nil {
		s.failed(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, grantsPage, view{T: t, Title: t.MyGrants, Wide: true, Body: v})
}

// listGrants finds the live grants of the merchant in this environment.
func (s *site) listGrants(r *http.Request, t *words, in *session, u *platform.User, v *grantsView) error {
	f := platform.GrantFilter{User: u.ID, Environment: s.environment, LiveAt: s.now()}
	found, err := s.platform.Service.Grants(r.Context(), f, platform.Page{Limit: maxGrants})
	if err != nil {
		return err
	}
	for i := range found {
		shown, err := s.grantView(r, t, in, u, &found[i])
		if err != nil {
			return err
		}
		v.Grants = append(v.Grants, shown)
	}
	return nil
}

func (s *site) grantView(r *http.Request, t *words, in *session, u *platform.User, g *platform.Grant) (grantView, error) {
	app, err := s.platform.Service.App(r.Context(), g.App)
	if err != nil {
		return grantView{}, err
	}
	shown, err := s.scopes(r, t, g.Scopes)
	if err != nil {
		return grantView{}, err
	}
	titles := make([]string, len(shown))
	for i := range shown {
		titles[i] = shown[i].Title
	}
	v := grantView{
		ID: g.ID, App: s.appView(t, app), Scopes: strings.Join(titles, t.Comma),
		Since: s.date(t, g.CreatedAt), Until: s.date(t, g.ExpiresAt),
	}
	v.Warning = fmt.Sprintf(t.Warning, v.App.Name)
	if core.CanStart(app) {
		if v.Start, err = s.startAddress(app); err != nil {
			return grantView{}, err
		}
	}
	v.Form, err = s.newForm(formRevoke, in, u, g.ID)
	return v, err
}

// revokedParameter names the grant that was just revoked.
const revokedParameter = "revoked"

// justRevoked says which app has no access any more; "" when none was revoked.
func (s *site) justRevoked(r *http.Request, t *words, u *platform.User) string {
	id := r.URL.Query().Get(revokedParameter)
	if id == "" {
		return ""
	}
	g, err := s.platform.Store.Grant(r.Context(), id)
	if err != nil || g.User != u.ID || g.Live(s.now()) {
		return ""
	}
	app, err := s.platform.Service.App(r.Context(), g.App)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(t.Revoked, plain(app.Name))
}

// revoke ends a grant. The form was made for one of the merchant's own.
func (s *site) revoke(w http.ResponseWriter, r *http.Request) {
	in, u, ok := s.visit(w, r)
	if !ok {
		return
	}
	f, code := s.readForm(w, r, in, formRevoke)
	if code == "" && (u == nil || u.ID != f.User) {
		code = problemExpiredForm
	}
	if code != "" {
		s.problem(w, r, http.StatusForbidden, code)
		return
	}
	// One that has ended already is what the merchant wants.
	_, err := s.platform.Service.RevokeGrant(r.Context(), u.ID, f.Target)
	if err != nil && !errors.Is(err, platform.ErrConflict) {
		s.failed(w, r, err)
		return
	}
	redirect(w, pathGrants+"?"+url.Values{revokedParameter: {f.Target}}.Encode())
}

// notFound says that there is no such page.
func (s *site) notFound(w http.ResponseWriter, r *http.Request) {
	s.problem(w, r, http.StatusNotFound, problemNotFound)
}
