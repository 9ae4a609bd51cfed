package handlers

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openplatform/openplatform/internal/gate"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// Sign is the second stage of the gate: it verifies the signature, its time
// and its nonce, the body's digest, and the environment and status of the app.
type Sign struct {
	// Environment is "sandbox" or "production". Only credentials of this
	// environment pass. Required.
	Environment platform.Environment `json:"environment,omitempty"`

	// Dialects are the signature schemes that the route takes, the likeliest
	// first. An app must also be allowed every dialect but op1. Default: op1.
	Dialects []string `json:"dialects,omitempty"`

	// Buffer is the largest body, in bytes, that is read whole and checked
	// before the call goes on. A larger body of a call in op1, or in rfc9421
	// with no digest but sha-256, is checked while it streams, with its last
	// block held back; other calls with a larger body are refused.
	// Default: 1 MiB.
	Buffer int64 `json:"buffer,omitempty"`

	// MaxBody is the largest body, in bytes, that is taken at all.
	// Default: 64 MiB.
	MaxBody int64 `json:"max_body,omitempty"`

	// Skew is how far the signing time may lie from now, to both sides.
	// At most 25 minutes. Default: each dialect's own window, 5 minutes for op1.
	Skew caddy.Duration `json:"skew,omitempty"`

	stage
	rule gate.Rule
}

// CaddyModule returns the Caddy module information.
func (Sign) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.open_sign", New: func() caddy.Module { return new(Sign) }}
}

// Provision sets up the handler.
func (h *Sign) Provision(ctx caddy.Context) error {
	if h.Environment == "" {
		return fmt.Errorf("open_sign needs an environment: write sandbox or production")
	}
	environment, err := platform.ParseEnvironment(string(h.Environment))
	if err != nil {
		return err
	}
	names, set, err := dialectSet(h.Dialects)
	if err != nil {
		return err
	}
	h.Dialects = names
	if h.Buffer == 0 {
		h.Buffer = defaultBuffer
	}
	if h.MaxBody == 0 {
		h.MaxBody = max(defaultMaxBody, h.Buffer)
	}
	h.rule = gate.Rule{
		Environment: environment, Dialects: set, Names: names,
		Skew: time.Duration(h.Skew),
	}
	return h.provision(ctx)
}

// Validate refuses settings that contradict each other.
func (h *Sign) Validate() error {
	switch {
	case h.Buffer < 0 || h.MaxBody < 0 || h.Skew < 0:
		return fmt.Errorf("buffer, max_body and skew must not be negative")
	case h.Skew > caddy.Duration(maxSkew):
		return fmt.Errorf("skew must be at most %v, not %v", maxSkew, time.Duration(h.Skew))
	case h.Buffer > h.MaxBody:
		return fmt.Errorf("buffer (%d) is larger than max_body (%d)", h.Buffer, h.MaxBody)
	}
	return nil
}

// ServeHTTP runs the stage.
func (h *Sign) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return h.serve(w, r, next, h)
}

func (h *Sign) check(x *exchange) *gate.Refusal {
	again := x.call.Verified
	if !again {
		if refusal := x.identify(h.rule.Dialects, h.Buffer); refusal != nil {
			return refusal
		}
	}
	if refusal := x.settleLength(); refusal != nil {
		return refusal
	}
	if refusal := x.gate.Verify(&x.call, &x.signed, &h.rule); refusal != nil || again {
		return refusal
	}
	if refusal := h.checkBody(x); refusal != nil {
		return refusal
	}
	if refusal := x.gate.SpendNonce(x.request.Context(), &x.call, &x.signed, &h.rule); refusal != nil {
		return refusal
	}
	x.strip()
	return nil
}

// checkBody holds the body against the digest that was signed: at once when it
// is small, else on its way to the upstream.
func (h *Sign) checkBody(x *exchange) *gate.Refusal {
	r := x.request
	if x.signed.BodyRead {
		return x.call.CheckBody(x.signed.Body)
	}
	if r.ContentLength == 0 {
		// There is none, whatever stands in for it.
		x.signed.BodyRead = true
		return x.call.CheckBody(nil)
	}
	if r.ContentLength > h.MaxBody {
		return tooLarge(h.MaxBody)
	}
	sum, streamable := x.call.Claim.Digest()
	if streamable && r.ContentLength > h.Buffer {
		x.streamBody(sum, h.MaxBody)
		return nil
	}
	if streamable && r.ContentLength < 0 {
		return h.checkUnknownLength(x, sum)
	}
	if refusal := x.readBody(h.Buffer); refusal != nil {
		return refusal
	}
	return x.call.CheckBody(x.signed.Body)
}

// checkUnknownLength reads a body of unknown length as far as the buffer goes
// and streams it from there on if it is longer.
func (h *Sign) checkUnknownLength(x *exchange, sum [32]byte) *gate.Refusal {
	r := x.request
	start, err := io.ReadAll(io.LimitReader(r.Body, h.Buffer+1))
	if err != nil {
		return bodyRefusal(err, h.MaxBody)
	}
	if int64(len(start)) <= h.Buffer {
		x.putBody(start)
		return x.call.CheckBody(start)
	}
	r.Body = rejoin(start, r.Body)
	x.streamBody(sum, h.MaxBody)
	return nil
}

// strip takes secrets, signatures and access tokens out of the request before
// it goes on. Every byte that stays is as it was signed.
func (x *exchange) strip() {
	r := x.request
	x.takeToken()
	// The query may have been rewritten on the way here: what was added goes on,
	// and what was signed with is taken out of it.
	wire := x.signed.RawQuery
	x.signed.RawQuery = r.URL.RawQuery
	names, query, data := signing.Strip(&x.call.Claim, &x.signed)
	x.signed.RawQuery = wire
	for _, name := range names {
		delete(r.Header, name)
	}
	if query != r.URL.RawQuery {
		r.URL.RawQuery = query
		r.RequestURI = r.URL.RequestURI()
	}
	if data != nil {
		x.replaceBody(data)
	}
}

// parseSign reads the directive open_sign. Syntax:
//
//	open_sign [sandbox|production] {
//		environment sandbox|production
//		dialects    <name>...
//		buffer      <size>
//		max_body    <size>
//		skew        <duration>
//	}
func parseSign(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next()
	s := new(Sign)
	seen := map[string]bool{}
	if h.NextArg() {
		if err := s.setEnvironment(h); err != nil {
			return nil, err
		}
		seen["environment"] = true
	}
	for h.NextBlock(0) {
		if err := once(h.Dispenser, seen); err != nil {
			return nil, err
		}
		known, err := s.option(h)
		if err != nil {
			return nil, err
		}
		if !known {
			return nil, unrecognized(h.Dispenser, "open_sign", signOptions...)
		}
	}
	if s.Environment == "" {
		return nil, h.Err("open_sign needs an environment: write 'environment sandbox' or 'environment production'")
	}
	return s, nil
}

var signOptions = []string{"environment", "dialects", "buffer", "max_body", "skew"}

// option reads one option of open_sign; open_gate takes the same ones.
func (h *Sign) option(d httpcaddyfile.Helper) (known bool, err error) {
	switch d.Val() {
	case "environment":
		if !d.NextArg() {
			return true, d.Err("environment needs a value: write sandbox or production")
		}
		err = h.setEnvironment(d)
	case "dialects":
		h.Dialects, err = dialectNames(d.Dispenser)
	case "buffer":
		h.Buffer, err = sizeOf(d.Dispenser)
	case "max_body":
		h.MaxBody, err = sizeOf(d.Dispenser)
	case "skew":
		h.Skew, err = skewOf(d.Dispenser)
	default:
		return false, nil
	}
	return true, err
}

func (h *Sign) setEnvironment(d httpcaddyfile.Helper) (err error) {
	h.Environment, err = environmentOf(d.Dispenser)
	return err
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Sign)(nil)
	_ caddy.Validator             = (*Sign)(nil)
	_ caddyhttp.MiddlewareHandler = (*Sign)(nil)
)
