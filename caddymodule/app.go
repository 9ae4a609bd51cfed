// Package caddymodule is the Caddy app open_platform: its global option, its
// life from provisioning to clean-up, metrics and the log encoder that keeps
// signatures and tokens out of logs. The admin API and the command line are
// packages of their own below it.
package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/caddy-openplatform/openplatform/internal/catalog"
	"github.com/caddy-openplatform/openplatform/internal/gate"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func init() {
	caddy.RegisterModule(App{})
}

// App is the open platform: apps, APIs, packages and plans in one store, and
// the gate that handlers send calls through. What it holds in memory (limits,
// nonces, caches, the open store) survives reloads.
type App struct {
	// Storage is where the platform keeps its data. Default: SQLite in the
	// file ./data/openplatform.db.
	Storage *Storage `json:"storage,omitempty"`

	// Redis is where nodes share limits and nonces. Default: none, each node
	// counts for itself.
	Redis *Redis `json:"redis,omitempty"`

	// MasterKeys encrypt secrets at rest: 32 bytes each, in hexadecimal or
	// base64. The first one encrypts; the others are earlier ones that are
	// still needed to read. Placeholders such as {env.MASTER_KEY} and
	// {file./run/secrets/master.key} are resolved when the configuration
	// loads. Default: a key made once beside the SQLite file, in master.key;
	// for postgres in ./data/master.key of the node that starts first, which
	// the others then need as well.
	MasterKeys []string `json:"master_keys,omitempty"`

	// Catalogs are OpenAPI files that are applied at start when they changed.
	Catalogs []string `json:"catalogs,omitempty"`

	// SandboxApp is a file. When the store holds no app yet, one is made for
	// the sandbox, and its credentials are written there, readable by the
	// owner only. Default: none is made.
	SandboxApp string `json:"sandbox_app,omitempty"`

	// SandboxRedirectURI is where merchants are sent back to who authorize that
	// app. Default: none, and nobody can authorize it.
	SandboxRedirectURI string `json:"sandbox_redirect_uri,omitempty"`

	// SandboxMerchant is a file. When the store holds no merchant yet, one is made
	// to try with, and login and password are written there, readable by the
	// owner only. Default: none is made.
	SandboxMerchant string `json:"sandbox_merchant,omitempty"`

	// TimeZone is where days and months of quotas begin: an IANA name such as
	// Asia/Shanghai. A change takes effect at the next start. Default: UTC.
	TimeZone string `json:"time_zone,omitempty"`

	// AppCache is how many apps are kept in memory. Default: 100000.
	AppCache int `json:"app_cache,omitempty"`

	// Nonces is how many nonces are remembered at once; when it is reached,
	// calls are refused until old ones expire. It takes 22 to 32 bytes for
	// each. A change takes effect at the next start. Default: 10000000.
	Nonces int `json:"nonces,omitempty"`

	// Staleness is how long cached apps are served while the store cannot be
	// reached. Default: 10m.
	Staleness caddy.Duration `json:"staleness,omitempty"`

	// AuditRetention is how long entries of the audit log are kept.
	// Default: 0, for ever.
	AuditRetention caddy.Duration `json:"audit_retention,omitempty"`

	// Push says how messages are pushed to apps. Default: this node pushes, with
	// the defaults.
	Push *Push `json:"push,omitempty"`

	// onRedisFailure waits for Redis to be read from the Caddyfile.
	onRedisFailure string

	ctx      caddy.Context
	logger   *zap.Logger
	events   *caddyevents.App
	location *time.Location
	keys     []string
	catalogs []*platform.CatalogFile
	engine   *engine
	released bool
	// issuers are those of the authorization servers, by environment, as far as
	// the configuration names them.
	issuers map[platform.Environment][]string
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "open_platform", New: func() caddy.Module { return new(App) }}
}

// Configured is the app of the configuration that ctx belongs to.
func Configured(ctx caddy.Context) (*App, error) {
	app, err := ctx.AppIfConfigured("open_platform")
	switch {
	case errors.Is(err, caddy.ErrNotConfigured):
		return nil, fmt.Errorf("there is no open_platform app; add the global option open_platform")
	case err != nil:
		return nil, err
	}
	return app.(*App), nil
}

// Provision reads the configuration. It opens no store: a configuration can
// be validated without touching one.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.logger = ctx, ctx.Logger()
	if err := a.setDefaults(); err != nil {
		return err
	}
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("getting events app: %w", err)
	}
	a.events = events.(*caddyevents.App)
	e, err := acquireEngine(a.engineOptions())
	if err != nil {
		return err
	}
	a.engine = e
	// Early, since Caddy shows the registry of a configuration that was refused.
	if err := e.metrics.register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	for _, path := range a.Catalogs {
		file, err := catalog.Load(path)
		if err != nil {
			return err
		}
		a.catalogs = append(a.catalogs, file)
	}
	// What changes the store waits until the whole configuration runs: one
	// that is refused must leave the running platform as it was.
	if err := a.events.On("started", startedHandler{a}); err != nil {
		return fmt.Errorf("waiting for the configuration to run: %w", err)
	}
	return nil
}

func (a *App) setDefaults() error {
	repl := caddy.NewReplacer()
	if a.Storage == nil {
		a.Storage = new(Storage)
	}
	if err := a.Storage.provision(repl); err != nil {
		return err
	}
	if a.Redis != nil {
		if err := a.Redis.provision(repl); err != nil {
			return err
		}
	}
	if a.Push == nil {
		a.Push = new(Push)
	}
	if err := a.Push.provision(); err != nil {
		return err
	}
	a.keys = nil
	for i, key := range a.MasterKeys {
		value, err := repl.ReplaceOrErr(key, true, true)
		if err != nil {
			return fmt.Errorf("master key %d: %w", i+1, err)
		}
		a.keys = append(a.keys, value)
	}
	if len(a.keys) > 0 {
		if _, err := parseKeys(a.keys); err != nil {
			return err
		}
	}
	location, err := time.LoadLocation(a.TimeZone)
	if err != nil {
		return fmt.Errorf("time_zone %q is not known; write an IANA name such as Asia/Shanghai", a.TimeZone)
	}
	a.location = location
	if a.AppCache == 0 {
		a.AppCache = gate.DefaultApps
	}
	if a.Staleness == 0 {
		a.Staleness = caddy.Duration(gate.DefaultStaleness)
	}
	return nil
}

// Validate refuses settings that cannot work.
func (a *App) Validate() error {
	switch {
	case a.AppCache < 1:
		return fmt.Errorf("app_cache must be 1 or more, not %d", a.AppCache)
	case a.Nonces < 0:
		return fmt.Errorf("nonces must be 1 or more, not %d", a.Nonces)
	case a.Staleness < 0:
		return fmt.Errorf("staleness must not be negative")
	case a.AuditRetention < 0:
		return fmt.Errorf("audit_retention must not be negative")
	}
	return errors.Join(a.validateSandbox(), a.Push.validate())
}

// validateSandbox refuses a redirect URI that no app of the sandbox could have.
func (a *App) validateSandbox() error {
	switch {
	case a.SandboxRedirectURI == "":
		return nil
	case a.SandboxApp == "":
		return fmt.Errorf("sandbox_redirect_uri needs sandbox_app: it is where merchants come back to who authorize that app")
	}
	if err := platform.CheckRedirectURI(a.SandboxRedirectURI, platform.Web); err != nil {
		return fmt.Errorf("sandbox_redirect_uri: %w", err)
	}
	return nil
}

func (a *App) engineOptions() engineOptions {
	return engineOptions{
		storage: *a.Storage, redis: a.Redis, audit: time.Duration(a.AuditRetention),
		keys: a.keys, location: a.location, apps: a.AppCache, nonces: a.Nonces,
		staleness: time.Duration(a.Staleness), push: a.Push, logger: a.logger,
		emit: func(name string, data map[string]any) { a.events.Emit(a.ctx, name, data) },
	}
}

// Start opens the store, unless the configuration before had it open, and
// makes sure that the catalogs can be applied.
func (a *App) Start() error {
	ctx, cancel := context.WithTimeout(a.ctx, startTimeout)
	defer cancel()
	if err := a.engine.open(ctx); err != nil {
		return err
	}
	if err := a.engine.checkKeys(ctx, a.engineOptions().keys); err != nil {
		return err
	}
	for _, file := range a.catalogs {
		if _, err := a.engine.service.PreviewCatalog(ctx, *file); err != nil && !a.engine.keepsCatalog(ctx, file, err) {
			return fmt.Errorf("checking catalogs: %w", err)
		}
	}
	return nil
}

// startTimeout bounds the work of a start that touches the store.
const startTimeout = time.Minute

// Stop has nothing to stop: what runs belongs to the engine, which the next
// configuration may go on using.
func (a *App) Stop() error { return nil }

// Cleanup lets go of the engine, and closes it if nobody else uses it. Calls
// that are still on their way go on using it: Caddy does not wait for them.
func (a *App) Cleanup() error {
	if a.engine == nil || a.released {
		return nil
	}
	a.released = true
	return releaseEngine(a.engine)
}

// Gate is the gate that calls go through. It opens the store if a call comes
// before this app was started.
func (a *App) Gate(ctx context.Context) (*gate.Gate, error) {
	if g := a.engine.gate.Load(); g != nil {
		return g, nil
	}
	if err := a.engine.open(ctx); err != nil {
		return nil, err
	}
	return a.engine.gate.Load(), nil
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
