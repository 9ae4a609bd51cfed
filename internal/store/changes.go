package store

import (
	"context"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Announce notes the change in the log that other nodes follow, and wakes them
// when it is committed. It does nothing on SQLite.
func (t *tx) Announce(ctx context.Context, c platform.Change) error {
	if t.engine.announce == "" {
		return nil
	}
	_, err := t.exec(ctx, t.engine.announce, int64(c.Kind), c.Key, t.store.now().UnixMicro())
	return err
}
