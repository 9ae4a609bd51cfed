package oauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// checkChallenge returns the code challenge (RFC 7636 section 4.3). Only S256 is
// taken (RFC 9700 section 2.1.1). Public apps must send one; others must unless
// their setting exempts them.
func checkChallenge(app *platform.App, p *params) (string, *refusal) {
	challenge, method := p.get("code_challenge"), p.get("code_challenge_method")
	switch {
	case challenge == "" && method != "":
		return "", refuse(invalidRequest, "code_challenge is missing")
	case challenge == "" && !public(app) && app.OAuth.WithoutPKCE:
		return "", nil
	case challenge == "":
		return "", refuse(invalidRequest, "code_challenge is missing; the app must use PKCE (RFC 7636)")
	case method != "S256":
		return "", refuse(invalidRequest, "write code_challenge_method=S256; no other method is supported")
	}
	sum, err := base64.RawURLEncoding.Strict().DecodeString(challenge)
	if err != nil || len(sum) != sha256.Size {
		return "", refuse(invalidRequest, "code_challenge is not the SHA-256 of a verifier in base64url without padding")
	}
	return challenge, nil
}

// checkVerifier compares the verifier with the challenge of the code (RFC 7636
// section 4.6). There must be one if, and only if, there is a challenge (RFC
// 9700 section 4.8.2).
func checkVerifier(challenge, verifier string) *refusal {
	switch {
	case challenge == "" && verifier == "":
		return nil
	case challenge == "":
		return refuse(invalidGrant, "code_verifier was sent, but the authorization request had no code_challenge")
	case verifier == "":
		return refuse(invalidGrant, "code_verifier is missing")
	case !validVerifier(verifier):
		return refuse(invalidGrant, "code_verifier is not 43 to 128 of the characters A-Z a-z 0-9 - . _ ~")
	}
	sum := sha256.Sum256([]byte(verifier))
	if subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) != 1 {
		return refuse(invalidGrant, "code_verifier does not match the code_challenge")
	}
	return nil
}

// validVerifier holds a verifier to RFC 7636 section 4.1.
func validVerifier(v string) bool {
	if len(v) < 43 || len(v) > 128 {
		return false
	}
	for i := range len(v) {
		c := v[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') &&
			c != '-' && c != '.' && c != '_' && c != '~' {
			return false
		}
	}
	return true
}
