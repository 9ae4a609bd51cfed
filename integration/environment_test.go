package integration

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestEnvironments: a sandbox credential never reaches production, and the
// reverse, whatever way in: every dialect, public keys, named credentials,
// apps that have both, hosts and headers that say otherwise.
func TestEnvironments(t *testing.T) {
	n, _ := startShop(t, globals("")+
		gated("http://sandbox.localhost:%site%", "sandbox", "dialects "+allDialects())+
		gated("http://production.localhost:%site%", "production", "dialects "+allDialects()))
	client := n.plain()
	base := map[string]string{"sandbox": n.fill("http://sandbox.localhost:%site%"), "production": n.fill("http://production.localhost:%site%")}
	other := map[string]string{"sandbox": "production", "production": "sandbox"}

	// One app for each environment, and one that has credentials of both.
	var apps []app
	both := n.newApp()
	apps = append(apps, n.withKeys(both, "sandbox")...)
	for _, a := range n.inDialects(both, "sandbox") {
		second := a
		require.NoError(t, json.Unmarshal([]byte(n.cli("app", "secret", "add", a.Key, "--json", "--environment", "production", "--dialect", a.Dialect)), &second))
		require.NotEqual(t, a.Secret, second.Secret)
		apps = append(apps, a, second)
	}
	apps = append(apps, n.withKeys(both, "production")...)
	for _, environment := range []string{"sandbox", "production"} {
		apps = append(apps, n.inDialects(n.newApp("--environment", environment), environment)...)
	}

	for _, a := range apps {
		kind := a.Dialect
		if a.private != "" {
			kind += " public key"
		}
		t.Run(kind+" of "+a.Environment, func(t *testing.T) {
			home, away := base[a.Environment], base[other[a.Environment]]
			forged := http.Header{"X-Open-Environment": {other[a.Environment]}}
			e := send(t, client, a.sign(t, call{url: home + a.target(), header: forged})).echoed(t)
			identified(t, e, a)

			for _, c := range []call{
				{url: away + a.target()},
				{url: away + a.target(), header: forged},
				{url: away + a.target() + "&environment=" + other[a.Environment]},
				{url: away + a.target(), number: a.Number},
			} {
				if c.number != 0 && a.Dialect != "op1" && a.Dialect != "rfc9421" {
					continue // only these can name a credential
				}
				send(t, client, a.sign(t, c)).refused(t, http.StatusForbidden, "environment_mismatch")
			}

			// The same signed request at the other host: refused, and its nonce unspent.
			// It is another call than the first one: by its time where parameters are not signed.
			moved := a.sign(t, call{url: home + a.target() + "&call=2", at: time.Now().Add(2 * time.Second)})
			again := moved.Clone(t.Context())
			again.Host = ""
			again.URL.Host = a.sign(t, call{url: away + a.target()}).URL.Host
			got := send(t, client, again)
			require.Contains(t, []string{"environment_mismatch", "signature_invalid"}, got.code(), "%s", got.body)
			again = moved.Clone(t.Context())
			again.Host = moved.URL.Host
			send(t, client, again).passed(t)
		})
	}
}

// withKeys registers a public key for the app.
func (n *node) withKeys(a app, environment string) []app {
	n.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(n.t, err)
	data, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(n.t, err)
	n.write("key.pub.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: data})))
	require.NoError(n.t, json.Unmarshal([]byte(n.cli("app", "key", "add", a.Key, "--json", "--environment", environment, "--file", "key.pub.pem")), &a))
	data, err = x509.MarshalPKCS8PrivateKey(private)
	require.NoError(n.t, err)
	a.private = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: data}))
	a.Secret = ""
	return []app{a}
}
