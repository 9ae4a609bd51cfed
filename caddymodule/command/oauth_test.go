package command

import (
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	password     = "correct horse battery"
	accessToken  = "at_0000000000000000000000000000000000000000001"
	refreshToken = "rt_0000000000000000000000000000000000000000001"
)

func TestCommandsOnMerchants(t *testing.T) {
	t.Chdir(t.TempDir())
	s, addr := admin(t)
	made := runWith(t, addr, password+"\n", false, "user", "create", "Shop@example.com", "--name", "演示店").ok(t)
	require.NotContains(t, made, password)
	u, err := s.Platform.Service().CheckPassword(t.Context(), netip.Addr{}, "shop@example.com", password)
	require.NoError(t, err)
	require.Equal(t, strings.TrimLeft(`
user:     `+u.ID+`
login:    shop@example.com
name:     演示店
status:   active
created:  2027-01-31 08:00:00Z
changed:  2027-01-31 08:00:00Z
`, "\n"), made)
	require.Equal(t, made, run(t, addr, "user", "show", "shop@example.com").ok(t))

	writeFile(t, "password.txt", "another password\r\n")
	run(t, addr, "user", "password", u.ID, "--password-file", "password.txt").ok(t)
	_, err = s.Platform.Service().CheckPassword(t.Context(), netip.Addr{}, "shop@example.com", "another password")
	require.NoError(t, err)
	require.Contains(t, run(t, addr, "user", "disable", "shop@example.com").ok(t), "disabled")
	require.Equal(t, strings.TrimLeft(`
ID                        STATUS    CREATED               LOGIN             NAME
`+u.ID+`  disabled  2027-01-31 08:00:00Z  shop@example.com  演示店
`, "\n"), run(t, addr, "user", "list", "--status", "disabled").ok(t))
	require.Contains(t, run(t, addr, "user", "enable", u.ID).ok(t), "active")
	var page struct{ Users []platform.User }
	require.NoError(t, json.Unmarshal([]byte(run(t, addr, "user", "list", "--text", "shop", "--json").ok(t)), &page))
	require.Len(t, page.Users, 1)
	runWith(t, addr, password, false, "user", "create", "second", "--name", "Second").ok(t)
	require.Contains(t, run(t, addr, "user", "list", "--limit", "1").stderr, "more: --after usr_")

	run(t, addr, "user", "create", "third").usage(t, "--name is missing")
	run(t, addr, "user", "create", "third", "--name", "x").usage(t, "no password came")
	run(t, addr, "user", "create", "third", "--name", "x", "--password-file", "nowhere").usage(t, "--password-file: nowhere")
	runWith(t, addr, "short", false, "user", "create", "third", "--name", "x").usage(t, "password: is too short")
	runWith(t, addr, password, false, "user", "create", "second", "--name", "x").failed(t, "conflict")
	run(t, addr, "user", "show", "nobody").failed(t, "not found")
	run(t, addr, "user", "disable", "nobody").failed(t, "not found")
	run(t, addr, "user", "list", "--status", "gone").usage(t, "status")
	require.NotContains(t, s.Logged(), password)
}

func TestCommandsOnGrantsAndTokens(t *testing.T) {
	t.Chdir(t.TempDir())
	s, addr := admin(t)
	var app struct {
		ID     string
		AppKey string `json:"app_key"`
	}
	require.NoError(t, json.Unmarshal([]byte(run(t, addr, "app", "create", "--name", "ERP", "--json").ok(t)), &app))
	runWith(t, addr, password, false, "user", "create", "shop", "--name", "Shop").ok(t)
	shown := run(t, addr, "app", "oauth", app.AppKey, "--redirect-uri", "https://erp.example.com/cb", "--redirect-uri", "https://erp.example.com/cb2",
		"--tokens", "jwt", "--refresh", "rotate", "--without-pkce").ok(t)
	require.Contains(t, shown, `
OAuth
tokens:          jwt
refresh tokens:  rotate
PKCE:            not required
redirect URI:  https://erp.example.com/cb
redirect URI:  https://erp.example.com/cb2
`)
	require.Equal(t, shown, run(t, addr, "app", "show", app.ID).ok(t))
	require.NotContains(t, run(t, addr, "app", "oauth", app.AppKey).ok(t), "OAuth")
	run(t, addr, "app", "oauth", app.AppKey, "--redirect-uri", "http://erp.example.com/cb").usage(t, "redirect_uris[0]")
	run(t, addr, "app", "oauth", app.AppKey, "--tokens", "paper").usage(t, "opaque or jwt")

	g := s.Platform.Authorize(t, "shop", app.ID, accessToken, refreshToken)
	require.Equal(t, strings.TrimLeft(`
ID                       USER                      APP                       ENVIRONMENT  CREATED               STATE                       SCOPES
`+g.ID+`  `+g.User+`  `+app.ID+`  production   2027-01-31 08:00:00Z  until 2027-07-30 08:00:00Z  trade
`, "\n"), run(t, addr, "grant", "list", "--user", "shop", "--app", app.AppKey).ok(t))
	require.Contains(t, run(t, addr, "grant", "list", "--limit", "1").stderr, "more: --after "+g.ID)

	require.NoError(t, os.WriteFile("token.txt", []byte(refreshToken+"\n"), 0o600))
	require.Equal(t, strings.TrimLeft(`
kind:         access token
state:        until 2027-01-31 18:00:00Z
app:          `+app.ID+`
app key:      `+app.AppKey+`
user:         `+g.User+`
grant:        `+g.ID+`
environment:  production
scopes:       trade
issued:       2027-01-31 08:00:00Z
expires:      2027-01-31 18:00:00Z
`, "\n"), runWith(t, addr, accessToken+"\n", false, "token", "inspect").ok(t))
	var info platform.TokenInfo
	require.NoError(t, json.Unmarshal([]byte(run(t, addr, "token", "inspect", "--token-file", "token.txt", "--json").ok(t)), &info))
	require.True(t, info.Refresh)
	require.Contains(t, run(t, addr, "token", "revoke", "--token-file", "token.txt").ok(t), "state:        revoked")
	runWith(t, addr, accessToken, false, "token", "inspect").failed(t, "not found")
	for _, secret := range []string{accessToken, refreshToken, "oc_0000000000000000000000000000000000000000001", "dc_0000000000000000000000000000000000000000001"} {
		run(t, addr, "token", "inspect", secret).usage(t, "unexpected argument")
		refused := run(t, addr, "grant", "revoke", secret)
		refused.usage(t, "is a secret")
		require.NotContains(t, refused.stderr, secret)
	}
	run(t, addr, "token", "inspect").usage(t, "no token came")
	runWith(t, addr, "two words", false, "token", "revoke").usage(t, "token: is no token")

	declined := runWith(t, addr, "n\n", true, "grant", "revoke", g.ID)
	require.Equal(t, 1, declined.code)
	require.Contains(t, declined.stderr, "nothing was changed")
	require.Contains(t, runWith(t, addr, "y\n", true, "grant", "revoke", g.ID).stdout, "revoked:      2027-01-31 08:00:00Z")
	run(t, addr, "grant", "revoke", g.ID).failed(t, "revoked before")
	require.NotContains(t, run(t, addr, "grant", "list").ok(t), g.ID)
	require.Contains(t, run(t, addr, "grant", "list", "--all").ok(t), "revoked 2027-01-31 08:00:00Z")
	run(t, addr, "grant", "list", "--user", "nobody").failed(t, "not found")
	for _, secret := range []string{accessToken, refreshToken} {
		require.NotContains(t, s.Logged(), secret)
	}
}

func TestCommandsOnStartLinks(t *testing.T) {
	t.Chdir(t.TempDir())
	_, addr := admin(t)
	var app struct {
		AppKey string `json:"app_key"`
	}
	require.NoError(t, json.Unmarshal([]byte(run(t, addr, "app", "create", "--name", "ERP", "--mode", "hosted", "--json").ok(t)), &app))
	run(t, addr, "app", "start-link", app.AppKey, "--issuer", "https://open.example.com").failed(t, "has no initiate_login_uri")
	shown := run(t, addr, "app", "oauth", app.AppKey, "--initiate-login-uri", "https://erp.example.com/start").ok(t)
	require.Contains(t, shown, "initiate login URI:  https://erp.example.com/start")
	run(t, addr, "app", "oauth", app.AppKey, "--initiate-login-uri", "http://erp.example.com/start").usage(t, "initiate_login_uri")

	made := run(t, addr, "app", "start-link", app.AppKey, "--issuer", "https://open.example.com").ok(t)
	require.Regexp(t, `^app key:      `+app.AppKey+`
environment:  production
until:        2027-02-01 08:00:00Z
link:         https://open\.example\.com/oauth/start\?link=[\w-]+
$`, made)
	var link struct {
		URL         string
		Environment string
		ExpiresAt   string `json:"expires_at"`
	}
	require.NoError(t, json.Unmarshal([]byte(run(t, addr, "app", "start-link", app.AppKey, "--issuer", "https://open.example.com",
		"--environment", "sandbox", "--valid", "1h", "--json").ok(t)), &link))
	require.Equal(t, "2027-01-31T09:00:00Z", link.ExpiresAt)
	require.Equal(t, "sandbox", link.Environment)
	run(t, addr, "app", "start-link", app.AppKey).usage(t, "issuer")
	run(t, addr, "app", "start-link", app.AppKey, "--issuer", "https://open.example.com", "--valid", "0s").usage(t, "valid")
	run(t, addr, "app", "start-link", "ak_nobody", "--issuer", "https://open.example.com").failed(t, "not found")
}
