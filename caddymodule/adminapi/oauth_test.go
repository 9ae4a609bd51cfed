package adminapi_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi/adminapitest"
)

const password = "correct horse battery"

func TestAdminUsers(t *testing.T) {
	s := newTestServer(t)
	status, u, header := s.ask(t, "POST", "/users", `{"login":"Shop@Example.com","name":"演示店","password":"`+password+`"}`)
	require.Equal(t, http.StatusCreated, status)
	require.Equal(t, "no-store", header.Get("Cache-Control"))
	require.Equal(t, "shop@example.com", u["login"])
	id := u["id"].(string)
	for _, ref := range []string{id, "shop@example.com"} {
		require.Equal(t, u, s.do(t, "GET", "/users/"+ref, ""))
	}
	require.Equal(t, "disabled", s.do(t, "POST", "/users/"+id+"/disable", "")["status"])
	require.Len(t, s.do(t, "GET", "/users?status=disabled", "")["users"], 1)
	require.Equal(t, "active", s.do(t, "POST", "/users/shop@example.com/enable", "")["status"])
	s.do(t, "PUT", "/users/"+id+"/password", `{"password":"another password"}`)
	_, err := s.Platform.Service().CheckPassword(t.Context(), netip.Addr{}, "shop@example.com", "another password")
	require.NoError(t, err)

	s.do(t, "POST", "/users", `{"login":"second","name":"Second","password":"`+password+`"}`)
	page := s.do(t, "GET", "/users?limit=1", "")
	require.Len(t, page["users"], 1)
	rest := s.do(t, "GET", "/users?limit=1&after="+page["next"].(string), "")
	require.NotEqual(t, page["users"], rest["users"])
	require.Len(t, s.do(t, "GET", "/users?text=shop", "")["users"], 1)
	require.Empty(t, s.do(t, "GET", "/users?text=nobody", "")["users"])

	for _, c := range []struct {
		method, path, body string
		status             int
		field              string
	}{
		{"POST", "/users", `{"login":"second","name":"S","password":"` + password + `"}`, http.StatusConflict, ""},
		{"POST", "/users", `{"login":"third","name":"S","password":"short"}`, http.StatusBadRequest, "password"},
		{"POST", "/users", `{"login":"a b","name":"S","password":"` + password + `"}`, http.StatusBadRequest, "login"},
		{"POST", "/users", `{"login":"third","name":"","password":"` + password + `"}`, http.StatusBadRequest, "name"},
		{"POST", "/users", `{"user":"third"}`, http.StatusBadRequest, "user"},
		{"PUT", "/users/second/password", `{}`, http.StatusBadRequest, "password"},
		{"GET", "/users?status=gone", ``, http.StatusBadRequest, "status"},
		{"GET", "/users?name=x", ``, http.StatusBadRequest, "name"},
		{"GET", "/users/nobody", ``, http.StatusNotFound, ""},
		{"POST", "/users/nobody/disable", ``, http.StatusNotFound, ""},
		{"PUT", "/users/nobody/password", `{"password":"` + password + `"}`, http.StatusNotFound, ""},
	} {
		status, out, _ := s.ask(t, c.method, c.path, c.body)
		require.Equal(t, c.status, status, "%s %s: %v", c.method, c.path, out)
		if c.field != "" {
			require.Equal(t, c.field, out["field"])
		}
		require.NotContains(t, fmt.Sprint(out), password)
	}
	require.NotContains(t, fmt.Sprint(s.do(t, "GET", "/audit", "")), "argon2id")
	require.NotContains(t, s.Logged(), password)
}

func TestAdminGrantsAndTokens(t *testing.T) {
	s := newTestServer(t)
	app := s.do(t, "POST", "/apps", `{"name":"ERP","kind":"isv"}`)
	u := s.do(t, "POST", "/users", `{"login":"shop","name":"Shop","password":"`+password+`"}`)
	set := s.do(t, "PUT", "/apps/"+app["app_key"].(string)+"/oauth", `{"redirect_uris":["https://erp.example.com/cb"],"tokens":"jwt","refresh":"rotate","without_pkce":true}`)
	require.Equal(t, map[string]any{"redirect_uris": []any{"https://erp.example.com/cb"}, "tokens": "jwt", "refresh": "rotate", "without_pkce": true}, set["oauth"])
	require.Equal(t, set["oauth"], s.do(t, "GET", "/apps/"+app["id"].(string), "")["oauth"])
	status, out, _ := s.ask(t, "PUT", "/apps/"+app["id"].(string)+"/oauth", `{"redirect_uris":["http://erp.example.com/cb"]}`)
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "redirect_uris[0]", out["field"])

	const access, refresh = "at_0000000000000000000000000000000000000000001", "rt_0000000000000000000000000000000000000000001"
	g := s.Platform.Authorize(t, "shop", app["id"].(string), access, refresh)
	list := s.do(t, "GET", "/grants?user=shop&live=true&app="+app["app_key"].(string), "")
	require.Len(t, list["grants"], 1)
	require.Nil(t, list["next"])
	require.Equal(t, list["grants"].([]any)[0], s.do(t, "GET", "/grants/"+g.ID, ""))
	require.Equal(t, g.ID, s.do(t, "GET", "/grants?limit=1", "")["next"])

	info := s.do(t, "POST", "/tokens/inspect", `{"token":"`+access+`"}`)
	require.Equal(t, map[string]any{
		"refresh": false, "grant": g.ID, "user": u["id"], "app": app["id"], "app_key": app["app_key"], "environment": "production",
		"scopes": []any{"trade"}, "issued_at": adminapitest.Now().Format("2006-01-02T15:04:05Z"), "expires_at": "2027-01-31T18:00:00Z",
	}, info)
	require.Equal(t, info, s.do(t, "POST", "/tokens/revoke", `{"token":"`+access+`"}`))
	status, _, _ = s.ask(t, "POST", "/tokens/inspect", `{"token":"`+access+`"}`)
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, true, s.do(t, "POST", "/tokens/inspect", `{"token":"`+refresh+`"}`)["refresh"])

	require.NotEmpty(t, s.do(t, "DELETE", "/grants/"+g.ID, "")["revoked_at"])
	status, _, _ = s.ask(t, "POST", "/tokens/revoke", `{"token":"`+refresh+`"}`)
	require.Equal(t, http.StatusNotFound, status)
	status, _, _ = s.ask(t, "DELETE", "/grants/"+g.ID, "")
	require.Equal(t, http.StatusConflict, status)
	require.Empty(t, s.do(t, "GET", "/grants?live=true", "")["grants"])
	require.Len(t, s.do(t, "GET", "/grants", "")["grants"], 1)

	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/grants?live=perhaps", "", http.StatusBadRequest},
		{"GET", "/grants?user=nobody", "", http.StatusNotFound},
		{"GET", "/grants?app=ak_none", "", http.StatusNotFound},
		{"GET", "/grants/gr_none", "", http.StatusNotFound},
		{"DELETE", "/grants/gr_none", "", http.StatusNotFound},
		{"POST", "/tokens/inspect", `{}`, http.StatusBadRequest},
		{"POST", "/tokens/revoke", `{"token":"two words"}`, http.StatusBadRequest},
		{"GET", "/tokens/inspect", "", http.StatusMethodNotAllowed},
	} {
		status, out, _ := s.ask(t, c.method, c.path, c.body)
		require.Equal(t, c.status, status, "%s %s: %v", c.method, c.path, out)
	}
	said := s.Logged() + fmt.Sprint(s.do(t, "GET", "/audit?actor=cli:tester", ""))
	require.Contains(t, said, "token.revoke")
	for _, secret := range []string{access, refresh, password} {
		require.NotContains(t, said, secret)
	}
}

func TestAdminStartLink(t *testing.T) {
	s := newTestServer(t)
	app := s.do(t, "POST", "/apps", `{"name":"ERP","kind":"isv","mode":"hosted"}`)
	path := "/apps/" + app["app_key"].(string)
	status, out, _ := s.ask(t, "POST", path+"/start-link", `{"issuer":"https://open.example.com"}`)
	require.Equal(t, http.StatusConflict, status, "%v", out)
	require.Contains(t, out["error"], "initiate_login_uri")
	set := s.do(t, "PUT", path+"/oauth", `{"initiate_login_uri":"https://erp.example.com/start"}`)
	require.Equal(t, map[string]any{"initiate_login_uri": "https://erp.example.com/start"}, set["oauth"])

	made := s.do(t, "POST", "/apps/"+app["id"].(string)+"/start-link", `{"issuer":"https://open.example.com","environment":"sandbox","valid":"90m"}`)
	require.Regexp(t, `^https://open\.example\.com/oauth/start\?link=[\w-]+$`, made["url"])
	delete(made, "url")
	require.Equal(t, map[string]any{"app_key": app["app_key"], "environment": "sandbox", "expires_at": "2027-01-31T09:30:00Z"}, made)
	made = s.do(t, "POST", path+"/start-link", `{"issuer":"https://open.example.com"}`)
	require.Equal(t, "production", made["environment"])
	require.Equal(t, "2027-02-01T08:00:00Z", made["expires_at"])

	for body, field := range map[string]string{
		``: "issuer", `{"issuer":"http://open.example.com"}`: "issuer", `{"host":"x"}`: "host",
		`{"issuer":"https://a.example","environment":"moon"}`: "environment",
		`{"issuer":"https://a.example","valid":"soon"}`:       "valid",
		`{"issuer":"https://a.example","valid":"-1h"}`:        "valid",
		`{"issuer":"https://a.example","valid":"2161h"}`:      "valid",
	} {
		status, out, _ := s.ask(t, "POST", path+"/start-link", body)
		require.Equal(t, http.StatusBadRequest, status, body)
		require.Equal(t, field, out["field"], body)
	}
	status, _, _ = s.ask(t, "POST", "/apps/ak_nobody/start-link", `{"issuer":"https://open.example.com"}`)
	require.Equal(t, http.StatusNotFound, status)
	s.do(t, "POST", path+"/suspend", "")
	status, out, _ = s.ask(t, "POST", path+"/start-link", `{"issuer":"https://open.example.com"}`)
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, out["error"], "suspended")
}
