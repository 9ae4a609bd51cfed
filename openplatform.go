// Package openplatform puts the open platform into a Caddy binary: importing
// it registers the app open_platform, the directives open_* and the command
// `caddy open-platform`. It is what `xcaddy build --with` needs.
package openplatform

import (
	_ "github.com/caddy-openplatform/openplatform/caddymodule" // the app, its admin API and its commands
	_ "github.com/caddy-openplatform/openplatform/handlers"    // the HTTP handlers
)
