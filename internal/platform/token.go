package platform

import "errors"

// The reasons for which a merchant's access token is refused.
var (
	ErrTokenMissing      = errors.New("no access token")
	ErrTokenInvalid      = errors.New("access token not valid")
	ErrTokenExpired      = errors.New("access token expired")
	ErrScopeInsufficient = errors.New("scope insufficient")
	// ErrProofInvalid is about the proof beside a token. What wraps it says what
	// is wrong with the proof, and may be told to the client.
	ErrProofInvalid = errors.New("the DPoP proof does not hold")
)

// TokenUser is what an access token says: on whose behalf an app calls.
type TokenUser struct {
	// ID identifies the merchant.
	ID string
	// Scopes are what the merchant authorized, separated by spaces.
	Scopes string
}

// Proof is what a call shows beside a token that is bound to a key (RFC 9449
// section 7.1).
type Proof struct {
	// Headers are the values of the header DPoP. One must be there.
	Headers []string
	// Method and URL are the call's, as the client sent it. The URL's query is of
	// no account.
	Method, URL string
}
