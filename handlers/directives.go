// Package handlers holds the HTTP handlers of the open platform: the stages of
// the gate (open_ip, open_sign, open_scope, open_rate), the shorthand open_gate
// for all of them, open_mock for the sandbox, open_problem for error routes,
// open_health for load balancers, open_publish for services that publish
// messages and open_messages for apps that pull them.
package handlers

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// All directives are registered here, since several that stand before the same
// standard directive come out in the order of their registration: whatever
// order an operator writes them in, this is the order they run in.
func init() {
	caddy.RegisterModule(IP{})
	caddy.RegisterModule(Sign{})
	caddy.RegisterModule(Scope{})
	caddy.RegisterModule(Rate{})
	caddy.RegisterModule(Gate{})
	caddy.RegisterModule(Mock{})
	caddy.RegisterModule(Problem{})
	caddy.RegisterModule(Health{})
	caddy.RegisterModule(Publish{})
	caddy.RegisterModule(new(Messages))

	httpcaddyfile.RegisterDirective("open_gate", parseGate)
	httpcaddyfile.RegisterHandlerDirective("open_ip", parseIP)
	httpcaddyfile.RegisterHandlerDirective("open_sign", parseSign)
	httpcaddyfile.RegisterHandlerDirective("open_scope", parseScope)
	httpcaddyfile.RegisterHandlerDirective("open_rate", parseRate)
	for _, name := range []string{"open_gate", "open_ip", "open_sign", "open_scope", "open_rate"} {
		httpcaddyfile.RegisterDirectiveOrder(name, httpcaddyfile.Before, "basic_auth")
	}

	httpcaddyfile.RegisterHandlerDirective("open_mock", parseMock)
	httpcaddyfile.RegisterHandlerDirective("open_problem", parseProblem)
	httpcaddyfile.RegisterHandlerDirective("open_health", parseHealth)
	httpcaddyfile.RegisterHandlerDirective("open_publish", parsePublish)
	httpcaddyfile.RegisterHandlerDirective("open_messages", parseMessages)
	for _, name := range []string{"open_mock", "open_problem", "open_health", "open_publish", "open_messages"} {
		httpcaddyfile.RegisterDirectiveOrder(name, httpcaddyfile.Before, "respond")
	}
}
