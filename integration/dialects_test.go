package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// targets has, for every dialect, a request target that calls shop.echo as
// the SDKs of the dialect do: by its name, or by its path.
var targets = map[string]string{
	"op1":        "/v1/echo?x=1",
	"rfc9421":    "/v1/echo?x=1",
	"aop1688":    "/openapi/param2/1/shop/shop.echo/%key%?x=1",
	"top":        "/router/rest?method=shop.echo&x=1",
	"dewu":       "/v1/echo?x=1",
	"jd":         "/routerjson?method=shop.echo&v=2.0&360buy_param_json=%7B%7D",
	"pdd":        "/api/router?type=shop.echo&x=1",
	"doudian":    "/shop/echo?method=shop.echo&param_json=%7B%7D",
	"kuaishou":   "/open/shop/echo?method=shop.echo&param=%7B%7D",
	"lazada":     "/rest/v1/echo?x=1",
	"aliexpress": "/sync?method=shop.echo&x=1",
	"shopee":     "/v1/echo?shop_id=1",
}

// allDialects are the arguments of the directive's option.
func allDialects() string { return strings.Join(signing.Names(), " ") }

// target is where the app calls shop.echo in its dialect.
func (a app) target() string { return strings.ReplaceAll(targets[a.Dialect], "%key%", a.Key) }

// inDialects gives the app credentials of every dialect in the environment,
// and returns one app a dialect.
func (n *node) inDialects(a app, environment string) []app {
	n.t.Helper()
	apps := []app{a}
	for _, dialect := range signing.Names() {
		if dialect == signing.Op1 {
			continue
		}
		require.Contains(n.t, targets, dialect)
		apps = append(apps, n.allow(a, dialect, weakMethod(dialect), environment))
	}
	return apps
}

// weakMethod is the method that must be named because the dialect has but weak
// ones; else "".
func weakMethod(dialect string) string {
	methods := signing.Methods(dialect)
	if slices.ContainsFunc(methods, func(m string) bool { return !signing.OptIn(dialect, m) }) {
		return ""
	}
	return methods[0]
}

// TestDialects: an app that is allowed a dialect may call in it, with the
// API named as the dialect names it, and no other app may.
func TestDialects(t *testing.T) {
	n, _ := startShop(t, globals("")+gated("http://127.0.0.1:%site%", "sandbox", "dialects "+allDialects()))
	base, client := n.fill("http://127.0.0.1:%site%"), n.plain()
	stranger := n.newApp()
	for _, a := range n.inDialects(n.newApp(), "sandbox") {
		t.Run(a.Dialect, func(t *testing.T) {
			e := send(t, client, a.sign(t, call{url: base + a.target(), token: "merchant-token-1"})).echoed(t)
			identified(t, e, a)
			require.NotContains(t, e.URI, "merchant-token-1")
			require.NotContains(t, e.URI, "sign=")

			other := a
			other.Key = stranger.Key
			got := send(t, client, other.sign(t, call{url: base + other.target()}))
			require.Contains(t, []string{"signature_invalid", "dialect_not_allowed"}, got.code(), "%s", got.body)
			other.Key = "ak_00000000000000000000"
			send(t, client, other.sign(t, call{url: base + other.target()})).refused(t, 401, "app_unknown")
			other = a
			other.Secret += "x"
			send(t, client, other.sign(t, call{url: base + other.target()})).refused(t, 401, "signature_invalid")
		})
	}
}
