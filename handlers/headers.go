package handlers

import (
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/gate"
	"github.com/caddy-openplatform/openplatform/internal/limit"
)

// The headers by which the gate speaks. Nobody else may set those that begin
// with X-Open-.
const (
	reservedPrefix    = "X-Open-"
	headerAppID       = "X-Open-App-Id"
	headerAppKey      = "X-Open-App-Key"
	headerEnvironment = "X-Open-Environment"
	headerAPI         = "X-Open-Api"
	headerUserID      = "X-Open-User-Id"
	headerScopes      = "X-Open-Scopes"
	headerRequestID   = "X-Open-Request-Id"
)

// The headers in which limits are told, as net/http writes them.
const (
	headerRateLimit       = "Ratelimit"
	headerRateLimitPolicy = "Ratelimit-Policy"
)

// set sets a header without allocating. name is in canonical form.
func (x *exchange) set(h http.Header, name, value string) {
	if x.used == maxHeaders {
		h[name] = []string{value}
		return
	}
	x.values[x.used] = value
	h[name] = x.values[x.used : x.used+1 : x.used+1]
	x.used++
}

// dropForged takes out of the request what a client may not say: headers and
// trailers of the gate's own, and a Connection header that would have them
// stripped as hop-by-hop (RFC 9110 section 7.6.1).
func (x *exchange) dropForged() {
	h := x.request.Header
	dropReserved(h)
	dropTrailers(x.request.Trailer)
	if len(h["Connection"]) > 0 {
		x.cleanList(h, "Connection")
	}
	if len(h["Trailer"]) > 0 {
		x.cleanList(h, "Trailer")
	}
	if x.request.Trailer != nil && x.request.Body != nil {
		x.request.Body = &trailerGuard{x.request.Body, x.request.Trailer}
	}
}

// trailerGuard drops what a trailer may not say once more when the body has
// ended: only then does net/http add what the client sent, announced or not.
type trailerGuard struct {
	io.ReadCloser
	trailer http.Header
}

// Read reads the body.
func (g *trailerGuard) Read(p []byte) (int, error) {
	n, err := g.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		dropTrailers(g.trailer)
	}
	return n, err
}

func dropReserved(h http.Header) {
	for name := range h {
		if isReserved(name) {
			delete(h, name)
		}
	}
}

// hyphens writes a name as services read it that know letters, digits and hyphens only.
var hyphens = strings.NewReplacer("_", "-", ".", "-")

// dropTrailers drops the trailers that are the gate's own, and the signatures and
// tokens. Caddy drops headers with an underscore or a dot, which many services read
// as a hyphen, but not trailers.
func dropTrailers(t http.Header) {
	for name := range t {
		switch plain := http.CanonicalHeaderKey(hyphens.Replace(name)); plain {
		case "Signature", "Signature-Input", "Authorization", "Dpop":
			delete(t, name)
		default:
			if isReserved(plain) {
				delete(t, name)
			}
		}
	}
}

func isReserved(name string) bool {
	return len(name) >= len(reservedPrefix) && strings.EqualFold(name[:len(reservedPrefix)], reservedPrefix)
}

// cleanList removes the gate's own header names from a header that lists names.
func (x *exchange) cleanList(h http.Header, name string) {
	values := h[name]
	forged := false
	for _, v := range values {
		for token := range strings.SplitSeq(v, ",") {
			forged = forged || isReserved(strings.TrimSpace(token))
		}
	}
	if !forged {
		return
	}
	var kept []string
	for _, v := range values {
		for token := range strings.SplitSeq(v, ",") {
			if token = strings.TrimSpace(token); token != "" && !isReserved(token) {
				kept = append(kept, token)
			}
		}
	}
	if len(kept) == 0 {
		delete(h, name)
		return
	}
	x.set(h, name, strings.Join(kept, ", "))
}

// tellUpstream puts the verified identity on the request.
func (x *exchange) tellUpstream() {
	h, app, api, user := x.request.Header, x.call.App(), x.call.API(), x.call.User()
	x.set(h, headerAppID, app.ID)
	x.set(h, headerAppKey, app.Key)
	x.set(h, headerEnvironment, string(x.call.Environment))
	x.set(h, headerAPI, api.Name)
	x.set(h, headerRequestID, x.call.RequestID)
	if user.ID != "" {
		x.set(h, headerUserID, user.ID)
		x.set(h, headerScopes, user.Scopes)
	}
}

// tellClient puts deprecation (RFC 9745, RFC 8594) on the response.
func (x *exchange) tellClient() {
	deprecation, sunset := x.call.Deprecation()
	if deprecation != "" {
		x.set(x.writer.Header(), "Deprecation", deprecation)
	}
	if sunset != "" {
		x.set(x.writer.Header(), "Sunset", sunset)
	}
}

// tellLimits puts the tightest limit on the response.
func (x *exchange) tellLimits() {
	if !x.call.Limited {
		return
	}
	// Both values are cut from one string: one allocation, not two.
	var buf [128]byte
	value := limit.AppendRateLimit(buf[:0], x.call.Limits)
	n := len(value)
	both := string(limit.AppendRateLimitPolicy(value, x.call.Limits))
	h := x.writer.Header()
	x.set(h, headerRateLimit, both[:n])
	x.set(h, headerRateLimitPolicy, both[n:])
	x.writer.limited = true
}

// refusalHeaders puts on the response what goes with a refusal.
func refusalHeaders(h http.Header, r *gate.Refusal) {
	if r.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(r.RetryAfter.Seconds())), 10))
	} else if r.Code.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", strconv.FormatInt(int64(time.Second.Seconds()), 10))
	}
	if r.Challenge != "" {
		h.Set("WWW-Authenticate", r.Challenge)
	}
	if r.Allow != "" {
		h.Set("Allow", r.Allow)
	}
}
