package adminapi

import (
	"context"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// running is the app of the configuration that runs, looked up anew for each
// request: Caddy puts a new configuration's admin endpoint in place before it
// knows whether that configuration will ever run.
type running struct{}

// app is nil while no configuration with our app runs.
func (running) app() Management {
	app, err := caddy.ActiveContext().AppIfConfigured("open_platform")
	if err != nil {
		return nil
	}
	management, _ := app.(Management)
	return management
}

func (r running) Service() *platform.Service {
	if app := r.app(); app != nil {
		return app.Service()
	}
	return nil
}

func (r running) PreviewCatalog(ctx context.Context, source string, data []byte) (*platform.CatalogDiff, error) {
	if app := r.app(); app != nil {
		return app.PreviewCatalog(ctx, source, data)
	}
	return nil, errNotConfigured
}

func (r running) ApplyCatalog(ctx context.Context, actor, source string, data []byte) (*platform.CatalogDiff, error) {
	if app := r.app(); app != nil {
		return app.ApplyCatalog(ctx, actor, source, data)
	}
	return nil, errNotConfigured
}

func (r running) RotateMasterKey(ctx context.Context, actor string, progress func(done, total int)) error {
	if app := r.app(); app != nil {
		return app.RotateMasterKey(ctx, actor, progress)
	}
	return errNotConfigured
}

func (r running) StartLink(ctx context.Context, ref string, o oauth.StartOptions) (*StartLink, error) {
	if app := r.app(); app != nil {
		return app.StartLink(ctx, ref, o)
	}
	return nil, errNotConfigured
}

func (r running) Challenge(ctx context.Context, s *platform.Subscriber, sub *platform.Subscription) error {
	if app := r.app(); app != nil {
		return app.Challenge(ctx, s, sub)
	}
	return errNotConfigured
}

func (r running) Status(ctx context.Context) StatusReport {
	if app := r.app(); app != nil {
		return app.Status(ctx)
	}
	return StatusReport{StorageError: errNotConfigured.Error()}
}

func (r running) Health() HealthReport {
	if app := r.app(); app != nil {
		return app.Health()
	}
	return HealthReport{Status: NotReady, Reason: errNotConfigured.Error(), Dependencies: []Dependency{}}
}

func (r running) Messages() *pusher.Manager {
	if app := r.app(); app != nil {
		return app.Messages()
	}
	return nil
}

func (r running) PushStats() pusher.Stats {
	if app := r.app(); app != nil {
		return app.PushStats()
	}
	return pusher.Stats{}
}

// Interface guard
var _ Management = running{}
