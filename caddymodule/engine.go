package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-openplatform/openplatform/internal/gate"
	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// storeTimeout bounds the background work on the store.
const storeTimeout = 10 * time.Second

// engines holds one engine for each pair of store and Redis in use, so that a
// reload goes on with what the configuration before it had in memory.
var engines = caddy.NewUsagePool()

// engine is what survives reloads: the open store, the service over it, the
// gate with its caches, limits and nonces.
type engine struct {
	key     string
	storage Storage
	metrics *metrics
	gate    atomic.Pointer[gate.Gate]
	// tokens checks merchants' access tokens; it is set before gate is.
	tokens *oauth.Verifier
	// guesses counts failed attempts at the token endpoints.
	guesses *oauth.Guard
	// settings are those of the configuration that runs.
	settings atomic.Pointer[engineOptions]

	// What the engine relies on; dependencies lists those in use.
	storeState, redisState dependency
	dependencies           []*dependency

	// keyring holds the master keys in use.
	keyring atomic.Pointer[store.Keyring]

	mu    sync.Mutex
	store *store.Store
	// unlock lets other processes have the store, once it is closed.
	unlock func() error
	// sealedWith is the id of the key that every secret is known to be
	// encrypted with; "" while that was not looked at.
	sealedWith string
	service    *platform.Service
	ledger     ledger
	// once is what the authorization server remembers.
	once limit.Ledger
	// pusher and messages are set before gate is.
	pusher     *pusher.Pusher
	messages   *pusher.Manager
	stale      atomic.Bool // what is in memory is older than the store's
	cancel     context.CancelFunc
	background sync.WaitGroup
}

// engineOptions are the settings that shape an engine.
type engineOptions struct {
	storage   Storage
	redis     *Redis
	keys      []string
	location  *time.Location
	apps      int
	nonces    int
	staleness time.Duration
	audit     time.Duration
	push      *Push
	logger    *zap.Logger
	// emit tells Caddy's event handlers of something; nil tells nobody.
	emit func(name string, data map[string]any)
}

// key tells which engine the options are for: a configuration with another
// store or another Redis gets one of its own.
func (o *engineOptions) key() (string, error) {
	key, err := json.Marshal([]any{o.storage, o.redis})
	if err != nil {
		return "", fmt.Errorf("preparing the platform: %w", err)
	}
	return string(key), nil
}

// acquireEngine returns the engine for the options. It must be released.
func acquireEngine(o engineOptions) (*engine, error) {
	key, err := o.key()
	if err != nil {
		return nil, err
	}
	value, _, err := engines.LoadOrNew(key, func() (caddy.Destructor, error) {
		e := &engine{key: key, storage: o.storage, guesses: oauth.NewGuard()}
		e.settings.Store(&o)
		e.relyOnServers(&o)
		e.metrics = newMetrics(e, &o)
		return e, nil
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the platform: %w", err)
	}
	return value.(*engine), nil
}

// relyOnServers notes which servers the engine needs.
func (e *engine) relyOnServers(o *engineOptions) {
	e.storeState = dependency{name: "store", now: time.Now, meanwhile: "calls of known apps go on; everything else that needs the store is refused"}
	e.redisState = dependency{name: "redis", now: time.Now, meanwhile: "limits and nonces count on this node alone"}
	if o.storage.shared() {
		e.dependencies = append(e.dependencies, &e.storeState)
	}
	if o.redis != nil {
		e.dependencies = append(e.dependencies, &e.redisState)
		if o.redis.OnFailure == failureDeny {
			e.redisState.meanwhile = "calls are refused"
		}
	}
}

func releaseEngine(e *engine) error {
	_, err := engines.Delete(e.key)
	return err
}

// open opens the store and starts the gate. Calling it again does nothing.
func (e *engine) open(ctx context.Context) (err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gate.Load() != nil {
		return nil
	}
	o := e.settings.Load()
	keyring, made, err := e.loadKeys(o.keys)
	if err != nil {
		return err
	}
	st, err := e.openStore(ctx, &o.storage, keyring)
	if err != nil && made {
		return e.foreignKey(err)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.Close(), e.unlock())
		}
	}()
	led, err := e.openLedger(ctx, o, st)
	if err != nil {
		return err
	}
	tokens, err := oauth.NewVerifier(st, oauth.VerifierOptions{Ledger: led, Staleness: o.staleness})
	if err != nil {
		return errors.Join(err, led.close())
	}
	g, err := gate.New(ctx, gate.Options{
		Store: st, Ledger: led, Tokens: tokens, Recorder: e.metrics, Apps: o.apps, Staleness: o.staleness,
	})
	if err != nil {
		tokens.Close()
		return errors.Join(err, led.close())
	}
	e.store, e.ledger, e.once, e.tokens = st, led, onceLedger(o, led), tokens
	e.keyring.Store(keyring)
	e.service = platform.NewService(platform.ServiceOptions{Store: st, AllowHTTP: e.allowsHTTP, OnChange: e.changed})
	if err := e.openPusher(ctx, o); err != nil {
		g.Close()
		tokens.Close()
		return errors.Join(err, led.close())
	}
	e.gate.Store(g)
	e.startBackground() //nolint:contextcheck // outlives the call that opened the store
	return nil
}

// openStore opens the store that the configuration names, and sets unlock.
func (e *engine) openStore(ctx context.Context, s *Storage, keyring *store.Keyring) (*store.Store, error) {
	e.unlock = func() error { return nil }
	if s.shared() {
		return store.OpenPostgres(ctx, s.DSN, keyring, store.Options{MaxConns: s.MaxConns, OnChange: e.changed})
	}
	unlock, err := lockStore(ctx, s.Path)
	if err != nil {
		return nil, err
	}
	e.unlock = unlock
	st, err := store.OpenSQLite(ctx, s.Path, keyring, store.Options{OnChange: e.changed})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store %s: %w", s.Path, err), unlock())
	}
	return st, nil
}

// configure puts the settings of a new configuration in force on an engine
// that is open already.
func (e *engine) configure(ctx context.Context, o engineOptions) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.reseal(ctx, o.keys)
	if err != nil {
		o.keys = e.settings.Load().keys
	}
	e.settings.Store(&o)
	e.gate.Load().Resize(o.apps, o.staleness)
	e.tokens.Resize(oauth.DefaultTokens, o.staleness)
	return errors.Join(err, e.pusher.Configure(o.push.settings))
}

// logger is that of the configuration that runs.
func (e *engine) logger() *zap.Logger { return e.settings.Load().logger }

// Destruct closes the engine when no configuration uses it any more.
func (e *engine) Destruct() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gate.Load() == nil {
		return nil // it was never open
	}
	e.cancel()
	e.background.Wait()
	err := e.ledger.close()
	e.gate.Load().Close()
	e.tokens.Close()
	return errors.Join(err, e.store.Close(), e.unlock())
}
