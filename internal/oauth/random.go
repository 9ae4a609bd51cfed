package oauth

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

// The prefixes tell what a value is for, also in a log or a leak.
const (
	accessPrefix  = "at_"
	refreshPrefix = "rt_"
	codePrefix    = "oc_"
	devicePrefix  = "dc_"
	familyPrefix  = "fa_"
)

// tokenBytes is the randomness of a code or token. 43 characters of base64url
// hold it.
const (
	tokenBytes  = 32
	tokenLength = 3 + 43
)

// HashOf is what is stored of a code or a token.
func HashOf(token string) Hash { return sha256.Sum256([]byte(token)) }

// newToken returns prefix and 256 random bits. RFC 6749 section 10.10 asks for
// at least 128.
func (s *Server) newToken(prefix string) (string, error) {
	var b [tokenBytes]byte
	if _, err := io.ReadFull(s.Rand, b[:]); err != nil {
		return "", fmt.Errorf("reading random bytes: %w", err)
	}
	return prefix + base64.RawURLEncoding.EncodeToString(b[:]), nil
}

// looksLike tells whether token has the form of one with that prefix, so that
// what cannot be one costs no look into the store.
func looksLike(token, prefix string) bool {
	return len(token) == tokenLength && strings.HasPrefix(token, prefix)
}

// newFamily returns a fresh name for a family: 128 random bits.
func (s *Server) newFamily() (Family, error) {
	var b [16]byte
	if _, err := io.ReadFull(s.Rand, b[:]); err != nil {
		return "", fmt.Errorf("reading random bytes: %w", err)
	}
	return Family(familyPrefix + base64.RawURLEncoding.EncodeToString(b[:])), nil
}
