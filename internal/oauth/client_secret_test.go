package oauth_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Who sends no secret is told so, and learns nothing of which apps there are.
func TestSecretMissing(t *testing.T) {
	f := newFixture(t)
	for _, handler := range []string{"/oauth/token", "/oauth/par", "/oauth/device"} {
		serve := map[string]func(id, secret string) reply{
			"/oauth/token": func(id, secret string) reply {
				return f.serve(f.TokenHandler(), request(handler, form("client_id", id, "client_secret", secret)))
			},
			"/oauth/par": func(id, secret string) reply {
				return f.serve(f.PushedHandler(), request(handler, form("client_id", id, "client_secret", secret)))
			},
			"/oauth/device": func(id, secret string) reply {
				return f.serve(f.DeviceHandler(), request(handler, form("client_id", id, "client_secret", secret)))
			},
		}[handler]
		missing := serve(f.web.Key, "")
		requireError(t, missing, 401, "invalid_client")
		require.Contains(t, missing.str("error_description"), "client_secret is missing")
		require.Equal(t, missing.Body.String(), serve("ak_nobody", "").Body.String())
		wrong := serve(f.web.Key, "sk_wrong")
		requireError(t, wrong, 401, "invalid_client")
		require.Contains(t, wrong.str("error_description"), "do not belong together")
	}
}
