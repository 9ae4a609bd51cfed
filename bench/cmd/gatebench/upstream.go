package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// upstreamRole is the argument that makes this program the business service
// behind the gateway. It is a process of its own, so that its CPU time is
// neither the gateway's nor the load generator's.
const upstreamRole = "upstream"

// answerSize is the size of every answer in bytes.
const answerSize = 500

// serveUpstream answers every request with the same JSON of answerSize bytes
// until in ends, which it does when the parent dies. It writes its address to
// out first.
func serveUpstream(in io.Reader, out io.Writer) error {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("upstream: %w", err)
	}
	head, tail := `{"order_id":"20260101000001","note":"`, `"}`
	answer := []byte(head + strings.Repeat("x", answerSize-len(head)-len(tail)) + tail)
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // the connection can be used again
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(answer)
		}),
	}
	if _, err := fmt.Fprintln(out, listener.Addr()); err != nil {
		return fmt.Errorf("upstream: telling the address: %w", err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("upstream: %w", err)
	}
	return nil
}

// process is a child that stop ends.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer // closing it ends the upstream; nil for the gateway
	errors *bytes.Buffer
	began  time.Time
	done   chan struct{} // closed when the child has ended
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// start runs cmd and reaps it. The child gets SIGTERM when the context of cmd
// ends, SIGKILL five seconds later.
func start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, errors: new(bytes.Buffer), began: time.Now(), done: make(chan struct{})}
	cmd.Stderr = p.errors
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop ends the child and waits for it.
func (p *process) stop() {
	if p.stdin != nil {
		_ = p.stdin.Close()
	}
	_ = p.cmd.Cancel()
	select {
	case <-p.done:
	case <-time.After(p.cmd.WaitDelay):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// upstream is the process behind the gateways.
type upstream struct {
	*process
	address string
}

// startUpstream runs the upstream.
func startUpstream(ctx context.Context) (*upstream, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("starting the upstream: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, upstreamRole) //nolint:gosec // this program itself
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the upstream: %w", err)
	}
	stdout, writer, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting the upstream: %w", err)
	}
	defer stdout.Close()
	cmd.Stdout = writer
	p, err := start(cmd)
	_ = writer.Close()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("starting the upstream: it told no address: %s", p.errors)
	}
	return &upstream{process: p, address: strings.TrimSpace(address)}, nil
}
