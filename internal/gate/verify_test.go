package gate

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

func TestVerify(t *testing.T) {
	production := platform.Production
	two := newApp("two", withSecret(signing.Op1, "", production))
	rotated := newApp("rotated", withSecret(signing.Op1, "", production))
	rotated.Credentials[0].ExpiresAt = start
	suspended := newApp("suspended")
	suspended.Status = platform.Suspended
	other := newApp("other")
	other.Credentials[0].Environment = platform.Sandbox
	withdrawn := newApp("withdrawn", withSecret("top", "hmac-sha256", production))
	withdrawn.Dialects = nil
	f := newFixture(t, platform.Catalog{}, newApp("one"), two, rotated, suspended, other, withdrawn,
		newApp("top", withSecret("top", "hmac-sha256", production)))

	for _, test := range []struct {
		name string
		s    signer
		rule *Rule
		code string
	}{
		{"right", signer{key: "one"}, rule(t, production), ""},
		{"right, numbered", signer{key: "one", named: 1}, rule(t, production), ""},
		{"wrong secret", signer{key: "one", secretKey: "two"}, rule(t, production), "signature_invalid"},
		{"no such number", signer{key: "one", named: 7}, rule(t, production), "signature_invalid"},
		{"unknown app", signer{key: "nobody", secretKey: "one"}, rule(t, production), "app_unknown"},
		{"first of two", signer{key: "two", number: 1}, rule(t, production), ""},
		{"second of two", signer{key: "two", number: 2}, rule(t, production), ""},
		{"second of two, numbered", signer{key: "two", number: 2, named: 2}, rule(t, production), ""},
		{"second of two, numbered as the first", signer{key: "two", number: 2, named: 1}, rule(t, production), "signature_invalid"},
		{"revoked", signer{key: "rotated", number: 1}, rule(t, production), "signature_invalid"},
		{"beside the revoked one", signer{key: "rotated", number: 2}, rule(t, production), ""},
		{"production credential in the sandbox", signer{key: "one"}, rule(t, platform.Sandbox), "environment_mismatch"},
		{"sandbox credential in production", signer{key: "other"}, rule(t, production), "environment_mismatch"},
		{"sandbox credential in the sandbox", signer{key: "other"}, rule(t, platform.Sandbox), ""},
		{"suspended", signer{key: "suspended"}, rule(t, production), "app_suspended"},
		{"suspended, wrong secret", signer{key: "suspended", secretKey: "one"}, rule(t, production), "signature_invalid"},
		{"dialect", signer{key: "top", dialect: "top", method: "hmac-sha256", number: 2}, rule(t, production, "op1", "top"), ""},
		{"dialect with the secret of op1", signer{key: "top", dialect: "top", method: "hmac-sha256", number: 1}, rule(t, production, "op1", "top"), "signature_invalid"},
		{"dialect downgraded", signer{key: "top", dialect: "top", method: "md5", number: 2}, rule(t, production, "op1", "top"), "dialect_not_allowed"},
		{"dialect not on the route", signer{key: "top", dialect: "top", method: "hmac-sha256", number: 2}, rule(t, production), "signature_missing"},
		{"dialect withdrawn", signer{key: "withdrawn", dialect: "top", method: "hmac-sha256", number: 2}, rule(t, production, "op1", "top"), "dialect_not_allowed"},
		{"dialect not of the app", signer{key: "one", dialect: "top", method: "hmac-sha256"}, rule(t, production, "op1", "top"), "dialect_not_allowed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCall()
			target := "/v1/orders?method=trade.order.get&v=3.0"
			r := f.verify(c, f.sign(test.s, "GET", target, ""), test.rule)
			requireCode(t, test.code, r)
			require.Equal(t, test.code == "", c.Verified)
			require.Equal(t, test.code == "", c.App() != nil, "an app is told once it is verified")
			if r != nil {
				require.Equal(t, StageSignature, r.Stage)
				require.NotContains(t, r.Detail, string(secretOf("one", 1)))
			}
		})
	}
}

// TestSharedParameterNames: a call that could be of two dialects is the one's
// whose key of the app made the signature.
func TestSharedParameterNames(t *testing.T) {
	jd, hmac, md5 := withSecret("jd", "md5", platform.Production), withSecret("top", "hmac-sha256", platform.Production), withSecret("top", "md5", platform.Production)
	f := newFixture(t, platform.Catalog{}, newApp("jd", jd), newApp("hmac", jd, hmac), newApp("md5", jd, md5),
		newApp("neither"), newApp("pdd", withSecret("pdd", "md5", platform.Production)))
	const asTop = "/router?method=a.b&sign_method=md5&timestamp=2026-03-04+13%3A06%3A07"
	for _, test := range []struct {
		name, target string
		s            signer
		code         string
	}{
		{"no key of the other", asTop, signer{key: "jd", dialect: "jd", number: 2}, ""},
		{"the other has another method", asTop, signer{key: "hmac", dialect: "jd", number: 2}, ""},
		{"the other has another secret", asTop, signer{key: "md5", dialect: "jd", number: 2}, ""},
		{"the other's key", asTop, signer{key: "md5", dialect: "top", method: "md5", number: 3}, ""},
		{"a wrong secret", asTop, signer{key: "md5", secretKey: "jd", dialect: "jd", number: 2}, "signature_invalid"},
		{"no key of either", asTop, signer{key: "neither", dialect: "jd", number: 2}, "dialect_not_allowed"},
		{"the other names another app", "/router?app_key=pdd&method=a.b&v=2", signer{key: "jd", secretKey: "pdd", dialect: "pdd", number: 2}, "dialect_not_allowed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCall()
			requireCode(t, test.code, f.verify(c, f.sign(test.s, "GET", test.target, ""), rule(t, platform.Production, "top", "jd", "doudian", "pdd")))
			if test.code == "" {
				require.Equal(t, test.s.dialect, c.Claim.Dialect)
				require.Equal(t, test.s.key, c.App().Key)
			}
		})
	}
}

// TestUnknownAppIsVerifiedToo: the same checks run, in the same order, for an
// app that does not exist; and no secret opens it.
func TestUnknownAppIsVerifiedToo(t *testing.T) {
	f := newFixture(t, platform.Catalog{}, newApp("ak"))
	old := f.sign(signer{key: "nobody", secretKey: "ak"}, "GET", "/v1/orders", "")
	known := f.sign(signer{key: "ak", secretKey: "other"}, "GET", "/v1/orders", "")
	f.now = start.Add(301 * time.Second)
	requireCode(t, "timestamp_out_of_range", f.verify(newCall(), old, rule(t, platform.Production)))
	requireCode(t, "timestamp_out_of_range", f.verify(newCall(), known, rule(t, platform.Production)))

	for app, secret := range map[string]string{"nobody": "ak", "ak": "other"} {
		twice := f.sign(signer{key: app, secretKey: secret, token: "at"}, "GET", "/v1/orders", "")
		twice.Header.Add("Authorization", "Basic YTpi")
		requireCode(t, "request_malformed", f.verify(newCall(), twice, rule(t, platform.Production)))
	}

	decoy, err := signing.NewSigningSecret(signing.Op1, "", bytes.Repeat([]byte("decoy"), 16))
	require.NoError(t, err)
	plain := f.sign(signer{key: "ak"}, "GET", "/v1/orders", "")
	signed, err := signing.Sign(signing.Op1, &signing.Request{Method: "GET", Scheme: "https", Authority: "open.test", Path: "/v1/orders", Header: map[string][]string{}, BodyRead: true},
		signing.Credentials{AppKey: "nobody", Key: decoy}, f.now, "nonce-of-the-decoy")
	require.NoError(t, err)
	plain.Header = signed.Header
	requireCode(t, "app_unknown", f.verify(newCall(), plain, rule(t, platform.Production)))
	for _, name := range signing.Names() {
		require.NotNil(t, decoys[name], "dialect %s has no decoy", name)
	}
}

func TestTimestampWindow(t *testing.T) {
	f := newFixture(t, platform.Catalog{}, newApp("ak"))
	narrow := rule(t, platform.Production)
	narrow.Skew = time.Minute
	for _, test := range []struct {
		name string
		rule *Rule
		off  time.Duration
		code string
	}{
		{"late", rule(t, platform.Production), 300 * time.Second, ""},
		{"too late", rule(t, platform.Production), 301 * time.Second, "timestamp_out_of_range"},
		{"early", rule(t, platform.Production), -300 * time.Second, ""},
		{"too early", rule(t, platform.Production), -301 * time.Second, "timestamp_out_of_range"},
		{"narrow", narrow, time.Minute, ""},
		{"too late for narrow", narrow, 61 * time.Second, "timestamp_out_of_range"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f.now = start
			r := f.sign(signer{key: "ak"}, "GET", "/v1/orders", "")
			f.now = start.Add(test.off)
			requireCode(t, test.code, f.verify(newCall(), r, test.rule))
		})
	}
}

// TestSlowBody: a call whose body takes its time is as old as when it is whole.
func TestSlowBody(t *testing.T) {
	f := newFixture(t, platform.Catalog{}, newApp("ak"))
	r, route := f.sign(signer{key: "ak"}, "POST", "/v1/orders", `{"sku":"A-1"}`), rule(t, platform.Production)
	c := newCall()
	f.Start(c)
	require.NoError(t, f.Identify(t.Context(), c, r, route.Dialects))
	f.now = start.Add(time.Hour)
	requireCode(t, "timestamp_out_of_range", f.Verify(c, r, route))

	f.now = start
	requireCode(t, "", f.Verify(c, r, route))
	f.now = start.Add(time.Hour)
	requireCode(t, "timestamp_out_of_range", f.SpendNonce(t.Context(), c, r, route))
}

func TestReplay(t *testing.T) {
	f := newFixture(t, platform.Catalog{}, newApp("ak"), newApp("other"))
	good := f.sign(signer{key: "ak"}, "GET", "/v1/orders", "")
	requireCode(t, "", f.verify(newCall(), good, rule(t, platform.Production)))
	requireCode(t, "nonce_reused", f.verify(newCall(), good, rule(t, platform.Production)))
	f.now = start.Add(300 * time.Second)
	requireCode(t, "nonce_reused", f.verify(newCall(), good, rule(t, platform.Production)))
	f.now = start
	f.nonce--
	requireCode(t, "", f.verify(newCall(), f.sign(signer{key: "other"}, "GET", "/v1/orders", ""), rule(t, platform.Production)))
	f.nonce--
	requireCode(t, "nonce_reused", f.verify(newCall(), f.sign(signer{key: "ak"}, "POST", "/v1/orders", "{}"), rule(t, platform.Production)))
}

// TestReplayWithoutTime: a call that carries no time is remembered from when it
// came, for the whole window of its dialect.
func TestReplayWithoutTime(t *testing.T) {
	f := newFixture(t, platform.Catalog{}, newApp("ak", withSecret("aop1688", "hmac-sha1", platform.Production)))
	r := f.sign(signer{key: "ak", dialect: "aop1688", number: 2}, "GET", "/openapi/param2/1/shop/product.list/ak", "")
	wants := rule(t, platform.Production, "aop1688")
	c := newCall()
	requireCode(t, "", f.verify(c, r, wants))
	require.Zero(t, c.Claim.Time, "the SDK sends none")
	f.now = start.Add(15 * time.Minute)
	requireCode(t, "nonce_reused", f.verify(newCall(), r, wants))
}

func TestForgeriesSpendNothing(t *testing.T) {
	ledger := newLedger(limit.NonceOptions{})
	f := newFixture(t, platform.Catalog{}, newApp("ak"))
	f.open(Options{Ledger: ledger})
	for range 1000 {
		f.nonce = 0
		requireCode(t, "signature_invalid", f.verify(newCall(), f.sign(signer{key: "ak", secretKey: "forger"}, "GET", "/v1/orders", ""), rule(t, platform.Production)))
	}
	require.Zero(t, ledger.Nonces.Stats().Entries)
	f.nonce = 0
	requireCode(t, "", f.verify(newCall(), f.sign(signer{key: "ak"}, "GET", "/v1/orders", ""), rule(t, platform.Production)))
	require.Equal(t, 1, f.reader.loaded(), "a flood of bad signatures is no load on the store")
}

func TestFullNoncesRefuse(t *testing.T) {
	f := newFixture(t, platform.Catalog{}, newApp("ak"))
	f.open(Options{Ledger: newLedger(limit.NonceOptions{Max: 1})})
	var r *Refusal
	for i := 0; i < 10_000 && r == nil; i++ {
		r = f.verify(newCall(), f.sign(signer{key: "ak"}, "GET", "/v1/orders", ""), rule(t, platform.Production))
	}
	requireCode(t, "store_unavailable", r)
	require.ErrorIs(t, r, limit.ErrFull)
	require.Greater(t, r.RetryAfter, 300*time.Second)
}

func TestDigest(t *testing.T) {
	f := newFixture(t, platform.Catalog{}, newApp("ak"))
	r := f.sign(signer{key: "ak"}, "POST", "/v1/orders", `{"quantity":1}`)
	r.Body = []byte(`{"quantity":9}`)
	requireCode(t, "digest_mismatch", f.verify(newCall(), r, rule(t, platform.Production)))
	r.Body = []byte(`{"quantity":1}`)
	requireCode(t, "", f.verify(newCall(), r, rule(t, platform.Production)))
}

// TestSecondSignatureStage: it agrees or refuses, and spends nothing.
func TestSecondSignatureStage(t *testing.T) {
	f := newFixture(t, platform.Catalog{}, newApp("ak"))
	c, r := newCall(), f.sign(signer{key: "ak"}, "GET", "/v1/orders", "")
	requireCode(t, "", f.verify(c, r, rule(t, platform.Production)))
	f.now = start.Add(time.Hour) // what stands between the stages may take its time
	requireCode(t, "", f.Verify(c, r, rule(t, platform.Production, "top", "op1")))
	requireCode(t, "environment_mismatch", f.Verify(c, r, rule(t, platform.Sandbox)))
	requireCode(t, "dialect_not_allowed", f.Verify(c, r, rule(t, platform.Production, "top")))
}

func TestStagesFailClosed(t *testing.T) {
	f := newFixture(t, platform.Catalog{APIs: []platform.API{onlineAPI("GET", "/v1/orders", "order.list", "basic")}}, newApp("ak"))
	c := newCall()
	requireCode(t, "signature_missing", f.Authorize(t.Context(), c, "GET", "/v1/orders", Token{}))
	requireCode(t, "signature_missing", f.Charge(t.Context(), c))
	r, wants := f.sign(signer{key: "ak"}, "GET", "/v1/orders", ""), rule(t, platform.Production)
	requireCode(t, "", f.verify(c, r, wants))
	requireCode(t, "signature_missing", f.Charge(t.Context(), c))
	requireCode(t, "", f.Authorize(t.Context(), c, "GET", "/v1/orders", Token{}))
	requireCode(t, "", f.Charge(t.Context(), c))
}

func TestWhitelist(t *testing.T) {
	prefix := func(s string) platform.IPRule { return platform.IPRule{Prefix: netip.MustParsePrefix(s)} }
	listed := func(key string, rules ...platform.IPRule) *platform.App {
		return newApp(key, func(a *platform.App) { a.IPs = rules })
	}
	many := []platform.IPRule{prefix("203.0.113.7/32")}
	for i := range 20 {
		many = append(many, platform.IPRule{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16)})
	}
	f := newFixture(t, platform.Catalog{IPGroups: []platform.IPGroup{
		{Name: "office", Rules: []platform.IPRule{prefix("198.51.100.0/24")}},
		{Name: "empty"},
	}},
		listed("open"), listed("one", prefix("203.0.113.7/32")), listed("net", prefix("203.0.113.0/24"), prefix("2001:db8::/32")),
		listed("many", many...), listed("group", platform.IPRule{Group: "office"}), listed("gone", platform.IPRule{Group: "no more"}),
		listed("both", prefix("192.0.2.1/32"), platform.IPRule{Group: "office"}), listed("empty", platform.IPRule{Group: "empty"}))
	for _, test := range []struct {
		app, ip string
		groups  []string
		ok      bool
	}{
		{"open", "203.0.113.7", nil, true},
		{"one", "203.0.113.7", nil, true},
		{"one", "203.0.113.8", nil, false},
		{"net", "203.0.113.200", nil, true},
		{"net", "203.0.114.1", nil, false},
		{"net", "2001:db8::1", nil, true},
		{"net", "2001:db9::1", nil, false},
		{"many", "203.0.113.7", nil, true},
		{"many", "10.19.255.255", nil, true},
		{"many", "10.20.0.0", nil, false},
		{"group", "198.51.100.9", nil, true},
		{"group", "203.0.113.7", nil, false},
		{"gone", "203.0.113.7", nil, false},
		{"empty", "203.0.113.7", nil, false},
		{"both", "192.0.2.1", nil, true},
		{"both", "198.51.100.1", nil, true},
		{"both", "192.0.2.2", nil, false},
		{"open", "203.0.113.7", []string{"office"}, false},
		{"open", "198.51.100.1", []string{"empty", "office"}, true},
		{"one", "198.51.100.1", []string{"office"}, false},
		{"nobody", "198.51.100.1", []string{"office"}, true},
		{"nobody", "203.0.113.7", []string{"office"}, false},
		{"nobody", "203.0.113.7", nil, true},
		{"open", "", nil, false},
	} {
		t.Run(test.app+" "+test.ip, func(t *testing.T) {
			c := newCall()
			c.ClientIP, _ = netip.ParseAddr(test.ip)
			require.NoError(t, f.Identify(t.Context(), c, f.sign(signer{key: test.app}, "GET", "/v1/orders", ""), rule(t, platform.Production).Dialects))
			r := f.CheckIP(c, test.groups)
			if test.ok {
				requireCode(t, "", r)
				return
			}
			requireCode(t, "ip_denied", r)
			require.Equal(t, StageIP, r.Stage)
		})
	}
}

// TestWhitelistOfADialectThatOpenIPDoesNotKnow: the app is recognised only at
// the signature stage, and its whitelist holds all the same.
func TestWhitelistOfADialectThatOpenIPDoesNotKnow(t *testing.T) {
	f := newFixture(t, platform.Catalog{}, newApp("ak", withSecret("top", "hmac-sha256", platform.Production), func(a *platform.App) {
		a.IPs = []platform.IPRule{{Prefix: netip.MustParsePrefix("192.0.2.0/24")}}
	}))
	for ip, code := range map[string]string{"192.0.2.1": "", "203.0.113.7": "ip_denied"} {
		c, r := newCall(), f.sign(signer{key: "ak", dialect: "top", method: "hmac-sha256", number: 2}, "GET", "/v1/orders?method=a.b", "")
		c.ClientIP = netip.MustParseAddr(ip)
		require.NoError(t, f.Identify(t.Context(), c, r, rule(t, platform.Production).Dialects))
		requireCode(t, "", f.CheckIP(c, nil))
		wants := rule(t, platform.Production, "op1", "top")
		require.NoError(t, f.Identify(t.Context(), c, r, wants.Dialects))
		requireCode(t, code, f.Verify(c, r, wants))
		require.Equal(t, code == "", c.Verified, "the signature is checked after the whitelist")
	}
}

// TestDialectThatOnlyOpenIPKnows: what recognised the app is not taken for what
// the route lets calls be signed with.
func TestDialectThatOnlyOpenIPKnows(t *testing.T) {
	f := newFixture(t, platform.Catalog{}, newApp("ak", withSecret("top", "hmac-sha256", platform.Production)))
	c, r := newCall(), f.sign(signer{key: "ak", dialect: "top", method: "hmac-sha256", number: 2}, "GET", "/v1/orders?method=a.b", "")
	require.NoError(t, f.Identify(t.Context(), c, r, rule(t, platform.Production, "op1", "top").Dialects))
	requireCode(t, "", f.CheckIP(c, nil))
	wants := rule(t, platform.Production)
	require.NoError(t, f.Identify(t.Context(), c, r, wants.Dialects))
	requireCode(t, "dialect_not_allowed", f.Verify(c, r, wants))
	require.False(t, c.Verified)
}

func TestEveryCodeIsDistinct(t *testing.T) {
	seen := map[string]bool{}
	require.Contains(t, Codes, IPDenied)
	for i, c := range Codes {
		require.Equal(t, i, c.Index())
		require.False(t, seen[c.Name], c.Name)
		require.NotEmpty(t, c.Title)
		require.GreaterOrEqual(t, c.Status, 400)
		seen[c.Name] = true
	}
	cause := errors.New("cause")
	require.ErrorIs(t, unavailable(StageRate, cause), cause)
	require.EqualError(t, refuse(StageIP, IPDenied, "no"), "ip_denied: no")
}
