// Package openplatform puts the open platform into a Caddy binary: importing
// it registers the app open_platform, the directives open_* and the command
// `caddy open-platform`. It is what `xcaddy build --with` needs.
package openplatform

import (
	_ "github.com/caddy-openplatform/openplatform/caddymodule"          // the app, its global option and the log encoder
	_ "github.com/caddy-openplatform/openplatform/caddymodule/adminapi" // what manages the app, on Caddy's admin endpoint
	_ "github.com/caddy-openplatform/openplatform/caddymodule/command"  // the command caddy open-platform
	_ "github.com/caddy-openplatform/openplatform/handlers"             // the HTTP handlers of the gate
	_ "github.com/caddy-openplatform/openplatform/oauth"                // the authorization server
)
