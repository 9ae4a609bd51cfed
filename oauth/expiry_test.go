package oauth

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// glassVault seals so that a test can look through. Times are what is tested
// here; what a real vault does is tested from outside.
type glassVault struct{}

func (glassVault) Seal(purpose string, data []byte) (string, error) {
	return base64.RawURLEncoding.EncodeToString([]byte(purpose + "\x00" + string(data))), nil
}

func (glassVault) Unseal(purpose, text string) ([]byte, error) {
	data, err := base64.RawURLEncoding.DecodeString(text)
	rest, found := strings.CutPrefix(string(data), purpose+"\x00")
	if err != nil || !found {
		return nil, errors.New("sealed for something else")
	}
	return []byte(rest), nil
}

// TestExpiry: a session ends after its hours, a form after its minutes.
func TestExpiry(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	s := &site{issuer: "https://open.example.com", vault: glassVault{}, now: func() time.Time { return now }}
	u := &platform.User{ID: "usr_1"}

	rec := httptest.NewRecorder()
	in, err := s.startSession(rec, u)
	require.NoError(t, err)
	sent := func(form string) *http.Request {
		r := httptest.NewRequest(http.MethodPost, "https://open.example.com/oauth/authorize", strings.NewReader(url.Values{"form": {form}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for _, c := range rec.Result().Cookies() {
			r.AddCookie(c)
		}
		return r
	}
	field, err := s.newForm(formConsent, in, u, "x=1")
	require.NoError(t, err)

	now = now.Add(formLifetime - time.Second)
	f, code := s.readForm(httptest.NewRecorder(), sent(field), in, formConsent)
	require.Empty(t, code)
	require.Equal(t, "x=1", f.Target)
	now = now.Add(time.Second)
	_, code = s.readForm(httptest.NewRecorder(), sent(field), in, formConsent)
	require.Equal(t, problemExpiredForm, code)

	now = now.Add(sessionLifetime - formLifetime - time.Second)
	found, err := s.session(httptest.NewRecorder(), sent(""))
	require.NoError(t, err)
	require.Equal(t, u.ID, found.User)
	now = now.Add(time.Second)
	found, err = s.session(httptest.NewRecorder(), sent(""))
	require.NoError(t, err)
	require.Empty(t, found.User)
	require.NotEqual(t, in.ID, found.ID)
}

// TestLogInExpires: an answer of the provider is late after half an hour, and one of
// another session, or from another provider than is configured now, does not count.
func TestLogInExpires(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	s := &site{issuer: "https://open.example.com", vault: glassVault{}, now: func() time.Time { return now }}
	s.oidc = &provider{config: OIDCPassport{Issuer: "https://login.example.com", ClientID: "us"}}
	l := logIn{State: "state", Session: "session", Provider: s.oidc.id(), Until: now.Add(logInLifetime).Unix()}
	value, err := s.seal(sealedLogIn, l)
	require.NoError(t, err)
	r := httptest.NewRequest(http.MethodGet, "https://open.example.com/oauth/callback?code=c&state=state", nil)
	r.AddCookie(&http.Cookie{Name: logInCookie, Value: value})
	ours := &session{ID: "session"}

	_, found := s.answerOf(r, ours)
	require.Equal(t, &l, found)
	_, found = s.answerOf(r, &session{ID: "another"})
	require.Nil(t, found)
	before := s.oidc.config
	for _, changed := range []OIDCPassport{{Issuer: "https://evil.example.com", ClientID: "us"}, {Issuer: before.Issuer, ClientID: "them"}} {
		s.oidc.config = changed
		_, found = s.answerOf(r, ours)
		require.Nil(t, found)
	}
	s.oidc.config = before
	now = now.Add(logInLifetime - time.Second)
	_, found = s.answerOf(r, ours)
	require.NotNil(t, found)
	now = now.Add(time.Second)
	_, found = s.answerOf(r, ours)
	require.Nil(t, found)
}

// TestFormSources: what the policy of a page allows for each kind of redirect URI,
// and that no redirect URI can say more than where it leads.
func TestFormSources(t *testing.T) {
	for uri, want := range map[string]string{
		"https://isv.example.com/callback":    "https:",
		"http://127.0.0.1:4711/cb":            "http://127.0.0.1:4711",
		"http://[::1]:4711/cb":                "http:",
		"com.example.erp:/callback":           "com.example.erp:",
		"":                                    "",
		"/callback":                           "",
		"https://x.example/;script-src *":     "https:",
		"http://127.0.0.1:1;script-src *":     "",
		"http://a;script-src/":                "",
		"http://localhost/cb":                 "",
		"http://127.0.0.1:1/ 'unsafe-inline'": "http://127.0.0.1:1",
	} {
		require.Equal(t, want, formSource(uri), uri)
	}
	rapid.Check(t, func(t *rapid.T) {
		source := formSource(rapid.String().Draw(t, "uri"))
		if strings.ContainsAny(source, " ;,'\"\r\n") {
			t.Fatalf("%q", source)
		}
	})
}

// TestWordsAreComplete: each language says everything.
func TestWordsAreComplete(t *testing.T) {
	for _, w := range languages {
		v := reflect.ValueOf(*w)
		for i := range v.NumField() {
			require.False(t, v.Field(i).IsZero(), "%s: %s", w.Tag, v.Type().Field(i).Name)
		}
		for code, p := range english.Problems {
			require.NotEmpty(t, w.Problems[code].Title, code)
			require.NotEmpty(t, w.Problems[code].Text, code)
			require.NotEmpty(t, p.Title)
		}
		require.Len(t, w.Problems, len(english.Problems))
	}
}

// FuzzAcceptLanguage: whatever a browser sends, there is a language.
func FuzzAcceptLanguage(f *testing.F) {
	for _, s := range []string{"", "zh-CN,zh;q=0.9,en;q=0.8", "*", "en;q=NaN", "zh;q=1e999", ",,,;;;", strings.Repeat("zh,", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		require.Contains(t, languages, acceptedLanguage(header))
	})
}
