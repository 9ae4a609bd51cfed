package integration

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience bounds every wait; a busy machine needs much of it.
const patience = 90 * time.Second

// node is one running server with a folder of its own.
type node struct {
	t   *testing.T
	dir string
	// words replace %name% in configurations: the ports, and what tests add.
	words map[string]string
	env   []string // of the process, besides what every one has
	host  string   // where it listens; "" is loopback
	via   []string // the command that runs the program, if it is not run directly
	log   *logBuffer
	cmd   *exec.Cmd
	done  chan struct{} // closed when the process has ended
	err   error         // how it ended; read it after done
}

// newNode makes a folder for a server that is not started yet.
func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir(), words: map[string]string{}, log: new(logBuffer)}
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			t.Logf("log of the server:\n%s", n.log.tail(12_000))
		}
	})
	return n
}

// configure writes the Caddyfile. Each %name% in it that is no word of the
// node's becomes a free port.
func (n *node) configure(caddyfile string) {
	n.t.Helper()
	n.write("Caddyfile", n.fill(caddyfile))
}

var word = regexp.MustCompile(`%[a-z_]+%`)

// fill replaces the words of a text.
func (n *node) fill(text string) string {
	return word.ReplaceAllStringFunc(text, func(w string) string { return n.word(strings.Trim(w, "%")) })
}

// word is the value of a word; one that is new is a free port.
func (n *node) word(name string) string {
	if n.words[name] == "" {
		n.words[name] = freePort(n.t)
	}
	return n.words[name]
}

// handedOut are the ports that were handed out: nobody listens on them yet, and yet
// none may be handed out twice.
var handedOut sync.Map

// freePort finds a port on loopback that nobody uses, for TCP and UDP.
func freePort(t *testing.T) string {
	t.Helper()
	for range 20 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		_ = tcp.Close()
		if err != nil {
			continue
		}
		_ = udp.Close()
		_, port, err := net.SplitHostPort(tcp.Addr().String())
		require.NoError(t, err)
		if _, again := handedOut.LoadOrStore(port, true); !again {
			return port
		}
	}
	require.FailNow(t, "no free port")
	return ""
}

// write writes a file in the node's folder.
func (n *node) write(name, content string) {
	n.t.Helper()
	path := filepath.Join(n.dir, name)
	require.NoError(n.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(n.t, os.WriteFile(path, []byte(content), 0o600))
}

func (n *node) read(name string) string {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.dir, name))
	require.NoError(n.t, err)
	return string(data)
}

// run starts the server and waits until it answers.
func (n *node) run() {
	n.t.Helper()
	n.launch()
	n.await()
}

// await waits until a server that was launched answers.
func (n *node) await() {
	n.t.Helper()
	eventually(n.t, "the admin endpoint answers", func() error {
		select {
		case <-n.done:
			require.FailNow(n.t, "the server ended", "%v\n%s", n.err, n.log.tail(12_000))
		default:
		}
		return n.ready()
	})
}

// launch starts the server.
func (n *node) launch() {
	n.t.Helper()
	n.cmd = n.command("run", "--config", "Caddyfile")
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	require.NoError(n.t, n.cmd.Start())
	n.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		n.err = cmd.Wait()
		close(done)
	}(n.cmd, n.done)
}

// command makes a command of the program that sees nothing of the user's own
// configuration.
func (n *node) command(args ...string) *exec.Cmd {
	line := append(append(slices.Clip(n.via), binary), args...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir = n.dir
	home := filepath.Join(n.dir, "home")
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CONFIG_HOME=" + home, "XDG_DATA_HOME=" + home, "GOTRACEBACK=all",
	}, n.env...)
	return cmd
}

var site = regexp.MustCompile(`https://localhost:(\d+)`)

// ready tells whether the platform has its catalog and all TLS sites answer.
func (n *node) ready() error {
	resp, err := adminClient.Get("http://" + n.admin() + "/open_platform/status")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var status struct {
		Error string `json:"storage_error"`
		APIs  int    `json:"apis"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil || status.Error != "" || status.APIs == 0 {
		return fmt.Errorf("%s %+v %w", resp.Status, status, err)
	}
	for _, m := range site.FindAllStringSubmatch(n.read("Caddyfile"), -1) {
		dialer := &net.Dialer{Timeout: 5 * time.Second}
		conn, err := tls.DialWithDialer(dialer, "tcp", "127.0.0.1:"+m[1], &tls.Config{ServerName: "localhost", InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		_ = conn.Close()
	}
	return nil
}

func (n *node) admin() string { return net.JoinHostPort(cmp.Or(n.host, "127.0.0.1"), n.word("admin")) }

// stop ends the server as an operator does, and checks that it ended well.
func (n *node) stop() {
	n.t.Helper()
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.done:
	case <-time.After(patience):
		_ = n.cmd.Process.Signal(syscall.SIGQUIT) // print the goroutines
		<-n.done
		n.t.Errorf("the server does not stop")
	}
	n.cmd = nil
	if n.err != nil {
		n.t.Errorf("the server ended with %v", n.err)
	}
	if log := n.log.String(); strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") {
		n.t.Errorf("the log tells of a panic or a race")
	}
}

// kill ends the server as a power cut does.
func (n *node) kill() {
	n.t.Helper()
	require.NoError(n.t, n.cmd.Process.Kill())
	<-n.done
	n.cmd = nil
}

// ended waits for a server to end by itself and returns its exit code.
func (n *node) ended() int {
	n.t.Helper()
	select {
	case <-n.done:
	case <-time.After(patience):
		n.kill()
		require.FailNow(n.t, "the server runs on")
	}
	code := n.cmd.ProcessState.ExitCode()
	n.cmd = nil
	return code
}

// try runs a command line on the node and returns its output and exit code.
func (n *node) try(args ...string) (stdout, stderr string, code int) {
	n.t.Helper()
	cmd := n.command(append([]string{"open-platform", "--address", n.admin()}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		require.True(n.t, ok, "%v", err)
		code = exit.ExitCode()
	}
	return out.String(), errs.String(), code
}

// cli runs "caddy open-platform ..." and expects it to succeed.
func (n *node) cli(args ...string) string {
	n.t.Helper()
	stdout, stderr, code := n.try(args...)
	require.Zero(n.t, code, "%s: %s%s", strings.Join(args, " "), stdout, stderr)
	return stdout
}

var adminClient = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

// api asks the admin API. Body may be nil, bytes, or what becomes JSON. It asks
// again where the connection breaks: a reload, and one that is refused too,
// puts a new admin endpoint in the place of the old one.
func (n *node) api(method, path string, body any) (int, []byte) {
	n.t.Helper()
	for try := 1; ; try++ {
		status, data, err := n.ask(method, path, body)
		if err == nil {
			return status, data
		}
		require.Less(n.t, try, 5, "%v", err)
	}
}

// ask is api for a server that may be gone.
func (n *node) ask(method, path string, body any) (int, []byte, error) {
	var payload io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		payload = bytes.NewReader(b)
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return 0, nil, err
		}
		payload = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, "http://"+n.admin()+path, payload)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if path == "/load" {
		req.Header.Set("Content-Type", "text/caddyfile")
		req.Header.Set("Cache-Control", "must-revalidate")
	}
	resp, err := adminClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, data, err
}

// roots are the certificates that the server's own authority signs with.
func (n *node) roots() *x509.CertPool {
	n.t.Helper()
	pool := x509.NewCertPool()
	require.True(n.t, pool.AppendCertsFromPEM([]byte(n.read("data/caddy/pki/authorities/local/root.crt"))))
	return pool
}

// eventually tries until check has no more to complain of.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			require.FailNow(t, "waited in vain: "+what, "%v", err)
		case <-tick.C:
		}
	}
}

// awaitLog waits until the log has a text behind mark.
func (n *node) awaitLog(mark int, text string) {
	n.t.Helper()
	eventually(n.t, "the log tells: "+text, func() error {
		if !strings.Contains(n.log.String()[mark:], text) {
			return errors.New("it does not")
		}
		return nil
	})
}

// logBuffer collects what a server prints.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// tail is the last n bytes.
func (l *logBuffer) tail(n int) string {
	s := l.String()
	return s[max(0, len(s)-n):]
}
