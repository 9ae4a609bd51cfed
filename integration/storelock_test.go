package integration

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestOneProcess: a SQLite file is one process's. Another one would not hear of
// what this one changes, nor know its nonces.
func TestOneProcess(t *testing.T) {
	n, _ := startShop(t, globals("")+gated("http://127.0.0.1:%site%", "sandbox", ""))
	a := n.newApp()
	second := newNode(t)
	second.words["upstream"] = n.word("upstream")
	second.words["dead"] = n.word("dead")
	second.write("shop.openapi.yaml", n.read("shop.openapi.yaml"))
	theirs := filepath.Join(n.dir, "data/openplatform.db")
	second.configure(strings.Replace(globals("")+gated("http://127.0.0.1:%site%", "sandbox", ""), "./data/openplatform.db", theirs, 1))
	second.launch()
	select {
	case <-second.done:
	case <-time.After(time.Minute):
		require.FailNow(t, "the second one goes on")
	}
	require.Error(t, second.err)
	require.Contains(t, second.log.String(), "the store "+theirs+" is another process's: stop that one first")
	send(t, n.plain(), a.sign(t, call{url: n.base() + "/v1/echo"})).passed(t)

	n.stop()
	second.launch()
	second.await()
	send(t, second.plain(), a.sign(t, call{url: second.base() + "/v1/echo"})).passed(t)
}
