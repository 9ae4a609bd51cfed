package platform

import "errors"

// The reasons for which a merchant's access token is refused.
var (
	ErrTokenMissing      = errors.New("no access token")
	ErrTokenInvalid      = errors.New("access token not valid")
	ErrTokenExpired      = errors.New("access token expired")
	ErrScopeInsufficient = errors.New("scope insufficient")
)

// TokenUser is what an access token says: on whose behalf an app calls.
type TokenUser struct {
	// ID identifies the merchant.
	ID string
	// Scopes are what the merchant authorized, separated by spaces.
	Scopes string
}
