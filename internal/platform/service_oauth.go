package platform

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// The bounds of redirect URIs.
const (
	maxRedirectURIs = 20
	maxRedirectURI  = 2000 // bytes
)

// SetOAuth replaces how merchants authorize the app.
func (s *Service) SetOAuth(ctx context.Context, actor, ref string, o OAuthSettings) (*App, error) {
	return s.updateApp(ctx, actor, ref, "app.oauth", func(_ Tx, a *App) error {
		if err := o.check(a.Mode); err != nil {
			return err
		}
		a.OAuth = o
		return nil
	})
}

// check holds the settings against the mode of the app.
func (o *OAuthSettings) check(mode AppMode) error {
	if len(o.RedirectURIs) > maxRedirectURIs {
		return &FieldError{Field: "redirect_uris", Problem: fmt.Sprintf("has %d entries", len(o.RedirectURIs)), Want: fmt.Sprintf("at most %d", maxRedirectURIs)}
	}
	for i, uri := range o.RedirectURIs {
		field := fmt.Sprintf("redirect_uris[%d]", i)
		if err := checkRedirectURI(field, uri, mode); err != nil {
			return err
		}
		if slices.Contains(o.RedirectURIs[:i], uri) {
			return &FieldError{Field: field, Problem: "is there twice", Want: "each URI once"}
		}
	}
	if o.InitiateLoginURI != "" {
		const field = "initiate_login_uri"
		if mode != Hosted {
			return &FieldError{Field: field, Problem: fmt.Sprintf("an app of the mode %s is not started from the app market", mode), Want: "an app of the mode hosted"}
		}
		if err := checkRedirectURI(field, o.InitiateLoginURI, mode); err != nil {
			return err
		}
	}
	switch {
	case !slices.Contains([]TokenFormat{"", OpaqueToken, JWTToken}, o.Tokens):
		return &FieldError{Field: "tokens", Problem: fmt.Sprintf("%q is no format of tokens", o.Tokens), Want: "opaque or jwt"}
	case !slices.Contains([]RefreshPolicy{"", KeepRefresh, RotateRefresh}, o.Refresh):
		return &FieldError{Field: "refresh", Problem: fmt.Sprintf("%q is no policy", o.Refresh), Want: "keep or rotate"}
	case mode == Client && o.Refresh == KeepRefresh:
		return &FieldError{Field: "refresh", Problem: "refresh tokens of an app of the mode client always rotate", Want: "rotate"}
	case mode == Client && o.WithoutPKCE:
		return &FieldError{Field: "without_pkce", Problem: "an app of the mode client has no secret and always needs PKCE", Want: "false"}
	}
	return nil
}

// CheckRedirectURI tells what keeps an app of the mode from having the redirect URI.
func CheckRedirectURI(uri string, mode AppMode) error {
	return checkRedirectURI("redirect URI", uri, mode)
}

// checkRedirectURI holds a redirect URI to RFC 6749 section 3.1.2, RFC 9700
// section 2.1 and, for apps on users' devices, RFC 8252 section 7.
func checkRedirectURI(field, uri string, mode AppMode) error {
	wrong := func(problem, want string) error { return &FieldError{Field: field, Problem: problem, Want: want} }
	if len(uri) > maxRedirectURI {
		return wrong(fmt.Sprintf("has %d bytes", len(uri)), fmt.Sprintf("at most %d", maxRedirectURI))
	}
	// A space or a backslash is read differently by different programs.
	if strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\\\"<>^`{|}", r) }) {
		return wrong("has characters that a URI cannot have", "them percent-encoded, and an international name in its xn-- form")
	}
	want := "an absolute URI like https://shop.example.com/callback"
	if mode == Client {
		want += ", http://127.0.0.1/callback or com.example.app:/callback"
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil || u.Scheme == "":
		return wrong("is no absolute URI", want)
	case strings.Contains(uri, "#"):
		return wrong("has a fragment", "the URI without # and what follows")
	case u.User != nil:
		return wrong("has a user name", "the URI without what stands before the @")
	case strings.Contains(uri, "*"):
		return wrong("has a wildcard", "every URI in full")
	}
	if strings.Contains(u.Scheme, ".") && mode == Client {
		if u.Opaque != "" || u.Host == "" && u.Path == "" {
			return wrong("has no path", want)
		}
		return nil
	}
	if u.Host == "" || u.Hostname() == "" || u.Opaque != "" {
		return wrong("has no host", want)
	}
	if u.Scheme == "https" {
		return nil
	}
	if u.Scheme != "http" || mode != Client {
		return wrong(fmt.Sprintf("has the scheme %q", u.Scheme), want)
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err != nil || !addr.IsLoopback() || addr.Zone() != "" {
		return wrong("is plain http to a host that is no loopback address", "https, or http to 127.0.0.1 or [::1]")
	}
	return nil
}
