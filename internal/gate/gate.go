// Package gate decides whether a call may pass. It is the hot path: a call of
// an app that was seen before touches no database, only an immutable snapshot
// of the catalog, a bounded cache of apps, and the counters of package limit.
//
// The handlers walk a [Call] through its stages, each of which allows or
// refuses: [Gate.Identify], [Gate.CheckIP], [Gate.Verify], [Gate.SpendNonce],
// [Gate.Authorize], [Gate.Charge].
package gate

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Options are what a gate stands on.
type Options struct {
	Store platform.Reader
	// Ledger accounts for nonces and limits.
	Ledger limit.Ledger
	// Tokens checks merchants' access tokens. Nil: no API that needs one passes.
	Tokens TokenVerifier
	// Recorder hears of every call. Nil: nobody does.
	Recorder Recorder
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Apps bounds the cache, in apps. 0 means 100,000.
	Apps int
	// Staleness is how long a cached app serves while the store is down.
	// 0 means 10 minutes.
	Staleness time.Duration
}

// Defaults of Options.
const (
	DefaultApps      = 100_000
	DefaultStaleness = 10 * time.Minute
)

// Gate holds what all calls share. It is safe for concurrent use.
type Gate struct {
	store    platform.Reader
	ledger   limit.Ledger
	tokens   TokenVerifier
	recorder Recorder
	now      func() time.Time
	apps     *appCache
	catalog  atomic.Pointer[snapshot]
	// loading is held while the catalog is read and put in force, so that an
	// earlier state never replaces a later one.
	loading sync.Mutex
	scratch sync.Pool // of *scratch
}

// scratch is what a call spends, and the memory for it. It is lent, so that a
// call is not the larger for it.
type scratch struct {
	spend  limit.Spend
	nonce  [64]byte
	checks [maxChecks]limit.Check
}

// New makes a gate and loads the catalog.
func New(ctx context.Context, o Options) (*Gate, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Tokens == nil {
		o.Tokens = noTokens{}
	}
	if o.Recorder == nil {
		o.Recorder = noRecorder{}
	}
	if o.Apps == 0 {
		o.Apps = DefaultApps
	}
	if o.Staleness == 0 {
		o.Staleness = DefaultStaleness
	}
	apps, err := newAppCache(o.Store, o.Apps, o.Staleness)
	if err != nil {
		return nil, err
	}
	g := &Gate{
		store: o.Store, ledger: o.Ledger, tokens: o.Tokens,
		recorder: o.Recorder, now: o.Now, apps: apps,
		scratch: sync.Pool{New: func() any { return new(scratch) }},
	}
	if err := g.ReloadCatalog(ctx); err != nil {
		apps.close()
		return nil, err
	}
	return g, nil
}

// Close stops what the gate runs in the background.
func (g *Gate) Close() { g.apps.close() }

// Resize changes the bounds of the cache of apps while calls go on.
func (g *Gate) Resize(apps int, staleness time.Duration) { g.apps.resize(apps, staleness) }

// CachedApps is the number of apps in the cache, unknown ones included.
func (g *Gate) CachedApps() int { return g.apps.cache.EstimatedSize() }

// Forget drops an app from the cache, so that the next call loads it anew.
func (g *Gate) Forget(appKey string) { g.apps.cache.Invalidate(appKey) }

// AppByKey returns an app from the cache, or loads it. It must not be changed.
// An unknown one is platform.ErrNotFound.
func (g *Gate) AppByKey(ctx context.Context, appKey string) (*platform.App, error) {
	a, err := g.apps.get(ctx, appKey)
	if err != nil {
		return nil, err
	}
	if a == nil {
		return nil, fmt.Errorf("app %w", platform.ErrNotFound)
	}
	return a.App, nil
}

// Catalog is what is in force. It must not be changed.
func (g *Gate) Catalog(context.Context) (*platform.Catalog, error) {
	return g.catalog.Load().catalog, nil
}

// ReloadCatalog reads APIs, packages, plans, groups and platform limits anew
// and puts them in force for all calls that begin afterwards.
func (g *Gate) ReloadCatalog(ctx context.Context) error {
	g.loading.Lock()
	defer g.loading.Unlock()
	c, err := g.store.Catalog(ctx)
	if err != nil {
		return fmt.Errorf("loading the catalog: %w", err)
	}
	s, err := newSnapshot(c)
	if err != nil {
		return fmt.Errorf("reading the catalog: %w", err)
	}
	g.catalog.Store(s)
	return nil
}

// Reload forgets all apps and reads the catalog anew: what to do when changes
// may have been missed. Where it fails nothing is forgotten.
func (g *Gate) Reload(ctx context.Context) error {
	if err := g.ReloadCatalog(ctx); err != nil {
		return err
	}
	g.apps.cache.InvalidateAll()
	return nil
}

// Apply puts a change of the domain in force, if it concerns apps or the
// catalog.
func (g *Gate) Apply(ctx context.Context, c platform.Change) error {
	switch c.Kind {
	case platform.ChangeApp:
		g.Forget(c.Key)
	case platform.ChangeCatalog:
		return g.ReloadCatalog(ctx)
	}
	return nil
}

// Start begins a call.
func (g *Gate) Start(c *Call) { c.Started = g.now() }

// Record ends a call: it hands it to the recorder.
func (g *Gate) Record(c *Call) {
	c.Duration = g.now().Sub(c.Started)
	g.recorder.Record(c)
}

// Recorder hears of every call when it has ended. It must be quick and must
// not keep the call.
type Recorder interface {
	Record(c *Call)
}

type noRecorder struct{}

func (noRecorder) Record(*Call) {}
