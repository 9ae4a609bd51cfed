package gate

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// users is a TokenVerifier: a token is the merchant's name or a failure's.
type users struct{ asked []string }

func (u *users) Verify(_ context.Context, token string, app *platform.App, env platform.Environment, scope string) (User, error) {
	u.asked = append(u.asked, fmt.Sprintf("%s %s %s %s", token, app.Key, env, scope))
	switch token {
	case "":
		return User{}, fmt.Errorf("checking: %w", platform.ErrTokenMissing)
	case "invalid":
		return User{}, fmt.Errorf("checking: %w", platform.ErrTokenInvalid)
	case "expired":
		return User{}, fmt.Errorf("checking: %w", platform.ErrTokenExpired)
	case "narrow":
		return User{}, fmt.Errorf("checking: %w", platform.ErrScopeInsufficient)
	case "down":
		return User{}, errDown
	}
	return User{ID: token, Scopes: "trade user"}, nil
}

func (u *users) VerifyProof(ctx context.Context, token string, proof platform.Proof, app *platform.App, env platform.Environment, scope string) (User, error) {
	if token == "unproven" {
		return User{}, fmt.Errorf("%w: it is of no use", platform.ErrProofInvalid)
	}
	return u.Verify(ctx, token+" "+proof.Method, app, env, scope)
}

// TestProofs: what came with a proof is checked with it, and answered in its
// scheme.
func TestProofs(t *testing.T) {
	needs := onlineAPI("GET", "/v1/orders", "trade.order.list", "basic")
	needs.UserToken = true
	f := newFixture(t, platform.Catalog{APIs: []platform.API{needs}}, newApp("ak"))
	const algorithms = `algs="ES256 EdDSA PS256 RS256"`
	authorize := func(token, method string) *Refusal {
		c, r := newCall(), f.sign(signer{key: "ak"}, "GET", "/v1/orders", "")
		requireCode(t, "", f.verify(c, r, rule(t, platform.Production)))
		return f.Authorize(t.Context(), c, r.Method, r.Path, Token{Value: token, Proof: &platform.Proof{Method: method}})
	}
	requireCode(t, "token_missing", authorize("shop-1", "GET"))

	f.open(Options{Tokens: &users{}})
	requireCode(t, "", authorize("shop-1", "GET"))
	refusal := authorize("unproven", "GET")
	requireCode(t, "token_invalid", refusal)
	require.Equal(t, `DPoP error="invalid_dpop_proof", `+algorithms, refusal.Challenge)
	require.Equal(t, "the DPoP proof does not hold: it is of no use", refusal.Detail)
	f.open(Options{Tokens: &refuser{err: platform.ErrTokenInvalid}})
	refusal = authorize("shop-1", "GET")
	requireCode(t, "token_invalid", refusal)
	require.Equal(t, `DPoP error="invalid_token", `+algorithms, refusal.Challenge)
	require.Contains(t, refusal.Detail, "not bound to the key")
	f.open(Options{Tokens: &refuser{err: errDown}})
	requireCode(t, "store_unavailable", authorize("shop-1", "GET"))
}

// refuser is a TokenVerifier that has one answer to all proofs.
type refuser struct {
	users
	err error
}

func (r *refuser) VerifyProof(context.Context, string, platform.Proof, *platform.App, platform.Environment, string) (User, error) {
	return User{}, r.err
}

func TestTokens(t *testing.T) {
	needs := onlineAPI("GET", "/v1/orders", "trade.order.list", "trade")
	needs.UserToken = true
	verifier := &users{}
	f := newFixture(t, platform.Catalog{APIs: []platform.API{needs, onlineAPI("GET", "/v1/free", "free", "basic")}},
		newApp("ak", withPackage("trade", platform.Period{})))
	f.open(Options{Tokens: verifier})
	const bearer = `Bearer realm="open_platform"`
	for _, test := range []struct{ token, code, challenge string }{
		{"shop-1", "", ""},
		{"", "token_missing", bearer},
		{"invalid", "token_invalid", bearer + `, error="invalid_token"`},
		{"expired", "token_expired", bearer + `, error="invalid_token", error_description="expired"`},
		{"narrow", "scope_insufficient", bearer + `, error="insufficient_scope", scope="trade"`},
		{"down", "store_unavailable", ""},
	} {
		t.Run(test.code, func(t *testing.T) {
			verifier.asked = nil
			c := newCall()
			r := f.call(c, f.sign(signer{key: "ak"}, "GET", "/v1/orders", ""), rule(t, platform.Production), test.token)
			requireCode(t, test.code, r)
			require.Equal(t, []string{test.token + " ak production trade"}, verifier.asked)
			if r == nil {
				require.Equal(t, User{ID: "shop-1", Scopes: "trade user"}, c.User())
				return
			}
			require.Equal(t, User{}, c.User())
			require.Equal(t, test.challenge, r.Challenge)
			if test.token != "" {
				require.NotContains(t, r.Detail, test.token+" ")
			}
		})
	}
	verifier.asked = nil
	requireCode(t, "", f.call(newCall(), f.sign(signer{key: "ak"}, "GET", "/v1/free", ""), rule(t, platform.Production), "shop-1"))
	require.Empty(t, verifier.asked, "an API that needs no merchant asks for none")

	f.open(Options{})
	requireCode(t, "token_missing", f.call(newCall(), f.sign(signer{key: "ak"}, "GET", "/v1/orders", ""), rule(t, platform.Production), "shop-1"))
}

func rate(n int64) platform.Limits {
	return platform.Limits{Rate: limit.Rate{Requests: n, Period: time.Minute}}
}

// TestApplicable: which limits a call counts against, and under which keys.
func TestApplicable(t *testing.T) {
	limited := onlineAPI("GET", "/v1/orders", "trade.order.list", "basic")
	limited.Limits = rate(2)
	limited.UserToken = true
	catalog := platform.Catalog{
		APIs:     []platform.API{limited, onlineAPI("GET", "/v1/stock", "stock.list", "basic")},
		Platform: rate(1),
		Plans: []platform.Plan{
			{Name: platform.DefaultPlan, App: rate(3)},
			{Name: "gold", App: rate(4), AppAPI: rate(5), AppUser: rate(6), APIs: map[string]platform.Limits{"stock.list": rate(7)}},
			{Name: "free", AppAPI: rate(8), APIs: map[string]platform.Limits{"stock.list": {}}},
		},
	}
	plan := func(name string) func(*platform.App) { return func(a *platform.App) { a.Plan = name } }
	f := newFixture(t, catalog, newApp("none"), newApp("gold", plan("gold")), newApp("lost", plan("lost")), newApp("free", plan("free")),
		newApp("sandbox", func(a *platform.App) { a.Credentials[0].Environment = platform.Sandbox }))
	f.open(Options{Tokens: &users{}})
	checks := func(app, target string, env platform.Environment) (found map[string]int64, keys []limit.Key) {
		c := newCall()
		requireCode(t, "", f.call(c, f.sign(signer{key: app}, "GET", target, ""), rule(t, env), "shop-1"))
		found = map[string]int64{}
		for _, check := range c.applicable(nil) {
			found[check.Key.Scope.String()] = check.Rate.Requests
			keys = append(keys, check.Key)
		}
		return found, keys
	}
	name := func(s limit.Scope) string { return s.String() }
	platformWide, api := name(limit.ScopePlatform), name(limit.ScopeAPI)
	app, appAPI, appUser := name(limit.ScopeApp), name(limit.ScopeAppAPI), name(limit.ScopeAppUser)
	for _, test := range []struct {
		app, target string
		want        map[string]int64
	}{
		{"none", "/v1/orders", map[string]int64{platformWide: 1, api: 2, app: 3}},
		{"lost", "/v1/stock", map[string]int64{platformWide: 1, app: 3}},
		{"gold", "/v1/orders", map[string]int64{platformWide: 1, api: 2, app: 4, appAPI: 5, appUser: 6}},
		{"gold", "/v1/stock", map[string]int64{platformWide: 1, app: 4, appAPI: 7}},
		{"free", "/v1/stock", map[string]int64{platformWide: 1}},
		{"free", "/v1/orders", map[string]int64{platformWide: 1, api: 2, appAPI: 8}},
	} {
		t.Run(test.app+" "+test.target, func(t *testing.T) {
			f.now = f.now.Add(time.Hour) // the limits are all free again
			found, _ := checks(test.app, test.target, platform.Production)
			require.Equal(t, test.want, found)
		})
	}

	f.now = f.now.Add(time.Hour)
	_, production := checks("none", "/v1/orders", platform.Production)
	_, sandbox := checks("sandbox", "/v1/orders", platform.Sandbox)
	require.Len(t, sandbox, len(production))
	for i := range sandbox {
		require.Equal(t, production[i].Scope, sandbox[i].Scope)
		require.NotEqual(t, production[i], sandbox[i], "the environments count apart")
	}
}

func TestCharge(t *testing.T) {
	catalog := platform.Catalog{
		APIs: []platform.API{onlineAPI("GET", "/v1/a", "a", "basic"), onlineAPI("GET", "/v1/b", "b", "basic")},
		Plans: []platform.Plan{
			{Name: platform.DefaultPlan, App: platform.Limits{Rate: limit.Rate{Requests: 3, Period: time.Minute, Burst: 3}}, APIs: map[string]platform.Limits{
				"a": {Rate: limit.Rate{Requests: 1, Period: time.Minute, Burst: 1}},
			}},
			{Name: "daily", App: platform.Limits{Quota: limit.Quota{Day: 1}}},
			{Name: "open"},
		},
	}
	f := newFixture(t, catalog, newApp("ak"), newApp("other"), newApp("daily", func(a *platform.App) { a.Plan = "daily" }), newApp("open", func(a *platform.App) { a.Plan = "open" }))
	call := func(app, path string) (*Call, *Refusal) {
		c := newCall()
		return c, f.call(c, f.sign(signer{key: app}, "GET", path, ""), rule(t, platform.Production), "")
	}
	c, r := call("ak", "/v1/a")
	requireCode(t, "", r)
	require.True(t, c.Limited)
	for range 5 {
		c, r = call("ak", "/v1/a")
		requireCode(t, "rate_limited", r)
		require.Equal(t, StageRate, r.Stage)
		require.Equal(t, time.Minute, r.RetryAfter)
		require.True(t, c.Limited, "a refusal tells the limits too")
	}
	_, r = call("ak", "/v1/b")
	requireCode(t, "", r)
	_, r = call("ak", "/v1/b")
	requireCode(t, "", r)
	_, r = call("ak", "/v1/b")
	requireCode(t, "rate_limited", r)
	_, r = call("other", "/v1/a")
	requireCode(t, "", r)

	_, r = call("daily", "/v1/a")
	requireCode(t, "", r)
	_, r = call("daily", "/v1/b")
	requireCode(t, "quota_exceeded", r)
	require.Equal(t, start.Truncate(24*time.Hour).Add(24*time.Hour).Sub(start), r.RetryAfter)

	c, r = call("open", "/v1/a")
	requireCode(t, "", r)
	require.False(t, c.Limited)
}

func TestCallIsChargedOnce(t *testing.T) {
	f := newFixture(t, platform.Catalog{
		APIs:  []platform.API{onlineAPI("GET", "/v1/a", "a", "basic")},
		Plans: []platform.Plan{{Name: platform.DefaultPlan, App: platform.Limits{Rate: limit.Rate{Requests: 1, Period: time.Minute, Burst: 1}}}},
	}, newApp("ak"))
	c := newCall()
	requireCode(t, "", f.call(c, f.sign(signer{key: "ak"}, "GET", "/v1/a", ""), rule(t, platform.Production), ""))
	requireCode(t, "", f.Charge(t.Context(), c))
	requireCode(t, "rate_limited", f.call(newCall(), f.sign(signer{key: "ak"}, "GET", "/v1/a", ""), rule(t, platform.Production), ""))
}

// TestNonceWithRate: a nonce that is left to the rate stage is spent there,
// before the limits, and no call counts as admitted before.
func TestNonceWithRate(t *testing.T) {
	f := newFixture(t, platform.Catalog{
		APIs:     []platform.API{onlineAPI("GET", "/v1/a", "a", "basic"), onlineAPI("GET", "/v1/b", "b", "extra")},
		Packages: []platform.Package{{Name: "extra"}},
		Platform: rate(1),
	}, newApp("ak"))
	route := rule(t, platform.Production)
	route.NonceWithRate = true
	again := func(path string) *Refusal {
		f.nonce--
		return f.call(newCall(), f.sign(signer{key: "ak"}, "GET", path, ""), route, "")
	}

	c, r := newCall(), f.sign(signer{key: "ak"}, "GET", "/v1/b", "")
	requireCode(t, "", f.verify(c, r, route))
	require.False(t, c.Admitted())
	requireCode(t, "package_not_granted", f.Authorize(t.Context(), c, r.Method, r.Path, Token{}))
	requireCode(t, "package_not_granted", again("/v1/b"))

	c, r = newCall(), f.sign(signer{key: "ak"}, "GET", "/v1/a", "")
	requireCode(t, "", f.call(c, r, route, ""))
	require.True(t, c.Admitted())
	requireCode(t, "nonce_reused", again("/v1/a"))
	requireCode(t, "rate_limited", f.call(newCall(), f.sign(signer{key: "ak"}, "GET", "/v1/a", ""), route, ""))
	requireCode(t, "nonce_reused", again("/v1/a"))
	requireCode(t, "signature_missing", f.Charge(t.Context(), refused(f, route)))
}

// refused is a call whose nonce the rate stage refused.
func refused(f *fixture, route *Rule) *Call {
	c := newCall()
	f.nonce--
	requireCode(f.t, "nonce_reused", f.call(c, f.sign(signer{key: "ak"}, "GET", "/v1/a", ""), route, ""))
	return c
}

// down is a ledger that cannot be reached.
type down struct{}

func (down) Spend(context.Context, time.Time, *limit.Spend) (limit.Result, error) {
	return limit.Result{}, errDown
}

func TestLedgerDown(t *testing.T) {
	f := newFixture(t, platform.Catalog{APIs: []platform.API{onlineAPI("GET", "/v1/a", "a", "basic")}, Platform: rate(10)}, newApp("ak"))
	f.open(Options{Ledger: down{}})
	for stage, withRate := range map[Stage]bool{StageRate: true, StageSignature: false} {
		route := rule(t, platform.Production)
		route.NonceWithRate = withRate
		r := f.call(newCall(), f.sign(signer{key: "ak"}, "GET", "/v1/a", ""), route, "")
		requireCode(t, "store_unavailable", r)
		require.Equal(t, stage, r.Stage)
		require.ErrorIs(t, r, errDown)
		require.NotContains(t, r.Detail, errDown.Error())
		require.Equal(t, time.Second, r.RetryAfter)
	}
}
