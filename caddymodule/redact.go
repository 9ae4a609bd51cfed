package caddymodule

import (
	"encoding/json"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/logging"
	"go.uber.org/zap/zapcore"
)

func init() {
	caddy.RegisterModule(Encoder{})
}

// redacted stands in logs where a signature or a token was.
const redacted = "REDACTED"

// secretParameters are the query parameters that carry signatures, tokens and
// secrets in the dialects and in OAuth.
var secretParameters = []string{
	"sign", "_aop_signature", "signature", "access_token", "accessToken", "session", "token",
	"refresh_token", "code", "code_verifier", "device_code", "user_code", "request_uri", "client_assertion", "link", "start_token",
	"secret", "app_secret", "appSecret", "client_secret", "signSecret",
}

// secretHeaders are the headers that carry signatures. Caddy itself masks
// Authorization and cookies.
var secretHeaders = []string{"Signature", "X-Sign", "Dpop"}

// secretURLs are the fields of Caddy's log entries that hold a request's URL.
var secretURLs = []string{"request>uri", "request>headers>Referer", "uri", "resp_headers>Location"}

// Encoder encodes log entries without the signatures and tokens that calls
// carry in URLs and headers: Caddy's access log would show them. It wraps
// another encoder.
type Encoder struct {
	// WrappedRaw is the encoder that writes the entries. Default: json.
	WrappedRaw json.RawMessage `json:"wrap,omitempty" caddy:"namespace=caddy.logging.encoders inline_key=format"`

	*logging.FilterEncoder `json:"-"`
}

// CaddyModule returns the Caddy module information.
func (Encoder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.encoders.open_platform", New: func() caddy.Module { return new(Encoder) }}
}

// Provision sets up the encoder as a filter over the wrapped one.
func (e *Encoder) Provision(ctx caddy.Context) error {
	fields := map[string]json.RawMessage{}
	for _, name := range secretHeaders {
		fields["request>headers>"+name] = json.RawMessage(`{"filter":"replace","value":"` + redacted + `"}`)
	}
	var actions []map[string]string
	for _, name := range secretParameters {
		actions = append(actions, map[string]string{"type": "replace", "parameter": name, "value": redacted})
	}
	query, err := json.Marshal(map[string]any{"filter": "query", "actions": actions})
	if err != nil {
		return fmt.Errorf("making the filter: %w", err)
	}
	for _, field := range secretURLs {
		fields[field] = query
	}
	e.FilterEncoder = &logging.FilterEncoder{WrappedRaw: e.WrappedRaw, FieldsRaw: fields}
	return e.FilterEncoder.Provision(ctx)
}

// UnmarshalCaddyfile reads the encoder. Syntax:
//
//	open_platform {
//		wrap <encoder> ...
//	}
func (e *Encoder) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		if d.Val() != "wrap" {
			return d.Errf("the encoder open_platform has no option '%s'; it has wrap", d.Val())
		}
		if e.WrappedRaw != nil {
			return d.Err("wrap is given twice")
		}
		if !d.NextArg() {
			return d.Err("wrap needs an encoder, such as json or console")
		}
		name := d.Val()
		module, err := caddyfile.UnmarshalModule(d, "caddy.logging.encoders."+name)
		if err != nil {
			return err
		}
		encoder, ok := module.(zapcore.Encoder)
		if !ok {
			return d.Errf("%s is no log encoder", name)
		}
		e.WrappedRaw = caddyconfig.JSONModuleObject(encoder, "format", name, nil)
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Encoder)(nil)
	_ zapcore.Encoder       = (*Encoder)(nil)
	_ caddyfile.Unmarshaler = (*Encoder)(nil)
)
