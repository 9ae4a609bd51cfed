package oauth

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	// maxProof bounds a proof, in bytes; maxProofAge how old it may be.
	maxProof    = 8 << 10
	maxProofAge = 2 * time.Minute
)

// proofAlgorithms are asymmetric, as RFC 9449 section 4.3 wants.
var proofAlgorithms = []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256, jose.RS256}

// proofClaims are the claims of RFC 9449 section 4.2.
type proofClaims struct {
	ID       string           `json:"jti"`
	Method   string           `json:"htm"`
	URL      string           `json:"htu"`
	IssuedAt *jwt.NumericDate `json:"iat"`
	// TokenHash is the SHA-256 of the access token that it goes with.
	TokenHash string `json:"ath"`
}

// checkProof verifies the DPoP proof of one request (RFC 9449 section 4.3) and
// returns the thumbprint of its key. token is the access token that goes with
// it, or empty. A proof that does not hold is platform.ErrProofInvalid.
func checkProof(p platform.Proof, token string, now time.Time) (thumbprint string, claims *proofClaims, err error) {
	bad := func(why string) (string, *proofClaims, error) {
		return "", nil, fmt.Errorf("%w: %s", platform.ErrProofInvalid, why)
	}
	if len(p.Headers) == 0 {
		return bad("there is no DPoP header")
	}
	if len(p.Headers) > 1 {
		return bad("there is more than one DPoP header")
	}
	proof := p.Headers[0]
	if len(proof) > maxProof {
		return bad("it is too long")
	}
	parsed, err := jwt.ParseSigned(proof, proofAlgorithms)
	if err != nil || len(parsed.Headers) != 1 {
		return bad("it is no JWT signed with ES256, EdDSA, PS256 or RS256")
	}
	header := parsed.Headers[0]
	key := header.JSONWebKey
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); typ != "dpop+jwt" || !usableKey(key) {
		return bad("its header needs typ dpop+jwt and a public key as jwk")
	}
	claims = &proofClaims{}
	if err := parsed.Claims(key, claims); err != nil {
		return bad("its signature is wrong")
	}
	ath := sha256.Sum256([]byte(token))
	switch {
	case claims.ID == "" || claims.IssuedAt == nil:
		return bad("jti or iat is missing")
	case claims.Method != p.Method || !sameTarget(claims.URL, p.URL):
		return bad("htm or htu is of another request")
	case claims.IssuedAt.Time().Before(now.Add(-maxProofAge)) || claims.IssuedAt.Time().After(now.Add(clockSkew)):
		return bad("iat is out of range")
	case token != "" && subtle.ConstantTimeCompare([]byte(claims.TokenHash), []byte(base64.RawURLEncoding.EncodeToString(ath[:]))) != 1:
		return bad("ath is of another access token")
	}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return bad("its key has no thumbprint")
	}
	return base64.RawURLEncoding.EncodeToString(sum), claims, nil
}

// usableKey refuses private keys, and RSA keys that are too weak or would cost
// too much.
func usableKey(key *jose.JSONWebKey) bool {
	if key == nil || !key.Valid() || !key.IsPublic() {
		return false
	}
	if r, ok := key.Key.(*rsa.PublicKey); ok {
		return r.N.BitLen() >= 2048 && r.N.BitLen() <= 4096
	}
	return true
}

// sameTarget compares two URLs without query and fragment (RFC 9449 section
// 4.3), and without the port that goes without saying.
func sameTarget(a, b string) bool {
	x, ok := plainTarget(a)
	y, ok2 := plainTarget(b)
	return ok && ok2 && x == y
}

func plainTarget(raw string) (string, bool) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil {
		return "", false
	}
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return u.Scheme + "://" + host + path, true
}

// useProof tells whether the proof is used for the first time.
func useProof(ctx context.Context, ledger limit.Ledger, app uint64, thumbprint string, claims *proofClaims, now time.Time) error {
	nonce := sha256.Sum256([]byte("proof\x00" + thumbprint + "\x00" + claims.ID))
	_, err := ledger.Spend(ctx, now, &limit.Spend{App: app, Nonce: nonce[:], Expiry: now.Add(maxProofAge + clockSkew)})
	if errors.Is(err, limit.ErrUsed) {
		return fmt.Errorf("%w: it was used before", platform.ErrProofInvalid)
	}
	if err != nil {
		return fmt.Errorf("using a DPoP proof once: %w", err)
	}
	return nil
}

// proofKey returns the thumbprint of the key that a request to the endpoint proves
// (RFC 9449 sections 5 and 10.1), and the proof, which is not used yet; empty when it
// proves none.
func (s *Server) proofKey(r *http.Request, endpoint string) (string, *proofClaims, *refusal) {
	headers := r.Header.Values("DPoP")
	if len(headers) == 0 || !s.DPoP {
		return "", nil, nil
	}
	thumbprint, claims, err := checkProof(platform.Proof{Headers: headers, Method: r.Method, URL: s.url(endpoint)}, "", s.Now())
	if err != nil {
		return "", nil, badProof(err)
	}
	return thumbprint, claims, nil
}

// useProof uses the proof of a request, if it has one, when everything else about it
// was found right: anybody can make proofs, and each takes memory.
func (s *Server) useProof(ctx context.Context, app *platform.App, key string, proof *proofClaims) *refusal {
	if proof == nil {
		return nil
	}
	if err := useProof(ctx, s.Ledger, app.Number, key, proof, s.Now()); err != nil {
		return badProof(err)
	}
	return nil
}

func badProof(err error) *refusal {
	if errors.Is(err, platform.ErrProofInvalid) {
		return refuse(invalidProof, err.Error())
	}
	return failed(err)
}

// checkKey holds a request to the key that a code or a refresh token is bound to
// (RFC 9449 sections 5 and 10).
func checkKey(bound, proven string) *refusal {
	switch {
	case bound == "" || bound == proven:
		return nil
	case proven == "":
		return refuse(invalidProof, "a DPoP proof is missing")
	}
	return refuse(invalidGrant, "the DPoP proof is of another key")
}

// checkThumbprint reads the parameter dpop_jkt (RFC 9449 section 10).
func (s *Server) checkThumbprint(p *params) (string, *refusal) {
	value := p.get("dpop_jkt")
	if value == "" || !s.DPoP {
		return "", nil
	}
	sum, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil || len(sum) != sha256.Size {
		return "", refuse(invalidRequest, "dpop_jkt is not the SHA-256 of a key in base64url without padding")
	}
	return value, nil
}

// VerifyProof is Verify for a token that came as "Authorization: DPoP": it must
// be bound to the key that the proof is signed with (RFC 9449 section 7.1). A
// proof that does not hold is platform.ErrProofInvalid; a token that is bound to
// another key, or to none, is platform.ErrTokenInvalid.
func (v *Verifier) VerifyProof(ctx context.Context, token string, proof platform.Proof, app *platform.App, env platform.Environment, scope string) (platform.TokenUser, error) {
	t, err := v.usable(ctx, token, app, env, scope)
	if err != nil {
		return platform.TokenUser{}, err
	}
	now := v.now()
	thumbprint, claims, err := checkProof(proof, token, now)
	if err != nil {
		return platform.TokenUser{}, err
	}
	if thumbprint != t.token.Key {
		return platform.TokenUser{}, platform.ErrTokenInvalid
	}
	if err := useProof(ctx, v.ledger, app.Number, thumbprint, claims, now); err != nil {
		return platform.TokenUser{}, err
	}
	return t.user, nil
}
