package handlers

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openplatform/openplatform/caddymodule"
	"github.com/caddy-openplatform/openplatform/internal/gate"
)

// stage is what the handlers that begin calls share.
type stage struct {
	app *caddymodule.App
	log refusalLog
}

func (s *stage) provision(ctx caddy.Context) error {
	app, err := caddymodule.Configured(ctx)
	if err != nil {
		return err
	}
	s.app = app
	s.log = newRefusalLog(ctx.Logger())
	return nil
}

// checker is one stage of the gate: it lets the call pass or refuses it.
type checker interface {
	check(x *exchange) *gate.Refusal
}

// serve runs one stage. The first stage that a request meets begins the call,
// and ends it when everything behind it has run.
func (s *stage) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, c checker) error {
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	if x, ok := vars[exchangeKey].(*exchange); ok {
		return x.step(w, next, c)
	}
	g, err := s.app.Gate(r.Context())
	if err != nil {
		// There is no gate yet to begin a call with.
		return answer(w, r, &gate.Refusal{
			Code: gate.StoreUnavailable, Stage: gate.StageIP, Err: err,
			Detail: "the call could not be checked; try again soon",
		}, "")
	}
	x := begin(g, w, r, vars, &s.log)
	defer x.record()
	return x.end(x.step(&x.writer, next, c))
}

// step runs one stage and, if it allows, what follows.
func (x *exchange) step(w http.ResponseWriter, next caddyhttp.Handler, c checker) error {
	if refusal := c.check(x); refusal != nil {
		x.call.Refusal = refusal
		return refusal
	}
	return next.ServeHTTP(w, x.request)
}
