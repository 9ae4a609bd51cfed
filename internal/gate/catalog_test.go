package gate

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func TestVersionsInOrder(t *testing.T) {
	ordered := []string{"", "1", "1.0", "1.2", "1.9", "1.10", "1.10.1", "2.0", "10.0"}
	for i, a := range ordered {
		for j, b := range ordered {
			c := compareVersions(a, b)
			switch {
			case i < j:
				require.Negative(t, c, "%q %q", a, b)
			case i > j:
				require.Positive(t, c, "%q %q", a, b)
			default:
				require.Zero(t, c, "%q", a)
			}
		}
	}
}

func TestNamed(t *testing.T) {
	version := func(v string, st platform.APIStatus, sunset time.Time) platform.API {
		a := onlineAPI("GET", "/v"+v+"/orders", "trade.order.get", "trade")
		a.Version, a.Status, a.Sunset = v, st, sunset
		return a
	}
	past, future := start.Add(-time.Hour), start.Add(time.Hour)
	for _, test := range []struct {
		name string
		apis []platform.API
		want map[string]string
	}{
		{"lowest that serves", []platform.API{
			version("1.10", platform.Online, time.Time{}), version("2.0", platform.Online, time.Time{}), version("1.9", platform.Online, time.Time{}),
		}, map[string]string{"": "1.9", "1.10": "1.10", "2": "2.0", "2.0": "2.0", "1.9": "1.9", "1": "", "3.0": ""}},
		{"an offline version is passed over", []platform.API{
			version("1.0", platform.Offline, time.Time{}), version("1.1", platform.Online, time.Time{}),
		}, map[string]string{"": "1.1", "1": "1.0", "1.0": "1.0"}},
		{"so is one past its sunset", []platform.API{
			version("1.0", platform.Deprecated, past), version("1.1", platform.Online, time.Time{}),
		}, map[string]string{"": "1.1"}},
		{"not one before it", []platform.API{
			version("1.0", platform.Deprecated, future), version("1.1", platform.Online, time.Time{}),
		}, map[string]string{"": "1.0"}},
		{"a draft does not exist", []platform.API{
			version("1.0", platform.Draft, time.Time{}), version("1.1", platform.Online, time.Time{}),
		}, map[string]string{"": "1.1", "1.0": ""}},
		{"the highest when none serves", []platform.API{
			version("1.0", platform.Offline, time.Time{}), version("1.1", platform.Offline, time.Time{}),
		}, map[string]string{"": "1.1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := newSnapshot(&platform.Catalog{APIs: test.apis})
			require.NoError(t, err)
			for ask, want := range test.want {
				a := s.named("trade.order.get", ask, start)
				got := ""
				if a != nil {
					got = a.Version
				}
				require.Equal(t, want, got, "asked for %q", ask)
			}
			require.Nil(t, s.named("trade.order", "", start))
		})
	}
}

// TestOfflineMakesRoom: the domain lets a new API take the route of one that is
// offline, so the gate must be able to load both.
func TestOfflineMakesRoom(t *testing.T) {
	gone := onlineAPI("GET", "/v1/orders/{id}", "order.get", "trade")
	gone.Status = platform.Offline
	fresh := onlineAPI("GET", "/v1/orders/{order_id}", "trade.order.get", "trade")
	again := gone
	again.Name = "order.read"
	for name, apis := range map[string][]platform.API{
		"offline first": {gone, again, fresh}, "offline last": {fresh, gone, again},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := newSnapshot(&platform.Catalog{APIs: apis})
			require.NoError(t, err)
			found, _ := s.routes.find("GET", "/v1/orders/7")
			require.NotNil(t, found)
			require.Equal(t, "trade.order.get", found.Name)
		})
	}
	s, err := newSnapshot(&platform.Catalog{APIs: []platform.API{gone, again}})
	require.NoError(t, err)
	found, _ := s.routes.find("GET", "/v1/orders/7")
	require.NotNil(t, found, "a route whose API went offline answers 410, not 404")

	_, err = newSnapshot(&platform.Catalog{APIs: []platform.API{fresh, onlineAPI("GET", "/v1/orders/{x}", "other", "trade")}})
	require.ErrorContains(t, err, "share")
}

func TestAuthorizeByStateOfTheAPI(t *testing.T) {
	api := func(change func(*platform.API)) platform.API {
		a := onlineAPI("GET", "/v1/orders", "trade.order.list", "trade")
		change(&a)
		return a
	}
	for _, test := range []struct {
		name, code          string
		api                 platform.API
		deprecation, sunset string
	}{
		{"online", "", api(func(*platform.API) {}), "", ""},
		{"draft", "api_unknown", api(func(a *platform.API) { a.Status = platform.Draft }), "", ""},
		{"offline", "api_offline", api(func(a *platform.API) { a.Status = platform.Offline }), "", ""},
		{"merchant's", "api_unknown", api(func(a *platform.API) { a.Provider = platform.ByMerchant }), "", ""},
		{"deprecated, undated", "", api(func(a *platform.API) { a.Status = platform.Deprecated }), "@0", ""},
		{"deprecated, dated", "", api(func(a *platform.API) {
			a.Status, a.DeprecatedAt, a.Sunset = platform.Deprecated, time.Unix(1700000000, 0), start.Add(time.Second)
		}), "@1700000000", "Wed, 04 Mar 2026 05:06:08 GMT"},
		{"at its sunset", "api_offline", api(func(a *platform.API) { a.Status, a.Sunset = platform.Deprecated, start }), "@0", "Wed, 04 Mar 2026 05:06:07 GMT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, platform.Catalog{APIs: []platform.API{test.api}}, newApp("ak", withPackage("trade", platform.Period{})))
			c := newCall()
			requireCode(t, test.code, f.call(c, f.sign(signer{key: "ak"}, "GET", "/v1/orders", ""), rule(t, platform.Production), ""))
			deprecation, sunset := c.Deprecation()
			require.Equal(t, test.deprecation, deprecation)
			require.Equal(t, test.sunset, sunset)
		})
	}
}

func TestAuthorizeByPackage(t *testing.T) {
	for _, test := range []struct {
		name, pkg, code, detail string
		period                  *platform.Period
	}{
		{"basic is everyone's", platform.BasicPackage, "", "", nil},
		{"not granted", "trade", "package_not_granted", "needs the package trade", nil},
		{"granted for good", "trade", "", "", &platform.Period{}},
		{"begins now", "trade", "", "", &platform.Period{From: start}},
		{"begins soon", "trade", "package_expired", "begins on 2026-03-04 05:06 UTC", &platform.Period{From: start.Add(time.Second)}},
		{"ends soon", "trade", "", "", &platform.Period{Until: start.Add(time.Second)}},
		{"ended", "trade", "package_expired", "ended on 2026-03-04 05:06 UTC", &platform.Period{Until: start}},
	} {
		t.Run(test.name, func(t *testing.T) {
			app := newApp("ak", withPackage("other", platform.Period{}))
			if test.period != nil {
				withPackage("trade", *test.period)(app)
			}
			f := newFixture(t, platform.Catalog{APIs: []platform.API{onlineAPI("GET", "/v1/orders", "trade.order.list", test.pkg)}}, app)
			r := f.call(newCall(), f.sign(signer{key: "ak"}, "GET", "/v1/orders", ""), rule(t, platform.Production), "")
			requireCode(t, test.code, r)
			if r != nil {
				require.Contains(t, r.Detail, test.detail)
			}
		})
	}
}

func TestRoute(t *testing.T) {
	f := newFixture(t, platform.Catalog{APIs: []platform.API{
		onlineAPI("GET", "/v1/orders/{id}", "trade.order.get", "basic"), onlineAPI("DELETE", "/v1/orders/{id}", "trade.order.delete", "basic"),
	}}, newApp("ak"))
	for _, test := range []struct{ method, path, code, allow string }{
		{"GET", "/v1/orders/7", "", ""},
		{"HEAD", "/v1/orders/7", "", ""},
		{"PUT", "/v1/orders/7", "method_not_allowed", "DELETE, GET, HEAD"},
		{"GET", "/v1/nothing", "api_unknown", ""},
		{"GET", "/v1/orders/..", "request_malformed", ""},
		{"GET", "/v1/orders/7%2f..", "request_malformed", ""},
		{"GET", "/v1//orders/7", "request_malformed", ""},
	} {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			r := f.call(newCall(), f.sign(signer{key: "ak"}, test.method, test.path, ""), rule(t, platform.Production), "")
			requireCode(t, test.code, r)
			if r != nil {
				require.Equal(t, StageScope, r.Stage)
				require.Equal(t, test.allow, r.Allow)
			}
		})
	}
}

// TestRouteByDialect: what a call's signature does not cover never chooses its
// API, and the path as it is goes before the path behind a dialect's endpoint.
func TestRouteByDialect(t *testing.T) {
	f := newFixture(t, platform.Catalog{APIs: []platform.API{
		onlineAPI("GET", "/v1/orders", "order.list", "basic"),
		onlineAPI("GET", "/v1/stock", "stock.list", "basic"), onlineAPI("POST", "/v1/stock", "stock.add", "basic"),
		onlineAPI("GET", "/rest/v1/stock", "rest.list", "basic"),
	}}, newApp("ak", withSecret("top", "hmac-sha256", platform.Production), withSecret("aop1688", "", platform.Production), withSecret("lazada", "", platform.Production)))
	top, aop, lazada := signer{dialect: "top", method: "hmac-sha256", number: 2}, signer{dialect: "aop1688", number: 3}, signer{dialect: "lazada", number: 4}
	for _, test := range []struct {
		s                        signer
		method, target, code, to string
	}{
		{top, "GET", "/router?method=order.list", "", "order.list"},
		{top, "GET", "/router?method=nothing", "api_unknown", ""},
		{top, "GET", "/v1/orders?method=nothing", "api_unknown", ""},
		{aop, "GET", "/openapi/param2/1/shop/order.list/ak", "", "order.list"},
		{aop, "GET", "/v1/orders?client_id=ak", "api_unknown", ""},
		{lazada, "GET", "/v1/orders", "", "order.list"},
		{lazada, "GET", "/rest/v1/orders", "", "order.list"},
		{lazada, "GET", "/rest/v1/stock", "", "rest.list"},
		{lazada, "POST", "/rest/v1/stock", "method_not_allowed", ""},
	} {
		t.Run(test.s.dialect+" "+test.method+" "+test.target, func(t *testing.T) {
			c := newCall()
			test.s.key, f.now = "ak", f.now.Add(time.Second)
			requireCode(t, test.code, f.call(c, f.sign(test.s, test.method, test.target, ""), rule(t, platform.Production, "top", "aop1688", "lazada"), ""))
			if test.code == "" {
				require.Equal(t, test.to, c.API().Name)
			}
		})
	}
}
