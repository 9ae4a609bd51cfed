package command

import (
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi/adminapitest"
)

// plainToken is the same raw and percent-encoded, codedToken is not.
const (
	plainToken = "at_12345.x-y"
	codedToken = "at+12/3=~45=="
)

func TestMasking(t *testing.T) {
	for name, c := range map[string]struct{ token, text, want string }{
		"no token":                  {"", "Bearer at_1", "Bearer at_1"},
		"unchanged by encoding":     {plainToken, "Bearer " + plainToken, "Bearer ***"},
		"unchanged, in a query":     {plainToken, "/rest?session=" + url.QueryEscape(plainToken) + "&v=1", "/rest?session=***&v=1"},
		"changed by encoding, raw":  {codedToken, "Bearer " + codedToken, "Bearer ***"},
		"changed, in a query":       {codedToken, "/rest?session=at%2B12%2F3%3D~45%3D%3D&v=1", "/rest?session=***&v=1"},
		"changed, in a path":        {codedToken, "/rest/at+12%2F3=~45==/x", "/rest/***/x"},
		"a blank as plus":           {"at 1", "session=at+1", "session=***"},
		"a blank as percent-20":     {"at 1", "session=at%201", "session=***"},
		"each time":                 {plainToken, plainToken + "," + plainToken, "***,***"},
		"another token stays":       {plainToken, "session=at_99999", "session=at_99999"},
		"between others, no blanks": {plainToken, "a1session" + plainToken + "v2.0", "a1session***v2.0"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, masking(c.token).Replace(c.text))
		})
	}
}

// Whatever place a scheme has for the token, "curl" sends it and does not show it.
func TestCurlMasksTheToken(t *testing.T) {
	inFolder(t)
	v := newVerifier(t, adminapitest.Now)
	server := httptest.NewServer(v)
	t.Cleanup(server.Close)
	for _, token := range []string{plainToken, codedToken} {
		for dialect, target := range map[string]string{
			"op1": "/v1/orders?id=1",                               // in a header
			"top": "/router/rest?method=trade.order.get&id=1",      // in the query, and raw in the string to sign
			"jd":  "/routerjson?method=trade.order.get&v=2.0&id=1", // another parameter's name
		} {
			for _, form := range [][]string{nil, {"--json"}} {
				v.dialect = dialect
				args := append([]string{"curl", "--dialect", dialect, "--token", token, server.URL + target}, form...)
				out := run(t, "", args...).ok(t)
				v.mu.Lock()
				sent := v.last.Header.Get("Authorization") + v.last.URL.Query().Get("session") + v.last.URL.Query().Get("access_token")
				v.mu.Unlock()
				require.Contains(t, sent, token, "%s: sent", dialect)
				require.Contains(t, out, "***", dialect)
				require.NotContains(t, out, token, dialect)
				require.NotContains(t, out, url.QueryEscape(token), dialect)
				require.NotContains(t, out, url.PathEscape(token), dialect)
			}
		}
	}
}
