// Package signing verifies and makes the signatures that a call to the open
// platform carries: op1, our profile of RFC 9421, and the dialects that the
// SDKs of other platforms speak. It is pure: no network, no clock of its own,
// no state but pooled hashes.
//
// A call is verified in two steps. [Set.Claim] reads what the call says about
// itself (dialect, app key, time, nonce) without believing it; the caller
// looks the app up and hands its keys to [Claim.Verify].
package signing

import (
	"errors"
	"net/http"
	"time"
)

// Op1 is the name of our own dialect, the one that every app may use.
const Op1 = "op1"

// Request is a call as it arrived on the wire, before any rewriting.
type Request struct {
	Method    string      // as sent, never changed in case
	Scheme    string      // "https" or "http": decides which port is the default one
	Authority string      // Host header or :authority, with its port if it has one
	Path      string      // raw path, escapes untouched
	RawQuery  string      // raw query without the "?"
	Header    http.Header // canonical keys; Host is not in it

	// ContentLength is the length of the body in bytes; -1 when it is not
	// known in advance, 0 when there is none.
	ContentLength int64

	// Body is the whole body, if BodyRead says so. Op1 and rfc9421 can be
	// verified without it (see [Claim.Digest]); the dialects that carry
	// parameters in the body cannot.
	Body     []byte
	BodyRead bool
}

// The reasons for which a call is refused. Errors of this package wrap exactly
// one of them; none carries a secret, a token or an expected signature.
var (
	// ErrMissing: the request carries no signature of the dialects asked for.
	ErrMissing = errors.New("signature missing")
	// ErrMalformed: something about the signature cannot be read, or is
	// ambiguous: repeated parameters, duplicate JSON members, bad escapes.
	ErrMalformed = errors.New("malformed request")
	// ErrInvalid: the signature does not match, or does not cover what it must.
	ErrInvalid = errors.New("signature invalid")
	// ErrTimestamp: the time is absent where it is required, or out of range.
	ErrTimestamp = errors.New("timestamp out of range")
	// ErrDigest: the body does not match its digest.
	ErrDigest = errors.New("digest mismatch")
	// ErrMethod: the call asks for another digest algorithm than the one the
	// app's key is pinned to.
	ErrMethod = errors.New("signature method not allowed")
	// ErrBodyNeeded: the claim cannot be read before the body is: read it,
	// set Body and BodyRead, and ask again.
	ErrBodyNeeded = errors.New("body needed")
)

// Claim is what a call says about itself. Nothing in it is verified until
// Verify returns nil.
type Claim struct {
	// Dialect names the scheme, one of [Names].
	Dialect string
	// AppKey names the app.
	AppKey string
	// KeyNumber is the n of "appKey#n", or 0 when any key of the app may serve.
	KeyNumber int
	// Time is the signing time; zero when the dialect's call carries none.
	Time time.Time
	// Nonce is the call's nonce; empty where the dialect has none.
	Nonce string
	// Method is the digest algorithm that the call asks for: "md5", "hmac",
	// "hmac-sha256", ...; empty when the dialect has only one, or for op1
	// when no alg parameter is given.
	Method string
	// APIName is the API that the call names ("trade.order.get"), where the
	// dialect carries it in a parameter or in a param2 path; else empty.
	APIName string
	// APIVersion is the version that goes with APIName; else empty.
	APIVersion string
	// Unnamed tells where the call should have named its API: set when it names
	// none although its dialect does so, and its path is not signed either.
	Unnamed string
	// Endpoint is the beginning of the path that leads to the platform, and does not
	// belong to the path that names the API: "/rest"; empty where there is none.
	Endpoint string
	// Token is the merchant's access token, where the dialect carries it in a
	// parameter; else empty.
	Token string

	state claimState
}

// Options are the verifier's settings.
type Options struct {
	// Now is the verifier's clock.
	Now time.Time
	// Skew is how far the signing time may lie in the past or the future.
	// Zero means the dialect's own window: 300 s for op1 and rfc9421.
	Skew time.Duration
	// Bare accepts an rfc9421 signature that does not cover the method, the
	// target and the digest of the body. Only for tests of the RFC's vectors.
	Bare bool
}

// Credentials are what a caller signs with.
type Credentials struct {
	AppKey string
	// KeyNumber selects one of two live keys ("appKey#n"); 0 leaves it out.
	KeyNumber int
	// Key holds the secret or the private key.
	Key *SigningKey
	// Token is the merchant's access token, put where the dialect carries it;
	// empty for none. Op1 carries it as Authorization: Bearer.
	Token string
}

// Signed is a signed request: r with the signature added.
type Signed struct {
	Header       http.Header
	RawQuery     string
	Body         []byte
	StringToSign string // with the secret, where it is part of the string, masked as ***
}
