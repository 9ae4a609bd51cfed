package oauth

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	core "github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Passport says who the merchant before the browser is.
type Passport interface {
	// User is the merchant who sent the request with this session; nil when
	// nobody is logged in, or may not be.
	User(r *http.Request, s *session) (*platform.User, error)
}

// accounts is the passport where merchants log in through our pages: the session
// says who did.
type accounts struct {
	store core.Store
	// issuer is the OpenID provider whose users they are; "" for the platform's
	// own accounts.
	issuer string
}

// User loads the account anew each time, so that one that was disabled, or whose
// password was changed, is logged out everywhere.
func (p accounts) User(r *http.Request, s *session) (*platform.User, error) {
	if s.User == "" {
		return nil, nil
	}
	u, err := p.store.User(r.Context(), s.User)
	if errors.Is(err, platform.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("loading the merchant: %w", err)
	}
	if u.Status != platform.UserActive || passwordMark(u) != s.Password || u.Issuer != p.issuer {
		return nil, nil
	}
	return u, nil
}

// passwordMark tells one password of a user from the next one, and nothing else
// about it.
func passwordMark(u *platform.User) string {
	sum := sha256.Sum256(u.Password.Reveal())
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// OutsidePassport takes the user from a Caddy authentication handler or from
// forward_auth, which ran before; or has merchants log in with an OpenID provider.
type OutsidePassport struct {
	// OIDC is the OpenID provider. Exactly one of OIDC and User is required.
	OIDC *OIDCPassport `json:"oidc,omitempty"`

	// User is a placeholder for the merchant's ID, such as
	// {http.auth.user.id}, or {http.reverse_proxy.header.Remote-User} behind
	// forward_auth.
	User string `json:"user,omitempty"`
	// Name is a placeholder for the shop's name. Default: the ID.
	Name string `json:"name,omitempty"`
}

// outsideIssuer is whose users they are, as the store keeps them.
const outsideIssuer = "caddy"

var (
	onePlaceholder = regexp.MustCompile(`^\{[^{}]+\}$`)
	// fromClient matches what the client says itself, and so could say of
	// anybody. A certificate was checked.
	fromClient = regexp.MustCompile(`^\{http\.request\.`)
	ofTLS      = regexp.MustCompile(`^\{http\.request\.tls\.client\.`)
)

// validate refuses placeholders by which a client could pose as a merchant.
func (p *OutsidePassport) validate() error {
	if p.OIDC != nil {
		if p.User != "" || p.Name != "" {
			return errors.New("passport: it is either an OpenID provider or placeholders; leave out user and name, or oidc")
		}
		return nil
	}
	for field, value := range map[string]string{"user": p.User, "name": p.Name} {
		if value == "" && field == "name" {
			continue
		}
		if !onePlaceholder.MatchString(value) {
			return fmt.Errorf("passport: '%s' is no placeholder; write one such as {http.auth.user.id}", value)
		}
		if fromClient.MatchString(value) && !ofTLS.MatchString(value) {
			return fmt.Errorf("passport: %s is what the client sent, which anybody can forge; write {http.auth.user.id}, or {http.reverse_proxy.header.Remote-User} behind forward_auth", value)
		}
	}
	return nil
}

// outside is an outside passport at work.
type outside struct {
	OutsidePassport
	store core.Store
	now   func() time.Time
}

// maxIdentity bounds what an outside passport calls a merchant, in bytes.
const maxIdentity = 256

// User finds the merchant of that identity, or makes one at the first visit.
func (p outside) User(r *http.Request, _ *session) (*platform.User, error) {
	subject := placeholder(r, p.OutsidePassport.User)
	if subject == "" {
		return nil, nil
	}
	name := cmp.Or(placeholder(r, p.Name), subject)
	u, err := p.store.UserByIdentity(r.Context(), outsideIssuer, subject, name, p.now())
	if err != nil {
		return nil, fmt.Errorf("finding the merchant: %w", err)
	}
	if u.Status != platform.UserActive {
		return nil, nil
	}
	return u, nil
}

// placeholder is the value that Caddy has for a placeholder; "" where there is
// none, or one that is no identity.
func placeholder(r *http.Request, name string) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok || name == "" {
		return ""
	}
	value := strings.TrimSpace(repl.ReplaceAll(name, ""))
	if len(value) > maxIdentity {
		return ""
	}
	return value
}

// Interface guards
var (
	_ Passport = accounts{}
	_ Passport = outside{}
)
