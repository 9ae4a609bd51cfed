package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// variant is one way of answering the same requests.
type variant string

const (
	plain    variant = "plain"   // reverse_proxy, tuned as Caddyfile.example has it
	control  variant = "control" // plain once more: what it differs by is noise
	gated    variant = "gate"    // open_gate before the same reverse_proxy
	defaults variant = "default" // reverse_proxy as Caddy has it without options
)

// site is one listener of the gateway.
type site struct {
	Variant variant
	Scheme  string // "http" or "https"
	Address string // "127.0.0.1:port"
}

// Gated tells the template whether the gate stands before this site.
func (s site) Gated() bool { return s.Variant == gated }

// Tuned tells the template whether the transport has the example's options.
func (s site) Tuned() bool { return s.Variant != defaults }

// TLS tells the template whether the site needs a certificate.
func (s site) TLS() bool { return s.Scheme == "https" }

// All listeners are in one process: they share the heap, so that the size of
// the app cache changes the work of the garbage collector for all alike, and
// no ratio depends on which process got the better pages.
var caddyfile = template.Must(template.New("Caddyfile").Parse(`{
	admin {{.Admin}}
	skip_install_trust
	auto_https disable_redirects
	persist_config off
	default_bind 127.0.0.1
	grace_period 1s
	storage file_system "{{.Dir}}/caddy"
	log {
		level ERROR
	}
	servers {
		protocols h1 h2
	}
{{- if .Database}}
	open_platform {
		storage sqlite "{{.Database}}"
		master_key {file.{{.MasterKey}}}
	}
{{- end}}
}
{{range .Sites}}
{{.Scheme}}://{{.Address}} {
{{- if .TLS}}
	tls internal
{{- end}}
{{- if .Gated}}
	open_gate {
		environment production
	}
{{- end}}
	reverse_proxy {{$.Upstream}}{{if .Tuned}} {
		transport http {
			keepalive_idle_conns_per_host 512
			compression off
		}
	}{{end}}
}
{{end}}`))

// gatewayConfig says what the gateway is made of.
type gatewayConfig struct {
	Binary   string // path of the caddy binary
	Dir      string // where it may write
	Admin    string
	Upstream string
	Sites    []site

	// Database and MasterKey are the store's files; without them there is no
	// gate, and any Caddy binary serves.
	Database, MasterKey string
}

// newSites gives every variant a free port for each scheme.
func newSites(ctx context.Context, schemes []string, variants []variant) ([]site, error) {
	var sites []site
	for _, scheme := range schemes {
		for _, v := range variants {
			address, err := freeAddress(ctx)
			if err != nil {
				return nil, err
			}
			sites = append(sites, site{Variant: v, Scheme: scheme, Address: address})
		}
	}
	return sites, nil
}

// freeAddress is a loopback address that nobody listened on a moment ago.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// startGateway writes the Caddyfile and runs the binary with it. Whether it
// answers is for the caller to find out.
func startGateway(ctx context.Context, c gatewayConfig) (*process, error) {
	var text bytes.Buffer
	if err := caddyfile.Execute(&text, c); err != nil {
		return nil, fmt.Errorf("writing the Caddyfile: %w", err)
	}
	path := filepath.Join(c.Dir, "Caddyfile")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		return nil, fmt.Errorf("writing the Caddyfile: %w", err)
	}
	cmd := exec.CommandContext(ctx, c.Binary, "run", "--adapter", "caddyfile", "--config", path) //nolint:gosec // the user names the binary
	// Nothing of the user's Caddy is read or written.
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+c.Dir, "XDG_CONFIG_HOME="+c.Dir)
	cmd.Dir = c.Dir
	return start(cmd)
}

// rootCAs is the pool that holds the root which Caddy's internal CA made.
func rootCAs(dir string) (*x509.CertPool, error) {
	text, err := os.ReadFile(filepath.Join(dir, "caddy", "pki", "authorities", "local", "root.crt"))
	if err != nil {
		return nil, fmt.Errorf("reading the root certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading the root certificate: no certificate in it")
	}
	return pool, nil
}

// buildTimeout bounds the build of the gateway; a cold build of Caddy takes
// minutes on two cores.
const buildTimeout = 15 * time.Minute

// buildCaddy builds the project's cmd/caddy into dir.
func buildCaddy(ctx context.Context, dir string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/caddy-openplatform/openplatform").Output()
	if err != nil {
		return "", fmt.Errorf("finding the project: %w; run this in the project's folder bench, or name a binary with -caddy", err)
	}
	binary := filepath.Join(dir, "caddy-gate")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/caddy") //nolint:gosec // in a folder of our own
	build.Dir = strings.TrimSpace(string(root))
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building cmd/caddy: %w\n%s", err, out)
	}
	return binary, nil
}
