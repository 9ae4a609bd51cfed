package gate

import (
	"net/http"
	"time"
)

// Stage is the part of the gate that a call has reached.
type Stage string

// The stages, in their order.
const (
	StageIP        Stage = "ip"
	StageSignature Stage = "signature"
	StageScope     Stage = "scope"
	StageRate      Stage = "rate"
	StageUpstream  Stage = "upstream"
	// StagePublish is open_publish, which takes messages instead of calls.
	StagePublish Stage = "publish"
)

// Code is a reason for which calls are refused: a row of the error dictionary.
// Codes never change their meaning.
type Code struct {
	// Name is the machine's word for it: "ip_denied".
	Name string
	// Status is the HTTP status that goes with it.
	Status int
	// Title is the same for every occurrence (RFC 9457 section 3.1.3).
	Title string
	// index is the code's place in Codes, for counters.
	index int
}

// Index is the code's place in Codes.
func (c *Code) Index() int { return c.index }

// Codes lists every code, in the order of the error dictionary.
var Codes []*Code

func code(name string, status int, title string) *Code {
	c := &Code{Name: name, Status: status, Title: title, index: len(Codes)}
	Codes = append(Codes, c)
	return c
}

// The error dictionary.
var (
	IPDenied            = code("ip_denied", http.StatusForbidden, "This address may not call")
	AppUnknown          = code("app_unknown", http.StatusUnauthorized, "The appKey is not known")
	AppSuspended        = code("app_suspended", http.StatusForbidden, "The app is suspended")
	EnvironmentMismatch = code("environment_mismatch", http.StatusForbidden, "The credential belongs to the other environment")
	SignatureMissing    = code("signature_missing", http.StatusUnauthorized, "The call is not signed")
	SignatureInvalid    = code("signature_invalid", http.StatusUnauthorized, "The signature does not match")
	TimestampOutOfRange = code("timestamp_out_of_range", http.StatusUnauthorized, "The signing time is out of range")
	NonceReused         = code("nonce_reused", http.StatusUnauthorized, "The call was made before")
	DialectNotAllowed   = code("dialect_not_allowed", http.StatusUnauthorized, "This signature scheme is not allowed here")
	DigestMismatch      = code("digest_mismatch", http.StatusUnauthorized, "The body does not match its digest")
	APIUnknown          = code("api_unknown", http.StatusNotFound, "There is no such API")
	APIOffline          = code("api_offline", http.StatusGone, "The API is offline")
	MethodNotAllowed    = code("method_not_allowed", http.StatusMethodNotAllowed, "The API does not take this method")
	PackageNotGranted   = code("package_not_granted", http.StatusForbidden, "The app does not have the API's package")
	PackageExpired      = code("package_expired", http.StatusForbidden, "The app's package is not in its period")
	TokenMissing        = code("token_missing", http.StatusUnauthorized, "The API needs a merchant's authorization")
	TokenInvalid        = code("token_invalid", http.StatusUnauthorized, "The access token is not valid")
	TokenExpired        = code("token_expired", http.StatusUnauthorized, "The access token has expired")
	ScopeInsufficient   = code("scope_insufficient", http.StatusForbidden, "The merchant did not authorize this")
	RateLimited         = code("rate_limited", http.StatusTooManyRequests, "Too many calls in this span of time")
	QuotaExceeded       = code("quota_exceeded", http.StatusTooManyRequests, "The quota is used up")
	RequestMalformed    = code("request_malformed", http.StatusBadRequest, "The call cannot be read")
	BodyTooLarge        = code("body_too_large", http.StatusRequestEntityTooLarge, "The body is too large")
	PublisherDenied     = code("publisher_denied", http.StatusForbidden, "Who calls may not publish messages")
	MessageInvalid      = code("message_invalid", http.StatusBadRequest, "A message cannot be accepted")
	MessageConflict     = code("message_conflict", http.StatusConflict, "A message has the id of another one")
	StoreUnavailable    = code("store_unavailable", http.StatusServiceUnavailable, "The platform cannot check the call now")
	UpstreamUnavailable = code("upstream_unavailable", http.StatusBadGateway, "The business service cannot be reached")
	UpstreamTimeout     = code("upstream_timeout", http.StatusGatewayTimeout, "The business service did not answer in time")
)

// Refusal is why one call is refused. It never holds a secret, a token or an
// expected signature.
type Refusal struct {
	Code  *Code
	Stage Stage
	// Detail explains this occurrence to the integrator.
	Detail string
	// RetryAfter is when a further try makes sense; 0 for no advice.
	RetryAfter time.Duration
	// Challenge is the value of WWW-Authenticate; "" for none.
	Challenge string
	// Allow is the value of Allow that goes with method_not_allowed.
	Allow string
	// Mistakes are what is wrong with the entries of a batch, by their index. They
	// may quote what was sent, and so are for the answer alone.
	Mistakes map[int]error
	// Err is the failure behind it, for the log; nil for none.
	Err error
}

// Error names code and detail.
func (r *Refusal) Error() string { return r.Code.Name + ": " + r.Detail }

// Unwrap gives the failure behind the refusal.
func (r *Refusal) Unwrap() error { return r.Err }

func refuse(stage Stage, code *Code, detail string) *Refusal {
	return &Refusal{Code: code, Stage: stage, Detail: detail}
}
