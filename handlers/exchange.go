package handlers

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"unsafe"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-openplatform/openplatform/caddymodule"
	"github.com/caddy-openplatform/openplatform/internal/gate"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// exchange is one call together with its HTTP request and response. It is one
// allocation, and holds the memory for all that the gate adds to both.
type exchange struct {
	gate    *gate.Gate
	log     *refusalLog
	request *http.Request
	call    gate.Call
	signed  signing.Request
	writer  responseWriter
	body    body
	// unescaped says that the path holds characters that URLs must not (RFC 3986
	// section 3.3): net/url escapes them, so that it goes on in other bytes.
	unescaped bool
	// recorded says that the call was handed to the recorder.
	recorded bool
	// token is the merchant's access token, taken out of the request.
	token gate.Token
	// id backs the request id.
	id [26]byte
	// values backs the one-element slices of the headers that the gate sets.
	values [maxHeaders]string
	used   int
}

// maxHeaders is how many headers a call usually has set at the most: seven on
// the request, three on the response. Rarer ones allocate.
const maxHeaders = 10

// exchangeKey is the name under which the request's variables hold the exchange.
const exchangeKey = "open_platform"

// exchangeOf returns the exchange that an earlier stage began, or nil.
func exchangeOf(r *http.Request) *exchange {
	x, _ := caddyhttp.GetVar(r.Context(), exchangeKey).(*exchange)
	return x
}

// begin starts a call: it gives it an id and takes everything out of the
// request that only the gate may say.
func begin(g *gate.Gate, w http.ResponseWriter, r *http.Request, vars map[string]any, log *refusalLog) *exchange {
	ctx := r.Context()
	x := &exchange{gate: g, log: log, request: r}
	g.Start(&x.call)
	x.call.RequestID = x.newRequestID()
	x.call.ClientIP = clientIP(vars)
	x.writer.wrapper.ResponseWriter = w
	x.writer.ResponseWriterWrapper = &x.writer.wrapper
	x.readTarget()
	x.dropForged()
	x.set(w.Header(), headerRequestID, x.call.RequestID)

	caddyhttp.SetVar(ctx, exchangeKey, x)
	if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(x.placeholder)
	}
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok && hasAccessLog(r) {
		extra.Add(zap.Inline(x))
	}
	return x
}

// end finishes the call that begin started: it names the failures of what ran
// behind the gate, has the call recorded, and answers a refusal where the site
// has no error routes to do so.
func (x *exchange) end(err error) error {
	refusal := x.outcome(err)
	x.call.Refusal = refusal
	x.call.Status, x.call.Bytes = x.writer.status, x.writer.bytes
	if refusal != nil {
		x.call.Status = refusal.Code.Status
		x.log.refused(x, refusal)
	} else if err != nil {
		x.call.Status = statusOf(err)
	}
	x.record()
	if x.writer.status == 0 {
		x.writer.closeUnread()
	}
	switch {
	case refusal == nil:
		return err
	case x.writer.status != 0:
		// An answer is on its way that nothing may be added to. If it answers a
		// body that was not the signed one, it must not look complete either.
		if refusal.Code == gate.DigestMismatch {
			panic(http.ErrAbortHandler)
		}
		return nil
	}
	return answer(x.writer.wrapper.ResponseWriter, x.request, refusal, x.call.RequestID)
}

// record has the call recorded, once. Where a handler aborts the connection
// with a panic, nothing but this runs behind it.
func (x *exchange) record() {
	if x.recorded {
		return
	}
	x.recorded = true
	if x.call.Status == 0 {
		x.call.Status, x.call.Bytes = x.writer.status, x.writer.bytes
	}
	x.gate.Record(&x.call)
}

// outcome tells what a call was refused for, by the gate or behind it; nil
// when it was not.
func (x *exchange) outcome(err error) *gate.Refusal {
	if x.body.mismatch() {
		return &gate.Refusal{
			Code: gate.DigestMismatch, Stage: gate.StageSignature,
			Detail: "the body does not match the Content-Digest that was signed",
		}
	}
	if err == nil {
		return nil
	}
	if refusal, ok := errors.AsType[*gate.Refusal](err); ok {
		return refusal
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &gate.Refusal{Code: gate.BodyTooLarge, Stage: gate.StageUpstream, Detail: "the body is larger than this route takes", Err: cause(err)}
	}
	if x.body.client.broken.Load() {
		return bodyRefusal(cause(err), 0)
	}
	if !fromProxy(err) {
		return nil
	}
	switch statusOf(err) {
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return &gate.Refusal{Code: gate.UpstreamUnavailable, Stage: gate.StageUpstream, Detail: "the business service could not be reached", Err: cause(err)}
	case http.StatusGatewayTimeout:
		return &gate.Refusal{Code: gate.UpstreamTimeout, Stage: gate.StageUpstream, Detail: "the business service took too long", Err: cause(err)}
	}
	return nil
}

// fromProxy tells whether reverse_proxy failed, and not a handler that answers
// with such a status on purpose: Caddy notes where an error was made.
func fromProxy(err error) bool {
	he, ok := errors.AsType[caddyhttp.HandlerError](err)
	return ok && strings.HasPrefix(he.Trace, "reverseproxy.")
}

// cause is what a handler's error is about. A refusal must not wrap the error
// itself: Caddy would take its status for the refusal's.
func cause(err error) error {
	for {
		he, ok := errors.AsType[caddyhttp.HandlerError](err)
		if !ok {
			return err
		}
		err = he.Err
	}
}

// statusOf is the HTTP status that Caddy would give the error.
func statusOf(err error) int {
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.StatusCode != 0 {
		return he.StatusCode
	}
	return http.StatusInternalServerError
}

// hasAccessLog tells whether the server writes access logs, and so whether
// fields for them are worth their price.
func hasAccessLog(r *http.Request) bool {
	srv, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return ok && srv != nil && srv.Logs != nil
}

// readTarget notes the request as the client sent it: what was signed is the
// request target on the wire, whatever was rewritten since, and the scheme is
// https where a trusted proxy ends TLS.
func (x *exchange) readTarget() {
	r := x.request
	s := &x.signed
	s.Method, s.Scheme, s.Authority = r.Method, "http", r.Host
	s.Header, s.ContentLength = r.Header, r.ContentLength
	if caddymodule.Secure(r) {
		s.Scheme = "https"
	}
	target := r.RequestURI
	if orig, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		target = orig.RequestURI
		s.Method = orig.Method
		x.unescaped = orig.URL != nil && orig.URL.RawPath != "" && orig.URL.EscapedPath() != orig.URL.RawPath
		if !strings.HasPrefix(target, "/") && orig.URL != nil {
			// The absolute form of a request target (RFC 9112 section 3.2.2).
			target = orig.URL.RequestURI()
		}
	}
	s.Path, s.RawQuery, _ = strings.Cut(target, "?")
}

// clientIP is the caller's address as Caddy determined it from the peer and
// the trusted proxies; never a header read here.
func clientIP(vars map[string]any) netip.Addr {
	s, _ := vars[caddyhttp.ClientIPVarKey].(string)
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// newRequestID makes an id of 26 hexadecimal digits. It is not a secret. The
// text lies in the exchange, which spares every call an allocation.
func (x *exchange) newRequestID() string {
	var raw [13]byte
	high, low := rand.Uint64(), rand.Uint64() //nolint:gosec // G404: unique is enough
	binary.BigEndian.PutUint64(raw[:8], high)
	binary.BigEndian.PutUint64(raw[5:], low)
	hex.Encode(x.id[:], raw[:])
	return unsafe.String(&x.id[0], len(x.id)) //nolint:gosec // G103: written once, above, and never again
}
