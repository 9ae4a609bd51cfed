package handlers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openplatform/openplatform/internal/gate"
)

// Gate is several stages of the gate in one handler, which costs a call less
// than as many handlers of a route do.
type Gate struct {
	// StagesRaw are handlers of open_ip, open_sign, open_scope and open_rate, each
	// once at the most and in this order. At least one; the directive open_gate
	// lists all four. Where it has both, open_sign leaves the nonce to open_rate,
	// which spends it together with the limits: one round trip to Redis, not two.
	StagesRaw []json.RawMessage `json:"stages,omitempty" caddy:"namespace=http.handlers inline_key=handler"`

	stage
	stages []checker
}

// CaddyModule returns the Caddy module information.
func (Gate) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.open_gate", New: func() caddy.Module { return new(Gate) }}
}

// Provision sets up the handler and its stages.
func (h *Gate) Provision(ctx caddy.Context) error {
	if len(h.StagesRaw) == 0 {
		return fmt.Errorf("open_gate has no stages: list open_ip, open_sign, open_scope and open_rate")
	}
	loaded, err := ctx.LoadModule(h, "StagesRaw")
	if err != nil {
		return fmt.Errorf("loading the stages of open_gate: %w", err)
	}
	names := make([]string, 0, len(stageOrder))
	for _, m := range loaded.([]any) {
		name := m.(caddy.Module).CaddyModule().ID.Name()
		if !slices.Contains(stageOrder, name) {
			return fmt.Errorf("%s is no stage of open_gate: list %s", name, strings.Join(stageOrder, ", "))
		}
		names = append(names, name)
		h.stages = append(h.stages, m.(checker))
	}
	inOrder := slices.DeleteFunc(slices.Clone(stageOrder), func(name string) bool { return !slices.Contains(names, name) })
	if !slices.Equal(names, inOrder) {
		return fmt.Errorf("the stages of open_gate are %s: list each once, in this order: %s", strings.Join(names, ", "), strings.Join(inOrder, ", "))
	}
	if sign := slices.Index(names, "open_sign"); sign >= 0 && slices.Contains(names, "open_rate") {
		h.stages[sign].(*Sign).rule.NonceWithRate = true
	}
	return h.provision(ctx)
}

// stageOrder has the stages of the gate by the names of their handlers.
var stageOrder = []string{"open_ip", "open_sign", "open_scope", "open_rate"}

// ServeHTTP runs the stages.
func (h *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return h.serve(w, r, next, h)
}

func (h *Gate) check(x *exchange) *gate.Refusal {
	for _, c := range h.stages {
		if refusal := c.check(x); refusal != nil {
			return refusal
		}
	}
	return nil
}

// parseGate reads the directive open_gate, a shorthand for the four stages of
// the gate in their order. Syntax:
//
//	open_gate [<matcher>] [sandbox|production] {
//		environment sandbox|production
//		dialects    <name>...
//		ip_groups   <name>...
//		buffer      <size>
//		max_body    <size>
//		skew        <duration>
//	}
func parseGate(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	matchers, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, h.WrapErr(err)
	}
	h.Next()
	ip, sign, seen := new(IP), new(Sign), map[string]bool{}
	if h.NextArg() {
		if err := sign.setEnvironment(h); err != nil {
			return nil, err
		}
		seen["environment"] = true
	}
	for h.NextBlock(0) {
		if err := once(h.Dispenser, seen); err != nil {
			return nil, err
		}
		if h.Val() == "ip_groups" {
			if ip.Groups, err = nameList(h.Dispenser); err != nil {
				return nil, err
			}
			continue
		}
		known, err := sign.option(h)
		if err != nil {
			return nil, err
		}
		if !known {
			return nil, unrecognized(h.Dispenser, "open_gate", append(slices.Clip(signOptions), "ip_groups")...)
		}
	}
	if sign.Environment == "" {
		return nil, h.Err("open_gate needs an environment: write 'environment sandbox' or 'environment production'")
	}
	ip.Dialects, ip.Buffer = sign.Dialects, sign.Buffer

	return h.NewRoute(matchers, &Gate{StagesRaw: stages(ip, sign, new(Scope), new(Rate))}), nil
}

// stages renders handlers as a list in JSON.
func stages(handlers ...caddy.Module) []json.RawMessage {
	raw := make([]json.RawMessage, len(handlers))
	for i, h := range handlers {
		raw[i] = caddyconfig.JSONModuleObject(h, "handler", h.CaddyModule().ID.Name(), nil)
	}
	return raw
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Gate)(nil)
	_ caddyhttp.MiddlewareHandler = (*Gate)(nil)
)
