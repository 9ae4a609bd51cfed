package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// exampleNodes is how many nodes the example has.
const exampleNodes = 3

// exampleCluster is the example, started by its script as a user starts it.
type exampleCluster struct {
	*node // the first node, for its command line; its dir holds the data folder
	cmd   *exec.Cmd
	out   *logBuffer
	done  chan struct{}
	err   error
	// commands are what the script says to try, in order.
	commands []string
}

// startExample runs examples/cluster/run.sh on free ports.
func startExample(t *testing.T) *exampleCluster {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} { // PostgreSQL's user must reach it
		require.NoError(t, os.Chmod(d, 0o711))
	}
	c := &exampleCluster{node: &node{t: t, dir: dir, words: map[string]string{}}, out: new(logBuffer), done: make(chan struct{})}
	c.cmd = exec.Command("../examples/cluster/run.sh")
	c.cmd.Env = append(os.Environ(), "CADDY="+binary, "DATA="+filepath.Join(dir, "data"), "RESTART=1",
		"LB_PORT=0", "LB_ADMIN_PORT=0", "UPSTREAM_PORT=0", "POSTGRES_PORT=0", "REDIS_PORT=0")
	for i := range exampleNodes {
		c.cmd.Env = append(c.cmd.Env, fmt.Sprintf("NODE%d_PORT=0", i+1), fmt.Sprintf("NODE%d_ADMIN_PORT=0", i+1))
	}
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that we can send a Ctrl-C
	require.NoError(t, c.cmd.Start())
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	t.Cleanup(func() {
		c.interrupt()
		if t.Failed() {
			t.Logf("output of the script:\n%s", c.out.tail(12_000))
		}
	})
	eventually(t, "the cluster runs", func() error {
		select {
		case <-c.done:
			require.FailNow(t, "the script ended", "%v\n%s", c.err, c.out)
		default:
		}
		if !strings.Contains(c.out.String(), "/reverse_proxy/upstreams\n") {
			return fmt.Errorf("it says: %s", c.out)
		}
		return nil
	})
	_, text, _ := strings.Cut(c.out.String(), "# 1.")
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			c.commands = append(c.commands, line)
		}
	}
	c.words["admin"] = c.find(`--address 127\.0\.0\.1:(\d+) app resume`)
	return c
}

// interrupt sends what Ctrl-C in a terminal sends, and waits for the end.
func (c *exampleCluster) interrupt() {
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGINT)
	select {
	case <-c.done:
	case <-time.After(patience):
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
		c.t.Errorf("the script does not end")
	}
}

// find is what the group of the expression matches in the script's output.
func (c *exampleCluster) find(expression string) string {
	c.t.Helper()
	m := regexp.MustCompile(expression).FindStringSubmatch(c.out.String())
	require.NotNil(c.t, m, "%s is not in:\n%s", expression, c.out)
	return m[1]
}

// command is the one that begins so, with all words of the rest in it.
func (c *exampleCluster) command(words ...string) string {
	c.t.Helper()
	for _, line := range c.commands {
		found := true
		for _, w := range words {
			found = found && strings.Contains(line, w)
		}
		if found {
			return line
		}
	}
	require.FailNow(c.t, "no such command", "%v in %s", words, strings.Join(c.commands, "\n"))
	return ""
}

// sh runs a command that the script printed, where it said to.
func (c *exampleCluster) sh(command string) (string, error) {
	cmd := exec.CommandContext(c.t.Context(), "sh", "-c", command)
	cmd.Dir = ".."
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// pids are the processes that the script has started.
func (c *exampleCluster) pids() map[string]int {
	c.t.Helper()
	found := map[string]int{}
	files, err := filepath.Glob(filepath.Join(c.dir, "data/pid/*"))
	require.NoError(c.t, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(c.t, err)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			found[filepath.Base(file)] = pid
		}
	}
	return found
}

// healthy waits until every node says so.
func (c *exampleCluster) healthy(status string) {
	c.t.Helper()
	eventually(c.t, "all nodes are "+status, func() error {
		out, err := c.sh(c.command("for port in"))
		if n := strings.Count(out, `"status":"`+status+`"`); n != exampleNodes {
			return fmt.Errorf("%d are: %s %w", n, out, err)
		}
		return nil
	})
}

func TestExampleCluster(t *testing.T) {
	c := startExample(t)
	require.Len(t, c.pids(), exampleNodes+3)
	c.healthy("ready")
	curl := c.command("open-platform curl")
	production := "https://open.localhost:" + c.find(`https://sandbox\.localhost:(\d+)/v1/products`)
	client := c.client(2)

	t.Run("a signed call goes through the load balancer", func(t *testing.T) {
		out, err := c.sh(curl)
		require.NoError(t, err, "%s", out)
		require.Contains(t, out, "< HTTP/2.0 200 OK")
		require.Contains(t, out, "< X-Demo-Node: 127.0.0.1:")
		require.Contains(t, out, `"items"`)
	})

	t.Run("a change on one node holds on all", func(t *testing.T) {
		for _, step := range []struct{ verb, want string }{{"suspend", "app_suspended"}, {"resume", "200 OK"}} {
			out, err := c.sh(c.command("app " + step.verb))
			require.NoError(t, err, "%s", out)
			for range exampleNodes {
				eventually(t, step.want, func() error {
					if out, _ := c.sh(curl); !strings.Contains(out, step.want) {
						return fmt.Errorf("%s", out)
					}
					return nil
				})
			}
		}
	})

	live := c.newApp("--package", "trade", "--environment", "production", "--ip", "127.0.0.1")
	orders := call{url: production + "/v1/orders/1001"}

	t.Run("a call is made once, whichever node it comes to", func(t *testing.T) {
		once := call{url: orders.url, nonce: "nonce-0123456789", at: time.Now()}
		send(t, client, live.sign(t, once)).passed(t)
		for range 2 * exampleNodes {
			send(t, client, live.sign(t, once)).refused(t, http.StatusUnauthorized, "nonce_reused")
		}
	})

	t.Run("nodes see who calls, and nobody can pretend", func(t *testing.T) {
		from2 := c.client(2)
		from2.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			require.NoError(t, err)
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
			return d.DialContext(ctx, "tcp", "127.0.0.1:"+port)
		}
		pretend := call{url: orders.url, header: http.Header{"X-Forwarded-For": {"127.0.0.1"}}}
		send(t, from2, live.sign(t, pretend)).refused(t, http.StatusForbidden, "ip_denied")
		second := c.newApp("--package", "trade", "--environment", "production", "--ip", "127.0.0.2")
		got := send(t, from2, second.sign(t, pretend)).passed(t)
		require.Contains(t, string(got.body), `"forwarded_for": "127.0.0.2`)
		send(t, client, second.sign(t, orders)).refused(t, http.StatusForbidden, "ip_denied")
		resp, err := client.Get(production + "/")
		require.NoError(t, err)
		require.Equal(t, http.StatusNotFound, whole(t, resp).StatusCode, "health is not for outside")
	})

	t.Run("calls go on while a node is gone", func(t *testing.T) {
		before := c.pids()["node2"]
		out, err := c.sh(c.command("kill -9"))
		require.NoError(t, err, "%s", out)
		broken := 0
		for i := range 40 {
			next := orders
			if i%2 == 1 {
				next = call{url: production + "/v1/orders/1001/status", body: []byte(`{"status":"shipped"}`)}
			}
			got := send(t, client, live.sign(t, next))
			if got.StatusCode == http.StatusBadGateway {
				broken++
				continue
			}
			got.passed(t)
		}
		require.LessOrEqual(t, broken, 1, "a call on a connection that breaks is lost; it takes the node out")
		c.healthy("ready")
		require.NotEqual(t, before, c.pids()["node2"], "it was started again")
	})

	t.Run("calls go on while Redis is halted", func(t *testing.T) {
		out, err := c.sh(c.command("kill -STOP"))
		require.NoError(t, err, "%s", out)
		for range 2 * exampleNodes {
			send(t, client, live.sign(t, orders)).passed(t)
		}
		c.healthy("degraded")
		out, err = c.sh(c.command("kill -CONT"))
		require.NoError(t, err, "%s", out)
		c.healthy("ready")
	})

	t.Run("Ctrl-C leaves nothing behind", func(t *testing.T) {
		pids := c.pids()
		c.interrupt()
		require.NoError(t, c.err)
		for name, pid := range pids {
			require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, "%s runs on", name)
		}
		require.Empty(t, c.pids())
	})
}

// TestExampleBalancer holds the load balancer of the example to its word: a
// call that reached a node does not go to a second one.
func TestExampleBalancer(t *testing.T) {
	n := newNode(t)
	caddyfile, err := os.ReadFile("../examples/cluster/lb.Caddyfile")
	require.NoError(t, err)
	n.write("Caddyfile", string(caddyfile))
	var calls atomic.Int64
	breaking := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "health.internal" {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		calls.Add(1)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close() // no answer: nobody knows how the call went
		}
	})
	for i := range exampleNodes {
		server := httptest.NewUnstartedServer(breaking)
		// On a kept connection Go's client would repeat a GET by itself, to the
		// same node.
		server.Config.SetKeepAlivesEnabled(false)
		server.Start()
		t.Cleanup(server.Close)
		_, port, err := net.SplitHostPort(server.Listener.Addr().String())
		require.NoError(t, err)
		n.env = append(n.env, fmt.Sprintf("NODE%d_PORT=%s", i+1, port))
	}
	n.env = append(n.env, n.fill("LB_PORT=%lb%"), n.fill("LB_ADMIN_PORT=%admin%"), n.fill("UPSTREAM_PORT=%upstream%"))
	n.launch()
	eventually(t, "the load balancer answers", func() error {
		_, err := os.Stat(filepath.Join(n.dir, "data/caddy/pki/authorities/local/root.crt"))
		if err == nil {
			_, _, err = n.ask(http.MethodGet, "/config/", nil)
		}
		return err
	})
	client := n.client(1)
	for i, body := range [][]byte{nil, []byte("{}")} {
		method := http.MethodGet
		if body != nil {
			method = http.MethodPost
		}
		var got answer
		eventually(t, "the site is there", func() error {
			req, err := http.NewRequestWithContext(t.Context(), method, n.fill("https://open.localhost:%lb%/v1/orders"), bytes.NewReader(body))
			require.NoError(t, err)
			resp, err := client.Do(req)
			if err == nil {
				got = whole(t, resp)
			}
			return err
		})
		require.Equal(t, http.StatusBadGateway, got.StatusCode, "%s", got.body)
		require.Equal(t, "http_502", got.problem(t).Code)
		require.EqualValues(t, i+1, calls.Load(), "%s was sent more than once", method)
	}
}
