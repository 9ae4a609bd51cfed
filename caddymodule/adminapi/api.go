// Package adminapi is the Caddy module admin.api.open_platform: what manages
// the running platform over HTTP, and what its clients send and receive.
package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

func init() {
	caddy.RegisterModule(new(AdminAPI))
}

// Management is what the admin API asks of the app. An error of the domain
// (platform.FieldError, ErrNotFound, ErrConflict, ErrUnavailable) or a catalog
// file's mistakes become the answer's status.
type Management interface {
	// Service is nil until the store is open.
	Service() *platform.Service
	// PreviewCatalog tells what ApplyCatalog would change. Source is the
	// file's name, data its content.
	PreviewCatalog(ctx context.Context, source string, data []byte) (*platform.CatalogDiff, error)
	ApplyCatalog(ctx context.Context, actor, source string, data []byte) (*platform.CatalogDiff, error)
	// RotateMasterKey makes a new master key and encrypts every secret anew.
	RotateMasterKey(ctx context.Context, actor string, progress func(done, total int)) error
	// StartLink makes a link by which the app market starts an app.
	StartLink(ctx context.Context, ref string, o oauth.StartOptions) (*StartLink, error)
	// Challenge asks the endpoint of a subscription for a proof that it can read
	// what is pushed to it.
	Challenge(ctx context.Context, s *platform.Subscriber, sub *platform.Subscription) error
	Status(ctx context.Context) StatusReport
	// Health asks no other server.
	Health() HealthReport
	// Messages is through which messages and deliveries are looked up and
	// pushed again.
	Messages() *pusher.Manager
	PushStats() pusher.Stats
}

// AdminAPI serves the management of apps, merchants, their grants and tokens,
// APIs, packages, plans, limits and pushed messages under /open_platform/ on Caddy's admin endpoint. It has no authentication
// of its own: who reaches the admin endpoint may do everything.
type AdminAPI struct {
	app Management
	mux *http.ServeMux
}

// New returns the admin API of app. In Caddy it is that of the running app.
func New(app Management) *AdminAPI { return &AdminAPI{app: app} }

// CaddyModule returns the Caddy module information.
func (*AdminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.open_platform",
		New: func() caddy.Module { return New(running{}) },
	}
}

// Routes returns the one route of the admin API.
func (a *AdminAPI) Routes() []caddy.AdminRoute {
	a.mux = http.NewServeMux()
	for pattern, serve := range a.endpoints() {
		method, path, _ := strings.Cut(pattern, " ")
		a.mux.Handle(method+" "+PathPrefix+path, serve)
	}
	return []caddy.AdminRoute{{Pattern: PathPrefix + "/", Handler: caddy.AdminHandlerFunc(a.serve)}}
}

func (a *AdminAPI) endpoints() map[string]http.Handler {
	return map[string]http.Handler{
		"GET /apps":                           endpoint(a.listApps),
		"POST /apps":                          endpoint(a.createApp),
		"GET /apps/{ref}":                     endpoint(a.getApp),
		"DELETE /apps/{ref}":                  endpoint(a.deleteApp),
		"POST /apps/{ref}/suspend":            endpoint(a.suspendApp),
		"POST /apps/{ref}/resume":             endpoint(a.resumeApp),
		"PUT /apps/{ref}/plan":                endpoint(a.setAppPlan),
		"POST /apps/{ref}/secrets":            endpoint(a.addSecret),
		"POST /apps/{ref}/keys":               endpoint(a.addKey),
		"DELETE /apps/{ref}/credentials/{n}":  endpoint(a.revokeCredential),
		"POST /apps/{ref}/ips":                endpoint(a.addIP),
		"DELETE /apps/{ref}/ips":              endpoint(a.removeIP),
		"PUT /apps/{ref}/packages/{name}":     endpoint(a.grantPackage),
		"DELETE /apps/{ref}/packages/{name}":  endpoint(a.revokePackage),
		"PUT /apps/{ref}/dialects/{name}":     endpoint(a.allowDialect),
		"DELETE /apps/{ref}/dialects/{name}":  endpoint(a.disallowDialect),
		"PUT /apps/{ref}/oauth":               endpoint(a.setOAuth),
		"POST /apps/{ref}/start-link":         endpoint(a.startLink),
		"GET /apps/{ref}/push-keys":           endpoint(a.listPushKeys),
		"POST /apps/{ref}/push-keys":          endpoint(a.addPushKey),
		"DELETE /apps/{ref}/push-keys/{n}":    endpoint(a.revokePushKey),
		"GET /subscriptions":                  endpoint(a.listSubscriptions),
		"POST /subscriptions":                 endpoint(a.createSubscription),
		"GET /subscriptions/{id}":             endpoint(a.getSubscription),
		"PATCH /subscriptions/{id}":           endpoint(a.updateSubscription),
		"DELETE /subscriptions/{id}":          endpoint(a.deleteSubscription),
		"POST /subscriptions/{id}/pause":      endpoint(a.pauseSubscription),
		"POST /subscriptions/{id}/resume":     endpoint(a.resumeSubscription),
		"POST /subscriptions/{id}/verify":     endpoint(a.verifySubscription),
		"GET /topics":                         endpoint(a.listTopics),
		"GET /topics/{name}":                  endpoint(a.getTopic),
		"POST /topics/{name}/{state}":         endpoint(a.setTopicStatus),
		"GET /users":                          endpoint(a.listUsers),
		"POST /users":                         endpoint(a.createUser),
		"GET /users/{ref}":                    endpoint(a.getUser),
		"POST /users/{ref}/disable":           endpoint(a.disableUser),
		"POST /users/{ref}/enable":            endpoint(a.enableUser),
		"PUT /users/{ref}/password":           endpoint(a.setPassword),
		"GET /grants":                         endpoint(a.listGrants),
		"GET /grants/{id}":                    endpoint(a.getGrant),
		"DELETE /grants/{id}":                 endpoint(a.revokeGrant),
		"POST /tokens/inspect":                endpoint(a.inspectToken),
		"POST /tokens/revoke":                 endpoint(a.revokeToken),
		"GET /messages":                       endpoint(a.listMessages),
		"GET /messages/{id}":                  endpoint(a.getMessage),
		"POST /messages/{id}/push":            endpoint(a.pushMessage),
		"GET /deliveries":                     endpoint(a.listDeliveries),
		"GET /deliveries/{id}":                endpoint(a.getDelivery),
		"POST /deliveries/{id}/push":          endpoint(a.pushDelivery),
		"POST /deliveries/{id}/cancel":        endpoint(a.cancelDelivery),
		"GET /push":                           endpoint(a.pushStatus),
		"GET /push/jobs":                      endpoint(a.listJobs),
		"POST /push/jobs":                     endpoint(a.startJob),
		"GET /push/jobs/{id}":                 endpoint(a.getJob),
		"POST /push/jobs/{id}/pause":          a.setJob(pusher.JobPaused),
		"POST /push/jobs/{id}/resume":         a.setJob(pusher.JobRunning),
		"POST /push/jobs/{id}/cancel":         a.setJob(pusher.JobCancelled),
		"GET /apis":                           endpoint(a.listAPIs),
		"GET /apis/{name}":                    endpoint(a.getAPI),
		"GET /apis/{name}/{version}":          endpoint(a.getAPI),
		"POST /apis/{name}/{version}/{state}": endpoint(a.setAPIStatus),
		"GET /packages":                       endpoint(a.listPackages),
		"GET /packages/{name}":                endpoint(a.getPackage),
		"PUT /packages/{name}":                endpoint(a.putPackage),
		"DELETE /packages/{name}":             endpoint(a.deletePackage),
		"GET /plans":                          endpoint(a.listPlans),
		"GET /plans/{name}":                   endpoint(a.getPlan),
		"PUT /plans/{name}":                   endpoint(a.putPlan),
		"DELETE /plans/{name}":                endpoint(a.deletePlan),
		"GET /ip-groups":                      endpoint(a.listIPGroups),
		"GET /ip-groups/{name}":               endpoint(a.getIPGroup),
		"PUT /ip-groups/{name}":               endpoint(a.putIPGroup),
		"DELETE /ip-groups/{name}":            endpoint(a.deleteIPGroup),
		"GET /limits":                         endpoint(a.getLimits),
		"PUT /limits":                         endpoint(a.putLimits),
		"GET /audit":                          endpoint(a.listAudit),
		"POST /catalog":                       endpoint(a.applyCatalog),
		"POST /master-key/rotate":             http.HandlerFunc(a.rotateMasterKey),
		"GET /status":                         endpoint(a.status),
		"GET /health":                         http.HandlerFunc(a.health),
	}
}

var errNotConfigured = errors.New("the running configuration has no open_platform app; add the global option open_platform")

// serve routes one request. The error it returns is logged and rendered by
// Caddy; a user's mistake is answered here, for it is no event of the server.
func (a *AdminAPI) serve(w http.ResponseWriter, r *http.Request) error {
	if h, pattern := a.mux.Handler(r); pattern == "" {
		return notRouted(h, w, r)
	}
	if r, ok := a.app.(running); ok && r.app() == nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errNotConfigured}
	}
	if a.app.Service() == nil && r.URL.Path != PathPrefix+"/status" && r.URL.Path != PathPrefix+"/health" {
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: errors.New("the store is not open yet; try again in a moment")}
	}
	rep := &reply{ResponseWriter: w}
	a.mux.ServeHTTP(rep, r)
	if rep.err == nil {
		return nil
	}
	return renderError(w, rep.err)
}

// reply carries an endpoint's error past the mux.
type reply struct {
	http.ResponseWriter
	err error
}

// Unwrap lets http.ResponseController reach the flusher.
func (r *reply) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// endpoint answers a request with a JSON body; nil means 204.
type endpoint func(*http.Request) (any, error)

// created marks a body that is answered with 201.
type created struct{ body any }

func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), Timeout)
	defer cancel()
	body, err := e(r.WithContext(ctx))
	if err != nil {
		w.(*reply).err = err
		return
	}
	status := http.StatusOK
	if c, ok := body.(created); ok {
		status, body = http.StatusCreated, c.body
	}
	if body == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	writeJSON(w, status, body)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(body) // the client has gone, nobody is left to tell
}

// notRouted turns the mux's own 404 or 405 into an error; the Allow header
// that the mux sets stays.
func notRouted(h http.Handler, w http.ResponseWriter, r *http.Request) error {
	drop := &dropBody{header: w.Header()}
	h.ServeHTTP(drop, r)
	err := fmt.Errorf("%s: no such path", r.URL.Path)
	if drop.status == http.StatusMethodNotAllowed {
		err = fmt.Errorf("%s is not allowed here; want %s", r.Method, w.Header().Get("Allow"))
	}
	return caddy.APIError{HTTPStatus: drop.status, Err: err}
}

// dropBody keeps the header and the status of an answer only.
type dropBody struct {
	header http.Header
	status int
}

func (d *dropBody) Header() http.Header         { return d.header }
func (d *dropBody) WriteHeader(status int)      { d.status = status }
func (d *dropBody) Write(b []byte) (int, error) { return len(b), nil }

// actor names who makes the change.
func actor(r *http.Request) string {
	if name := r.Header.Get(ActorHeader); name != "" {
		return name
	}
	return "admin-api"
}

// readBody reads the whole body, up to MaxBody.
func readBody(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	if len(data) > MaxBody {
		return nil, caddy.APIError{HTTPStatus: http.StatusRequestEntityTooLarge, Err: fmt.Errorf("the body is too large; want at most %d bytes", MaxBody)}
	}
	return data, nil
}

// Interface guard
var _ caddy.AdminRouter = (*AdminAPI)(nil)
