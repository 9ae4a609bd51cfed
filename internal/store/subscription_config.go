package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Subscription loads a subscription by its ID.
func (r *reader) Subscription(ctx context.Context, id string) (*platform.Subscription, error) {
	return r.subscription(ctx, id, "")
}

// Subscription loads a subscription by its ID. Nobody else changes it until the
// transaction ends.
func (t *tx) Subscription(ctx context.Context, id string) (*platform.Subscription, error) {
	return t.subscription(ctx, id, t.engine.lockRow)
}

func (r *reader) subscription(ctx context.Context, id, tail string) (*platform.Subscription, error) {
	if storable(id) {
		subs, err := r.subscriptions(ctx, `s.id = ?`, tail, id)
		if err != nil {
			return nil, err
		}
		if len(subs) == 1 {
			return &subs[0], nil
		}
	}
	return nil, fmt.Errorf("subscription %q: %w", id, platform.ErrNotFound)
}

// Subscriptions lists subscriptions by ID.
func (r *reader) Subscriptions(ctx context.Context, f platform.SubscriptionFilter, p platform.Page) ([]platform.Subscription, error) {
	if !storable(p.After + f.App + f.Topic) {
		return []platform.Subscription{}, nil
	}
	where, args := []string{"s.id > ?"}, []any{p.After}
	if f.App != "" {
		where, args = append(where, "s.app = (SELECT number FROM apps WHERE id = ?)"), append(args, f.App)
	}
	if f.Environment != "" {
		where, args = append(where, "s.environment = ?"), append(args, f.Environment)
	}
	if f.Topic != "" {
		where, args = append(where, "s.number IN (SELECT subscription FROM subscription_topics WHERE topic = ?)"), append(args, f.Topic)
	}
	if f.Status != "" {
		where, args = append(where, "s.status = ?"), append(args, f.Status)
	}
	return r.subscriptions(ctx, strings.Join(where, " AND "), ` ORDER BY s.id LIMIT ?`, append(args, rowsOf(p))...)
}

// PushKeys lists all push keys of the app with that ID, by number.
func (r *reader) PushKeys(ctx context.Context, app string) ([]platform.PushKey, error) {
	keys := []platform.PushKey{}
	if !storable(app) {
		return keys, nil
	}
	err := r.eachPushKey(ctx, func(_ uint64, k platform.PushKey) { keys = append(keys, k) }, `a.id = ?`, app)
	return keys, err
}

// PutSubscription writes a subscription and replaces its topics. Number 0 makes
// a new one and is set; any other must exist with the same ID and app.
func (t *tx) PutSubscription(ctx context.Context, s *platform.Subscription) error {
	settings, err := settingsText(s)
	if err != nil {
		return err
	}
	number := s.Number
	if number == 0 {
		err = t.one(ctx, []any{&number}, `INSERT INTO subscriptions (id, app, environment, url, settings, status, reason,
				failing_since, verified_at, created_at, updated_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number`,
			s.ID, s.AppNumber, s.Environment, s.URL, settings, s.Status, s.Reason,
			micros(s.FailingSince), micros(s.VerifiedAt), micros(s.CreatedAt), micros(s.UpdatedAt))
	} else {
		var n int64
		n, err = t.exec(ctx, `UPDATE subscriptions SET url = ?, settings = ?, status = ?, reason = ?, failing_since = ?, verified_at = ?, updated_at = ?
			WHERE number = ? AND id = ? AND app = ? AND environment = ?`,
			s.URL, settings, s.Status, s.Reason, micros(s.FailingSince), micros(s.VerifiedAt), micros(s.UpdatedAt),
			number, s.ID, s.AppNumber, s.Environment)
		if err == nil && n == 0 {
			err = platform.ErrNotFound
		}
	}
	if err != nil {
		return named(err, "subscription %q", s.ID)
	}
	if _, err := t.exec(ctx, `DELETE FROM subscription_topics WHERE subscription = ?`, number); err != nil {
		return err
	}
	for _, topic := range s.Topics {
		_, err := t.exec(ctx, `INSERT INTO subscription_topics (app, environment, topic, subscription) VALUES (?, ?, ?, ?)`,
			s.AppNumber, s.Environment, topic, number)
		if err != nil {
			return named(err, "topic %q of subscription %q", topic, s.ID)
		}
	}
	s.Number = number
	return nil
}

// DeleteSubscription removes a subscription.
func (t *tx) DeleteSubscription(ctx context.Context, id string) error {
	return t.delete(ctx, "subscription", `DELETE FROM subscriptions WHERE id = ?`, id)
}

// PutPushKey writes a push key of the app, with its secret encrypted.
func (t *tx) PutPushKey(ctx context.Context, a *platform.App, k *platform.PushKey) error {
	if k.Secret.IsZero() {
		return fmt.Errorf("push key %d of app %s: %w", k.Number, a.ID, errors.New("it has no secret"))
	}
	keyID, sealed, err := t.keys.Load().Seal(t.store.rand, k.Secret.Reveal(), pushKeyPlace(a.ID, k.Number))
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `INSERT INTO push_keys (app, number, environment, kind, key_id, sealed, public_key, created_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (app, number) DO UPDATE SET environment = excluded.environment, kind = excluded.kind, key_id = excluded.key_id,
			sealed = excluded.sealed, public_key = excluded.public_key, created_at = excluded.created_at, expires_at = excluded.expires_at`,
		a.Number, k.Number, k.Environment, k.Kind, keyID, sealed, k.PublicKey, micros(k.CreatedAt), micros(k.ExpiresAt))
	return named(err, "push key %d of app %q", k.Number, a.ID)
}

// Subscription loads a subscription by its ID.
func (s *Store) Subscription(ctx context.Context, id string) (sub *platform.Subscription, err error) {
	err = s.view(ctx, func(r *reader) error { sub, err = r.Subscription(ctx, id); return err })
	return sub, err
}

// Subscriptions lists subscriptions by ID.
func (s *Store) Subscriptions(ctx context.Context, f platform.SubscriptionFilter, p platform.Page) (subs []platform.Subscription, err error) {
	err = s.view(ctx, func(r *reader) error { subs, err = r.Subscriptions(ctx, f, p); return err })
	return subs, err
}

// PushKeys lists all push keys of the app with that ID, by number.
func (s *Store) PushKeys(ctx context.Context, app string) (keys []platform.PushKey, err error) {
	err = s.load(func(r *reader) error { keys, err = r.PushKeys(ctx, app); return err })
	return keys, err
}
