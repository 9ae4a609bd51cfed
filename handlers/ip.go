package handlers

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openplatform/openplatform/internal/gate"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// IP is the first stage of the gate: it compares the caller's address with
// the groups of the route and with the whitelist of the app that the call
// claims to come from. It stands before the signature, so that a stranger
// learns nothing and costs little. The address is the one that Caddy
// determined: behind a load balancer, set `trusted_proxies`.
type IP struct {
	// Groups are the names of address groups, one of which must hold the
	// caller's address. Default: none, every address may call. The app's own
	// whitelist is checked in any case.
	Groups []string `json:"groups,omitempty"`

	// Dialects are the signature schemes by which the app is recognised; see
	// open_sign. Default: op1.
	Dialects []string `json:"dialects,omitempty"`

	// Buffer is how many bytes of the body are read to find the app, for
	// dialects that name it there. Default: 1 MiB.
	Buffer int64 `json:"buffer,omitempty"`

	stage
	dialects *signing.Set
}

// CaddyModule returns the Caddy module information.
func (IP) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.open_ip", New: func() caddy.Module { return new(IP) }}
}

// Provision sets up the handler.
func (h *IP) Provision(ctx caddy.Context) error {
	var err error
	if h.Dialects, h.dialects, err = dialectSet(h.Dialects); err != nil {
		return err
	}
	if h.Buffer == 0 {
		h.Buffer = defaultBuffer
	}
	return h.provision(ctx)
}

// ServeHTTP runs the stage.
func (h *IP) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return h.serve(w, r, next, h)
}

func (h *IP) check(x *exchange) *gate.Refusal {
	if refusal := x.identify(h.dialects, h.Buffer); refusal != nil {
		return refusal
	}
	return x.gate.CheckIP(&x.call, h.Groups)
}

// identify finds the claimed app, reading the body if it is named there.
func (x *exchange) identify(dialects *signing.Set, buffer int64) *gate.Refusal {
	ctx := x.request.Context()
	err := x.gate.Identify(ctx, &x.call, &x.signed, dialects)
	if !errors.Is(err, signing.ErrBodyNeeded) {
		return nil
	}
	if refusal := x.readBody(buffer); refusal != nil {
		return refusal
	}
	// With the body at hand there is nothing left to ask for.
	_ = x.gate.Identify(ctx, &x.call, &x.signed, dialects)
	return nil
}

// parseIP reads the directive open_ip. Syntax:
//
//	open_ip [<group>...] {
//		groups   <name>...
//		dialects <name>...
//		buffer   <size>
//	}
func parseIP(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next()
	ip := &IP{Groups: h.RemainingArgs()}
	seen := map[string]bool{}
	for h.NextBlock(0) {
		if err := once(h.Dispenser, seen); err != nil {
			return nil, err
		}
		switch option := h.Val(); option {
		case "groups":
			names, err := nameList(h.Dispenser)
			if err != nil {
				return nil, err
			}
			ip.Groups = append(ip.Groups, names...)
		case "dialects":
			names, err := dialectNames(h.Dispenser)
			if err != nil {
				return nil, err
			}
			ip.Dialects = names
		case "buffer":
			size, err := sizeOf(h.Dispenser)
			if err != nil {
				return nil, err
			}
			ip.Buffer = size
		default:
			return nil, unrecognized(h.Dispenser, "open_ip", "groups", "dialects", "buffer")
		}
	}
	return ip, nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*IP)(nil)
	_ caddyhttp.MiddlewareHandler = (*IP)(nil)
)
