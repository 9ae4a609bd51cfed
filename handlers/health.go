package handlers

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openplatform/openplatform/caddymodule"
	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
)

// Health tells a load balancer whether this node can take calls: 200 with
// status "ready" or "degraded", 503 with "not_ready". It asks no other server
// for that. It has no settings.
type Health struct {
	app *caddymodule.App
}

// healthBody is the answer. What exactly is wrong is for the admin API to say.
type healthBody struct {
	Status string   `json:"status"`
	Down   []string `json:"down,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Health) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.open_health", New: func() caddy.Module { return new(Health) }}
}

// Provision sets up the handler.
func (h *Health) Provision(ctx caddy.Context) error {
	app, err := caddymodule.Configured(ctx)
	if err != nil {
		return err
	}
	h.app = app
	return nil
}

// ServeHTTP answers the question.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	header := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		return caddyhttp.Error(http.StatusMethodNotAllowed, fmt.Errorf("open_health takes GET and HEAD"))
	}
	report := h.app.Health()
	// With shutdown_delay set, the load balancer hears of it in time.
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		if leaving, ok := repl.Get("http.shutting_down"); ok && leaving == true {
			report.Status = adminapi.NotReady
		}
	}
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(report.HTTPStatus())
	if r.Method == http.MethodHead {
		return nil
	}
	return json.NewEncoder(w).Encode(healthBody{report.Status, report.Down()})
}

// parseHealth reads the directive open_health. It takes no options.
func parseHealth(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	if err := bare(h, "open_health"); err != nil {
		return nil, err
	}
	return new(Health), nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Health)(nil)
	_ caddyhttp.MiddlewareHandler = (*Health)(nil)
)
