package caddymodule

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openplatform/openplatform/internal/store"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// Push says how messages are pushed to apps.
type Push struct {
	// Off makes this node accept messages and deliver none: other nodes do.
	// Default: false.
	Off bool `json:"off,omitempty"`

	// Workers is how many requests to apps are under way at once on this node. Up
	// to four times as many connections wait a minute for the next request.
	// Default: 1024.
	Workers int `json:"workers,omitempty"`

	// Timeout bounds one request, from the look-up of the name to the end of
	// the answer. Default: 5s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Lease is for how long a delivery belongs to the node that took it: the
	// deliveries of a node that died are taken by others after it. It must be
	// longer than the timeout by 5s. Default: 30s, or the timeout and 5s where that
	// is longer.
	Lease caddy.Duration `json:"lease,omitempty"`

	// Schedule is the waits between attempts, each ±20 %, unless a subscription
	// has its own. Default: 5s 30s 2m 10m 30m 2h 5h 10h 10h.
	Schedule []caddy.Duration `json:"schedule,omitempty"`

	// DisableAfter is for how long an endpoint may fail without one success
	// until it is disabled. Default: 72h.
	DisableAfter caddy.Duration `json:"disable_after,omitempty"`

	// Allow lists networks, as CIDR, that callbacks may lead to although they
	// are not public; http is allowed to them too. Default: none.
	Allow []string `json:"allow,omitempty"`

	// Egress is the local address that requests to apps come from. Default: the
	// system chooses.
	Egress string `json:"egress,omitempty"`

	// EgressIPs are the addresses that apps see requests come from, for their
	// whitelists, where they are not Egress: behind a NAT. Apps are told of
	// them by open_messages. Default: Egress.
	EgressIPs []string `json:"egress_ips,omitempty"`

	// ClientCertificate and ClientKey are PEM files of a certificate that is
	// shown to endpoints that ask for one (mTLS). Default: none.
	ClientCertificate string `json:"client_certificate,omitempty"`
	ClientKey         string `json:"client_key,omitempty"`

	// CA is a PEM file of authorities that are trusted beside the system's.
	// Default: none.
	CA string `json:"ca,omitempty"`

	// Source is the "source" of all events (CloudEvents 1.0 section 3.1.1), a
	// URI reference. Default: /open-platform.
	Source string `json:"source,omitempty"`

	// Node names this node in the record of attempts. Default: the host's name.
	Node string `json:"node,omitempty"`

	// KeepMessages is for how long messages are kept. Default: 720h, 30 days.
	KeepMessages caddy.Duration `json:"keep_messages,omitempty"`

	// KeepDeliveries is for how long deliveries and what was posted are kept.
	// Default: 720h.
	KeepDeliveries caddy.Duration `json:"keep_deliveries,omitempty"`

	// KeepAttempts is for how long the record of attempts is kept.
	// Default: 720h.
	KeepAttempts caddy.Duration `json:"keep_attempts,omitempty"`

	settings pusher.Settings
	egress   []netip.Addr
}

// Defaults of the push; those that are not here are the pusher's own.
const (
	maxPushTimeout = time.Minute
	defaultKeep    = 30 * 24 * time.Hour
	minKeep        = 48 * time.Hour
	maxScheduled   = 20
)

// provision sets defaults and reads what is text.
func (p *Push) provision() (err error) {
	setDefault(&p.KeepMessages, defaultKeep)
	setDefault(&p.KeepDeliveries, defaultKeep)
	setDefault(&p.KeepAttempts, defaultKeep)
	if p.Source == "" {
		p.Source = "/open-platform"
	}
	if p.Node == "" {
		if p.Node, err = os.Hostname(); err != nil {
			return fmt.Errorf("push: finding the host's name: %w; write one with node", err)
		}
	}
	p.settings = pusher.Settings{
		Off: p.Off, Workers: p.Workers, Timeout: time.Duration(p.Timeout), Lease: time.Duration(p.Lease),
		DisableAfter: time.Duration(p.DisableAfter),
	}
	for _, wait := range p.Schedule {
		p.settings.Schedule = append(p.settings.Schedule, time.Duration(wait))
	}
	if p.settings.TLS, err = p.tls(); err != nil {
		return fmt.Errorf("push: %w", err)
	}
	p.settings = p.settings.WithDefaults()
	for _, text := range p.Allow {
		network, err := ParseNetwork(text)
		if err != nil {
			return fmt.Errorf("push: allow: %w", err)
		}
		p.settings.Allow = append(p.settings.Allow, network)
	}
	if p.Egress != "" {
		if p.settings.Egress, err = netip.ParseAddr(p.Egress); err != nil {
			return fmt.Errorf("push: egress: '%s' is no IP address", p.Egress)
		}
		p.egress = []netip.Addr{p.settings.Egress}
	}
	if len(p.EgressIPs) > 0 {
		p.egress = nil
	}
	for _, text := range p.EgressIPs {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("push: egress_ips: '%s' is no IP address", text)
		}
		p.egress = append(p.egress, addr)
	}
	return nil
}

// tls is how endpoints are checked, and what is shown to them; nil is the
// system's way.
func (p *Push) tls() (*tls.Config, error) {
	if p.CA == "" && p.ClientCertificate == "" && p.ClientKey == "" {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if p.CA != "" {
		pem, err := os.ReadFile(p.CA)
		if err != nil {
			return nil, fmt.Errorf("reading ca: %w", err)
		}
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			config.RootCAs = x509.NewCertPool()
		}
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s holds no certificate in PEM", p.CA)
		}
	}
	if p.ClientCertificate != "" || p.ClientKey != "" {
		pair, err := tls.LoadX509KeyPair(p.ClientCertificate, p.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("client_certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// ParseNetwork reads a network of a configuration: a CIDR, or one address.
func ParseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return network, fmt.Errorf("'%s' is no network; write one such as 10.0.0.0/8", text)
	}
	return network.Masked(), nil
}

// setDefault sets a duration that was not given.
func setDefault(d *caddy.Duration, value time.Duration) {
	if *d == 0 {
		*d = caddy.Duration(value)
	}
}

// validate refuses settings that cannot work.
func (p *Push) validate() error {
	if err := p.settings.Validate(); err != nil {
		return fmt.Errorf("push: %w", err)
	}
	disableAfter := p.settings.WithDefaults().DisableAfter
	switch {
	case p.Timeout > caddy.Duration(maxPushTimeout):
		return fmt.Errorf("push: timeout must be at most %v, not %v", maxPushTimeout, time.Duration(p.Timeout))
	case len(p.Schedule) > maxScheduled:
		return fmt.Errorf("push: schedule has %d waits; %d are the most", len(p.Schedule), maxScheduled)
	case slices.ContainsFunc(p.Schedule, func(d caddy.Duration) bool { return d < caddy.Duration(time.Second) }):
		return fmt.Errorf("push: schedule: a wait must be 1s or more")
	case min(p.KeepMessages, p.KeepDeliveries, p.KeepAttempts) < caddy.Duration(minKeep):
		return fmt.Errorf("push: what is kept must be kept for %v or longer: attempts go on for that long", minKeep)
	case time.Duration(p.KeepDeliveries) < disableAfter:
		return fmt.Errorf("push: keep_deliveries must be as long as disable_after (%v) or longer: what waits for an endpoint that fails would be removed before it is disabled",
			disableAfter)
	}
	if u, err := url.Parse(p.Source); err != nil || p.Source != u.String() {
		return fmt.Errorf("push: source: '%s' is no URI reference; write one such as https://open.example.com", p.Source)
	}
	return nil
}

// retention is for how long the push's tables are kept.
func (p *Push) retention(r store.Retention) store.Retention {
	r.Messages, r.Deliveries, r.Attempts = time.Duration(p.KeepMessages), time.Duration(p.KeepDeliveries), time.Duration(p.KeepAttempts)
	return r
}
