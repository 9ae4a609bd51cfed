package integration

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

// TestStoreCopy moves a platform from SQLite to PostgreSQL by the command line:
// apps go on calling with the secrets that they have.
func TestStoreCopy(t *testing.T) {
	postgres := testserver.NewPostgres(t)
	dsn := postgres.Database(t)
	n, _ := startShop(t, globals("")+gated("http://127.0.0.1:%site%", "sandbox", ""))
	n.env = append(n.env, "DATABASE_URL="+dsn)
	n.cli("plan", "put", "monthly", "--app", "3/month")
	a := n.newApp("--plan", "monthly", "--package", "trade")
	echo := func() answer { return send(t, n.plain(), a.sign(t, call{url: n.base() + "/v1/echo"})) }
	echo().passed(t)
	echo().passed(t)
	_, audit := n.api(http.MethodGet, "/open_platform/audit", nil)
	n.stop()

	args := []string{"store", "copy", "--from", "./data/openplatform.db", "--to", "{env.DATABASE_URL}", "--yes"}
	_, stderr, code := n.try(append(args, "--to-keys", "./no-such.key")...)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "no-such.key")
	_, stderr, code = n.try("store", "copy", "--from", "./data/openplatform.db")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "--to")
	_, stderr, code = n.try("store", "copy", "--from", "./data/missing.db", "--from-keys", "./data/master.key", "--to", "{env.DATABASE_URL}")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "missing.db")

	n.write("new.key", testMasterKey+"\n")
	var out struct {
		Rows int `json:"rows"`
	}
	require.NoError(t, json.Unmarshal([]byte(n.cli(append(args, "--to-keys", "./new.key", "--json")...)), &out))
	require.Greater(t, out.Rows, 10)
	_, stderr, code = n.try(append(args, "--to-keys", "./new.key")...)
	require.Equal(t, 1, code, "a platform is never copied over another one")
	require.NotContains(t, stderr, testMasterKey)

	n.configure(strings.Replace(globals(""), "storage sqlite ./data/openplatform.db",
		"storage postgres {env.DATABASE_URL}\n\t\tmaster_key {file."+filepath.Join(n.dir, "new.key")+"}", 1) +
		gated("http://127.0.0.1:%site%", "sandbox", ""))
	n.run()
	_, now := n.api(http.MethodGet, "/open_platform/audit", nil)
	require.JSONEq(t, string(audit), string(now))
	echo().passed(t)
	echo().refused(t, http.StatusTooManyRequests, "quota_exceeded")
	require.NotEqual(t, a.ID, n.newApp().ID)
	require.Contains(t, n.cli("status"), "postgres "+postgres.Address()+"/")
}
