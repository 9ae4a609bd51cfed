package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

// sinkRole is the argument that makes this program the receiver. It is a process
// of its own, so that its CPU time is not the pusher's.
const sinkRole = "sink"

// hosts is how many hosts speak TLS: 127.0.1.1 to 127.0.1.100, each with a
// certificate of its own.
const hosts = 100

// addresses is what the sink tells of itself.
type addresses struct {
	Plain string   // URL
	TLS   []string // URLs
	CA    []byte   // PEM
}

// receive reads what is posted, and answers 200 with nothing.
func receive(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }

// serveSink answers until in ends, which it does when the parent dies. It writes
// its addresses to out first.
func serveSink(in io.Reader, out io.Writer) error {
	told := addresses{}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(receive), ErrorLog: quiet()}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer server.Close()

	plain, err := listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		return err
	}
	told.Plain = "http://" + plain.Addr().String() + "/"
	serving.Go(func() { _ = server.Serve(plain) })
	authority, err := testserver.NewAuthority()
	if err != nil {
		return err
	}
	told.CA = authority.PEM
	for i := range hosts {
		l, err := listen(context.Background(), fmt.Sprintf("127.0.1.%d:0", i+1))
		if err != nil {
			return err
		}
		certificate, err := authority.Issue("sink", l.Addr().(*net.TCPAddr).IP)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		told.TLS = append(told.TLS, "https://"+l.Addr().String()+"/")
		host := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: server.Handler, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}, ErrorLog: quiet()}
		defer host.Close()
		serving.Go(func() { _ = host.ServeTLS(l, "", "") })
	}
	if err := json.NewEncoder(out).Encode(told); err != nil {
		return fmt.Errorf("sink: telling the addresses: %w", err)
	}
	_, _ = io.Copy(io.Discard, in)
	return nil
}

// quiet is a log that nobody reads: connections end in the middle of things when
// a run ends.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	return l, nil
}

// sink is the receiver's process.
type sink struct {
	addresses
	roots *x509.CertPool
	cmd   *exec.Cmd
	stdin io.Closer
}

// startSink runs the sink and hears where it listens.
func startSink(ctx context.Context) (*sink, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("starting the sink: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, sinkRole) //nolint:gosec // this program itself
	var problems bytes.Buffer
	cmd.Stderr = &problems
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the sink: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the sink: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the sink: %w", err)
	}
	s := &sink{roots: x509.NewCertPool(), cmd: cmd, stdin: stdin}
	if err := json.NewDecoder(stdout).Decode(&s.addresses); err != nil {
		s.stop()
		return nil, fmt.Errorf("starting the sink: it told no addresses: %w: %s", err, problems.String())
	}
	if !s.roots.AppendCertsFromPEM(s.CA) {
		s.stop()
		return nil, errors.New("starting the sink: it told no certificate")
	}
	return s, nil
}

// stop ends the sink and waits for it.
func (s *sink) stop() {
	_ = s.stdin.Close()
	_ = s.cmd.Wait()
}
