package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// ordersCatalog has an API that needs a merchant's authorization.
const ordersCatalog = `openapi: 3.1.0
info: {title: Orders, version: "1.0"}
x-open-upstream: 127.0.0.1:%upstream%
paths:
  /v1/orders:
    get:
      x-open-name: shop.orders
      x-open-package: trade
      x-open-user-token: true
      responses: {"200": {description: The merchant's orders.}}
`

// authorizationSite serves merchants and apps of the sandbox over TLS. On every
// node it goes by the same name, as it does behind a load balancer.
const authorizationSite = `https://localhost:%oauth% {
	tls internal
	open_oauth sandbox {
		issuer https://open.example.com
	}
}
`

// theCallback is where the app wants the merchant back. Nobody is there: the
// tests read it off the redirect.
const theCallback = "https://isv.example.com/callback"

const merchantPassword = "correct horse battery"

// openOrders brings the API into the catalog, and makes a merchant.
func (n *node) openOrders() (merchantID string) {
	n.t.Helper()
	n.write("orders.openapi.yaml", n.fill(ordersCatalog))
	n.cli("apply", "-f", "orders.openapi.yaml")
	return n.newShopkeeper()
}

// newShopkeeper makes the merchant who authorizes apps.
func (n *node) newShopkeeper() (merchantID string) {
	n.t.Helper()
	status, data := n.api(http.MethodPost, "/open_platform/users",
		map[string]string{"login": "shop-1", "name": "Shop 1", "password": merchantPassword})
	require.Equal(n.t, http.StatusCreated, status, "%s", data)
	var u struct {
		ID string `json:"id"`
	}
	require.NoError(n.t, json.Unmarshal(data, &u))
	return u.ID
}

// newVendor makes an app that merchants authorize.
func (n *node) newVendor() app {
	n.t.Helper()
	a := n.newApp("--kind", "isv", "--package", "trade")
	status, data := n.api(http.MethodPut, "/open_platform/apps/"+a.ID+"/oauth", map[string]any{"redirect_uris": []string{theCallback}})
	require.Equal(n.t, http.StatusOK, status, "%s", data)
	return a
}

func (n *node) authorization() string { return "https://localhost:" + n.word("oauth") }

// oauth is the app's client: an ordinary library.
func (a app) oauth(n *node) *oauth2.Config {
	return &oauth2.Config{
		ClientID: a.Key, ClientSecret: a.Secret, RedirectURL: theCallback, Scopes: []string{"trade"},
		Endpoint: oauth2.Endpoint{AuthURL: n.authorization() + "/oauth/authorize", TokenURL: n.authorization() + "/oauth/token"},
	}
}

// merchant is a browser that goes as far as our own pages.
type merchant struct {
	t      *testing.T
	client *http.Client
}

func newMerchant(t *testing.T, nodes ...*node) *merchant {
	t.Helper()
	pool := x509.NewCertPool()
	for _, n := range nodes {
		require.True(t, pool.AppendCertsFromPEM([]byte(n.read("data/caddy/pki/authorities/local/root.crt"))))
	}
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return &merchant{t, &http.Client{Transport: transport, Jar: jar, Timeout: patience, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Hostname() != "localhost" {
			return http.ErrUseLastResponse
		}
		return nil
	}}}
}

func (m *merchant) get(address string) answer {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, address, nil)
	require.NoError(m.t, err)
	return send(m.t, m.client, req)
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="form" value="([^"]+)">`)

// submit sends the form of the page that leads to path, with further fields.
func (m *merchant) submit(page answer, path string, pairs ...string) answer {
	m.t.Helper()
	_, form, found := strings.Cut(string(page.body), `<form method="post" action="`+path+`">`)
	require.True(m.t, found, "no form for %s: %s", path, page.body)
	hidden := hiddenField.FindStringSubmatch(form)
	require.NotNil(m.t, hidden)
	fields := url.Values{"form": {html.UnescapeString(hidden[1])}}
	for i := 0; i < len(pairs); i += 2 {
		fields.Set(pairs[i], pairs[i+1])
	}
	to, err := page.Request.URL.Parse(path)
	require.NoError(m.t, err)
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodPost, to.String(), strings.NewReader(fields.Encode()))
	require.NoError(m.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return send(m.t, m.client, req)
}

// authorize has the merchant log in and agree, and the app get its token.
func (m *merchant) authorize(n *node, a app) *oauth2.Token {
	m.t.Helper()
	config, verifier := a.oauth(n), oauth2.GenerateVerifier()
	login := m.get(config.AuthCodeURL("a state", oauth2.S256ChallengeOption(verifier)))
	consent := m.submit(login, "/oauth/login", "login", "shop-1", "password", merchantPassword)
	require.Contains(m.t, string(consent.body), "Shop 1")
	back := m.submit(consent, "/oauth/authorize", "decision", "approve")
	require.Equal(m.t, http.StatusSeeOther, back.StatusCode, "%s", back.body)
	to, err := back.Location()
	require.NoError(m.t, err)
	require.Equal(m.t, "isv.example.com", to.Host)
	require.Equal(m.t, "a state", to.Query().Get("state"))
	ctx := context.WithValue(m.t.Context(), oauth2.HTTPClient, m.client)
	token, err := config.Exchange(ctx, to.Query().Get("code"), oauth2.VerifierOption(verifier))
	require.NoError(m.t, err)
	return token
}

// TestOAuth: a merchant authorizes an app, which then calls on the merchant's
// behalf, until the merchant withdraws that.
func TestOAuth(t *testing.T) {
	n, _ := startShop(t, globals("")+gated("http://127.0.0.1:%site%", "sandbox", "")+authorizationSite)
	id := n.openOrders()
	a := n.newVendor()
	orders := call{url: n.base() + "/v1/orders"}
	client := n.plain()
	send(t, client, a.sign(t, orders)).refused(t, http.StatusUnauthorized, "token_missing")
	orders.token = "at_" + strings.Repeat("x", 43)
	send(t, client, a.sign(t, orders)).refused(t, http.StatusUnauthorized, "token_invalid")

	m := newMerchant(t, n)
	token := m.authorize(n, a)
	orders.token = token.AccessToken
	seen := send(t, client, a.sign(t, orders)).echoed(t)
	require.Equal(t, id, seen.Header.Get("X-Open-User-Id"))
	require.Equal(t, "trade", seen.Header.Get("X-Open-Scopes"))
	require.Empty(t, seen.Header.Get("Authorization"), "the shop never holds the token")

	t.Run("another app cannot use it", func(t *testing.T) {
		send(t, client, n.newVendor().sign(t, orders)).refused(t, http.StatusUnauthorized, "token_invalid")
	})
	t.Run("a refreshed token is as good", func(t *testing.T) {
		ctx := context.WithValue(t.Context(), oauth2.HTTPClient, m.client)
		old := *token
		old.Expiry = time.Unix(1, 0)
		fresh, err := a.oauth(n).TokenSource(ctx, &old).Token()
		require.NoError(t, err)
		require.NotEqual(t, token.AccessToken, fresh.AccessToken)
		call := orders
		call.token = fresh.AccessToken
		send(t, client, a.sign(t, call)).passed(t)
	})
	t.Run("1688's way of asking", func(t *testing.T) {
		consented := m.get(a.oauth(n).AuthCodeURL("s", oauth2.S256ChallengeOption(strings.Repeat("v", 43))))
		to, err := consented.Location()
		require.NoError(t, err, "the second time nobody is asked")
		form := url.Values{
			"grant_type": {"authorization_code"}, "need_refresh_token": {"true"}, "client_id": {a.Key}, "client_secret": {a.Secret},
			"redirect_uri": {theCallback}, "code": {to.Query().Get("code")}, "code_verifier": {strings.Repeat("v", 43)},
		}
		resp, err := m.client.PostForm(n.authorization()+"/openapi/http/1/system.oauth2/getToken/"+a.Key, form)
		require.NoError(t, err)
		got := whole(t, resp).passed(t)
		require.Contains(t, string(got.body), `"resource_owner":"shop-1"`)
	})
	t.Run("a reload ends neither log-in nor token", func(t *testing.T) {
		status, said := n.reload(n.read("Caddyfile") + "http://127.0.0.1:" + freePort(t) + " {\n\tbind 127.0.0.1\n}\n")
		require.Equal(t, http.StatusOK, status, said)
		require.Contains(t, string(m.get(n.authorization()+"/oauth/grants").body), "Shop 1")
		send(t, client, a.sign(t, orders)).passed(t)
	})
	t.Run("nothing secret is in the log", func(t *testing.T) {
		log := n.log.String()
		for _, secret := range []string{token.AccessToken, token.RefreshToken, a.Secret, merchantPassword} {
			require.NotContains(t, log, secret)
		}
	})

	page := m.get(n.authorization() + "/oauth/grants")
	require.Contains(t, string(page.body), t.Name(), "the app's name")
	page = m.submit(page, "/oauth/grants")
	require.Contains(t, string(page.body), "has no access")
	send(t, client, a.sign(t, orders)).refused(t, http.StatusUnauthorized, "token_invalid")
}

// prove makes a DPoP proof for a call with the token, or for one without.
func prove(t *testing.T, key *ecdsa.PrivateKey, method, url, token string) string {
	t.Helper()
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": url, "iat": time.Now().Unix()}
	if token != "" {
		hash := sha256.Sum256([]byte(token))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(hash[:])
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	require.NoError(t, err)
	proof, err := jwt.Signed(signer).Claims(claims).Serialize()
	require.NoError(t, err)
	return proof
}

// TestDPoP: who copies a token that is bound to a key can do nothing with it.
func TestDPoP(t *testing.T) {
	n, _ := startShop(t, globals("")+gated("http://127.0.0.1:%site%", "sandbox", "")+authorizationSite)
	id := n.openOrders()
	a := n.newVendor()
	m := newMerchant(t, n)
	var metadata struct {
		Algorithms []string `json:"dpop_signing_alg_values_supported"`
	}
	require.NoError(t, json.Unmarshal(m.get(n.authorization()+"/.well-known/oauth-authorization-server").passed(t).body, &metadata))
	require.Contains(t, metadata.Algorithms, "ES256")

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	form := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {m.authorize(n, a).RefreshToken},
		"client_id": {a.Key}, "client_secret": {a.Secret},
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.authorization()+"/oauth/token", strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("DPoP", prove(t, key, http.MethodPost, "https://open.example.com/oauth/token", ""))
	var token struct {
		Value string `json:"access_token"`
		Type  string `json:"token_type"`
	}
	require.NoError(t, json.Unmarshal(send(t, m.client, req).passed(t).body, &token))
	require.Equal(t, "DPoP", token.Type)

	orders := call{url: n.base() + "/v1/orders?page=2"}
	ask := func(proof string) answer {
		orders.header = http.Header{"Authorization": {"DPoP " + token.Value}}
		if proof != "" {
			orders.header.Set("DPoP", proof)
		}
		return send(t, n.plain(), a.sign(t, orders))
	}
	proof := prove(t, key, http.MethodGet, n.base()+"/v1/orders", token.Value)
	seen := ask(proof).echoed(t)
	require.Equal(t, id, seen.Header.Get("X-Open-User-Id"))
	require.Empty(t, seen.Header.Get("Authorization"))
	require.Empty(t, seen.Header.Get("DPoP"))
	for _, bad := range []string{"", proof} {
		got := ask(bad)
		got.refused(t, http.StatusUnauthorized, "token_invalid")
		require.Equal(t, `DPoP error="invalid_dpop_proof", algs="`+strings.Join(metadata.Algorithms, " ")+`"`, got.Header.Get("WWW-Authenticate"))
	}
	orders.header, orders.token = nil, token.Value
	send(t, n.plain(), a.sign(t, orders)).refused(t, http.StatusUnauthorized, "token_invalid")
	for _, secret := range []string{token.Value, proof} {
		require.NotContains(t, n.log.String(), secret)
	}
}

// TestOAuthOnAllNodes: a log-in and a token of one node are good on the other,
// and what the merchant withdraws on one ends on both.
func TestOAuthOnAllNodes(t *testing.T) {
	c := clusterSetup{nodes: 2}.start(t)
	for _, n := range c.nodes {
		config := n.read("Caddyfile") + n.fill(authorizationSite)
		status, said := n.reload(config)
		require.Equal(t, http.StatusOK, status, said)
		n.write("Caddyfile", config)
		eventually(t, "the node has the site", n.ready)
	}
	first, second := c.nodes[0], c.nodes[1]
	id := first.openOrders()
	a := first.newVendor()
	m := newMerchant(t, c.nodes...)
	token := m.authorize(first, a)
	ask := func(n *node) answer {
		return send(t, n.plain(), a.sign(t, call{url: n.base() + "/v1/orders", token: token.AccessToken}))
	}
	for _, n := range c.nodes {
		eventually(t, "the node knows the API", func() error {
			if got := ask(n); got.StatusCode != http.StatusOK {
				return fmt.Errorf("%s", got.body)
			}
			return nil
		})
		require.Equal(t, id, ask(n).echoed(t).Header.Get("X-Open-User-Id"))
	}

	page := m.get(second.authorization() + "/oauth/grants")
	require.Contains(t, string(page.body), "Shop 1", "logged in on the first node")
	began := time.Now()
	require.Contains(t, string(m.submit(page, "/oauth/grants").body), "has no access")
	ask(second).refused(t, http.StatusUnauthorized, "token_invalid")
	eventually(t, "the other node heard of it", func() error {
		if got := ask(first).code(); got != "token_invalid" {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	took := time.Since(began)
	t.Logf("a revocation holds on all nodes after %v", took.Round(time.Millisecond))
	require.Less(t, took, heardAtWorst)
}
