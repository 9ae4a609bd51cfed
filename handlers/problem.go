package handlers

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openplatform/openplatform/internal/gate"
)

// dictionary is where every code is explained.
const dictionary = "https://github.com/caddy-openplatform/openplatform/blob/main/docs/reference/errors.md#"

// Problem answers an error as application/problem+json (RFC 9457). It stands
// in handle_errors, where a site wants its other errors to look like the
// gate's refusals. Without error routes the gate answers its refusals itself.
type Problem struct{}

// CaddyModule returns the Caddy module information.
func (Problem) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.open_problem", New: func() caddy.Module { return new(Problem) }}
}

// ServeHTTP answers the error of the request. Outside of an error route there
// is none, and the request goes on.
func (Problem) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	err, ok := r.Context().Value(caddyhttp.ErrorCtxKey).(error)
	if !ok {
		return next.ServeHTTP(w, r)
	}
	var requestID string
	if x := exchangeOf(r); x != nil {
		requestID = x.call.RequestID
	}
	if refusal, ok := errors.AsType[*gate.Refusal](err); ok {
		return writeProblem(w, r, problemOf(refusal, requestID))
	}
	status := statusOf(err)
	return writeProblem(w, r, problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status,
		Code: "http_" + strconv.Itoa(status), RequestID: requestID,
	})
}

// problem is the body of a refusal: RFC 9457 with two members more.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail,omitempty"`
	Code      string `json:"code"`
	RequestID string `json:"request_id,omitempty"`
	// Errors are the mistakes of a batch of messages.
	Errors []entryMistake `json:"errors,omitempty"`

	refusal *gate.Refusal
}

func problemOf(r *gate.Refusal, requestID string) problem {
	return problem{
		Type: dictionary + r.Code.Name, Title: r.Code.Title, Status: r.Code.Status,
		Detail: r.Detail, Code: r.Code.Name, RequestID: requestID, Errors: entryMistakes(r.Mistakes), refusal: r,
	}
}

func writeProblem(w http.ResponseWriter, r *http.Request, p problem) error {
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("writing a refusal: %w", err)
	}
	h := w.Header()
	if p.refusal != nil {
		refusalHeaders(h, p.refusal)
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(p.Status)
	if r.Method == http.MethodHead {
		return nil
	}
	// The client may have gone; the refusal stands all the same.
	_, _ = w.Write(data)
	return nil
}

// parseProblem reads the directive open_problem. It takes no options.
func parseProblem(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	if err := bare(h, "open_problem"); err != nil {
		return nil, err
	}
	return new(Problem), nil
}

// Interface guard
var _ caddyhttp.MiddlewareHandler = (*Problem)(nil)
