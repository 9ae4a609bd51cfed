package integration

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// script is a program in ./npm that runs in Node.js. Its packages are those of
// package-lock.json.
type script struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	lines chan []byte // what it reports, a line of JSON at a time
	errs  *logBuffer
	done  chan struct{}
}

// settings are what a script is told.
type settings map[string]any

// startScript runs the script and waits until it is ready. It trusts the node's own
// authority.
func (n *node) startScript(t *testing.T, name string, s settings) *script {
	t.Helper()
	_, err := os.Stat("npm/node_modules/.package-lock.json")
	require.NoError(t, err, "the packages of integration/npm are missing: run tools/test.sh, or npm ci in that folder")
	said, err := json.Marshal(s)
	require.NoError(t, err)
	p := &script{t: t, name: name, lines: make(chan []byte, 16), errs: new(logBuffer), done: make(chan struct{})}
	p.cmd = exec.Command("node", "npm/"+name)
	p.cmd.Env = append(os.Environ(), "SETTINGS="+string(said), "NODE_ENV=production",
		"NODE_EXTRA_CA_CERTS="+filepath.Join(n.dir, "data/caddy/pki/authorities/local/root.crt"))
	p.cmd.Stderr = p.errs
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go p.read(out)
	t.Cleanup(p.stop)
	var first struct{ Ready bool }
	p.next(&first)
	require.True(t, first.Ready)
	return p
}

// read passes on what the script reports, until it ends.
func (p *script) read(out io.Reader) {
	defer close(p.done)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if line := lines.Bytes(); len(line) > 0 && line[0] == '{' {
			p.lines <- append([]byte(nil), line...)
		}
	}
	_ = p.cmd.Wait()
}

// next reads what the script reports next. Where it failed, so does the test.
func (p *script) next(into any) {
	p.t.Helper()
	select {
	case line := <-p.lines:
		var broken struct{ Failed string }
		require.NoError(p.t, json.Unmarshal(line, &broken), "%s", line)
		require.Empty(p.t, broken.Failed, p.name)
		require.NoError(p.t, json.Unmarshal(line, into), "%s", line)
	case <-p.done:
		require.FailNow(p.t, p.name+" ended", "%s", p.errs)
	case <-time.After(patience):
		require.FailNow(p.t, p.name+" reports nothing", "%s", p.errs)
	}
}

// stop ends the script.
func (p *script) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.done
}
