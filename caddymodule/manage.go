package caddymodule

import (
	"context"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/catalog"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Service is what the admin API manages the platform through; nil until the
// store is open.
func (a *App) Service() *platform.Service {
	if a.engine.gate.Load() == nil {
		return nil
	}
	return a.engine.service
}

// PreviewCatalog tells what ApplyCatalog would change.
func (a *App) PreviewCatalog(ctx context.Context, source string, data []byte) (*platform.CatalogDiff, error) {
	file, err := catalog.Parse(source, data)
	if err != nil {
		return nil, err
	}
	return a.Service().PreviewCatalog(ctx, *file)
}

// ApplyCatalog reads an OpenAPI file and applies it, all of it or nothing.
func (a *App) ApplyCatalog(ctx context.Context, actor, source string, data []byte) (*platform.CatalogDiff, error) {
	file, err := catalog.Parse(source, data)
	if err != nil {
		return nil, err
	}
	return a.Service().ApplyCatalog(ctx, actor, *file)
}

// Status tells how this node is doing.
func (a *App) Status(ctx context.Context) adminapi.StatusReport {
	return a.engine.status(ctx)
}

// Health tells whether this node can take calls.
func (a *App) Health() adminapi.HealthReport { return a.engine.health() }

// Interface guard
var _ adminapi.Management = (*App)(nil)
