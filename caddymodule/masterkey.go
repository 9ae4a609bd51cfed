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

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
)

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
	_, storeErr := os.Stat(e.storage.Path)
	_, keyErr := os.Stat(e.keyFile())
	if storeErr == nil && errors.Is(keyErr, fs.ErrNotExist) {
		return fmt.Errorf("the store %s is there, but its master key %s is not: put it back, or set master_key", e.storage.Path, e.keyFile())
	}
	return nil
}

func (e *engine) keyFile() string { return filepath.Join(filepath.Dir(e.storage.Path), "master.key") }

// reseal goes over to the keys of a new configuration, if it has any.
func (e *engine) reseal(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	ring, err := parseKeys(keys)
	if err != nil {
		return err
	}
	return e.rekey(ctx, ring, nil)
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

// RotateMasterKey makes a new master key in the key file beside the store and
// encrypts every secret anew. The old key stays in the file until that is done,
// so that it can be stopped at any moment.
func (a *App) RotateMasterKey(ctx context.Context, progress func(done, total int)) error {
	e := a.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.settings.Load().keys) > 0 {
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
