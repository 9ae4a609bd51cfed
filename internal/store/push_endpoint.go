package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// endpointActor is who disables endpoints, in the audit log.
const endpointActor = "system:pusher"

// MarkEndpoint notes when a subscription began to fail; the zero time says that
// it works. With a reason it disables the subscription, if it is active:
// deliveries wait from then on. With a reason and a time it does so only where the
// subscription is noted to have failed since then, or for longer: any node may have
// delivered meanwhile. It tells whether it disabled it. All nodes hear of it.
func (s *Store) MarkEndpoint(ctx context.Context, subscription uint64, failingSince time.Time, disable string) (disabled bool, err error) {
	var change *platform.Change
	err = s.update(ctx, nil, func(t *tx) (err error) {
		change, err = t.markEndpoint(ctx, int64(subscription), failingSince, disable)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("marking an endpoint: %w", err)
	}
	if change == nil {
		return false, nil
	}
	s.onChange(*change)
	return disable != "", nil
}

// markEndpoint returns the change that it made, if any.
func (t *tx) markEndpoint(ctx context.Context, subscription int64, failingSince time.Time, disable string) (*platform.Change, error) {
	found, err := t.subscriptions(ctx, `s.number = ?`, t.engine.lockRow, subscription)
	if err == nil && len(found) == 0 {
		err = platform.ErrNotFound
	}
	if err != nil {
		return nil, named(err, "subscription %d", subscription)
	}
	before, now := found[0], t.store.now().UTC().Truncate(time.Microsecond)
	after := before
	switch {
	case disable == "":
		after.FailingSince = failingSince.UTC().Truncate(time.Microsecond)
	case before.Status != platform.SubscriptionActive: // somebody stopped it
	case !failingSince.IsZero() && (before.FailingSince.IsZero() || before.FailingSince.After(failingSince)): // it has worked since
	default:
		after.FailingSince = cmp.Or(before.FailingSince, now)
		after.Status, after.Reason, after.UpdatedAt = platform.Disabled, storableText(disable), now
	}
	if after.Status == before.Status && after.FailingSince.Equal(before.FailingSince) {
		return nil, nil //nolint:nilnil // nothing changes
	}
	_, err = t.exec(ctx, `UPDATE subscriptions SET failing_since = ?, status = ?, reason = ?, updated_at = ? WHERE number = ?`,
		micros(after.FailingSince), string(after.Status), after.Reason, micros(after.UpdatedAt), subscription)
	if err != nil {
		return nil, err
	}
	if disable != "" {
		if err := t.auditEndpoint(ctx, &before, &after, now); err != nil {
			return nil, err
		}
	}
	change := platform.Change{Kind: platform.ChangePush, Key: strconv.FormatUint(after.AppNumber, 10)}
	return &change, t.Announce(ctx, change)
}

func (t *tx) auditEndpoint(ctx context.Context, before, after *platform.Subscription, now time.Time) error {
	entry := &platform.AuditEntry{At: now, Actor: endpointActor, Action: "subscription.disable", Target: after.ID}
	var err error
	if entry.Before, err = json.Marshal(before); err != nil {
		return fmt.Errorf("writing a subscription: %w", err)
	}
	if entry.After, err = json.Marshal(after); err != nil {
		return fmt.Errorf("writing a subscription: %w", err)
	}
	return t.AppendAudit(ctx, entry)
}
