package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	core "github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// oneUser is a store with one user in it.
type oneUser struct {
	core.Store
	user *platform.User
}

func (s oneUser) User(context.Context, string) (*platform.User, error) { return s.user, nil }

// TestDescriptionAges: the provider's description is kept, asked for anew in time,
// and an old one serves while there is no other.
func TestDescriptionAges(t *testing.T) {
	var asked atomic.Int64
	var down atomic.Bool
	server := httptest.NewUnstartedServer(nil)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if down.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{
			"issuer": server.URL, "authorization_endpoint": server.URL + "/a", "token_endpoint": server.URL + "/t", "jwks_uri": server.URL + "/k",
		})
	})
	server.StartTLS()
	defer server.Close()
	p, err := newProvider(OIDCPassport{Issuer: server.URL, ClientID: "us"}, zap.NewNop())
	require.NoError(t, err)
	defer p.close()
	p.transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	p.now = func() time.Time { return now }
	requests := func(want int64, fails bool) {
		t.Helper()
		_, err := p.describe(t.Context())
		require.Equal(t, fails, err != nil, "%v", err)
		require.Equal(t, want, asked.Load())
	}

	down.Store(true)
	requests(1, true)
	requests(1, true) // just asked
	now = now.Add(retryWithout)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = p.describe(gone)
	require.ErrorIs(t, err, errNoProvider)
	down.Store(false)
	requests(asked.Load()+1, false) // whose browser left says nothing about the provider
	known := asked.Load()
	now = now.Add(discoveryLifetime - time.Second)
	requests(known, false)
	now = now.Add(time.Second)
	down.Store(true)
	requests(known+1, false)
	requests(known+1, false)
	now = now.Add(retryWith)
	down.Store(false)
	requests(known+2, false)
	requests(known+2, false)

	t.Run("an old one serves while somebody asks", func(t *testing.T) {
		now = now.Add(discoveryLifetime)
		p.asking <- struct{}{}
		requests(known+2, false)
		<-p.asking
	})
}

// TestClientAuthentication: the secret goes as the provider says.
func TestClientAuthentication(t *testing.T) {
	var sent url.Values
	var basic bool
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		_, _, basic = r.BasicAuth()
		sent = r.PostForm
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer server.Close()
	for name, c := range map[string]struct {
		secret  string
		methods []string
		basic   bool
	}{
		"it does not say": {"s", nil, true},
		"both":            {"s", []string{"client_secret_post", "client_secret_basic"}, true},
		"in the form":     {"s", []string{"client_secret_post"}, false},
		"without secret":  {"", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := newProvider(OIDCPassport{Issuer: server.URL, ClientID: "us", ClientSecret: c.secret}, zap.NewNop())
			require.NoError(t, err)
			defer p.close()
			p.transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
			d := &description{Provider: (&oidc.ProviderConfig{TokenURL: server.URL}).NewProvider(t.Context()), Methods: c.methods}
			_, err = p.identify(t.Context(), d, "https://us.example/cb", "code", &logIn{Verifier: "v"})
			require.ErrorIs(t, err, errNoProvider)
			require.Equal(t, c.basic, basic)
			require.Equal(t, !c.basic && c.secret != "", sent.Get("client_secret") == "s" && sent.Get("client_id") == "us")
			require.Equal(t, "v", sent.Get("code_verifier"))
		})
	}
}

// TestPassportSettings: what cannot work is refused when the configuration loads.
func TestPassportSettings(t *testing.T) {
	good := func() *OIDCPassport {
		return &OIDCPassport{Issuer: "https://login.example.com/", ClientID: "us"}
	}
	p := good()
	require.NoError(t, p.provision(caddy.NewReplacer()))
	require.Equal(t, []string{"profile"}, p.Scopes)
	require.Equal(t, "name", p.NameClaim)
	t.Setenv("OPEN_TEST_SECRET", "from the environment")
	p.ClientSecret = "{env.OPEN_TEST_SECRET}"
	require.NoError(t, p.provision(caddy.NewReplacer()))
	require.Equal(t, "from the environment", p.ClientSecret)
	for want, change := range map[string]func(*OIDCPassport){
		"issuer is missing":           func(p *OIDCPassport) { p.Issuer = "" },
		"client_id is missing":        func(p *OIDCPassport) { p.ClientID = "" },
		"not an https URL|is not an":  func(p *OIDCPassport) { p.Issuer = "http://login.example.com" },
		"without query":               func(p *OIDCPassport) { p.Issuer = "https://login.example.com?tenant=1" },
		"write one such as":           func(p *OIDCPassport) { p.Issuer = "https://me:secret@login.example.com" },
		"client_secret: ":             func(p *OIDCPassport) { p.ClientSecret = "{env.OPEN_TEST_UNSET}" },
		"issuer: ":                    func(p *OIDCPassport) { p.Issuer = "{env.OPEN_TEST_UNSET}" },
		"scopes: ":                    func(p *OIDCPassport) { p.Scopes = []string{"a b"} },
		"ca: ":                        func(p *OIDCPassport) { p.CA = "nowhere.pem" },
		"ca: .* no PEM certificate":   func(p *OIDCPassport) { p.CA = "provider_test.go" },
		"unrecognized placeholder|ca": func(p *OIDCPassport) { p.CA = "{nothing.at.all}" },
	} {
		p := good()
		change(p)
		err := p.provision(caddy.NewReplacer())
		require.Error(t, err, want)
		require.Regexp(t, want, err.Error())
		require.NotContains(t, err.Error(), "me:secret")
	}
	require.Error(t, (&OutsidePassport{OIDC: good(), User: "{http.auth.user.id}"}).validate())
	require.Error(t, (&OutsidePassport{}).validate())
	require.NoError(t, (&OutsidePassport{OIDC: good()}).validate())
}

// TestShopNames: whatever a provider says, the name is one line of bounded length
// that the store takes.
func TestShopNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		said := string(rapid.SliceOf(rapid.Byte()).Draw(t, "said")) + rapid.String().Draw(t, "more")
		name := shopName(said)
		if len([]rune(name)) > maxShopName || name != plain(name) {
			t.Fatalf("%q", name)
		}
	})
}

// TestPassportsApart: who logged in with one passport is nobody to another.
func TestPassportsApart(t *testing.T) {
	for name, c := range map[string]struct {
		issuer, of string
		want       bool
	}{
		"own account":                    {"", "", true},
		"provider":                       {"https://a", "https://a", true},
		"own account after a change":     {"https://a", "", false},
		"provider's after a change":      {"", "https://a", false},
		"another provider's":             {"https://a", "https://b", false},
		"a provider's with a slash":      {"https://a", "https://a/", false},
		"a user of Caddy after a change": {"https://a", outsideIssuer, false},
	} {
		u := &platform.User{ID: "usr_1", Status: platform.UserActive, Issuer: c.of}
		p := accounts{oneUser{user: u}, c.issuer}
		found, err := p.User(httptest.NewRequest(http.MethodGet, "/", nil), &session{User: u.ID, Password: passwordMark(u)})
		require.NoError(t, err)
		require.Equal(t, c.want, found != nil, name)
	}
}
