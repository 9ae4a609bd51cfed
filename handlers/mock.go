package handlers

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Mock answers a call that has passed the gate with its API's example from the
// catalog. It is what a sandbox ends in. It has no settings.
type Mock struct{}

// CaddyModule returns the Caddy module information.
func (Mock) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.open_mock", New: func() caddy.Module { return new(Mock) }}
}

// ServeHTTP answers the call. A request that passed no gate is none of its
// business and goes on.
func (Mock) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	x := exchangeOf(r)
	if x == nil || x.call.API() == nil {
		return next.ServeHTTP(w, r)
	}
	example := x.call.API().Example
	if example.Status == 0 {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if example.ContentType != "" {
		w.Header().Set("Content-Type", example.ContentType)
	}
	w.WriteHeader(example.Status)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write(example.Body)
	return err
}

// parseMock reads the directive open_mock. It takes no options.
func parseMock(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	if err := bare(h, "open_mock"); err != nil {
		return nil, err
	}
	return new(Mock), nil
}

// Interface guard
var _ caddyhttp.MiddlewareHandler = (*Mock)(nil)
