package oauth

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// directiveOptions are the options of open_oauth.
var directiveOptions = []string{"environment", "issuer", "passport"}

// parseDirective reads the directive open_oauth. Syntax:
//
//	open_oauth [<matcher>] [sandbox|production] {
//		environment sandbox|production
//		issuer      <url>
//		passport    builtin
//		passport    user <placeholder> [<placeholder of the name>]
//	}
func parseDirective(d httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h, seen := new(Handler), map[string]bool{}
	d.Next()
	if d.NextArg() {
		if err := h.setEnvironment(d); err != nil {
			return nil, err
		}
		seen["environment"] = true
	}
	if d.NextArg() {
		return nil, d.Errf("open_oauth takes one environment at the most, but '%s' is given too", d.Val())
	}
	for d.NextBlock(0) {
		option := d.Val()
		if seen[option] {
			return nil, d.Errf("%s is given twice", option)
		}
		seen[option] = true
		if err := h.setOption(d, option, d.RemainingArgs()); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (h *Handler) setEnvironment(d httpcaddyfile.Helper) error {
	env, err := platform.ParseEnvironment(d.Val())
	if err != nil {
		return d.WrapErr(err)
	}
	h.Environment = env
	return nil
}

func (h *Handler) setOption(d httpcaddyfile.Helper, option string, args []string) error {
	switch option {
	case "environment":
		if len(args) != 1 {
			return d.Err("environment needs one name: sandbox or production")
		}
		env, err := platform.ParseEnvironment(args[0])
		if err != nil {
			return d.WrapErr(err)
		}
		h.Environment = env
	case "issuer":
		if len(args) != 1 {
			return d.Err("issuer needs one URL, such as https://open.example.com")
		}
		if _, err := checkIssuer(args[0]); err != nil {
			return d.WrapErr(err)
		}
		h.Issuer = args[0]
	case "passport":
		return h.setPassport(d, args)
	default:
		return d.Errf("open_oauth has no option '%s'; it has %s", option, strings.Join(directiveOptions, ", "))
	}
	return nil
}

func (h *Handler) setPassport(d httpcaddyfile.Helper, args []string) error {
	const usage = "passport needs who says who the merchant is: builtin, or user {http.auth.user.id}"
	if len(args) == 0 {
		return d.Err(usage)
	}
	switch kind, args := args[0], args[1:]; kind {
	case "builtin":
		if len(args) > 0 {
			return d.Errf("passport builtin takes no arguments, but '%s' is given", args[0])
		}
	case "user":
		if len(args) == 0 || len(args) > 2 {
			return d.Err("passport user needs a placeholder for the merchant's ID, and may have one for the name: passport user {http.auth.user.id}")
		}
		h.Passport = &OutsidePassport{User: args[0]}
		if len(args) == 2 {
			h.Passport.Name = args[1]
		}
		if err := h.Passport.validate(); err != nil {
			return d.WrapErr(err)
		}
	default:
		return d.Errf("passport '%s' is not known; %s", kind, usage)
	}
	return nil
}
