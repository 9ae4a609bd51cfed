package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

const (
	// assertionType is what RFC 7523 section 2.2 calls a JWT that authenticates
	// a client.
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// maxAssertion bounds an assertion, in bytes; maxAssertionAge how long it
	// may last.
	maxAssertion    = 8 << 10
	maxAssertionAge = 10 * time.Minute
	// clockSkew is how far clocks may lie apart.
	clockSkew = time.Minute
)

// assertionAlgorithms are those of the keys that apps can register.
var assertionAlgorithms = []jose.SignatureAlgorithm{jose.EdDSA, jose.RS256, jose.PS256}

// parseAssertion reads the assertion of a request, and whom it claims to be of.
// Nothing of it is verified yet.
func parseAssertion(p *params) (*jwt.JSONWebToken, string, *refusal) {
	value := p.get("client_assertion")
	if p.get("client_assertion_type") != assertionType || value == "" {
		return nil, "", refuse(invalidRequest, "client_assertion and client_assertion_type="+assertionType+" belong together")
	}
	if len(value) > maxAssertion {
		return nil, "", refuse(invalidClient, "client_assertion is too long")
	}
	token, err := jwt.ParseSigned(value, assertionAlgorithms)
	if err != nil {
		return nil, "", refuse(invalidClient, "client_assertion is no JWT signed with EdDSA, RS256 or PS256")
	}
	var claims jwt.Claims
	if err := token.UnsafeClaimsWithoutVerification(&claims); err != nil || claims.Issuer == "" {
		return nil, "", refuse(invalidClient, "client_assertion has no iss; write the appKey")
	}
	return token, claims.Issuer, nil
}

// assertionProven tells whether the assertion is the app's own, for this server
// and for now, and is used for the first time (RFC 7523 section 3).
func (s *Server) assertionProven(ctx context.Context, app *platform.App, token *jwt.JSONWebToken) (bool, error) {
	var claims jwt.Claims
	now := s.Now()
	if !slices.ContainsFunc(app.Credentials, func(c platform.Credential) bool {
		return c.Kind == platform.PublicKey && c.Dialect == signing.Op1 && c.Environment == s.Environment &&
			c.Live(now) && signedBy(token, c.PublicKeyPEM, &claims)
	}) {
		return false, nil
	}
	expected := jwt.Expected{
		Issuer: app.Key, Subject: app.Key, AnyAudience: jwt.Audience{s.Issuer, s.url("/token")}, Time: now,
	}
	valid := claims.ValidateWithLeeway(expected, clockSkew) == nil
	if !valid || claims.ID == "" || claims.Expiry == nil ||
		claims.Expiry.Time().After(now.Add(maxAssertionAge+clockSkew)) {
		return false, nil
	}
	fresh, err := s.useOnce(ctx, app, "assertion", claims.ID, claims.Expiry.Time().Add(clockSkew))
	return fresh && app.Status == platform.Active, err
}

// signedBy tells whether the key, in PEM, made the signature, and reads the
// claims.
func signedBy(token *jwt.JSONWebToken, publicKey string, claims *jwt.Claims) bool {
	block, _ := pem.Decode([]byte(publicKey))
	if block == nil {
		return false
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	return err == nil && token.Claims(key, claims) == nil
}

// useOnce tells whether the app uses an identifier for the first time. It is
// remembered until expiry.
func (s *Server) useOnce(ctx context.Context, app *platform.App, purpose, id string, expiry time.Time) (bool, error) {
	nonce := sha256.Sum256([]byte(purpose + "\x00" + id))
	_, err := s.Ledger.Spend(ctx, s.Now(), &limit.Spend{App: app.Number, Nonce: nonce[:], Expiry: expiry})
	if errors.Is(err, limit.ErrUsed) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("using an identifier once: %w", err)
	}
	return true, nil
}
