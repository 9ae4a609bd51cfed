package pusher

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func TestChallenge(t *testing.T) {
	read := func(r *http.Request) (event struct {
		Type, AppKey string
		Data         struct{ Challenge string }
	},
	) {
		body, _ := io.ReadAll(r.Body)
		if plain, err := Decrypt(testKey(1), body); err == nil {
			body = plain
		}
		_ = json.Unmarshal(body, &event)
		return event
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		format platform.PushFormat
		want   string
	}{
		"right": {func(w http.ResponseWriter, r *http.Request) {
			e, h := read(r), r.Header
			if e.Type == "open.challenge" && h.Get("X-Open-Topic") == e.Type && h.Get("X-Open-Delivery") == "" && h.Get("webhook-signature") != "" {
				_ = json.NewEncoder(w).Encode(map[string]string{"challenge": e.Data.Challenge})
			}
		}, "", ""},
		"plain": {func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]string{"challenge": read(r).Data.Challenge})
		}, platform.PlainFormat, ""},
		"another":    {func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, `{"challenge":"x"}`) }, "", "another challenge"},
		"echo":       {func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }, "", `not with {"challenge":"…"}`},
		"nothing":    {func(http.ResponseWriter, *http.Request) {}, "", "not with"},
		"refuses":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "", "answered 403 Forbidden"},
		"leads away": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusFound) }, "", "redirects are not followed"},
	} {
		t.Run(name, func(t *testing.T) {
			sink := newSink(t, c.answer)
			app := testApp(1, platform.Subscription{URL: sink.URL, Format: c.format, Status: platform.Unverified})
			f := newFixture(t, Settings{})
			defer f.current.Load().close()
			err := f.Challenge(t.Context(), &app, &app.Subscriptions[0])
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
	app := testApp(1, platform.Subscription{URL: "https://10.0.0.1/"})
	f := newFixture(t, Settings{})
	require.ErrorContains(t, f.Challenge(t.Context(), &app, &app.Subscriptions[0]), "not a public address")
	app.Keys = nil
	require.ErrorIs(t, f.Challenge(t.Context(), &app, &app.Subscriptions[0]), errNoEncryptionKey)
	app.Subscriptions[0].URL = "ftp://x/?secret"
	err := f.Challenge(t.Context(), &app, &app.Subscriptions[0])
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
}
