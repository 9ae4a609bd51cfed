package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// claim is what a request says about the app that makes it.
type claim struct {
	id     string
	secret string
	// assertion proves it in place of a secret (RFC 7523); nil for none.
	assertion *jwt.JSONWebToken
}

// badClient answers an unknown app and a wrong secret alike.
const badClient = "client_id and client_secret do not belong together, or the app is not active"

// noSecret answers an unknown app and one that has a secret alike, where none came.
const noSecret = "client_secret is missing, or client_id is of no active app; only apps of the mode client go without a secret"

// authenticate finds out which app makes a request (RFC 6749 section 2.3). A
// public app names itself and proves nothing. Wrong guesses are slowed down for
// each app and address; they never hold up the app elsewhere. They count after
// the look: an app that asks for many tokens side by side must not wait, and
// guesses that were looked at side by side are waited for afterwards all the same.
func (s *Server) authenticate(r *http.Request, p *params) (*platform.App, *refusal) {
	c, refused := readClaim(r, p)
	if refused != nil {
		return nil, refused
	}
	now, guess := s.Now(), secretGuess(c.id, s.ClientIP(r))
	if wait := s.Guard.wait(now, guess); wait > 0 {
		refused := refuse(tooManyFailures, "too many failed attempts; wait before the next")
		refused.retryAfter = wait
		return nil, refused
	}
	app, err := s.appByKey(r.Context(), c.id)
	if err != nil && !errors.Is(err, platform.ErrNotFound) {
		return nil, failed(fmt.Errorf("loading the app: %w", err))
	}
	proven, err := s.proven(r.Context(), app, c)
	if err != nil {
		return nil, failed(err)
	}
	if !proven {
		s.Guard.charge(now, guess)
		if c.secret == "" && c.assertion == nil {
			return nil, refuse(invalidClient, noSecret)
		}
		return nil, refuse(invalidClient, badClient)
	}
	return app, nil
}

// readClaim takes exactly one method of authentication: HTTP Basic, the
// parameters (RFC 6749 section 2.3.1), or an assertion (RFC 7521 section 4.2).
// An empty secret is none.
func readClaim(r *http.Request, p *params) (claim, *refusal) {
	c := claim{id: p.get("client_id"), secret: p.get("client_secret")}
	headers := r.Header.Values("Authorization")
	asserted := p.get("client_assertion") != "" || p.get("client_assertion_type") != ""
	switch {
	case len(headers) > 1, len(headers) == 1 && (c.secret != "" || asserted), c.secret != "" && asserted:
		return claim{}, refuse(invalidRequest, "the request authenticates in more than one way; use one")
	case len(headers) == 1:
		basic, ok := parseBasic(headers[0])
		if !ok {
			return claim{}, refuse(invalidClient, "Authorization is not HTTP Basic with form-encoded appKey and secret")
		}
		return basic, sameClient(c.id, basic.id)
	case asserted:
		token, id, refused := parseAssertion(p)
		if refused != nil {
			return claim{}, refused
		}
		return claim{id: id, assertion: token}, sameClient(c.id, id)
	case c.id == "":
		return claim{}, refuse(invalidClient, "client_id is missing; write the appKey")
	}
	return c, nil
}

// sameClient refuses a client_id that is not the one which is authenticated.
func sameClient(given, authenticated string) *refusal {
	if given != "" && given != authenticated {
		return refuse(invalidRequest, "client_id differs from the app that authenticates")
	}
	return nil
}

// parseBasic reads an Authorization header. Both parts are form-encoded first
// and then joined (RFC 6749 section 2.3.1).
func parseBasic(header string) (claim, bool) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return claim{}, false
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return claim{}, false
	}
	rawID, rawSecret, ok := strings.Cut(string(decoded), ":")
	if !ok {
		return claim{}, false
	}
	id, err := url.QueryUnescape(rawID)
	if err != nil {
		return claim{}, false
	}
	secret, err := url.QueryUnescape(rawSecret)
	if err != nil {
		return claim{}, false
	}
	return claim{id: id, secret: secret}, id != "" && utf8.ValidString(id) && utf8.ValidString(secret)
}

// proven tells whether the claim is true. It takes the same time for an app
// that does not exist.
func (s *Server) proven(ctx context.Context, app *platform.App, c claim) (bool, error) {
	given := sha256.Sum256([]byte(c.secret))
	if app == nil {
		app = &nobody
	}
	if c.assertion != nil {
		return s.assertionProven(ctx, app, c.assertion)
	}
	if public(app) {
		return c.secret == "" && app.Status == platform.Active, nil
	}
	now, match := s.Now(), 0
	for i := range app.Credentials {
		cred := &app.Credentials[i]
		if cred.Kind == platform.SharedSecret && cred.Dialect == signing.Op1 &&
			cred.Environment == s.Environment && cred.Live(now) && !cred.Secret.IsZero() {
			want := sha256.Sum256(cred.Secret.Reveal())
			match |= subtle.ConstantTimeCompare(given[:], want[:])
		}
	}
	return match == 1 && c.secret != "" && app.Status == platform.Active, nil
}

// nobody stands in for an app that does not exist. Its secret has the length of
// a real one; its status lets nothing through.
var nobody = platform.App{Status: platform.Suspended, Credentials: []platform.Credential{
	{Kind: platform.SharedSecret, Dialect: signing.Op1, Environment: platform.Production, Secret: platform.NewSecret(make([]byte, 67))},
	{Kind: platform.SharedSecret, Dialect: signing.Op1, Environment: platform.Sandbox, Secret: platform.NewSecret(make([]byte, 67))},
}}
