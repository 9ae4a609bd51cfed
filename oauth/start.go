package oauth

import (
	"fmt"
	"net/http"
	"net/url"

	core "github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	linkParameter = "link"
	// ownStartLifetime is how long the links on our own pages are good for: as
	// long as a merchant stays logged in.
	ownStartLifetime = sessionLifetime
)

// start is where the links of the app market lead (OpenID Connect Core section
// 4). The merchant logs in and is sent to the app, which begins an authorization
// of its own. A link that is not good leads nowhere.
func (s *site) start(w http.ResponseWriter, r *http.Request) {
	link := linkIn(r.URL.RawQuery)
	request, err := s.server.OpenStart(r.Context(), link)
	if err != nil {
		s.refused(w, r, err)
		return
	}
	in, u, ok := s.visit(w, r)
	if !ok {
		return
	}
	if u == nil {
		s.showLogIn(w, r, in, s.startErrand(languageOf(r), request, link), logInTry{})
		return
	}
	to, err := s.server.Start(request, u.ID)
	if err != nil {
		s.refused(w, r, err)
		return
	}
	redirect(w, to)
}

// linkIn is the link that a query has, if it has one and no second.
func linkIn(rawQuery string) string {
	query, err := url.ParseQuery(rawQuery)
	if err != nil || len(query[linkParameter]) != 1 {
		return ""
	}
	return query.Get(linkParameter)
}

func (s *site) startErrand(t *words, request *core.StartRequest, link string) errand {
	return errand{
		target: startPage(link), app: request.App, why: fmt.Sprintf(t.LogInStart, plain(request.App.Name)),
		leadsTo: request.App.OAuth.InitiateLoginURI,
	}
}

// startAddress is a link of our own that starts the app.
func (s *site) startAddress(app *platform.App) (string, error) {
	link, err := s.server.StartLink(app, ownStartLifetime)
	if err != nil {
		return "", fmt.Errorf("making a link: %w", err)
	}
	return startPage(link), nil
}

func startPage(link string) string {
	return pathStart + "?" + url.Values{linkParameter: {link}}.Encode()
}
