package integration

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// app is an app with one credential.
type app struct {
	ID          string `json:"id"`
	Key         string `json:"app_key"`
	Number      int    `json:"number"`
	Environment string `json:"environment"`
	Dialect     string `json:"dialect"`
	Method      string `json:"method"`
	Secret      string `json:"secret"`
	private     string // PEM of a private key, instead of the secret
}

// newApp makes an app by the command line.
func (n *node) newApp(flags ...string) app {
	n.t.Helper()
	var a app
	out := n.cli(append([]string{"app", "create", "--json", "--name", n.t.Name()}, flags...)...)
	require.NoError(n.t, json.Unmarshal([]byte(out), &a))
	require.NotEmpty(n.t, a.Secret)
	return a
}

// allow lets the app sign in a dialect.
func (n *node) allow(a app, dialect, method, environment string) app {
	n.t.Helper()
	args := []string{"app", "dialect", "allow", a.Key, dialect, "--json", "--environment", environment}
	if method != "" {
		args = append(args, "--method", method)
	}
	require.NoError(n.t, json.Unmarshal([]byte(n.cli(args...)), &a))
	return a
}

// call is a request to be signed. Zero fields take the obvious defaults.
type call struct {
	method string
	url    string
	header http.Header
	body   []byte
	token  string
	at     time.Time
	nonce  string
	number int // of the credential, to be named in the call
}

func (a app) key(dialect string) (*signing.SigningKey, error) {
	if a.private != "" {
		return signing.NewSigningPrivateKey([]byte(a.private))
	}
	return signing.NewSigningSecret(dialect, a.Method, []byte(a.Secret))
}

// sign makes the request of a call, signed by the app.
func (a app) sign(t *testing.T, c call) *http.Request {
	t.Helper()
	u, err := url.Parse(c.url)
	require.NoError(t, err)
	dialect := cmp.Or(a.Dialect, signing.Op1)
	key, err := a.key(dialect)
	require.NoError(t, err)
	if c.method == "" {
		c.method = http.MethodGet
		if c.body != nil {
			c.method = http.MethodPost
		}
	}
	if c.at.IsZero() {
		c.at = time.Now()
	}
	header := c.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if len(c.body) > 0 && header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/octet-stream")
	}
	signed, err := signing.Sign(dialect, &signing.Request{
		Method: c.method, Scheme: u.Scheme, Authority: u.Host, Path: u.EscapedPath(), RawQuery: u.RawQuery,
		Header: header, ContentLength: int64(len(c.body)), Body: c.body, BodyRead: true,
	}, signing.Credentials{AppKey: a.Key, KeyNumber: c.number, Key: key, Token: c.token}, c.at, cmp.Or(c.nonce, rand.Text()))
	require.NoError(t, err)
	u.RawQuery = signed.RawQuery
	body := c.body
	if signed.Body != nil {
		body = signed.Body
	}
	req, err := http.NewRequestWithContext(t.Context(), c.method, u.String(), bytes.NewReader(body))
	require.NoError(t, err)
	req.Header = signed.Header
	return req
}

// answer is what came back, read to its end.
type answer struct {
	*http.Response
	body []byte
}

// problem is the body of a refusal.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Code      string `json:"code"`
	RequestID string `json:"request_id"`
}

// send sends the request and reads the answer.
func send(t *testing.T, client *http.Client, req *http.Request) answer {
	t.Helper()
	resp, err := client.Do(req)
	require.NoError(t, err)
	return whole(t, resp)
}

// whole reads an answer to its end.
func whole(t *testing.T, resp *http.Response) answer {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp, body}
}

// problem reads the refusal.
func (a answer) problem(t *testing.T) problem {
	t.Helper()
	require.Equal(t, "application/problem+json", a.Header.Get("Content-Type"), "%s", a.body)
	var p problem
	require.NoError(t, json.Unmarshal(a.body, &p))
	require.Equal(t, a.StatusCode, p.Status)
	return p
}

// refused checks status and code.
func (a answer) refused(t *testing.T, status int, code string) {
	t.Helper()
	require.Equal(t, status, a.StatusCode, "%s", a.body)
	require.Equal(t, code, a.problem(t).Code, "%s", a.body)
}

// passed checks that the call was answered with 200.
func (a answer) passed(t *testing.T) answer {
	t.Helper()
	require.Equal(t, http.StatusOK, a.StatusCode, "%s", a.body)
	return a
}

// code is the code of a refusal, or "".
func (a answer) code() string {
	var p problem
	_ = json.Unmarshal(a.body, &p)
	return p.Code
}

// client makes a client that speaks one version of HTTP only: 1, 2 or 3.
func (n *node) client(version int) *http.Client {
	n.t.Helper()
	config := &tls.Config{RootCAs: n.roots(), MinVersion: tls.VersionTLS12}
	if version == 3 {
		transport := &http3.Transport{TLSClientConfig: config}
		n.t.Cleanup(func() { _ = transport.Close() })
		return &http.Client{Transport: transport, Timeout: patience}
	}
	return n.tcpClient(config, version)
}

// plain makes a client for sites without TLS.
func (n *node) plain() *http.Client { return n.tcpClient(nil, 1) }

func (n *node) tcpClient(config *tls.Config, version int) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(version == 1)
	protocols.SetHTTP2(version == 2)
	transport := &http.Transport{TLSClientConfig: config, Protocols: protocols, MaxIdleConnsPerHost: 64, DisableCompression: true, DialContext: dial}
	n.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// dial takes names below localhost for loopback (RFC 6761 section 6.3), as
// browsers do; no name server is asked.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	if host, port, err := net.SplitHostPort(address); err == nil && strings.HasSuffix(host, ".localhost") {
		address = net.JoinHostPort("127.0.0.1", port)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}
