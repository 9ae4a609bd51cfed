package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

const providerSecret = "the provider's secret 4711"

// openIDSite has merchants log in with an OpenID provider.
const openIDSite = `https://localhost:%oauth% {
	tls internal
	log
	open_oauth sandbox {
		passport oidc {
			issuer https://127.0.0.1:%provider%
			client_id open-platform
			client_secret {env.OIDC_SECRET}
			ca ./provider.pem
		}
	}
}
https://localhost:%vendor% {
	tls internal
	reverse_proxy 127.0.0.1:%program% {
		transport http {
			keepalive off
		}
	}
}
`

// TestOpenIDProvider: merchants log in with a certified provider, authorize an app,
// change accounts, and go on while the provider is down.
func TestOpenIDProvider(t *testing.T) {
	n := newNode(t)
	n.openShop()
	certificate := testserver.NewCertificate(t, "provider")
	n.write("provider.pem", string(certificate.Authority))
	n.write("shop.openapi.yaml", n.fill(shopCatalog))
	n.env = []string{"OIDC_SECRET=" + providerSecret}
	options := "\tlog {\n\t\tformat open_platform\n\t}"
	n.configure(globals(options) + gated("http://127.0.0.1:%site%", "sandbox", "") + openIDSite)
	n.run() // the provider is not there yet
	n.openOrders()
	a := n.newApp("--kind", "isv", "--package", "trade")
	origin := n.fill("https://localhost:%vendor%")
	status, data := n.api(http.MethodPut, "/open_platform/apps/"+a.ID+"/oauth", map[string]any{"redirect_uris": []string{origin + "/callback"}})
	require.Equal(t, http.StatusOK, status, "%s", data)
	vendor := n.startScript(t, "simple-oauth2.mjs", settings{
		"issuer": n.authorization(), "client_id": a.Key, "client_secret": a.Secret, "scope": "trade",
		"port": n.word("program"), "origin": origin, "redirect_uri": origin + "/callback",
	})

	p := newPerson(t)
	p.goes(origin + "/start")
	heading, _ := p.sees()
	require.Equal(t, "Logging in is not possible right now", heading)
	p.picture("provider-down")

	issuer := n.fill("https://127.0.0.1:%provider%")
	start := func() *script {
		return n.startScript(t, "provider.mjs", settings{
			"issuer": issuer, "port": n.word("provider"), "cert": string(certificate.PEM), "key": string(certificate.Key),
			"client_id": "open-platform", "client_secret": providerSecret, "redirect_uri": n.authorization() + "/oauth/callback",
		})
	}
	provider := start()
	atProvider := func(name string) {
		t.Helper()
		_, at := p.sees()
		require.Contains(t, at, issuer)
		p.does(fill("input[name=login]", name), fill("input[name=password]", "any"), press("button[type=submit]"))
		if _, at = p.sees(); hostOf(t, at) == hostOf(t, issuer) { // it asks for consent once
			p.does(press("button[type=submit]"))
		}
	}

	eventually(t, "the provider is asked again", func() error {
		p.goes(origin + "/start")
		if _, at := p.sees(); hostOf(t, at) != hostOf(t, issuer) {
			return fmt.Errorf("the browser is at %s", at)
		}
		return nil
	})
	atProvider("alice")
	require.Contains(t, p.text(), "Shop of alice")
	p.picture("provider-consent")
	r := p.agrees(vendor)
	seen := send(t, n.plain(), a.sign(t, call{url: n.base() + "/v1/orders", token: r.Refreshed.AccessToken})).echoed(t)
	require.NotEmpty(t, seen.Header.Get("X-Open-User-Id"))

	grants := n.authorization() + "/oauth/grants"
	p.goes(grants)
	require.Contains(t, p.text(), "Shop of alice")
	p.does(press(".head button"))
	heading, _ = p.sees()
	require.Equal(t, "You are logged out", heading)
	p.picture("provider-logged-out")
	p.goes(grants)
	atProvider("bob") // the provider still knew alice
	require.Contains(t, p.text(), "Shop of bob")

	p.goes(origin + "/start")
	require.Contains(t, p.text(), "Shop of bob")
	p.does(press(".who button")) // another account: the form leads to the provider
	atProvider("alice")
	_, at := p.sees()
	require.Contains(t, at, origin+"/callback", "alice had agreed before")

	p.goes(grants)
	p.does(press(".head button"))
	p.does(press("main a.button"))
	_, at = p.sees()
	require.Contains(t, at, issuer, "to log out there, too")
	p.goes(grants)
	atProvider("alice")

	provider.stop()
	p.goes(grants)
	require.Contains(t, p.text(), "Shop of alice", "who is logged in goes on")
	for _, secret := range []string{providerSecret, r.Got.AccessToken, a.Secret} {
		require.NotContains(t, n.log.String(), secret)
	}
	require.NotRegexp(t, `[?&]code=[^R]`, n.log.String(), "the access log holds no code")
}

func hostOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	return u.Host
}
