package oauth

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// errorCode is a row of the table of errors.
type errorCode struct {
	// name is what the client gets as error.
	name string
	// status goes with it where it is no redirect.
	status int
}

// The table of errors. Those of the authorization endpoint are in RFC 6749
// section 4.1.2.1, those of the token endpoint in section 5.2.
var (
	invalidRequest          = &errorCode{"invalid_request", http.StatusBadRequest}
	invalidClient           = &errorCode{"invalid_client", http.StatusUnauthorized}
	invalidGrant            = &errorCode{"invalid_grant", http.StatusBadRequest}
	invalidScope            = &errorCode{"invalid_scope", http.StatusBadRequest}
	unauthorizedClient      = &errorCode{"unauthorized_client", http.StatusBadRequest}
	unsupportedGrantType    = &errorCode{"unsupported_grant_type", http.StatusBadRequest}
	unsupportedResponseType = &errorCode{"unsupported_response_type", http.StatusBadRequest}
	accessDenied            = &errorCode{"access_denied", http.StatusForbidden}
	serverError             = &errorCode{"server_error", http.StatusInternalServerError}
	temporarilyUnavailable  = &errorCode{"temporarily_unavailable", http.StatusServiceUnavailable}
	// invalidTarget is of RFC 8707 section 2.
	invalidTarget = &errorCode{"invalid_target", http.StatusBadRequest}
	// invalidProof is of RFC 9449 section 5.
	invalidProof = &errorCode{"invalid_dpop_proof", http.StatusBadRequest}
	// requestNotSupported and those of request_uri are of RFC 9101 section 7.
	requestNotSupported    = &errorCode{"request_not_supported", http.StatusBadRequest}
	requestURINotSupported = &errorCode{"request_uri_not_supported", http.StatusBadRequest}
	invalidRequestURI      = &errorCode{"invalid_request_uri", http.StatusBadRequest}
	// Those of a device that asks are of RFC 8628 section 3.5, which has all of
	// them with the status of RFC 6749 section 5.2.
	authorizationPending = &errorCode{"authorization_pending", http.StatusBadRequest}
	slowDown             = &errorCode{"slow_down", http.StatusBadRequest}
	expiredToken         = &errorCode{"expired_token", http.StatusBadRequest}
	deviceDenied         = &errorCode{"access_denied", http.StatusBadRequest}
	// Those of a start from the app market are ours.
	invalidLink  = &errorCode{"invalid_link", http.StatusBadRequest}
	notStartable = &errorCode{"not_startable", http.StatusBadRequest}
	// The rest has no name in the RFCs: RFC 6749 leaves transport to HTTP.
	tooManyFailures  = &errorCode{"invalid_client", http.StatusTooManyRequests}
	tooManyDevices   = &errorCode{"temporarily_unavailable", http.StatusTooManyRequests}
	methodNotAllowed = &errorCode{"invalid_request", http.StatusMethodNotAllowed}
	bodyTooLarge     = &errorCode{"invalid_request", http.StatusRequestEntityTooLarge}
)

// refusal is why one request is refused. It holds no secret and no token.
type refusal struct {
	*errorCode
	// description explains it to the client's developer.
	description string
	// retryAfter is when a further try makes sense; 0 for no advice.
	retryAfter time.Duration
	// err is the failure behind it, for the log; nil when the client is to
	// blame.
	err error
}

func refuse(code *errorCode, description string) *refusal {
	return &refusal{errorCode: code, description: description}
}

// failed turns a failure of the store or the ledger into a refusal.
func failed(err error) *refusal {
	r := refuse(serverError, "the request could not be served")
	if errors.Is(err, platform.ErrUnavailable) || errors.Is(err, limit.ErrFull) || errors.Is(err, limit.ErrDown) {
		r = refuse(temporarilyUnavailable, "the platform cannot serve this now; try again soon")
		r.retryAfter = time.Second
	}
	r.err = err
	return r
}

// retrySeconds is the value of Retry-After, or "".
func (r *refusal) retrySeconds() string {
	if r.retryAfter <= 0 {
		return ""
	}
	return strconv.FormatInt(int64((r.retryAfter+time.Second-1)/time.Second), 10)
}

// PageError is an authorization request that must not be answered by a
// redirect, since its app or its redirect URI is not to be trusted (RFC 6749
// section 4.1.2.1). The user gets a page.
type PageError struct {
	// Status is the page's HTTP status.
	Status int
	// Code is the RFC's name of the error.
	Code string
	// Description explains it to the app's developer, in ASCII.
	Description string
	// Err is the failure behind it, for the log; nil when the app is to blame.
	Err error
}

// Error names code and description.
func (e *PageError) Error() string { return e.Code + ": " + e.Description }

// Unwrap gives the failure behind it.
func (e *PageError) Unwrap() error { return e.Err }

func (r *refusal) page() *PageError {
	status := r.status
	if status == http.StatusUnauthorized {
		status = http.StatusBadRequest // nobody was asked for credentials
	}
	return &PageError{Status: status, Code: r.name, Description: ascii(r.description), Err: r.err}
}

// RedirectError is an error that the app hears of by a redirect (RFC 6749
// section 4.1.2.1).
type RedirectError struct {
	Code        string
	Description string
	// RedirectURI was checked; State is as the app sent it.
	RedirectURI string
	State       string
	// Issuer is who answers (RFC 9207).
	Issuer string
	// Err is the failure behind it, for the log; nil when the app is to blame.
	Err error
}

// Error names code and description.
func (e *RedirectError) Error() string { return e.Code + ": " + e.Description }

// Unwrap gives the failure behind it.
func (e *RedirectError) Unwrap() error { return e.Err }

// URL is where to send the browser.
func (e *RedirectError) URL() string {
	return addParams(e.RedirectURI,
		param{"error", e.Code}, param{"error_description", e.Description}, param{"state", e.State}, param{"iss", e.Issuer})
}

// param is a parameter of an answer.
type param struct{ name, value string }

// addParams adds those that have a value to the query of uri and leaves what is
// there as it is (RFC 6749 section 3.1.2).
func addParams(uri string, added ...param) string {
	b := strings.Builder{}
	b.WriteString(uri)
	sep := "?"
	if strings.Contains(uri, "?") {
		sep = "&"
		if strings.HasSuffix(uri, "?") || strings.HasSuffix(uri, "&") {
			sep = ""
		}
	}
	for _, p := range added {
		if p.value != "" {
			b.WriteString(sep + p.name + "=" + url.QueryEscape(p.value))
			sep = "&"
		}
	}
	return b.String()
}

// ascii holds a description to the characters that RFC 6749 section 5.2 allows:
// printable ASCII without quote and backslash.
func ascii(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '"':
			return '\''
		case c < ' ' || c > '~' || c == '\\':
			return '?'
		}
		return c
	}, s)
}
