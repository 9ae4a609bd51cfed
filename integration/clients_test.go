package integration

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

// vendorSites are a gate, an authorization server that goes by its own name, and
// the site of a vendor whose program runs behind Caddy.
const vendorSites = `https://localhost:%oauth% {
	tls internal
	open_oauth sandbox
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

// tokens are what a client was given.
type tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	Type         string `json:"token_type"`
	Scope        string `json:"scope"`
}

// clientReport is what a client's program tells.
type clientReport struct {
	Got, Refreshed, Own   tokens
	Introspected, Revoked struct {
		Active   bool   `json:"active"`
		ClientID string `json:"client_id"`
	}
	Key json.RawMessage // of DPoP
}

// TestUnmodifiedClients: libraries that vendors use get a merchant's authorization
// as their authors published them, and the gate takes the tokens that they got.
func TestUnmodifiedClients(t *testing.T) {
	n, _ := startShop(t, globals("")+gated("http://127.0.0.1:%site%", "sandbox", "")+vendorSites)
	merchantID := n.openOrders()

	// goThrough has a merchant authorize the app, and the program report.
	goThrough := func(t *testing.T, program string, a app, more settings) clientReport {
		t.Helper()
		origin := n.fill("https://localhost:%vendor%")
		s := settings{
			"issuer": n.authorization(), "client_id": a.Key, "client_secret": a.Secret, "scope": "trade",
			"port": n.word("program"), "origin": origin, "redirect_uri": origin + "/callback",
		}
		maps.Copy(s, more)
		registered := s["redirect_uri"].(string)
		if port := n.words["native"]; port != "" { // where the program listens is not known before it runs
			registered = strings.Replace(registered, "http://127.0.0.1:"+port, "http://127.0.0.1", 1)
		}
		status, data := n.api(http.MethodPut, "/open_platform/apps/"+a.ID+"/oauth", map[string]any{"redirect_uris": []string{registered}})
		require.Equal(t, http.StatusOK, status, "%s", data)
		running := n.startScript(t, program, s)
		defer running.stop()
		p := newPerson(t)
		p.goes(s["origin"].(string) + "/start")
		p.logsIn(merchantPassword)
		return p.agrees(running)
	}
	// holds checks what every client has to have in the end.
	holds := func(t *testing.T, a app, r clientReport) {
		t.Helper()
		require.Equal(t, "trade", r.Got.Scope)
		require.NotEmpty(t, r.Got.RefreshToken)
		require.NotEqual(t, r.Got.AccessToken, r.Refreshed.AccessToken)
		seen := send(t, n.plain(), a.sign(t, call{url: n.base() + "/v1/orders", token: r.Refreshed.AccessToken})).echoed(t)
		require.Equal(t, merchantID, seen.Header.Get("X-Open-User-Id"))
	}
	// revoked checks that a token that the client gave back is worth nothing.
	revoked := func(t *testing.T, a app, token string) {
		t.Helper()
		send(t, n.plain(), a.sign(t, call{url: n.base() + "/v1/orders", token: token})).refused(t, http.StatusUnauthorized, "token_invalid")
	}

	t.Run("oauth4webapi", func(t *testing.T) {
		a := n.newApp("--kind", "isv", "--package", "trade")
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(t, err)
		private, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		public, err := x509.MarshalPKIXPublicKey(key.Public())
		require.NoError(t, err)
		n.write("key.pub.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})))
		n.cli("app", "key", "add", a.Key, "--file", "key.pub.pem")
		r := goThrough(t, "oauth4webapi.mjs", a, settings{
			"client_secret": nil, "key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		})
		holds(t, a, r)
		require.NotEmpty(t, r.Own.AccessToken)
		require.True(t, r.Introspected.Active)
		require.Equal(t, a.Key, r.Introspected.ClientID)
		require.False(t, r.Revoked.Active)
		revoked(t, a, r.Got.AccessToken)
	})

	t.Run("openid-client", func(t *testing.T) {
		a := n.newApp("--kind", "isv", "--mode", "client", "--package", "trade")
		origin := n.fill("http://127.0.0.1:%native%")
		r := goThrough(t, "openid-client.mjs", a, settings{
			"client_secret": nil, "port": n.word("native"), "origin": origin, "redirect_uri": origin + "/callback",
		})
		require.Equal(t, "dpop", strings.ToLower(r.Refreshed.Type))
		require.NotEqual(t, r.Got.RefreshToken, r.Refreshed.RefreshToken, "it rotates")
		var key jose.JSONWebKey
		require.NoError(t, json.Unmarshal(r.Key, &key))
		proof := prove(t, key.Key.(*ecdsa.PrivateKey), http.MethodGet, n.base()+"/v1/orders", r.Refreshed.AccessToken)
		orders := call{url: n.base() + "/v1/orders", header: http.Header{"Authorization": {"DPoP " + r.Refreshed.AccessToken}, "Dpop": {proof}}}
		require.Equal(t, merchantID, send(t, n.plain(), a.sign(t, orders)).echoed(t).Header.Get("X-Open-User-Id"))
		revoked(t, a, r.Refreshed.AccessToken) // without its key
	})

	t.Run("simple-oauth2", func(t *testing.T) {
		a := n.newApp("--kind", "isv", "--package", "trade")
		r := goThrough(t, "simple-oauth2.mjs", a, nil)
		holds(t, a, r)
		require.NotEmpty(t, r.Own.AccessToken)
		revoked(t, a, r.Got.AccessToken)
	})

	t.Run("passport-oauth2", func(t *testing.T) {
		a := n.newApp("--kind", "isv", "--package", "trade")
		holds(t, a, goThrough(t, "passport-oauth2.mjs", a, nil))
	})

	// The vendor's own site has its codes in the log: its address is no business of ours.
	require.NotRegexp(t, `\b(at|rt|sk)_[0-9A-Za-z_-]{20}`, n.log.String())
}
