package oauth_test

import (
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// unavailable checks that the page says that the provider does not work.
func (a answer) unavailable(t *testing.T) {
	t.Helper()
	require.Equal(t, http.StatusServiceUnavailable, a.StatusCode, a.body)
	require.NotEmpty(t, a.Header.Get("Retry-After"))
	require.Contains(t, a.body, "Logging in is not possible right now")
	require.NotContains(t, a.body, "a long story", "what a server says is not for the page")
}

// TestOIDCDown: while the provider does not work merchants see a page that says so;
// who is logged in goes on, and all is well as soon as it works again.
func TestOIDCDown(t *testing.T) {
	p := newBadProvider(t)
	p.fail("/.well-known/openid-configuration", http.StatusBadGateway)
	w := newWorld(t, p.directive())
	b := w.browser()
	address, _ := w.start("trade")
	b.get(address).unavailable(t)
	p.heal()
	require.Eventually(t, func() bool {
		return b.get(w.grantsPage()).StatusCode == http.StatusOK
	}, 20*time.Second, 20*time.Millisecond, "it is asked again")

	for _, path := range []string{"/token", "/me", "/auth", "/.well-known/openid-configuration"} {
		p.fail(path, http.StatusInternalServerError)
	}
	require.Contains(t, b.get(w.grantsPage()).body, myGrants)
	require.Contains(t, b.get(address).body, "asks for access", "the provider is not needed for who is logged in")
	p.heal()

	for name, broken := range map[string]struct {
		path   string
		status int
	}{
		"codes are not exchanged":       {"/token", http.StatusInternalServerError},
		"our secret is not taken":       {"/token", http.StatusUnauthorized},
		"the answer is no JSON of ours": {"/token", http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			p.fail(broken.path, broken.status)
			defer p.heal()
			b := w.browser()
			b.get(address).unavailable(t)
			require.False(t, b.loggedIn(w))
		})
	}
	t.Run("what helps then", func(t *testing.T) {
		b := w.browser()
		back := b.toCallback(address)
		p.fail("/token", http.StatusInternalServerError)
		page := b.get(back.String())
		page.unavailable(t)
		require.Contains(t, page.body, "begin the log-in again")
		require.NotContains(t, page.body, "try again")
		p.heal()
		require.Equal(t, http.StatusForbidden, b.get(back.String()).StatusCode, "loading the page again does not help")
		link := regexp.MustCompile(`<a[^>]* href="([^"]+)"[^>]*>Begin again</a>`).FindStringSubmatch(page.body)
		require.NotNil(t, link, page.body)
		require.Contains(t, b.get(w.site.URL+html.UnescapeString(link[1])).body, "asks for access")
	})
	t.Run("it says so itself", func(t *testing.T) {
		b := w.browser()
		b.get(with(b.toCallback(address), "error", "temporarily_unavailable")).unavailable(t)
	})
}

// TestOIDCTakesNoCodeElsewhere: a redirect of the provider's token endpoint is not
// followed, since code and secret would go with it.
func TestOIDCTakesNoCodeElsewhere(t *testing.T) {
	p := newBadProvider(t)
	w := newWorld(t, p.directive())
	var asked atomic.Int64
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer elsewhere.Close()
	for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		p.set(func() {
			p.instead["/token"] = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, elsewhere.URL+"/token", status)
			}
		})
		w.browser().get(w.grantsPage()).unavailable(t)
	}
	require.Zero(t, asked.Load())
}

// TestOIDCKeysDown: without the provider's keys nobody is logged in, and nobody is
// accused of a forgery.
func TestOIDCKeysDown(t *testing.T) {
	p := newBadProvider(t)
	p.fail("/keys", http.StatusInternalServerError)
	w := newWorld(t, p.directive())
	w.browser().get(w.grantsPage()).unavailable(t)
	p.heal()
	require.Contains(t, w.browser().get(w.grantsPage()).body, myGrants)
}

// TestOIDCHangs: a provider that does not answer holds nobody up for long, however
// many wait for it.
func TestOIDCHangs(t *testing.T) {
	p := newBadProvider(t)
	release := make(chan struct{})
	defer close(release)
	p.set(func() {
		p.instead["/.well-known/openid-configuration"] = func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-release:
			}
		}
	})
	w := newWorld(t, p.directive())
	began := time.Now()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { w.browser().get(w.grantsPage()).unavailable(t) })
	}
	all.Wait()
	require.Less(t, time.Since(began), 15*time.Second, "they wait together, not one after the other")
}

// TestOIDCImposter: a description that is not the provider's is not followed.
func TestOIDCImposter(t *testing.T) {
	for name, describe := range map[string]func(map[string]any){
		"of another issuer":    func(d map[string]any) { d["issuer"] = "https://evil.example" },
		"without TLS":          func(d map[string]any) { d["token_endpoint"] = "http://127.0.0.1:1/token" },
		"without a page":       func(d map[string]any) { delete(d, "authorization_endpoint") },
		"without keys":         func(d map[string]any) { delete(d, "jwks_uri") },
		"a page with a script": func(d map[string]any) { d["authorization_endpoint"] = "javascript:alert(1)" },
	} {
		t.Run(name, func(t *testing.T) {
			p := newBadProvider(t)
			p.set(func() { p.describe = describe })
			w := newWorld(t, p.directive())
			w.browser().get(w.grantsPage()).unavailable(t)
		})
	}
}
