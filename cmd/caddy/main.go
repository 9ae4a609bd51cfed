// Command caddy is Caddy with its standard modules and the open platform,
// built from the versions that go.mod pins.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-openplatform/openplatform"
)

func main() { caddycmd.Main() }
