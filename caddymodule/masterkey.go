package caddymodule

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
)

// loadKeys makes the ring of master keys: from the configuration, or else from
// a file, which is made once. It tells whether it made it just now.
func (e *engine) loadKeys(keys []string) (ring *store.Keyring, made bool, err error) {
	if len(keys) > 0 {
		ring, err = parseKeys(keys)
		return ring, false, err
	}
	if err := e.checkKeyFile(); err != nil {
		return nil, false, err
	}
	_, err = os.Stat(e.keyFile())
	made = errors.Is(err, fs.ErrNotExist)
	if ring, err = store.LoadOrCreateKeyFile(e.keyFile(), rand.Reader); err != nil {
		return nil, false, fmt.Errorf("loading the master key: %w", err)
	}
	return ring, made, nil
}

// foreignKey explains why a key that was made just now does not open a store
// that others use, and takes it away.
func (e *engine) foreignKey(err error) error {
	if !errors.Is(err, store.ErrWrongKey) {
		return err
	}
	return errors.Join(fmt.Errorf("this database has a master key already: set master_key on all nodes, or copy the file %s "+
		"from the node that made it: %w", e.keyFile(), err), os.Remove(e.keyFile()))
}

func parseKeys(keys []string) (*store.Keyring, error) {
	ring, err := store.ParseKeyring(strings.Join(keys, "\n"))
	if err != nil {
		return nil, fmt.Errorf("reading master_key: %w", err)
	}
	return ring, nil
}

// checkKeyFile refuses to make a new key for a file that has one already.
func (e *engine) checkKeyFile() error {
	if e.storage.shared() {
		return nil // the database itself refuses a key that is not its own
	}
	_, storeErr := os.Stat(e.storage.Path)
	_, keyErr := os.Stat(e.keyFile())
	if storeErr == nil && errors.Is(keyErr, fs.ErrNotExist) {
		return fmt.Errorf("the store %s is there, but its master key %s is not: put it back, or set master_key", e.storage.Path, e.keyFile())
	}
	return nil
}

// keyFile is where the master key is unless the configuration has it: beside
// the SQLite file, or where that would be by default.
func (e *engine) keyFile() string {
	beside := e.storage.Path
	if e.storage.shared() {
		beside = defaultPath
	}
	return filepath.Join(filepath.Dir(beside), "master.key")
}

// checkKeys refuses a configuration whose keys would not open the store at the
// next start, as a slip in a key would not.
func (e *engine) checkKeys(ctx context.Context, keys []string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(keys) > 0 && slices.Equal(keys, e.settings.Load().keys) {
		return nil
	}
	ring, err := e.readKeys(keys)
	if err != nil {
		return err
	}
	if err := e.store.CheckKeys(ctx, ring); errors.Is(err, store.ErrWrongKey) {
		return fmt.Errorf("master_key: %w; write the new key before the old one, and take the old one out after the reload", err)
	}
	return nil // where the store does not answer, the running configuration goes on without it too
}

// readKeys reads the keys of a configuration, or else the file as it is now.
func (e *engine) readKeys(keys []string) (*store.Keyring, error) {
	if len(keys) > 0 {
		return parseKeys(keys)
	}
	return store.LoadKeyFile(e.keyFile())
}

// reseal goes over to the keys of a new configuration.
func (e *engine) reseal(ctx context.Context, keys []string) error {
	ring, err := e.readKeys(keys)
	if err != nil {
		return err
	}
	return e.rekey(ctx, actorStart, ring, nil)
}

// rekey encrypts with the ring's first key whatever is not yet. The older keys
// are in force from then on too, and for the authorization server those that it lacks
// no more; the store can read with them until the process ends.
func (e *engine) rekey(ctx context.Context, actor string, ring *store.Keyring, progress func(done, total int)) error {
	if e.sealedWith == ring.PrimaryID() {
		e.store.AddKeys(ring)
		e.keyring.Store(ring)
		return nil
	}
	if err := e.store.RotateKeys(ctx, actor, ring, progress); err != nil {
		return fmt.Errorf("encrypting with the new master key: %w", err)
	}
	e.keyring.Store(ring)
	e.sealedWith = ring.PrimaryID()
	return nil
}

// RotateMasterKey makes a new master key in the key file beside the store and
// encrypts every secret anew. The old key stays in the file: it can be stopped at
// any moment, and what the authorization server signed and sealed before holds
// until the operator takes the old key out.
func (a *App) RotateMasterKey(ctx context.Context, actor string, progress func(done, total int)) error {
	e := a.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.storage.shared() {
		return fmt.Errorf("%w: other nodes need the new key too: set master_key on all of them, with the new key in front of the old one, and reload", platform.ErrConflict)
	}
	if len(e.settings.Load().keys) > 0 {
		return fmt.Errorf("%w: the master key comes from the configuration: put a new key in front of the old one in master_key and reload", platform.ErrConflict)
	}
	fresh, err := store.NewKey(rand.Reader)
	if err != nil {
		return err
	}
	both, err := store.NewKeyring(fresh, e.keyring.Load().Keys()...)
	if err != nil {
		return err
	}
	if err := store.WriteKeyFile(e.keyFile(), both.Keys()...); err != nil {
		return err
	}
	// From here on secrets may be encrypted with the fresh key: should this stop
	// halfway, the next rotation must keep it in the file.
	e.keyring.Store(both)
	return e.rekey(ctx, actor, both, progress)
}
