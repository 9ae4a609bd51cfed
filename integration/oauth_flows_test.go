package integration

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// loggedSite is the authorization server with an access log.
var loggedSite = strings.Replace(authorizationSite, "tls internal", "tls internal\n\tlog {\n\t\tformat open_platform\n\t}", 1)

// TestDeviceFlow: a device without a browser calls on a merchant's behalf once
// the merchant has typed its code elsewhere.
func TestDeviceFlow(t *testing.T) {
	n, _ := startShop(t, globals("")+gated("http://127.0.0.1:%site%", "sandbox", "")+loggedSite)
	id := n.openOrders()
	a := n.newApp("--kind", "isv", "--mode", "client", "--package", "trade")
	m := newMerchant(t, n)
	config := &oauth2.Config{ClientID: a.Key, Scopes: []string{"trade"}, Endpoint: oauth2.Endpoint{
		DeviceAuthURL: n.authorization() + "/oauth/device", TokenURL: n.authorization() + "/oauth/token", AuthStyle: oauth2.AuthStyleInParams,
	}}
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), oauth2.HTTPClient, m.client), patience)
	defer cancel()
	device, err := config.DeviceAuth(ctx)
	require.NoError(t, err)
	require.Equal(t, "https://open.example.com/oauth/activate", device.VerificationURI)

	login := m.get(n.authorization() + "/oauth/activate?" + url.Values{"user_code": {device.UserCode}}.Encode())
	consent := m.submit(login, "/oauth/login", "login", "shop-1", "password", merchantPassword)
	require.Contains(t, string(consent.body), device.UserCode)
	m.submit(consent, "/oauth/activate", "decision", "approve").passed(t)
	token, err := config.DeviceAccessToken(ctx, device)
	require.NoError(t, err)

	seen := send(t, n.plain(), a.sign(t, call{url: n.base() + "/v1/orders", token: token.AccessToken})).echoed(t)
	require.Equal(t, id, seen.Header.Get("X-Open-User-Id"))
	plants := planted{"device code": device.DeviceCode, "user code": device.UserCode, "access token": token.AccessToken, "refresh token": token.RefreshToken}
	require.Contains(t, n.log.String(), "user_code=REDACTED")
	plants.absent(t, "the log", n.log.String())
}

// TestStartLink: what the command line makes leads a merchant to the app.
func TestStartLink(t *testing.T) {
	n, _ := startShop(t, globals("")+loggedSite)
	id := n.openOrders()
	a := n.newApp("--kind", "isv", "--mode", "hosted", "--package", "trade")
	n.cli("app", "oauth", a.Key, "--redirect-uri", theCallback, "--initiate-login-uri", "https://isv.example.com/start")
	var link struct{ URL string }
	require.NoError(t, json.Unmarshal([]byte(n.cli("app", "start-link", a.Key, "--environment", "sandbox", "--json")), &link))
	rest, found := strings.CutPrefix(link.URL, "https://open.example.com/")
	require.True(t, found, "the configuration names the issuer: %s", link.URL)
	_, stderr, code := n.try("app", "start-link", a.Key)
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "issuer")

	m := newMerchant(t, n)
	login := m.get(n.authorization() + "/" + rest)
	back := m.submit(login, "/oauth/login", "login", "shop-1", "password", merchantPassword)
	require.Equal(t, http.StatusSeeOther, back.StatusCode, "%s", back.body)
	to, err := back.Location()
	require.NoError(t, err)
	require.Equal(t, "https://isv.example.com/start", to.Scheme+"://"+to.Host+to.Path)
	require.Equal(t, []string{"https://open.example.com", a.Key, id}, []string{to.Query().Get("iss"), to.Query().Get("client_id"), to.Query().Get("login_hint")})
	_, sealed, _ := strings.Cut(rest, "link=")
	plants := planted{"link": sealed, "start token": to.Query().Get("start_token")}
	require.Contains(t, n.log.String(), "link=REDACTED")
	plants.absent(t, "the log", n.log.String())
}
