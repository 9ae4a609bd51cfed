package handlers

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openplatform/openplatform/internal/gate"
)

// Rate is the last stage of the gate: it checks and charges every limit that
// applies to the call (platform, API, app, app and API, app and merchant), and
// answers with the RateLimit headers. It has no settings: rates and quotas
// stand in the plans in the store.
type Rate struct {
	stage
}

// CaddyModule returns the Caddy module information.
func (Rate) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.open_rate", New: func() caddy.Module { return new(Rate) }}
}

// Provision sets up the handler.
func (h *Rate) Provision(ctx caddy.Context) error { return h.provision(ctx) }

// ServeHTTP runs the stage.
func (h *Rate) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return h.serve(w, r, next, h)
}

func (h *Rate) check(x *exchange) *gate.Refusal {
	admitted := x.call.Admitted()
	refusal := x.gate.Charge(x.request.Context(), &x.call)
	x.tellLimits()
	if refusal == nil && !admitted {
		x.tellUpstream()
	}
	return refusal
}

// parseRate reads the directive open_rate. It takes no options.
func parseRate(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	if err := bare(h, "open_rate"); err != nil {
		return nil, err
	}
	return new(Rate), nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Rate)(nil)
	_ caddyhttp.MiddlewareHandler = (*Rate)(nil)
)
