package oauth

import (
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// maxJWT bounds an access token that is a JWT, in bytes.
	maxJWT = 4 << 10
	// accessType is the typ of one (RFC 9068 section 2.1).
	accessType = "at+jwt"
)

// accessClaims are the claims of RFC 9068 section 2.2.
type accessClaims struct {
	jwt.Claims
	ClientID string `json:"client_id"`
	Scope    string `json:"scope"`
	// Confirmation binds the token to a key (RFC 9449 section 6.1).
	Confirmation *confirmation `json:"cnf,omitempty"`
}

// confirmation names a key by its thumbprint (RFC 7638).
type confirmation struct {
	Thumbprint string `json:"jkt"`
}

// signAccess makes the JWT of an access token. Its subject is the app itself
// where there is no merchant, and its audience the issuer where no resource was
// asked for. The store knows it by its hash like any other token, so it can be
// revoked and introspected.
func (s *Server) signAccess(clientID string, t *Token) (string, error) {
	keys, err := s.signingKeys(t.IssuedAt)
	if err != nil {
		return "", err
	}
	id, err := s.newToken("")
	if err != nil {
		return "", err
	}
	claims := accessClaims{
		Claims: jwt.Claims{
			Issuer: s.Issuer, Subject: t.User, Audience: t.Resources, ID: id,
			IssuedAt: jwt.NewNumericDate(t.IssuedAt), Expiry: jwt.NewNumericDate(t.ExpiresAt),
		},
		ClientID: clientID,
		Scope:    formatScope(t.Scopes),
	}
	if t.User == "" {
		claims.Subject = clientID
	}
	if len(t.Resources) == 0 {
		claims.Audience = jwt.Audience{s.Issuer}
	}
	if t.Key != "" {
		claims.Confirmation = &confirmation{t.Key}
	}
	value, err := jwt.Signed(keys.access).Claims(claims).Serialize()
	if err != nil {
		return "", fmt.Errorf("signing an access token: %w", err)
	}
	return value, nil
}

// looksLikeAccess tells whether token has the form of an access token of either
// format.
func looksLikeAccess(token string) bool {
	return looksLike(token, accessPrefix) ||
		strings.HasPrefix(token, "ey") && len(token) <= maxJWT && strings.Count(token, ".") == 2
}
