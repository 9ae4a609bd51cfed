package gate

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func newRouter(t testing.TB, patterns ...string) *router {
	t.Helper()
	r := new(router)
	for _, p := range patterns {
		method, path, _ := strings.Cut(p, " ")
		require.NoError(t, r.add(newAPI(&platform.API{Name: p, Method: method, Path: path, Status: platform.Online})))
	}
	return r
}

func TestRouterFinds(t *testing.T) {
	r := newRouter(t,
		"GET /v1/orders", "POST /v1/orders", "GET /v1/orders/{id}", "GET /v1/orders/mine",
		"DELETE /v1/orders/{id}", "GET /v1/orders/{id}/items/{item}", "HEAD /v1/stock/{sku}", "GET /v1/stock/{sku}",
		"POST /v1/carts/mine", "GET /v1/carts/{id}",
	)
	for _, test := range []struct{ method, path, want, allowed string }{
		{"GET", "/v1/orders", "GET /v1/orders", ""},
		{"HEAD", "/v1/orders", "GET /v1/orders", ""},
		{"HEAD", "/v1/stock/7", "HEAD /v1/stock/{sku}", ""},
		{"GET", "/v1/stock/7", "GET /v1/stock/{sku}", ""},
		{"POST", "/v1/orders", "POST /v1/orders", ""},
		{"PUT", "/v1/orders", "", "GET HEAD POST"},
		{"GET", "/v1/orders/42", "GET /v1/orders/{id}", ""},
		{"GET", "/v1/orders/mine", "GET /v1/orders/mine", ""},
		{"GET", "/v1/orders/%6Dine", "GET /v1/orders/mine", ""},
		{"DELETE", "/v1/orders/mine", "DELETE /v1/orders/{id}", ""},
		{"PUT", "/v1/orders/mine", "", "DELETE GET HEAD"},
		{"GET", "/v1/carts/mine", "GET /v1/carts/{id}", ""},
		{"GET", "/v1/orders/a%2Fb", "GET /v1/orders/{id}", ""},
		{"GET", "/v1/orders/a%2Fitems%2Fb", "GET /v1/orders/{id}", ""},
		{"GET", "/v1/orders/1/items/2", "GET /v1/orders/{id}/items/{item}", ""},
		{"GET", "/v1/orders/1/items", "", ""},
		{"GET", "/v1/Orders", "", ""},
		{"GET", "/v1", "", ""},
		{"GET", "/", "", ""},
		{"get", "/v1/orders", "", "GET HEAD POST"},
	} {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			require.NoError(t, checkPath(test.path))
			found, allowed := r.find(test.method, test.path)
			name := ""
			if found != nil {
				name = found.Name
			}
			require.Equal(t, test.want, name)
			require.Equal(t, test.allowed, strings.Join(allowed, " "))
		})
	}
}

func TestRouterRefusesTwoOnOneRoute(t *testing.T) {
	r := newRouter(t, "GET /v1/orders/{id}")
	err := r.add(newAPI(&platform.API{Name: "other", Version: "1.0", Method: "GET", Path: "/v1/orders/{order}", Status: platform.Online}))
	require.ErrorContains(t, err, "other@1.0")
	require.ErrorContains(t, err, "GET /v1/orders/{order}")
}

// mux registers patterns and returns those that do not conflict with others.
func mux(patterns []string) (*http.ServeMux, []string) {
	m, kept := http.NewServeMux(), []string{}
	for _, p := range patterns {
		func() {
			defer func() {
				if recover() == nil {
					kept = append(kept, p)
				}
			}()
			m.HandleFunc(p, func(http.ResponseWriter, *http.Request) {})
		}()
	}
	return m, kept
}

// requireAsMux holds the router against http.ServeMux, whose rules are those
// of the catalog.
func requireAsMux(t require.TestingT, m *http.ServeMux, r *router, method, rawPath string) {
	u, err := url.ParseRequestURI(rawPath)
	require.NoError(t, err)
	req := &http.Request{Method: method, URL: u, Host: "open.test"}
	handler, pattern := m.Handler(req)
	found, allowed := r.find(method, rawPath)
	if pattern != "" {
		require.NotNil(t, found, "%s %s: want %s", method, rawPath, pattern)
		require.Equal(t, pattern, found.Name)
		return
	}
	require.Nil(t, found)
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, req)
	var want []string
	if rec.Code == http.StatusMethodNotAllowed {
		want = strings.Split(rec.Header().Get("Allow"), ", ")
	}
	require.Equal(t, want, allowed, "%s %s", method, rawPath)
}

func TestRouterAgreesWithServeMux(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		method := rapid.SampledFrom([]string{"GET", "POST", "HEAD", "DELETE"})
		literal := rapid.SampledFrom([]string{"a", "b", "c.d", "v1", "~"})
		patterns := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			var b strings.Builder
			for i := range rapid.IntRange(1, 4).Draw(t, "depth") {
				if rapid.Bool().Draw(t, "parameter") {
					fmt.Fprintf(&b, "/{p%d}", i)
				} else {
					b.WriteString("/" + literal.Draw(t, "literal"))
				}
			}
			return method.Draw(t, "method") + " " + b.String()
		}), 1, 12).Draw(t, "patterns")
		m, kept := mux(patterns)
		r := new(router)
		for _, p := range kept {
			method, path, _ := strings.Cut(p, " ")
			require.NoError(t, r.add(newAPI(&platform.API{Name: p, Method: method, Path: path, Status: platform.Online})))
		}
		segment := rapid.OneOf(literal, rapid.SampledFrom([]string{"%61", "x", "a%2Fb", "%E4%B8%AD", "a+b"}))
		for range 8 {
			path := "/" + strings.Join(rapid.SliceOfN(segment, 1, 4).Draw(t, "segments"), "/")
			require.NoError(t, checkPath(path))
			requireAsMux(t, m, r, method.Draw(t, "method"), path)
		}
	})
}

var pathTable = []struct {
	path string
	ok   bool
}{
	{"/", true},
	{"/a", true},
	{"/v1/orders/42", true},
	{"/v1/orders/a%2Fb", true},
	{"/v1/orders/%E4%B8%AD", true},
	{"/v1/orders/a%20b", true},
	{"/v1/...", true},
	{"/v1/.a/b..", true},
	{"/v1/a%2eb", true},
	{"/a;b=c/d,e", true},
	{"/a..;b/..c;", true},
	{"/a/..;", false},
	{"/a/.;x=1/b", false},
	{"/a/..;/b", false},
	{"/a/..;x;y", false},
	{"/a/;/b", false},
	{"/a/..%3B", false},
	{"/a/%2e.;/b", false},
	{"/a/%C0%AE%C0%AE/b", false},
	{"/a/%ff", false},
	{"", false},
	{"a", false},
	{"*", false},
	{"//", false},
	{"/a/", false},
	{"//a", false},
	{"/a//b", false},
	{"/.", false},
	{"/..", false},
	{"/a/.", false},
	{"/a/./b", false},
	{"/a/../b", false},
	{"/a/%2e/b", false},
	{"/a/%2E%2e/b", false},
	{"/a/.%2e", false},
	{"/a/%2e", false},
	{"/a%2f..", false},
	{"/a%2f..%2fb", false},
	{"/a%2F.%2Fb", false},
	{"/a%2F%2Fb", false},
	{"/%2F", false},
	{"/a%2F", false},
	{"/%2Fa", false},
	{`/a\b`, false},
	{"/a%5Cb", false},
	{"/a%5c..%5cb", false},
	{"/a\x00b", false},
	{"/a%00b", false},
	{"/a%0d%0ab", false},
	{"/a%1Fb", false},
	{"/a\tb", false},
	{"/a%7F", false},
	{"/a\x7f", false},
	{"/a%", false},
	{"/a%4", false},
	{"/a%zz", false},
	{"/a%u0041", false},
}

func TestCheckPath(t *testing.T) {
	for _, test := range pathTable {
		t.Run(test.path, func(t *testing.T) {
			err := checkPath(test.path)
			if test.ok {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "the path ")
		})
	}
}

// FuzzCheckPath: a path that passes means the same segments to a reader of the
// raw path and to one of the decoded path, and none of them is empty or a dot.
func FuzzCheckPath(f *testing.F) {
	for _, test := range pathTable {
		f.Add(test.path)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if checkPath(raw) != nil || raw == "/" {
			return
		}
		plain, err := url.PathUnescape(raw)
		require.NoError(t, err)
		require.True(t, utf8.ValidString(plain) || plain == raw)
		require.False(t, strings.ContainsFunc(plain, func(r rune) bool { return r == '\\' || r < 0x20 || r == 0x7f }), plain)
		var decodedSegments []string
		for s := range strings.SplitSeq(raw[1:], "/") {
			one, err := url.PathUnescape(s)
			require.NoError(t, err)
			decodedSegments = append(decodedSegments, one)
		}
		require.Equal(t, plain, "/"+strings.Join(decodedSegments, "/"))
		for _, reading := range [][]string{decodedSegments, strings.Split(raw[1:], "/"), strings.Split(plain[1:], "/")} {
			for _, s := range reading {
				s, _, _ = strings.Cut(s, ";")
				require.NotContains(t, []string{"", ".", ".."}, s)
			}
		}
	})
}

// FuzzRouter: whatever path passes the check, the router agrees with
// http.ServeMux about it.
func FuzzRouter(f *testing.F) {
	patterns := []string{
		"GET /v1/orders", "POST /v1/orders", "GET /v1/orders/{id}", "GET /v1/orders/mine",
		"DELETE /v1/orders/{id}", "GET /v1/orders/{id}/items/{item}", "HEAD /v1/stock/{sku}", "GET /{top}",
	}
	m, kept := mux(patterns)
	require.Equal(f, patterns, kept)
	r := newRouter(f, patterns...)
	for _, test := range pathTable {
		f.Add("GET", test.path)
	}
	f.Add("HEAD", "/v1/orders/%6Dine")
	f.Add("PUT", "/v1/orders/a%2Fb/items/%7Bitem%7D")
	f.Fuzz(func(t *testing.T, method, raw string) {
		if checkPath(raw) != nil {
			return
		}
		r.find(method, raw)
		// What net/http would not take for a request line is not compared.
		if u, err := url.ParseRequestURI(raw); err != nil || u.EscapedPath() != raw || method == http.MethodConnect {
			return
		}
		requireAsMux(t, m, r, method, raw)
	})
}
