package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
)

// callTimeout bounds one call to the admin endpoint, which itself works for
// at most adminapi.Timeout.
const callTimeout = adminapi.Timeout + 5*time.Second

// serverError is an error that the admin API answered.
type serverError struct {
	Status  int
	Message string   `json:"error"`
	Lines   []string `json:"errors"`
}

func (e *serverError) Error() string { return e.Message }

// mistake tells whether the user's input was wrong, not the server's state.
func (e *serverError) mistake() bool { return e.Status == http.StatusBadRequest }

// call asks the admin API. Body is sent as JSON, or as it is if it is bytes;
// the answer is decoded into out. Both may be nil.
func (c *cli) call(ctx context.Context, method, path string, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := c.open(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer answer.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(answer).Decode(out); err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	return nil
}

// open asks the admin API and returns the body of a good answer.
func (c *cli) open(ctx context.Context, method, path string, body any) (io.ReadCloser, error) {
	address, err := c.adminAddress()
	if err != nil {
		return nil, err
	}
	var payload io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		payload = bytes.NewReader(b)
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("writing the request: %w", err)
		}
		payload = bytes.NewReader(data)
	}
	httpClient, base, err := adminClient(address)
	if err != nil {
		return nil, usagef("admin address %q: %v; want host:port or unix//path", address, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+adminapi.PathPrefix+path, payload)
	if err != nil {
		return nil, usagef("admin address %q: %v", address, err)
	}
	if base != socketBase { // on a socket Caddy knows no origin, and refuses any
		req.Header.Set("Origin", base)
	}
	req.Header.Set(adminapi.ActorHeader, cliActor())
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		return nil, unreachable(address, err)
	}
	if resp.StatusCode < 300 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	said := &serverError{}
	text, err := io.ReadAll(io.LimitReader(resp.Body, adminapi.MaxBody))
	if err == nil {
		err = json.Unmarshal(text, said)
	}
	said.Status = resp.StatusCode
	if err != nil || said.Message == "" {
		return nil, fmt.Errorf("the server at %s answered %s; is it a Caddy with the open platform?", address, resp.Status)
	}
	return nil, said
}

// adminAddress finds the admin endpoint: --address, --config, ./Caddyfile,
// then Caddy's default. Caddy's own loader would log to standard error.
func (c *cli) adminAddress() (string, error) {
	file := c.config
	if c.address != "" || file == "" && c.adapter == "" {
		if _, err := os.Stat("Caddyfile"); c.address != "" || err != nil {
			return caddycmd.DetermineAdminAPIAddress(c.address, nil, "", "")
		}
		file = "Caddyfile"
	}
	if file == "" {
		return "", usagef("--adapter needs --config")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", usagef("reading --config: %v", err)
	}
	adapter := c.adapter
	if adapter == "" && filepath.Ext(file) != ".json" {
		adapter = "caddyfile"
	}
	if adapter != "" {
		a := caddyconfig.GetAdapter(adapter)
		if a == nil {
			return "", usagef("--adapter: %q is unknown; want caddyfile, or one of \"caddy list-modules\"", adapter)
		}
		if data, _, err = a.Adapt(data, map[string]any{"filename": file}); err != nil {
			return "", usagef("finding the admin endpoint in %s: %v; correct it, or give --address", file, err)
		}
	}
	address, err := caddycmd.DetermineAdminAPIAddress("", data, file, adapter)
	if err != nil {
		return "", usagef("finding the admin endpoint in %s: %v; correct it, or give --address", file, err)
	}
	return address, nil
}

// socketBase is where URLs begin on a Unix socket, which has no host.
const socketBase = "http://127.0.0.1"

// adminClient makes a client that dials only the admin endpoint, and says where
// its URLs begin.
func adminClient(address string) (*http.Client, string, error) {
	if strings.Contains(address, "://") {
		return nil, "", errors.New("it is a URL")
	}
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil {
		return nil, "", err
	}
	if parsed.PortRangeSize() > 1 {
		return nil, "", errors.New("names several ports")
	}
	base := "http://" + parsed.JoinHostPort(0)
	if parsed.IsUnixNetwork() {
		base = socketBase
		parsed.Host, _, _ = strings.Cut(parsed.Host, "|") // the socket's permission bits
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, parsed.Network, parsed.JoinHostPort(0))
			},
		},
	}, base, nil
}

// unreachable says what to do when nobody answers at the admin endpoint.
func unreachable(address string, err error) error {
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		why := dial.Err.Error()
		if sys, ok := errors.AsType[*os.SyscallError](err); ok {
			why = sys.Err.Error()
		}
		return fmt.Errorf(`no server answers at the admin address %s (%s): start it with "caddy run --config Caddyfile", or give --address`, address, why)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return fmt.Errorf("asking the server at %s: %w", address, err)
}

// cliActor is who the audit log says made a change.
func cliActor() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return "cli:" + u.Username
	}
	return "cli:unknown"
}

// readInput reads a file that the user names, up to limit bytes.
func readInput(flag, name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		if path, ok := errors.AsType[*fs.PathError](err); ok {
			err = path.Err
		}
		return nil, usagef("%s: %s: %v", flag, name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, usagef("%s: %v", flag, err)
	}
	if int64(len(data)) > limit {
		return nil, usagef("%s: %s is larger than %d bytes", flag, name, limit)
	}
	return data, nil
}
