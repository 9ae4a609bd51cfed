package store

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func pushKey(n int, secret string) *platform.PushKey {
	return &platform.PushKey{
		Number: n, Environment: platform.Production, Kind: platform.EncryptionKey, Secret: platform.NewSecret([]byte(secret)), CreatedAt: testTime,
	}
}

func TestSubscribers(t *testing.T) { onBoth(t, testSubscribers) }

func testSubscribers(t *testing.T, e engineTest) {
	s := e.empty(t)
	const n = 5
	apps, want := make([]*platform.App, n), make([]platform.Subscriber, n)
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		if err := tx.PutPackage(ctx, &platform.Package{Name: "trade"}); err != nil {
			return err
		}
		for i := range apps {
			apps[i] = testApp(fmt.Sprint(i))
			apps[i].Packages = []platform.PackageGrant{{Package: "basic"}, {Package: "trade", Period: platform.Period{Until: testTime}}}
			if err := tx.PutApp(ctx, apps[i]); err != nil {
				return err
			}
			want[i].App = *apps[i]
			want[i].App.Credentials, want[i].App.Dialects = nil, nil
		}
		for i := range 3 { // 0 has both, 1 and 2 subscriptions; 3 a key; 4 nothing
			sub := platform.Subscription{
				ID: fmt.Sprint("sub_", i), App: apps[i].ID, AppNumber: apps[i].Number, Environment: platform.Production, URL: "https://example.com/",
				Topics: []string{"a", fmt.Sprint("b", i)}, Format: platform.PlainFormat, Status: platform.Paused, Ordered: true, HoldFor: time.Minute,
				Schedule: []time.Duration{time.Second}, FailingSince: testTime, CreatedAt: testTime, UpdatedAt: testTime,
			}
			if err := tx.PutSubscription(ctx, &sub); err != nil {
				return err
			}
			want[i].Subscriptions = []platform.Subscription{sub}
		}
		for _, i := range []int{0, 3} {
			key := pushKey(1, fmt.Sprint("key of ", i))
			if err := tx.PutPushKey(ctx, apps[i], key); err != nil {
				return err
			}
			want[i].Keys = []platform.PushKey{*key}
		}
		return nil
	})
	all, err := s.Subscribers(t.Context())
	require.NoError(t, err)
	require.Equal(t, want[:4], all)
	some, err := s.Subscribers(t.Context(), apps[4].Number, apps[3].Number, apps[1].Number, apps[3].Number, 999)
	require.NoError(t, err)
	require.Equal(t, []platform.Subscriber{want[1], want[3]}, some)
	many := make([]uint64, 3*subscribersBatch)
	for i := range many {
		many[i] = uint64(i)
	}
	all, err = s.Subscribers(t.Context(), many...)
	require.NoError(t, err)
	require.Equal(t, want[:4], all)
}

// Push keys go with the master key.
func TestRotatePushKeys(t *testing.T) { onBoth(t, testRotatePushKeys) }

func testRotatePushKeys(t *testing.T, e engineTest) {
	database := e.database(t)
	s, err := e.open(t.Context(), database, testKeyring(t, 1), Options{})
	require.NoError(t, err)
	app := testApp("a")
	putApps(t, s, app)
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		for i := range rotateBatch + 5 {
			if err := tx.PutPushKey(ctx, app, pushKey(i+1, fmt.Sprint("key ", i+1))); err != nil {
				return err
			}
		}
		return nil
	})
	var last [2]int
	require.NoError(t, s.RotateKeys(t.Context(), "test", testKeyring(t, 2), func(done, total int) { last = [2]int{done, total} }))
	require.Equal(t, [2]int{rotateBatch + 6, rotateBatch + 6}, last, "and a credential")
	require.NoError(t, s.Close())
	s = e.at(t, database, testKeyring(t, 2))
	all, err := s.Subscribers(t.Context())
	require.NoError(t, err)
	require.Len(t, all[0].Keys, rotateBatch+5)
	for i, k := range all[0].Keys {
		require.Equal(t, fmt.Sprint("key ", i+1), string(k.Secret.Reveal()))
	}
}

func TestMarkEndpoint(t *testing.T) {
	onBoth(t, func(t *testing.T, e engineTest) {
		var heard []platform.Change
		s := e.with(t, e.database(t), testKeyring(t, 1), Options{
			Now: func() time.Time { return testTime }, OnChange: func(c platform.Change) { heard = append(heard, c) },
		})
		app := testApp("a")
		putApps(t, s, app)
		sub := &platform.Subscription{
			ID: "sub_1", App: app.ID, AppNumber: app.Number, Environment: platform.Production, Topics: []string{"a"}, Format: platform.EncryptedFormat,
			Status: platform.SubscriptionActive, CreatedAt: testTime.Add(-day), UpdatedAt: testTime.Add(-day),
		}
		put(t, s, func(ctx context.Context, tx platform.Tx) error { return tx.PutSubscription(ctx, sub) })
		state := func() platform.Subscription {
			all, err := s.Subscribers(t.Context())
			require.NoError(t, err)
			return all[0].Subscriptions[0]
		}
		mark := func(since time.Time, disable string) (disabled bool) {
			t.Helper()
			disabled, err := s.MarkEndpoint(t.Context(), sub.Number, since, disable)
			require.NoError(t, err)
			return disabled
		}
		want, change := *sub, platform.Change{Kind: platform.ChangePush, Key: strconv.FormatUint(app.Number, 10)}
		mark(time.Time{}, "")
		require.Empty(t, heard, "nothing changed")
		want.FailingSince = testTime.Add(-time.Hour)
		for range 2 {
			require.False(t, mark(want.FailingSince, ""))
		}
		require.Equal(t, want, state())
		require.Equal(t, []platform.Change{change}, heard)
		mark(time.Time{}, "")
		want.FailingSince = time.Time{}
		require.Equal(t, want, state())

		want.FailingSince, want.Status, want.Reason, want.UpdatedAt = testTime, platform.Disabled, "answered 410\uFFFD", testTime
		require.True(t, mark(time.Time{}, "answered 410\x00"))
		require.False(t, mark(time.Time{}, "answered 410\x00"), "it is disabled once")
		require.Equal(t, want, state())
		require.Equal(t, []platform.Change{change, change, change}, heard)
		entries, err := s.Audit(t.Context(), platform.AuditFilter{Target: sub.ID})
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.Equal(t, "subscription.disable", entries[0].Action)
		require.Contains(t, string(entries[0].After), "answered 410")
		if s.pool != nil {
			var n int
			require.NoError(t, s.readers.QueryRow(`SELECT count(*) FROM changes WHERE kind = $1 AND key = $2`, int64(change.Kind), change.Key).Scan(&n))
			require.Equal(t, 3, n)
		}
		_, err = s.MarkEndpoint(t.Context(), 999, testTime, "")
		require.ErrorIs(t, err, platform.ErrNotFound)
	})
}

// TestMarkEndpointThatFailedForLong: it is disabled only where it has not worked since
// then, whoever found that out.
func TestMarkEndpointThatFailedForLong(t *testing.T) {
	onBoth(t, func(t *testing.T, e engineTest) {
		p := newPushStore(t, e.empty(t), "a")
		since := testTime.Add(-80*time.Hour + 999*time.Nanosecond)
		for _, c := range []struct {
			name     string
			noted    time.Time
			disabled bool
		}{
			{"it works", time.Time{}, false},
			{"it worked meanwhile", since.Add(time.Hour), false},
			{"since then", since, true},
			{"for longer", since.Add(-time.Hour), true},
		} {
			p.set(t, "a", platform.SubscriptionActive)
			_, err := p.MarkEndpoint(t.Context(), p.subs["a"].Number, c.noted, "")
			require.NoError(t, err)
			disabled, err := p.MarkEndpoint(t.Context(), p.subs["a"].Number, since, "no success")
			require.NoError(t, err)
			require.Equal(t, c.disabled, disabled, c.name)
			all, err := p.Subscribers(t.Context())
			require.NoError(t, err)
			got := all[0].Subscriptions[0]
			require.Equal(t, c.disabled, got.Status == platform.Disabled, c.name)
			require.WithinDuration(t, c.noted, got.FailingSince, time.Microsecond, c.name)
		}

		// What somebody paused stays paused, and not disabled, whatever it answers at last.
		p.set(t, "a", platform.Paused)
		_, err := p.MarkEndpoint(t.Context(), p.subs["a"].Number, since, "")
		require.NoError(t, err)
		for _, at := range []time.Time{since, {}} {
			disabled, err := p.MarkEndpoint(t.Context(), p.subs["a"].Number, at, "no success")
			require.NoError(t, err)
			require.False(t, disabled)
		}
		all, err := p.Subscribers(t.Context())
		require.NoError(t, err)
		require.Equal(t, platform.Paused, all[0].Subscriptions[0].Status)
		require.Equal(t, p.subs["a"].Reason, all[0].Subscriptions[0].Reason)

		// For how long it failed before it was gone is not forgotten.
		p.set(t, "a", platform.SubscriptionActive)
		_, err = p.MarkEndpoint(t.Context(), p.subs["a"].Number, since, "")
		require.NoError(t, err)
		disabled, err := p.MarkEndpoint(t.Context(), p.subs["a"].Number, time.Time{}, "the endpoint answered 410 Gone")
		require.NoError(t, err)
		require.True(t, disabled)
		all, err = p.Subscribers(t.Context())
		require.NoError(t, err)
		require.WithinDuration(t, since, all[0].Subscriptions[0].FailingSince, time.Microsecond)
	})
}
