package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// TestSubscriptionConformance runs what every engine must do with topics,
// subscriptions and push keys against each of them.
func TestSubscriptionConformance(t *testing.T) {
	onBoth(t, func(t *testing.T, e engineTest) {
		c := conformance{e.empty}
		t.Run("topics", c.topics)
		t.Run("subscriptions", c.subscriptions)
		t.Run("subscription lists", c.subscriptionLists)
		t.Run("push keys", c.pushKeys)
	})
}

func (c conformance) topics(t *testing.T) {
	s := c.open(t)
	ctx := t.Context()
	want := []platform.Topic{
		{
			Name: "order.created", Title: "订单创建", Description: "d", Package: "basic", UserToken: true, Status: platform.Online,
			Schema: json.RawMessage(`{"type": "object"}`), Example: json.RawMessage(`{"n": 1.50}`), Spec: json.RawMessage(`{}`), Source: "mall",
		},
		{Name: "rate.changed", Package: "basic", Status: platform.Draft},
	}
	for range 2 { // the second time over what is there
		put(t, s, func(ctx context.Context, tx platform.Tx) error {
			return errors.Join(tx.PutTopic(ctx, &want[1]), tx.PutTopic(ctx, &want[0]))
		})
		got, err := s.Catalog(ctx)
		require.NoError(t, err)
		require.Equal(t, want, got.Topics)
		want[0].UserToken, want[0].Schema, want[0].Status = false, nil, platform.Offline
	}
	for name, fn := range map[string]func(platform.Tx) error{
		"no such package":    func(tx platform.Tx) error { return tx.PutTopic(ctx, &platform.Topic{Name: "x", Package: "nope"}) },
		"package of a topic": func(tx platform.Tx) error { return tx.DeletePackage(ctx, "basic") },
	} {
		require.ErrorIs(t, s.Update(ctx, fn), platform.ErrConflict, name)
	}
}

// testSubscription has something of everything.
func testSubscription(a *platform.App, n string, topics ...string) *platform.Subscription {
	return &platform.Subscription{
		ID: "sub_" + n, App: a.ID, AppNumber: a.Number, Environment: platform.Production, URL: "https://" + n + ".example.com/push?a=b",
		Topics: topics,
		Filter: platform.MessageFilter{
			Users:      []string{"usr_1", "usr_2"},
			Conditions: []platform.Condition{{Pointer: "/状态/~0", Op: "in", Value: json.RawMessage(`["a",1,null]`)}},
		},
		Ordered: true, HoldFor: 90 * time.Minute, Concurrency: 7, Rate: limit.Rate{Requests: 10, Period: time.Second, Burst: 20},
		Schedule: []time.Duration{time.Second, time.Hour}, Format: platform.PlainFormat, Asymmetric: true,
		Status: platform.Disabled, Reason: "410 Gone", FailingSince: testTime, VerifiedAt: testTime.Add(-time.Hour),
		CreatedAt: testTime.Add(-2 * time.Hour), UpdatedAt: testTime,
	}
}

func (c conformance) subscriptions(t *testing.T) {
	s := c.open(t)
	ctx := t.Context()
	a := testApp("a")
	putApps(t, s, a)
	sub := testSubscription(a, "1", "order.created", "order.paid")
	put(t, s, func(ctx context.Context, tx platform.Tx) error { return tx.PutSubscription(ctx, sub) })
	require.NotZero(t, sub.Number)
	got, err := s.Subscription(ctx, "sub_1")
	require.NoError(t, err)
	require.Equal(t, sub, got)

	// All of it is replaced, and a transaction sees it.
	first := sub.Number
	sub = &platform.Subscription{
		ID: "sub_1", Number: first, App: a.ID, AppNumber: a.Number, Environment: platform.Production, URL: "https://x.example/",
		Topics: []string{"order.paid", "order.sent"}, Format: platform.EncryptedFormat, Status: platform.Unverified,
		CreatedAt: sub.CreatedAt, UpdatedAt: testTime.Add(time.Hour),
	}
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		if err := tx.PutSubscription(ctx, sub); err != nil {
			return err
		}
		got, err := tx.Subscription(ctx, "sub_1")
		require.Equal(t, sub, got)
		return err
	})
	got, err = s.Subscription(ctx, "sub_1")
	require.NoError(t, err)
	require.Equal(t, sub, got)

	other := testSubscription(a, "2", "order.sent")
	err = s.Update(ctx, func(tx platform.Tx) error { return tx.PutSubscription(ctx, other) })
	require.ErrorIs(t, err, platform.ErrConflict, "a topic is in one subscription of an app and environment")
	require.Zero(t, other.Number)
	taken := testSubscription(a, "1", "order.read")
	require.ErrorIs(t, s.Update(ctx, func(tx platform.Tx) error { return tx.PutSubscription(ctx, taken) }), platform.ErrConflict)
	other.Environment = platform.Sandbox
	b := testApp("b")
	putApps(t, s, b)
	third := testSubscription(b, "3", "order.sent")
	stranger := testSubscription(a, "4")
	stranger.Number = 77
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		return errors.Join(tx.PutSubscription(ctx, other), tx.PutSubscription(ctx, third))
	})
	require.ErrorIs(t, s.Update(ctx, func(tx platform.Tx) error { return tx.PutSubscription(ctx, stranger) }), platform.ErrNotFound)

	put(t, s, func(ctx context.Context, tx platform.Tx) error { return tx.DeleteSubscription(ctx, "sub_2") })
	_, err = s.Subscription(ctx, "sub_2")
	require.ErrorIs(t, err, platform.ErrNotFound)
	require.ErrorIs(t, s.Update(ctx, func(tx platform.Tx) error { return tx.DeleteSubscription(ctx, "sub_2") }), platform.ErrNotFound)
	for _, id := range []string{"", "sub_x", "sub\x00", "\xff"} {
		_, err = s.Subscription(ctx, id)
		require.ErrorIs(t, err, platform.ErrNotFound)
	}
	// A number is never given twice, and a deleted app leaves nothing.
	last := third.Number
	put(t, s, func(ctx context.Context, tx platform.Tx) error { return tx.DeleteApp(ctx, b.ID) })
	_, err = s.Subscription(ctx, "sub_3")
	require.ErrorIs(t, err, platform.ErrNotFound)
	again := testSubscription(a, "5", "order.read")
	put(t, s, func(ctx context.Context, tx platform.Tx) error { return tx.PutSubscription(ctx, again) })
	require.Greater(t, again.Number, last)
}

func (c conformance) subscriptionLists(t *testing.T) {
	s := c.open(t)
	a, b := testApp("a"), testApp("b")
	putApps(t, s, a, b)
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		for i := range 5 {
			app := a
			if i == 4 {
				app = b
			}
			sub := testSubscription(app, fmt.Sprint(i), fmt.Sprintf("topic.t%d", i), fmt.Sprintf("topic.u%d", i%2+2*i/4))
			if i == 1 {
				sub.Status, sub.Environment = platform.SubscriptionActive, platform.Sandbox
			}
			if err := tx.PutSubscription(ctx, sub); err != nil {
				return err
			}
		}
		return nil
	})
	list := func(f platform.SubscriptionFilter, p platform.Page) (ids []string) {
		subs, err := s.Subscriptions(t.Context(), f, p)
		require.NoError(t, err)
		require.NotNil(t, subs)
		for _, sub := range subs {
			require.Len(t, sub.Topics, 2)
			ids = append(ids, sub.ID)
		}
		return ids
	}
	require.Equal(t, []string{"sub_0", "sub_1", "sub_2", "sub_3", "sub_4"}, list(platform.SubscriptionFilter{}, platform.Page{}))
	require.Equal(t, []string{"sub_2", "sub_3"}, list(platform.SubscriptionFilter{App: a.ID}, platform.Page{After: "sub_1", Limit: 2}))
	require.Equal(t, []string{"sub_4"}, list(platform.SubscriptionFilter{App: b.ID}, platform.Page{}))
	require.Equal(t, []string{"sub_3"}, list(platform.SubscriptionFilter{Topic: "topic.t3"}, platform.Page{}))
	require.Equal(t, []string{"sub_1"}, list(platform.SubscriptionFilter{Status: platform.SubscriptionActive}, platform.Page{}))
	require.Equal(t, []string{"sub_1"}, list(platform.SubscriptionFilter{Environment: platform.Sandbox}, platform.Page{}))
	require.Empty(t, list(platform.SubscriptionFilter{App: "app_x"}, platform.Page{}))
	require.Empty(t, list(platform.SubscriptionFilter{Topic: "\x00"}, platform.Page{}))
}

func (c conformance) pushKeys(t *testing.T) {
	s := c.open(t)
	ctx := t.Context()
	a, b := testApp("a"), testApp("b")
	putApps(t, s, a, b)
	none, err := s.PushKeys(ctx, a.ID)
	require.NoError(t, err)
	require.Empty(t, none)
	want := []platform.PushKey{
		{Number: 1, Environment: platform.Sandbox, Kind: platform.SigningKey, Secret: platform.NewSecret([]byte("one")), CreatedAt: testTime},
		{
			Number: 2, Environment: platform.Production, Kind: platform.Ed25519Key, Secret: platform.NewSecret([]byte("two")),
			PublicKey: "whpk_x", CreatedAt: testTime, ExpiresAt: testTime.Add(time.Hour),
		},
	}
	for range 2 { // the second time over what is there
		put(t, s, func(ctx context.Context, tx platform.Tx) error {
			return errors.Join(tx.PutPushKey(ctx, a, &want[1]), tx.PutPushKey(ctx, a, &want[0]),
				tx.PutPushKey(ctx, b, &platform.PushKey{Number: 1, Secret: platform.NewSecret([]byte("b"))}))
		})
		got, err := s.PushKeys(ctx, a.ID)
		require.NoError(t, err)
		require.Equal(t, want, got)
		want[0].ExpiresAt = testTime
	}
	var sealed []byte
	require.NoError(t, s.readers.QueryRowContext(ctx, `SELECT sealed FROM push_keys WHERE number = 2`).Scan(&sealed))
	require.NotContains(t, string(sealed), "two")
	require.Error(t, s.Update(ctx, func(tx platform.Tx) error { return tx.PutPushKey(ctx, a, &platform.PushKey{Number: 3}) }))
	put(t, s, func(ctx context.Context, tx platform.Tx) error { return tx.DeleteApp(ctx, a.ID) })
	none, err = s.PushKeys(ctx, a.ID)
	require.NoError(t, err)
	require.Empty(t, none)
}
