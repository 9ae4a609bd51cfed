package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// TestPassportOfCaddy: the merchant is who an authentication handler says.
func TestPassportOfCaddy(t *testing.T) {
	w := newWorld(t, `basic_auth /oauth/authorize {
		carol $2a$04$d5BC3bsSKnPqLaqPfH/qYufIWAxjX0tVZ97.mGOt8cLGaRr28GZEu
	}
	basic_auth /oauth/grants {
		carol $2a$04$d5BC3bsSKnPqLaqPfH/qYufIWAxjX0tVZ97.mGOt8cLGaRr28GZEu
	}
	open_oauth {
		passport user {http.auth.user.id}
	}`)
	b := w.browser()
	address, verifier := w.start("trade")
	require.Equal(t, http.StatusUnauthorized, b.get(address).StatusCode, "Caddy asks")

	b.header.Set("Authorization", "Basic Y2Fyb2w6c2VjcmV0") // carol:secret
	consent := b.get(address)
	require.Contains(t, consent.body, "<b>carol</b>")
	require.NotContains(t, consent.body, "/oauth/logout", "to log out is the business of who logged in")
	back := b.submit(consent, "/oauth/authorize", "decision", "approve")
	_, err := w.exchange(back.code(t), verifier, "trade")
	require.NoError(t, err)
	require.Contains(t, b.get(w.grantsPage()).body, "旺店助手")
	require.Equal(t, http.StatusNotFound, b.get(w.site.URL+"/oauth/login").StatusCode)

	users, err := w.service.Users(t.Context(), platform.UserFilter{Text: "carol"}, platform.Page{})
	require.NoError(t, err)
	require.Len(t, users, 1, "one merchant for one identity")
	_, err = w.service.DisableUser(t.Context(), "test", users[0].ID)
	require.NoError(t, err)
	page := b.get(address)
	require.Equal(t, http.StatusForbidden, page.StatusCode)
	require.Contains(t, page.body, "not logged in")
}

// TestPassportOfForwardAuth: the merchant is who the server behind forward_auth
// says, whatever headers the client sends.
func TestPassportOfForwardAuth(t *testing.T) {
	sso := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie("sso"); err == nil {
			w.Header().Set("Remote-User", c.Value)
			w.Header().Set("Remote-Name", "Shop of "+c.Value)
		}
	}))
	defer sso.Close()
	w := newWorld(t, `forward_auth /oauth/* `+strings.TrimPrefix(sso.URL, "http://")+` {
		uri /check
		copy_headers Remote-User
	}
	open_oauth {
		passport user {rp.header.Remote-User} {rp.header.Remote-Name}
	}`)
	b := w.browser()
	for _, name := range []string{"Remote-User", "Remote_User", "X-Remote-User", "Remote-Name", "X-Open-User-Id"} {
		b.header.Set(name, "mallory")
	}
	address, _ := w.start("trade")
	page := b.get(address)
	require.Equal(t, http.StatusForbidden, page.StatusCode)
	require.Contains(t, page.body, "not logged in")

	b.header.Set("Cookie", "sso=dave")
	consent := b.get(address)
	require.Equal(t, http.StatusOK, consent.StatusCode)
	require.Contains(t, consent.body, "<b>Shop of dave</b>")
	users, err := w.service.Users(t.Context(), platform.UserFilter{}, platform.Page{})
	require.NoError(t, err)
	require.Len(t, users, 2, "the account of newWorld, and dave")

	// The page was for dave, and is of no use to erin.
	to, fields := consent.form(t, "/oauth/authorize")
	fields.Set("decision", "approve")
	b.header.Set("Cookie", "sso=erin; "+sessionOf(consent))
	require.Equal(t, http.StatusForbidden, b.do(http.MethodPost, to, fields).StatusCode)
	b.header.Set("Cookie", "sso=dave; "+sessionOf(consent))
	require.Equal(t, http.StatusSeeOther, b.do(http.MethodPost, to, fields).StatusCode)
}

// sessionOf is the session that the page set, as a browser sends it back.
func sessionOf(a answer) string {
	if c := a.cookie(sessionCookie); c != nil {
		return c.Name + "=" + c.Value
	}
	return ""
}
