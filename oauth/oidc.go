package oauth

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// OIDCPassport has merchants log in with an OpenID provider (OpenID Connect Core
// 1.0) that the platform is registered with as a client, with the redirect URI
// https://<host>/oauth/callback. A merchant is the provider's issuer and subject;
// one that is unknown so far is taken in.
//
// Nothing is asked of the provider before the first merchant logs in. While it is
// down those who are logged in go on.
type OIDCPassport struct {
	// Issuer is the provider's identifier: an https URL below which
	// /.well-known/openid-configuration is, exactly as that document has it.
	// Placeholders are resolved when the configuration loads. Required.
	Issuer string `json:"issuer"`

	// ClientID is what the provider calls this platform. Placeholders are
	// resolved when the configuration loads. Required.
	ClientID string `json:"client_id"`

	// ClientSecret authenticates this platform at the provider. Placeholders such
	// as {env.OIDC_SECRET} are resolved when the configuration loads. Default:
	// none, for a public client.
	ClientSecret string `json:"client_secret,omitempty"`

	// Scopes are asked for beside "openid". Default: profile.
	Scopes []string `json:"scopes,omitempty"`

	// NameClaim is the claim with the shop's name, in the ID token or the answer
	// of the userinfo endpoint. Where there is none, the subject is shown.
	// Default: name.
	NameClaim string `json:"name_claim,omitempty"`

	// CA is a PEM file with the certificates that the provider's is signed with,
	// for a private authority. Placeholders are resolved when the configuration
	// loads. Default: those that the system trusts.
	CA string `json:"ca,omitempty"`

	roots *x509.CertPool
}

// provision sets defaults, resolves placeholders and refuses what cannot work. It
// leaves the network alone.
func (p *OIDCPassport) provision(repl *caddy.Replacer) (err error) {
	for _, field := range []struct {
		name     string
		value    *string
		required bool
	}{
		{"issuer", &p.Issuer, true},
		{"client_id", &p.ClientID, true},
		{"client_secret", &p.ClientSecret, false},
		{"ca", &p.CA, false},
	} {
		if *field.value, err = repl.ReplaceOrErr(*field.value, true, true); err != nil {
			return fmt.Errorf("%s: %w", field.name, err)
		}
		if *field.value == "" && field.required {
			return fmt.Errorf("%s is missing", field.name)
		}
	}
	if err := checkProvider(p.Issuer); err != nil {
		return err
	}
	if len(p.Scopes) == 0 {
		p.Scopes = []string{"profile"}
	}
	if slices.ContainsFunc(p.Scopes, badScope) {
		return fmt.Errorf("scopes: %q has one that is empty or has spaces in it", p.Scopes)
	}
	if p.NameClaim == "" {
		p.NameClaim = "name"
	}
	if p.CA == "" {
		return nil
	}
	pem, err := os.ReadFile(p.CA)
	if err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	p.roots = x509.NewCertPool()
	if !p.roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("ca: %s holds no PEM certificate", p.CA)
	}
	return nil
}

func badScope(scope string) bool { return scope == "" || strings.ContainsAny(scope, " \t\r\n\"\\") }

// checkProvider holds the provider's issuer to OpenID Connect Discovery 1.0
// section 3. Unlike our own it may end with a slash.
func checkProvider(issuer string) error {
	if checkEndpoint(issuer) != nil || strings.ContainsAny(issuer, "?#") {
		if u, err := url.Parse(issuer); err == nil {
			issuer = u.Redacted()
		}
		return fmt.Errorf("issuer: '%s' is not an https URL without query and fragment; write one such as https://login.example.com", issuer)
	}
	return nil
}

// checkEndpoint refuses addresses to which no secret may go.
func checkEndpoint(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return errors.New("not an https URL")
	}
	return nil
}
