package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func BenchmarkClientCredentials(b *testing.B) {
	f := newFixture(b)
	v := f.as(f.web, "grant_type", "client_credentials")
	h := f.TokenHandler()
	b.ReportAllocs()
	for b.Loop() {
		serveOK(b, h, request("/oauth/token", v))
	}
}

func BenchmarkIntrospect(b *testing.B) {
	f := newFixture(b)
	v := f.as(f.web, "token", f.exchange(f.web, f.code(f.web)).str("access_token"))
	h := f.IntrospectHandler()
	b.ReportAllocs()
	for b.Loop() {
		serveOK(b, h, request("/oauth/introspect", v))
	}
}

// Approval and exchange, without pages.
func BenchmarkCodeExchange(b *testing.B) {
	f := newFixture(b)
	h := f.TokenHandler()
	b.ReportAllocs()
	for b.Loop() {
		v := f.as(f.web, "grant_type", "authorization_code", "code", f.code(f.web), "redirect_uri", callback, "code_verifier", verifier)
		serveOK(b, h, request("/oauth/token", v))
	}
}

func BenchmarkRefresh(b *testing.B) {
	f := newFixture(b)
	v := f.as(f.web, "grant_type", "refresh_token", "refresh_token", f.exchange(f.web, f.code(f.web)).str("refresh_token"))
	h := f.TokenHandler()
	b.ReportAllocs()
	for b.Loop() {
		serveOK(b, h, request("/oauth/token", v))
	}
}

func serveOK(b *testing.B, h http.Handler, r *http.Request) {
	b.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		b.Fatal(w.Body)
	}
}
