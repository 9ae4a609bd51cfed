package handlers

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openplatform/openplatform/internal/gate"
)

// answer hands a refusal to the site's error routes, or answers it where there
// are none for it.
func answer(w http.ResponseWriter, r *http.Request, refusal *gate.Refusal, requestID string) error {
	if leavesMore(r) {
		w.Header().Set("Connection", "close")
	}
	if err := caddyhttp.Error(refusal.Code.Status, refusal); hasErrorRoutes(r, err) {
		refusalHeaders(w.Header(), refusal)
		return err
	}
	return writeProblem(w, r, problemOf(refusal, requestID))
}

// drained is how much of a body that nobody read net/http reads itself to go on with
// an HTTP/1 connection (maxPostHandlerReadBytes). Of a larger one it ends the
// connection, unless something took the body from it, as a proxy in an error route
// does: then what is left is taken for the next request.
const drained = 256 << 10

// leavesMore tells whether more of a body than that may be left on the connection.
func leavesMore(r *http.Request) bool {
	_, read := r.Body.(*body)
	return r.ProtoMajor == 1 && !read && (r.ContentLength > drained || r.ContentLength < 0)
}

// hasErrorRoutes tells whether a handle_errors route of the request's site
// takes the error. Error routes belong to the whole server, and may be for
// single statuses: what none of them takes, the gate answers itself.
func hasErrorRoutes(r *http.Request, err error) bool {
	srv, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || srv == nil || srv.Errors == nil || len(srv.Errors.Routes) == 0 {
		return false
	}
	// Error routes see the request as it arrived.
	r = srv.Errors.WithError(r, err)
	if orig, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		url := *orig.URL
		r.Method, r.RequestURI, r.URL = orig.Method, orig.RequestURI, &url
	}
	return takes(srv.Errors.Routes, r)
}

// takes tells whether a handler of the routes is for the request.
func takes(routes caddyhttp.RouteList, r *http.Request) bool {
	for i := range routes {
		if match, err := routes[i].MatcherSets.AnyMatchWithError(r); !match && err == nil {
			continue
		}
		for _, h := range routes[i].Handlers {
			if sub, ok := h.(*caddyhttp.Subroute); !ok || takes(sub.Routes, r) {
				return true
			}
		}
	}
	return false
}
