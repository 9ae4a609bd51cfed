package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	vegeta "github.com/tsenart/vegeta/v12/lib"
)

func TestOAuthLines(t *testing.T) {
	s := series{}
	for _, v := range oauthVariants {
		s[v] = []sample{{rate: 100, gateway: 300 * time.Microsecond}, {rate: 100, gateway: 300 * time.Microsecond}}
	}
	s[bareInsert] = []sample{{rate: 3000, gateway: 50 * time.Microsecond}, {rate: 6000, gateway: 25 * time.Microsecond}}
	s[tokenLoop] = []sample{{rate: 2000, gateway: 100 * time.Microsecond}, {rate: 4000, gateway: 50 * time.Microsecond}}
	s[clientToken] = []sample{{rate: 1000, gateway: 200 * time.Microsecond}, {rate: 2000, gateway: 100 * time.Microsecond}}
	got := printed(oauthLines(s, "sqlite"))
	require.Len(t, got, 2*len(oauthVariants)+3)
	for name, want := range map[string]string{
		"token a second in sqlite":                    "1500",
		"token cpu µs in sqlite":                      "150.0",
		"exchange with consent cpu µs in sqlite":      "300.0",
		"token/bare insert time ratio in sqlite":      "3.00",
		"token loop/bare insert time ratio in sqlite": "1.50",
		"token loop/bare insert cpu ratio in sqlite":  "2.00",
	} {
		require.Equal(t, want, got[name], name)
	}
	var out bytes.Buffer
	for _, target := range oauthTargets(s, "sqlite") {
		target.print(&out)
	}
	require.Contains(t, out.String(), "target: token cpu µs in sqlite: 150.0, at most 250.0: met\n")
	require.Contains(t, out.String(), "target: introspection cpu µs in sqlite: 300.0, at most 100.0: missed\n")
	require.Contains(t, out.String(), "target: token loop/bare insert time ratio in sqlite: 1.50, at most 2.00: met\n")
	out.Reset()
	require.NoError(t, oauthTable(&out, "sqlite", s))
	require.Equal(t, len(oauthVariants)+2, strings.Count(out.String(), "\n"))
}

func TestCaddyfileOfAuthorizationServer(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, caddyfile.Execute(&out, gatewayConfig{Sites: []site{{Variant: authServer, Scheme: "https", Address: "127.0.0.1:3"}}}))
	require.Contains(t, out.String(), "\topen_oauth production\n")
	require.NotContains(t, out.String(), "open_gate")
}

// Every token of the bare loop is a row: with fewer it would be too fast.
func TestBareInsert(t *testing.T) {
	b, err := newBareStore(t.Context(), t.TempDir(), "sqlite", nil, 3)
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	got, err := b.insert(t.Context(), 20*time.Millisecond)
	require.NoError(t, err)
	require.NotZero(t, got.requests)
	var rows uint64
	require.NoError(t, b.db.QueryRowContext(t.Context(), `SELECT count(*) FROM oauth_tokens`).Scan(&rows))
	require.Equal(t, got.requests, rows)
}

// Every token of the loop is a row, as in the bare loop.
func TestTokenLoop(t *testing.T) {
	s := settings{catalog: "../../../examples/mall.openapi.yaml", connections: 3}
	inside, err := newTokenServer(t.Context(), t.TempDir(), "sqlite", nil, oauthPart{apps: 5}, s, io.Discard)
	require.NoError(t, err)
	got, err := inside.ask(t.Context(), 20*time.Millisecond)
	require.NoError(t, err)
	require.NotZero(t, got.requests)
	pruned, err := inside.store.Prune(t.Context(), time.Now().Add(24*time.Hour))
	require.NoError(t, err)
	require.EqualValues(t, got.requests, pruned)
	require.NoError(t, inside.Close())
}

func TestTogether(t *testing.T) {
	var n atomic.Uint64
	got, err := together(t.Context(), 3, 5*time.Millisecond, func(context.Context, int) error { n.Add(1); return nil })
	require.NoError(t, err)
	require.Equal(t, n.Load(), got.requests)
	require.Positive(t, got.rate)

	broken := errors.New("broken")
	_, err = together(t.Context(), 3, time.Hour, func(ctx context.Context, worker int) error {
		if worker == 1 {
			return broken
		}
		<-ctx.Done()
		return ctx.Err()
	})
	require.ErrorIs(t, err, broken)
}

func TestAuthorizationRequest(t *testing.T) {
	s := &shop{app: appKey(7)}
	address, verifier := s.request("https://127.0.0.1:1", true)
	u, err := url.Parse(address)
	require.NoError(t, err)
	challenge := sha256.Sum256([]byte(verifier))
	require.Equal(t, base64.RawURLEncoding.EncodeToString(challenge[:]), u.Query().Get("code_challenge"))
	require.Equal(t, "consent", u.Query().Get("prompt"))
	address, again := s.request("https://127.0.0.1:1", false)
	require.NotContains(t, address, "prompt")
	require.NotEqual(t, verifier, again)
}

// Each app proves itself by its own secret: another one's would be slowed down.
func TestTokenRequests(t *testing.T) {
	callers, err := activeCallers(20, 2)
	require.NoError(t, err)
	next := tokenRequests("https://127.0.0.1:1", callers)
	for _, n := range []int{1, 11, 1} {
		var target vegeta.Target
		require.NoError(t, next(&target))
		req, err := target.Request()
		require.NoError(t, err)
		key, given, ok := req.BasicAuth()
		require.True(t, ok)
		require.Equal(t, appKey(n), key)
		require.Equal(t, string(secret(n)), given)
		require.Equal(t, http.MethodPost, req.Method)
	}
}

func TestPageForm(t *testing.T) {
	p := &page{body: `<form method="post" action="/oauth/logout"><input type="hidden" name="form" value="out"></form>
<form method="post" action="/oauth/authorize">
<input type="hidden" name="form" value="a&#43;b">
</form>`}
	got, err := p.form("/oauth/authorize")
	require.NoError(t, err)
	require.Equal(t, url.Values{"form": {"a+b"}}, got)
	_, err = p.form("/oauth/login")
	require.ErrorContains(t, err, "/oauth/login")
}
