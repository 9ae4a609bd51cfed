package handlers

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openplatform/openplatform/internal/gate"
)

// Scope is the third stage of the gate: it finds the API that the call is for
// and checks that it serves, that the app holds its permission package, and
// that the merchant agreed where the API needs it. It tells the upstream who
// calls. It has no settings: what is granted stands in the store.
type Scope struct {
	stage
}

// CaddyModule returns the Caddy module information.
func (Scope) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.open_scope", New: func() caddy.Module { return new(Scope) }}
}

// Provision sets up the handler.
func (h *Scope) Provision(ctx caddy.Context) error { return h.provision(ctx) }

// ServeHTTP runs the stage.
func (h *Scope) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return h.serve(w, r, next, h)
}

func (h *Scope) check(x *exchange) *gate.Refusal {
	r := x.request
	if x.unescaped {
		return &gate.Refusal{
			Code: gate.RequestMalformed, Stage: gate.StageScope,
			Detail: "the path holds characters that a URL must not: percent-escape them, and sign the path so",
		}
	}
	refusal := x.gate.Authorize(r.Context(), &x.call, r.Method, r.URL.EscapedPath(), x.token)
	if refusal != nil {
		return refusal
	}
	if x.call.Admitted() {
		x.tellUpstream()
	}
	x.tellClient()
	return nil
}

// parseScope reads the directive open_scope. It takes no options.
func parseScope(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	if err := bare(h, "open_scope"); err != nil {
		return nil, err
	}
	return new(Scope), nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Scope)(nil)
	_ caddyhttp.MiddlewareHandler = (*Scope)(nil)
)
