package integration

import (
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver of the store
)

// TestKilled: what the server has acknowledged is there after it was killed in
// the middle of its work.
func TestKilled(t *testing.T) {
	n, _ := startShop(t, globals("")+gated("http://127.0.0.1:%site%", "sandbox", ""))
	base := n.fill("http://127.0.0.1:%site%")
	for round := range kills {
		var mu sync.Mutex
		var done []app // one for each secret that was handed out
		enough := make(chan struct{})
		var writers sync.WaitGroup
		for range 3 {
			writers.Go(func() {
				for {
					var made, second app
					if !n.post("/open_platform/apps", map[string]string{"name": fmt.Sprint("round ", round)}, &made) {
						return
					}
					issued := []app{made}
					if n.post("/open_platform/apps/"+made.ID+"/secrets", nil, &second) {
						second.ID, second.Key = made.ID, made.Key
						issued = append(issued, second)
					}
					mu.Lock()
					before := len(done)
					done = append(done, issued...)
					if before < 20 && len(done) >= 20 {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		select {
		case <-enough:
		case <-time.After(patience):
			require.FailNow(t, "the server makes no apps")
		}
		n.kill()
		writers.Wait()
		n.run()
		client := n.plain()
		for _, a := range done {
			status, data := n.api(http.MethodGet, "/open_platform/apps/"+a.ID, nil)
			require.Equal(t, http.StatusOK, status, "%s", data)
			send(t, client, a.sign(t, call{url: base + "/v1/echo", number: a.Number})).passed(t)
		}
		client.CloseIdleConnections()
	}
}

// post asks the admin API to make something, and tells whether it did.
func (n *node) post(path string, body, made any) bool {
	status, data, err := n.ask(http.MethodPost, path, body)
	return err == nil && status == http.StatusCreated && json.Unmarshal(data, made) == nil
}

// TestStoreThatCannotBeOpened: a start that cannot succeed ends with a line
// that says why, and leaves the store as it is.
func TestStoreThatCannotBeOpened(t *testing.T) {
	n, _ := startShop(t, globals("")+gated("http://127.0.0.1:%site%", "sandbox", ""))
	a := n.newApp()
	n.stop()
	key := n.read("data/master.key")
	fails := func(t *testing.T, want ...string) {
		t.Helper()
		n.log = new(logBuffer)
		n.launch()
		require.NotZero(t, n.ended())
		for _, text := range want {
			require.Contains(t, n.log.tail(4000), text)
		}
		require.NotContains(t, n.log.String(), "panic")
	}

	t.Run("the master key is missing", func(t *testing.T) {
		require.NoError(t, os.Remove(filepath.Join(n.dir, "data", "master.key")))
		fails(t, "master.key", "put it back")
		require.NoFileExists(t, filepath.Join(n.dir, "data", "master.key"), "no new key is made")
	})
	t.Run("the master key is another one", func(t *testing.T) {
		other := make([]byte, 32)
		_, _ = rand.Read(other)
		n.write("data/master.key", hex.EncodeToString(other)+"\n")
		fails(t, "master key")
		require.NotContains(t, n.log.String(), hex.EncodeToString(other))
	})
	t.Run("the master key is none", func(t *testing.T) {
		n.write("data/master.key", "my secret\n")
		fails(t, "master key", "openssl rand -hex 32")
		require.NotContains(t, n.log.String(), "my secret")
	})
	t.Run("the schema is newer", func(t *testing.T) {
		n.write("data/master.key", key)
		n.sql(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
		fails(t, "9999", "run the newer program")
		n.sql(`DELETE FROM goose_db_version WHERE version_id = 9999`)
	})
	t.Run("all is put right", func(t *testing.T) {
		n.run()
		send(t, n.plain(), a.sign(t, call{url: n.fill("http://127.0.0.1:%site%/v1/echo")})).passed(t)
	})
}

// sql changes the store behind the back of the server, which must not run.
func (n *node) sql(statement string) {
	n.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(n.dir, "data", "openplatform.db"))
	require.NoError(n.t, err)
	_, err = db.ExecContext(n.t.Context(), statement)
	require.NoError(n.t, err)
	require.NoError(n.t, db.Close())
}
