package command

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	// localRoot is the root certificate of a server that keeps its data in ./data.
	localRoot = "./data/caddy/pki/authorities/local/root.crt"
	// maxAnswer bounds the answer that "curl" shows, in bytes.
	maxAnswer = 32 << 20
)

func (c *cli) curlCommand() *cobra.Command {
	var f signFlags
	var cacert string
	var insecure, silent bool
	var timeout time.Duration
	cmd := c.verb("curl URL", "Signs a call, sends it and shows both sides", `  caddy open-platform curl https://localhost:8443/v1/products
  caddy open-platform curl -d '{"status":"shipped"}' https://localhost:8443/v1/orders/1001/status
  caddy open-platform curl -s --credentials app.json https://localhost:8443/v1/orders | jq .`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			call, err := c.signCall(cmd, &f, args[0])
			if err != nil {
				return err
			}
			client, err := callClient(call.URL, cacert, insecure, timeout)
			if err != nil {
				return err
			}
			answer, err := call.send(ctx, client)
			if err != nil {
				return err
			}
			if err := c.showExchange(cmd, call, f.token, answer, silent); err != nil {
				return err
			}
			if answer.code >= 400 {
				return errShown
			}
			return nil
		})
	f.register(cmd)
	cmd.Long = `Signs a call, sends it, and shows the request, the string to sign with the
secret masked, and the answer. The exit code is 1 for a status from 400 on.
Hosts that end in .localhost are 127.0.0.1. Redirects are not followed: a
signature is for one URL.`
	cmd.Flags().StringVar(&cacert, "cacert", "", "PEM file with the root certificates to trust (default for loopback hosts: "+localRoot+", if it is there)")
	cmd.Flags().BoolVar(&insecure, "insecure", false, "do not check the server's certificate")
	cmd.Flags().BoolVarP(&silent, "silent", "s", false, "print the answer's body only")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "time for the whole call")
	return cmd
}

// answer is a response that was read to its end.
type answer struct {
	proto, status string
	code          int
	header        http.Header
	body          []byte
}

// send sends the call and reads the answer.
func (s *signedCall) send(ctx context.Context, client *http.Client) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, s.Method, s.URL.String(), bytes.NewReader(s.Body))
	if err != nil {
		return nil, usagef("URL: %v", err)
	}
	req.Header, req.Host = s.Header, s.Host
	resp, err := client.Do(req)
	if err != nil {
		return nil, callError(s.URL.Host, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, callError(s.URL.Host, err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer of %s is larger than %d bytes", s.URL.Host, maxAnswer)
	}
	return &answer{resp.Proto, resp.Status, resp.StatusCode, resp.Header, body}, nil
}

// showExchange prints both sides of a call. The token is hidden: the user
// knows it, and what is on the screen gets pasted into tickets.
func (c *cli) showExchange(cmd *cobra.Command, call *signedCall, token string, a *answer, silent bool) error {
	out := cmd.OutOrStdout()
	if silent {
		_, err := out.Write(a.body)
		return err
	}
	mask := masking(token)
	if c.json {
		request := call.json()
		request.URL, request.StringToSign, request.Body = mask.Replace(request.URL), mask.Replace(request.StringToSign), mask.Replace(request.Body)
		for name, v := range request.Headers {
			request.Headers[name] = mask.Replace(v)
		}
		var body any = string(a.body)
		if json.Valid(a.body) {
			body = json.RawMessage(a.body)
		}
		return c.print(cmd, map[string]any{
			"request":  request,
			"response": map[string]any{"status": a.code, "headers": joined(a.header), "body": body},
		}, nil)
	}
	call.write(out, "> ", mask)
	fmt.Fprintln(out, "\nString to sign:")
	for line := range strings.SplitSeq(call.StringToSign, "\n") {
		fmt.Fprintln(out, "  "+mask.Replace(printable(line)))
	}
	fmt.Fprintf(out, "\n< %s %s\n", a.proto, a.status)
	writeHeader(out, "< ", a.header, mask)
	if len(a.body) > 0 {
		fmt.Fprintf(out, "\n%s\n", prettyBody(a.body))
	}
	return nil
}

// callClient makes a client for one host. It trusts the roots of cacert; for a
// loopback host without cacert also those of the local server.
func callClient(u *url.URL, cacert string, insecure bool, timeout time.Duration) (*http.Client, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure} //nolint:gosec // the user asked for it by --insecure
	file := cacert
	if file == "" {
		file = localCA(u.Hostname())
	}
	if file != "" {
		pem, err := readInput("--cacert", file, 1<<20)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if cacert == "" {
			if system, err := x509.SystemCertPool(); err == nil {
				pool = system
			}
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, usagef("--cacert: %s holds no PEM certificate", file)
		}
		tlsConfig.RootCAs = pool
	}
	dialer := net.Dialer{Timeout: 10 * time.Second}
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			TLSClientConfig:   tlsConfig,
			ForceAttemptHTTP2: true,
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				// RFC 6761 section 6.3: names below localhost are loopback.
				if host, port, err := net.SplitHostPort(addr); err == nil && strings.HasSuffix(host, ".localhost") {
					addr = net.JoinHostPort("127.0.0.1", port)
				}
				return dialer.DialContext(ctx, network, addr)
			},
		},
	}, nil
}

// localCA is the root certificate of the local server, if host is loopback
// and the file is there.
func localCA(host string) string {
	if !loopback(host) {
		return ""
	}
	if _, err := os.Stat(localRoot); err != nil {
		return ""
	}
	return localRoot
}

func loopback(host string) bool {
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// callError says in one line why there is no answer. The URL is left out: in
// some dialects it carries the token.
func callError(host string, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		if sys, ok := errors.AsType[*os.SyscallError](err); ok {
			err = sys.Err
		}
		return fmt.Errorf(`no server answers at %s (%w): start it with "caddy run --config Caddyfile", or correct the URL`, host, err)
	}
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("the certificate of %s is not trusted (%w): give --cacert FILE, or --insecure", host, bad.Err)
	}
	return fmt.Errorf("calling %s: %w", host, err)
}
