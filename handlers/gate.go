package handlers

import (
	"encoding/json"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

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
	sign.NonceWithRate = true

	route := caddyhttp.Route{HandlersRaw: stages(ip, sign, new(Scope), new(Rate))}
	if matchers != nil {
		route.MatcherSetsRaw = []caddy.ModuleMap{matchers}
	}
	return []httpcaddyfile.ConfigValue{{Class: "route", Value: route}}, nil
}

// stages renders handlers as one route's list. One route, not four and not a
// subroute: each costs every request an allocation.
func stages(handlers ...caddy.Module) []json.RawMessage {
	raw := make([]json.RawMessage, len(handlers))
	for i, h := range handlers {
		raw[i] = caddyconfig.JSONModuleObject(h, "handler", h.CaddyModule().ID.Name(), nil)
	}
	return raw
}
