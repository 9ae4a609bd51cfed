package oauth

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	core "github.com/caddy-openplatform/openplatform/internal/oauth"
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
//		passport    oidc {
//			issuer        <url>
//			client_id     <id>
//			client_secret <secret>
//			scopes        <scope>...
//			name_claim    <claim>
//			ca            <file>
//		}
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
		if err := core.CheckIssuer(args[0]); err != nil {
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
	const usage = "passport needs who says who the merchant is: builtin, oidc { … }, or user {http.auth.user.id}"
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
	case "oidc":
		if len(args) > 0 {
			return d.Errf("passport oidc takes a block and no arguments, but '%s' is given", args[0])
		}
		return h.setProvider(d)
	default:
		return d.Errf("passport '%s' is not known; %s", kind, usage)
	}
	return nil
}

// providerOptions are the options of passport oidc; providerExamples show each.
var (
	providerOptions  = []string{"issuer", "client_id", "client_secret", "scopes", "name_claim", "ca"}
	providerExamples = map[string]string{ //nolint:gosec // G101: a placeholder, no secret
		"issuer": "https://login.example.com", "client_id": "open-platform", "client_secret": "{env.OIDC_SECRET}",
		"scopes": "profile email", "name_claim": "name", "ca": "/etc/ssl/login.pem",
	}
)

func (h *Handler) setProvider(d httpcaddyfile.Helper) error {
	p, seen := new(OIDCPassport), map[string]bool{}
	fields := map[string]*string{
		"issuer": &p.Issuer, "client_id": &p.ClientID, "client_secret": &p.ClientSecret, "name_claim": &p.NameClaim, "ca": &p.CA,
	}
	for d.NextBlock(1) {
		option := d.Val()
		if seen[option] {
			return d.Errf("%s of passport oidc is given twice", option)
		}
		seen[option] = true
		args := d.RemainingArgs()
		switch field := fields[option]; {
		case option == "scopes" && len(args) == 0:
			return d.Errf("scopes of passport oidc needs one or more, such as: scopes %s", providerExamples[option])
		case option == "scopes":
			p.Scopes = args
		case field == nil:
			return d.Errf("passport oidc has no option '%s'; it has %s", option, strings.Join(providerOptions, ", "))
		case len(args) != 1 || args[0] == "":
			return d.Errf("%s of passport oidc needs one value, such as: %s %s", option, option, providerExamples[option])
		default:
			*field = args[0]
		}
	}
	for _, required := range []string{"issuer", "client_id"} {
		if !seen[required] {
			return d.Errf("passport oidc needs %s; write into its block: %s %s", required, required, providerExamples[required])
		}
	}
	if !strings.Contains(p.Issuer, "{") { // a placeholder is looked at when it has a value
		if err := checkProvider(p.Issuer); err != nil {
			return d.WrapErr(err)
		}
	}
	h.Passport = &OutsidePassport{OIDC: p}
	return nil
}
