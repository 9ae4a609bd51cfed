package oauth

import (
	"slices"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// redirectAllowed tells whether the app may be answered at uri: it is one of
// those registered, character by character (RFC 9700 section 2.1). Only for
// public apps may the port of a loopback address differ (RFC 8252 section 7.3).
// What can be registered at all is a rule of package platform.
func redirectAllowed(app *platform.App, uri string) bool {
	if slices.Contains(app.OAuth.RedirectURIs, uri) {
		return true
	}
	if !public(app) {
		return false
	}
	address, rest, ok := cutLoopback(uri)
	return ok && slices.ContainsFunc(app.OAuth.RedirectURIs, func(registered string) bool {
		a, r, ok := cutLoopback(registered)
		return ok && a == address && r == rest
	})
}

// cutLoopback takes a plain http URI with a loopback address apart: the
// address, and what follows the port. Names are none, as they need not lead to
// this machine (RFC 8252 section 8.3).
func cutLoopback(uri string) (address, rest string, ok bool) {
	for _, address := range []string{"http://127.0.0.1", "http://[::1]"} {
		rest, found := strings.CutPrefix(uri, address)
		if !found {
			continue
		}
		if port, found := strings.CutPrefix(rest, ":"); found {
			digits := len(port) - len(strings.TrimLeft(port, "0123456789"))
			if digits == 0 || digits > 5 {
				return "", "", false
			}
			rest = port[digits:]
		}
		return address, rest, true
	}
	return "", "", false
}
