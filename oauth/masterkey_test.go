package oauth_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule"
	core "github.com/caddy-openplatform/openplatform/internal/oauth"
)

// TestMasterKeyRotation: what merchants and apps hold outlives a rotation, as long
// as the old key is in the file. A reload without it ends that.
func TestMasterKeyRotation(t *testing.T) {
	w := newWorld(t, "open_oauth {\n environment production\n}")
	b, _ := w.authorize("trade")
	w.hosted()
	link := w.link(core.StartOptions{})
	before := w.keyIDs()
	session := func() bool { return strings.Contains(b.get(w.grantsPage()).body, "小明数码旗舰店") }
	opens := func() bool { return w.browser().get(link).StatusCode == http.StatusOK }
	require.True(t, session())
	require.True(t, opens())

	running, err := caddy.ActiveContext().App("open_platform")
	require.NoError(t, err)
	require.NoError(t, running.(*caddymodule.App).RotateMasterKey(t.Context(), "test", nil))
	require.Subset(t, w.keyIDs(), before, "tokens that are signed can be checked")
	require.NotSubset(t, before, w.keyIDs())
	require.True(t, session())
	require.True(t, opens())

	file := filepath.Join(w.dir, "master.key")
	keys, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, keys[:strings.IndexByte(string(keys), '\n')+1], 0o600))
	require.NoError(t, caddy.Load(w.config, true))
	require.NotSubset(t, w.keyIDs(), before)
}

// keyIDs names the keys that the server publishes.
func (w *world) keyIDs() (ids []string) {
	w.t.Helper()
	answer := httptest.NewRecorder()
	w.server().ServeHTTP(answer, httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, w.site.URL+"/oauth/jwks", nil))
	var set jose.JSONWebKeySet
	require.NoError(w.t, json.Unmarshal(answer.Body.Bytes(), &set))
	for _, key := range set.Keys {
		ids = append(ids, key.KeyID)
	}
	return ids
}
