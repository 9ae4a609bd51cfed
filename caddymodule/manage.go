package caddymodule

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/catalog"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
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

// RotateMasterKey makes a new master key in the key file beside the store and
// encrypts every secret anew. The old key stays in the file until that is done,
// so that it can be stopped at any moment.
func (a *App) RotateMasterKey(ctx context.Context, progress func(done, total int)) error {
	e := a.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.options.keys) > 0 {
		return fmt.Errorf("%w: the master key comes from the configuration: put a new key in front of the old one in master_key and reload", platform.ErrConflict)
	}
	fresh, err := store.NewKey(rand.Reader)
	if err != nil {
		return err
	}
	both, err := store.NewKeyring(fresh, e.keyring.Keys()...)
	if err != nil {
		return err
	}
	if err := store.WriteKeyFile(e.keyFile(), both.Keys()...); err != nil {
		return err
	}
	// From here on secrets may be encrypted with the fresh key: should this stop
	// halfway, the next rotation must keep it in the file.
	e.keyring = both
	if err := e.rekey(ctx, both, progress); err != nil {
		return err
	}
	only, err := store.NewKeyring(fresh)
	if err != nil {
		return err
	}
	if err := store.WriteKeyFile(e.keyFile(), fresh); err != nil {
		return err
	}
	e.keyring = only
	return nil
}

// Status tells how this node is doing.
func (a *App) Status(ctx context.Context) adminapi.StatusReport {
	return a.engine.status(ctx)
}

// Interface guard
var _ adminapi.Management = (*App)(nil)
