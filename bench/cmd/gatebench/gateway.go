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
	"slices"
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
	refused  variant = "refused" // gate, called with bad signatures
)

// ungated are the variants without a gate; all others have one.
var ungated = []variant{plain, control, defaults, authServer}

// site is one listener of a gateway.
type site struct {
	Variant variant
	Scheme  string // "http" or "https"
	Address string // "127.0.0.1:port"
}

// Gated tells the template whether the gate stands before this site.
func (s site) Gated() bool { return !slices.Contains(ungated, s.Variant) }

// Authorizes tells the template whether this site is an authorization server.
func (s site) Authorizes() bool { return s.Variant == authServer }

// TLS tells the template whether the site needs a certificate.
func (s site) TLS() bool { return s.Scheme == "https" }

// A tuned gateway has what Caddyfile.example has: the options of the transport,
// and no log entries of reverse_proxy, which encodes the headers of every
// request into its logger. The log belongs to the process, so Caddy's defaults
// need a process of their own. The tuned variants share one, and with it the
// heap: the size of the app cache changes the work of the garbage collector for
// all of them alike.
var caddyfile = template.Must(template.New("Caddyfile").Parse(`{
	admin {{.Admin}}
	skip_install_trust
	auto_https disable_redirects
	persist_config off
	default_bind 127.0.0.1
	grace_period 1s
	storage file_system "{{.Dir}}/caddy"
{{- if .Tuned}}
	log {
		level ERROR
		exclude http.handlers.reverse_proxy
	}
{{- end}}
	servers {
		protocols h1 h2
	}
{{- with .Store}}
	open_platform {
		storage {{.Engine}} "{{.Location}}"
		master_key {file.{{.MasterKey}}}
{{- with $.Redis}}
		redis "{{.URL}}" {
			accuracy {{.Accuracy}}
			nonces {{.Nonces}}
		}
{{- end}}
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
{{- if .Authorizes}}
	open_oauth production
{{- end}}
	reverse_proxy {{$.Upstream}}{{if $.Tuned}} {
		transport http {
			keepalive_idle_conns_per_host 512
			compression off
		}
	}{{end}}
{{- if .Gated}}
	handle_errors {
		open_problem
	}
{{- end}}
}
{{end}}`))

// gatewayConfig says what a gateway is made of.
type gatewayConfig struct {
	Binary   string // path of the caddy binary
	Dir      string // where it may write; its own
	Admin    string
	Upstream string
	Sites    []site
	Tuned    bool // with the options of Caddyfile.example

	// Store has the apps; without one there is no gate, and any Caddy binary
	// serves.
	Store *storage
	// Redis keeps limits and nonces; nil: the memory does.
	Redis *redisOptions
}

// redisOptions are the options of the directive redis.
type redisOptions struct{ URL, Accuracy, Nonces string }

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

// gateway is a Caddy process.
type gateway struct {
	*process
	admin string // address of its admin endpoint
	dir   string
}

// startGateway writes the Caddyfile and runs the binary with it. Whether it
// answers is for the caller to find out.
func startGateway(ctx context.Context, c gatewayConfig) (*gateway, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
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
	p, err := start(cmd)
	if err != nil {
		return nil, err
	}
	return &gateway{process: p, admin: c.Admin, dir: c.Dir}, nil
}

// trust adds the root that the gateway's internal CA made.
func (g *gateway) trust(pool *x509.CertPool) error {
	text, err := os.ReadFile(filepath.Join(g.dir, "caddy", "pki", "authorities", "local", "root.crt"))
	if err != nil {
		return fmt.Errorf("reading the root certificate: %w", err)
	}
	if !pool.AppendCertsFromPEM(text) {
		return fmt.Errorf("reading the root certificate: no certificate in it")
	}
	return nil
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
