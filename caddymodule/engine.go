package caddymodule

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-openplatform/openplatform/internal/gate"
	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
)

const (
	// sweepEvery is how often counters that no longer matter are dropped and
	// quota counts are saved. A crash forgets at most that span of quota.
	sweepEvery = 5 * time.Second
	// storeTimeout bounds the background work on the store.
	storeTimeout = 10 * time.Second
)

// engines holds one engine for each store in use, so that a reload goes on
// with what the configuration before it had in memory.
var engines = caddy.NewUsagePool()

// engine is what survives reloads: the open store, the service over it, the
// gate with its caches, limits and nonces.
type engine struct {
	path    string
	metrics *metrics
	gate    atomic.Pointer[gate.Gate]
	// logger is the one of the configuration that runs.
	logger atomic.Pointer[zap.Logger]

	mu      sync.Mutex
	options engineOptions
	store   *store.Store
	keyring *store.Keyring
	// sealedWith is the id of the key that every secret is known to be
	// encrypted with; "" while that was not looked at.
	sealedWith string
	service    *platform.Service
	memory     *limit.Memory
	nonces     *limit.MemoryNonces
	stale      atomic.Bool // the catalog in memory is older than the store's
	cancel     context.CancelFunc
	done       chan struct{}
}

// engineOptions are the settings that shape an engine.
type engineOptions struct {
	keys      []string
	location  *time.Location
	apps      int
	nonces    int
	staleness time.Duration
	logger    *zap.Logger
}

// acquireEngine returns the engine of the store at path. It must be released.
func acquireEngine(path string, o engineOptions) (*engine, error) {
	value, _, err := engines.LoadOrNew(path, func() (caddy.Destructor, error) {
		e := &engine{path: path, options: o}
		e.logger.Store(o.logger)
		e.metrics = newMetrics(e)
		return e, nil
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the platform: %w", err)
	}
	return value.(*engine), nil
}

func releaseEngine(e *engine) error {
	_, err := engines.Delete(e.path)
	return err
}

// open opens the store and starts the gate. Calling it again does nothing.
func (e *engine) open(ctx context.Context) (err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gate.Load() != nil {
		return nil
	}
	keyring, err := e.loadKeys(e.options.keys)
	if err != nil {
		return err
	}
	st, err := store.OpenSQLite(ctx, e.path, keyring, store.Options{})
	if err != nil {
		return fmt.Errorf("opening the store %s: %w", e.path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.Close())
		}
	}()
	memory := limit.NewMemory(limit.MemoryOptions{Location: e.options.location})
	counts, err := st.LoadQuotas(ctx)
	if err != nil {
		return fmt.Errorf("loading quota counts: %w", err)
	}
	memory.RestoreQuotas(counts)
	nonces := limit.NewMemoryNonces(limit.NonceOptions{Max: e.options.nonces, Rand: rand.Reader})
	g, err := gate.New(ctx, gate.Options{
		Store: st, Ledger: &limit.Local{Limits: memory, Nonces: nonces}, Recorder: e.metrics,
		Apps: e.options.apps, Staleness: e.options.staleness,
	})
	if err != nil {
		return err
	}
	e.store, e.keyring, e.memory, e.nonces = st, keyring, memory, nonces
	e.service = platform.NewService(platform.ServiceOptions{Store: st, OnChange: e.changed})
	e.gate.Store(g)
	background, cancel := context.WithCancel(context.Background())
	e.cancel, e.done = cancel, make(chan struct{})
	go e.tend(background) //nolint:contextcheck // outlives the call that opened the store
	return nil
}

// loadKeys makes the ring of master keys: from the configuration, or else from
// a file beside the store, which is made once.
func (e *engine) loadKeys(keys []string) (*store.Keyring, error) {
	if len(keys) == 0 {
		if err := e.checkKeyFile(); err != nil {
			return nil, err
		}
		ring, err := store.LoadOrCreateKeyFile(e.keyFile(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("loading the master key: %w", err)
		}
		return ring, nil
	}
	return parseKeys(keys)
}

func parseKeys(keys []string) (*store.Keyring, error) {
	ring, err := store.ParseKeyring(strings.Join(keys, "\n"))
	if err != nil {
		return nil, fmt.Errorf("reading master_key: %w", err)
	}
	return ring, nil
}

// checkKeyFile refuses to make a new key for a store that has one already.
func (e *engine) checkKeyFile() error {
	_, storeErr := os.Stat(e.path)
	_, keyErr := os.Stat(e.keyFile())
	if storeErr == nil && errors.Is(keyErr, fs.ErrNotExist) {
		return fmt.Errorf("the store %s is there, but its master key %s is not: put it back, or set master_key", e.path, e.keyFile())
	}
	return nil
}

func (e *engine) keyFile() string { return filepath.Join(filepath.Dir(e.path), "master.key") }

// configure puts the settings of a new configuration in force on an engine
// that is open already.
func (e *engine) configure(ctx context.Context, o engineOptions) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.logger.Store(o.logger)
	e.gate.Load().Resize(o.apps, o.staleness)
	if len(o.keys) > 0 {
		ring, err := e.loadKeys(o.keys)
		if err != nil {
			return err
		}
		if err := e.rekey(ctx, ring, nil); err != nil {
			return err
		}
	}
	e.options = o
	return nil
}

// rekey encrypts with the ring's first key whatever is not yet.
func (e *engine) rekey(ctx context.Context, ring *store.Keyring, progress func(done, total int)) error {
	if e.sealedWith == ring.PrimaryID() {
		return nil
	}
	if err := e.store.RotateKeys(ctx, ring, progress); err != nil {
		return fmt.Errorf("encrypting with the new master key: %w", err)
	}
	e.keyring, e.sealedWith = ring, ring.PrimaryID()
	return nil
}

// changed puts a change that was committed in force.
func (e *engine) changed(c platform.Change) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	if err := e.gate.Load().Apply(ctx, c); err != nil {
		e.logger.Load().Error("change not in force yet; trying again soon", zap.Error(err))
		e.stale.Store(true)
	}
}

// tend does the engine's regular work until it is closed.
func (e *engine) tend(ctx context.Context) {
	defer close(e.done)
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			e.memory.Sweep(now)
			e.saveQuotas(ctx, now)
			if e.stale.CompareAndSwap(true, false) {
				e.changed(platform.Change{Kind: platform.ChangeCatalog}) //nolint:contextcheck // bounded by its own timeout
			}
		}
	}
}

func (e *engine) saveQuotas(ctx context.Context, now time.Time) {
	counts := e.memory.Quotas(now)
	if len(counts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := e.store.SaveQuotas(ctx, counts); err != nil && ctx.Err() == nil {
		e.logger.Load().Warn("quota counts not saved; trying again soon", zap.Error(err))
	}
}

// Destruct closes the engine when no configuration uses it any more.
func (e *engine) Destruct() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.store == nil {
		return nil
	}
	e.cancel()
	<-e.done
	e.saveQuotas(context.Background(), time.Now())
	e.gate.Load().Close()
	return e.store.Close()
}
