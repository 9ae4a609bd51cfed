package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/gofrs/flock"
)

const (
	// lockPatience is for how long a start waits for another process to let go of
	// its store: one that is being stopped does so soon.
	lockPatience = 3 * time.Second
	lockInterval = 50 * time.Millisecond
)

// storeLocks are the locks of the SQLite files that this process serves. A
// configuration and the one after it may have the same file.
var storeLocks = caddy.NewUsagePool()

// storeLock keeps other processes from a SQLite file. Two would each remember
// nonces, limits and apps of its own, and hear nothing of what the other changes.
type storeLock struct{ *flock.Flock }

// Destruct lets go of the file.
func (l storeLock) Destruct() error { return l.Close() }

// lockStore takes the lock of a SQLite file, for this process.
func lockStore(ctx context.Context, path string) (release func() error, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("locking the store: %w", err)
	}
	_, _, err = storeLocks.LoadOrNew(path, func() (caddy.Destructor, error) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("locking the store: %w", err)
		}
		l := storeLock{flock.New(path+".lock", flock.SetPermissions(0o600))}
		ctx, cancel := context.WithTimeout(ctx, lockPatience)
		defer cancel()
		switch held, err := l.TryLockContext(ctx, lockInterval); {
		case held:
			return l, nil
		case errors.Is(err, context.DeadlineExceeded):
			return nil, errors.Join(fmt.Errorf("the store %s is another process's: stop that one first, or use storage postgres, which many processes share", path), l.Close())
		default:
			return nil, errors.Join(fmt.Errorf("locking the store %s: %w", path, err), l.Close())
		}
	})
	if err != nil {
		return nil, err
	}
	return func() error {
		_, err := storeLocks.Delete(path)
		return err
	}, nil
}
