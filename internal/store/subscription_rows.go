package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// subscriptionQuery reads subscriptions without their topics.
const subscriptionQuery = `SELECT s.number, s.id, s.app, (SELECT a.id FROM apps a WHERE a.number = s.app), s.environment, s.url, s.settings,
	s.status, s.reason, s.failing_since, s.verified_at, s.created_at, s.updated_at FROM subscriptions s`

func scanSubscription(rows *sql.Rows, s *platform.Subscription) error {
	var settings string
	var failing, verified, created, updated sql.NullInt64
	err := rows.Scan(&s.Number, &s.ID, &s.AppNumber, &s.App, &s.Environment, &s.URL, &settings,
		&s.Status, &s.Reason, &failing, &verified, &created, &updated)
	if err != nil {
		return err
	}
	s.FailingSince, s.VerifiedAt, s.CreatedAt, s.UpdatedAt = fromMicros(failing), fromMicros(verified), fromMicros(created), fromMicros(updated)
	return parseSettings(settings, s)
}

// subscriptionSettings is the column settings. Times are in nanoseconds.
type subscriptionSettings struct {
	Filter      platform.MessageFilter `json:"filter,omitzero"`
	Ordered     bool                   `json:"ordered,omitempty"`
	HoldFor     time.Duration          `json:"hold_for,omitempty"`
	Concurrency int                    `json:"concurrency,omitempty"`
	Rate        rateSetting            `json:"rate,omitzero"`
	Schedule    []time.Duration        `json:"schedule,omitempty"`
	Format      platform.PushFormat    `json:"format"`
	Asymmetric  bool                   `json:"asymmetric,omitempty"`
}

type rateSetting struct {
	Requests int64         `json:"requests"`
	Period   time.Duration `json:"period"`
	Burst    int64         `json:"burst,omitempty"`
}

func settingsText(s *platform.Subscription) (string, error) {
	text, err := json.Marshal(subscriptionSettings{
		Filter: s.Filter, Ordered: s.Ordered, HoldFor: s.HoldFor, Concurrency: s.Concurrency, Rate: rateSetting(s.Rate),
		Schedule: s.Schedule, Format: s.Format, Asymmetric: s.Asymmetric,
	})
	if err != nil {
		return "", fmt.Errorf("writing the settings of subscription %s: %w", s.ID, err)
	}
	return string(text), nil
}

// parseSettings is the opposite of settingsText.
func parseSettings(text string, s *platform.Subscription) error {
	var v subscriptionSettings
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return fmt.Errorf("reading the settings of subscription %s: %w", s.ID, err)
	}
	s.Filter, s.Ordered, s.HoldFor, s.Concurrency, s.Rate = v.Filter, v.Ordered, v.HoldFor, v.Concurrency, limit.Rate(v.Rate)
	s.Schedule, s.Format, s.Asymmetric = v.Schedule, v.Format, v.Asymmetric
	return nil
}

// subscriptions loads what the condition finds, with the topics. Tail follows
// the condition.
func (r *reader) subscriptions(ctx context.Context, condition, tail string, args ...any) ([]platform.Subscription, error) {
	subs := []platform.Subscription{}
	err := r.each(ctx, func(rows *sql.Rows) error {
		subs = append(subs, platform.Subscription{})
		return scanSubscription(rows, &subs[len(subs)-1])
	}, subscriptionQuery+` WHERE `+condition+tail, args...)
	if err != nil || len(subs) == 0 {
		return subs, err
	}
	byNumber, numbers := make(map[uint64]*platform.Subscription, len(subs)), make([]any, 0, 2*len(subs))
	for i := range subs {
		byNumber[subs[i].Number], numbers = &subs[i], append(numbers, subs[i].Number)
	}
	// Some of them again, up to a power of two: few statements to keep prepared.
	for len(numbers)&(len(numbers)-1) != 0 {
		numbers = append(numbers, numbers[0])
	}
	return subs, r.each(ctx, func(rows *sql.Rows) error {
		var number uint64
		var topic string
		err := rows.Scan(&number, &topic)
		if s := byNumber[number]; s != nil {
			s.Topics = append(s.Topics, topic)
		}
		return err
	}, `SELECT subscription, topic FROM subscription_topics WHERE subscription IN (?`+strings.Repeat(",?", len(numbers)-1)+`)
		ORDER BY subscription, topic`, numbers...)
}

// pushKeyPlace binds a sealed push key to its row.
func pushKeyPlace(appID string, number int) []byte {
	return fmt.Appendf(nil, "push key\x00%s\x00%d", appID, number)
}

const pushKeyQuery = `SELECT k.app, a.id, k.number, k.environment, k.kind, k.key_id, k.sealed, k.public_key, k.created_at, k.expires_at
	FROM push_keys k JOIN apps a ON a.number = k.app`

// eachPushKey gives the keys that the condition finds to fn, with the number
// of their app.
func (r *reader) eachPushKey(ctx context.Context, fn func(app uint64, k platform.PushKey), condition string, args ...any) error {
	return r.each(ctx, func(rows *sql.Rows) error {
		var k platform.PushKey
		var app uint64
		var appID, keyID string
		var sealed []byte
		var created, expires sql.NullInt64
		err := rows.Scan(&app, &appID, &k.Number, &k.Environment, &k.Kind, &keyID, &sealed, &k.PublicKey, &created, &expires)
		if err != nil {
			return err
		}
		secret, err := r.keys.Load().Open(keyID, sealed, pushKeyPlace(appID, k.Number))
		if err != nil {
			return fmt.Errorf("push key %d of app %s: %w", k.Number, appID, err)
		}
		k.Secret, k.CreatedAt, k.ExpiresAt = platform.NewSecret(secret), fromMicros(created), fromMicros(expires)
		fn(app, k)
		return nil
	}, pushKeyQuery+` WHERE `+condition+` ORDER BY k.app, k.number`, args...)
}
