package platform_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const callback = "https://shop.example.com/push"

// pushFixture has the topics order.created and order.paid in the package
// trade, which the app holds, and rate.changed in the package other.
type pushFixture struct {
	*fixture
	shop *platform.App
}

func newPushFixture(t *testing.T) *pushFixture {
	t.Helper()
	f := newFixture(t)
	_, err := f.PutPackage(t.Context(), "test", platform.Package{Name: "other"})
	require.NoError(t, err)
	rate := topic("rate.changed")
	rate.Package = "other"
	gone := topic("order.gone")
	gone.Status = platform.Offline
	news := topic("shop.news")
	news.UserToken = false
	f.apply(t, withTopics("1", topic("order.created"), topic("order.paid"), rate, gone, news))
	a, _, err := f.CreateApp(t.Context(), "test", platform.NewApp{Name: "Shop", Packages: []string{"trade"}})
	require.NoError(t, err)
	f.changes = nil
	return &pushFixture{f, a}
}

// create makes a subscription with those settings and the callback.
func (f *pushFixture) create(env platform.Environment, n platform.SubscriptionSettings) (*platform.Subscription, []platform.IssuedPushKey, error) {
	if n.URL == nil {
		n.URL = new(callback)
	}
	if n.Topics == nil {
		n.Topics = []string{"order.created"}
	}
	return f.CreateSubscription(context.Background(), "test", platform.NewSubscription{App: f.shop.Key, Environment: env, SubscriptionSettings: n})
}

// active makes a subscription that is verified.
func (f *pushFixture) active(t *testing.T, n platform.SubscriptionSettings) *platform.Subscription {
	t.Helper()
	sub, _, err := f.create("", n)
	require.NoError(t, err)
	sub, err = f.VerifySubscription(t.Context(), "test", sub.ID, passes)
	require.NoError(t, err)
	require.Equal(t, platform.SubscriptionActive, sub.Status)
	return sub
}

func passes(context.Context, *platform.Subscriber, *platform.Subscription) error { return nil }

func TestCreateSubscription(t *testing.T) {
	f := newPushFixture(t)
	u, err := f.CreateUser(t.Context(), "test", "shop-1@example.com", "Shop 1", password)
	require.NoError(t, err)
	f.changes = nil
	sub, keys, err := f.create("", platform.SubscriptionSettings{
		Topics: []string{"order.paid", "order.created", "order.paid"},
		Filter: &platform.MessageFilter{
			Users:      []string{"Shop-1@example.com", u.ID},
			Conditions: []platform.Condition{{Pointer: "/items/0/sku", Op: "in", Value: json.RawMessage(` [ "a", 1 ] `)}},
		},
		Ordered: new(true), HoldFor: new(time.Minute), Concurrency: new(3), Rate: &limit.Rate{Requests: 5, Period: time.Second},
		Schedule: []time.Duration{time.Second, time.Minute},
	})
	require.NoError(t, err)
	require.Regexp(t, `^sub_[0-9A-Za-z]{20}$`, sub.ID)
	now := start.Truncate(time.Microsecond)
	require.Equal(t, &platform.Subscription{
		ID: sub.ID, Number: sub.Number, App: f.shop.ID, AppNumber: f.shop.Number, Environment: platform.Sandbox, URL: callback,
		Topics: []string{"order.created", "order.paid"},
		Filter: platform.MessageFilter{
			Users:      []string{u.ID},
			Conditions: []platform.Condition{{Pointer: "/items/0/sku", Op: "in", Value: json.RawMessage(`["a",1]`)}},
		},
		Ordered: true, HoldFor: time.Minute, Concurrency: 3, Rate: limit.Rate{Requests: 5, Period: time.Second},
		Schedule: []time.Duration{time.Second, time.Minute}, Format: platform.EncryptedFormat, Status: platform.Unverified,
		CreatedAt: now, UpdatedAt: now,
	}, sub)
	got, err := f.Subscription(t.Context(), sub.ID)
	require.NoError(t, err)
	require.Equal(t, sub, got)
	require.Equal(t, []platform.Change{{Kind: platform.ChangePush, Key: fmt.Sprint(f.shop.Number)}}, f.changes)

	// Its keys came with it, once.
	require.Len(t, keys, 2)
	require.Regexp(t, `^whsec_[A-Za-z0-9+/]{43}=$`, keys[0].Secret)
	require.Regexp(t, `^whek_[A-Za-z0-9+/]{43}=$`, keys[1].Secret)
	require.Equal(t, platform.IssuedPushKey{Number: 1, Environment: platform.Sandbox, Kind: platform.SigningKey, Secret: keys[0].Secret}, keys[0])
	require.Equal(t, platform.IssuedPushKey{Number: 2, Environment: platform.Sandbox, Kind: platform.EncryptionKey, KeyID: f.shop.Key + ".2", Secret: keys[1].Secret}, keys[1])
	e := f.entries(t)[0]
	require.Equal(t, []string{"subscription.create", sub.ID}, []string{e.Action, e.Target})
	for _, secret := range []string{"whsec_", "whek_", keys[0].Secret[6:]} {
		require.NotContains(t, string(e.After), secret)
	}

	// A topic is in one subscription of an environment.
	_, _, err = f.create("", platform.SubscriptionSettings{})
	require.ErrorIs(t, err, platform.ErrConflict)
	require.ErrorContains(t, err, "the app has the topic order.created in its sandbox subscription "+sub.ID+" already")
	_, keys, err = f.create(platform.Production, platform.SubscriptionSettings{Asymmetric: new(true)})
	require.NoError(t, err)
	require.Len(t, keys, 3, "each environment has its own keys")
	require.Equal(t, platform.Ed25519Key, keys[2].Kind)
	require.Empty(t, keys[2].Secret)
	require.Regexp(t, `^whpk_[A-Za-z0-9+/]{43}=$`, keys[2].PublicKey)

	require.NoError(t, f.DeleteSubscription(t.Context(), "test", sub.ID))
	_, keys, err = f.create("", platform.SubscriptionSettings{})
	require.NoError(t, err)
	require.Empty(t, keys, "the next one has the keys that are there")
}

// TestSubscriptionOfUsers: where no topic is about a merchant, one that takes messages
// of merchants alone would get none.
func TestSubscriptionOfUsers(t *testing.T) {
	f := newPushFixture(t)
	u, err := f.CreateUser(t.Context(), "test", "shop-1", "Shop 1", password)
	require.NoError(t, err)
	public, users := []string{"shop.news"}, &platform.MessageFilter{Users: []string{u.ID}}
	_, _, err = f.create("", platform.SubscriptionSettings{Topics: public, Filter: users})
	requireField(t, err, "filter.users")
	sub, _, err := f.create("", platform.SubscriptionSettings{Topics: []string{"shop.news", "order.paid"}, Filter: users})
	require.NoError(t, err)
	update := func(n platform.SubscriptionSettings) error {
		_, _, err := f.UpdateSubscription(t.Context(), "test", sub.ID, n)
		return err
	}
	requireField(t, update(platform.SubscriptionSettings{Topics: public}), "filter.users")
	require.NoError(t, update(platform.SubscriptionSettings{Topics: public, Filter: &platform.MessageFilter{}}))
	requireField(t, update(platform.SubscriptionSettings{Filter: users}), "filter.users")
}

// Every mistake names the field that it is in, and changes nothing.
func TestSubscriptionMistakes(t *testing.T) {
	f := newPushFixture(t)
	where := func(pointer, op, value string) platform.SubscriptionSettings {
		return platform.SubscriptionSettings{Filter: &platform.MessageFilter{
			Conditions: []platform.Condition{{Op: "exists", Value: json.RawMessage("true")}, {Pointer: pointer, Op: op, Value: json.RawMessage(value)}},
		}}
	}
	url := func(s string) platform.SubscriptionSettings { return platform.SubscriptionSettings{URL: &s} }
	for name, c := range map[string]struct {
		field    string
		settings platform.SubscriptionSettings
	}{
		"no URL":           {"url", url("")},
		"http":             {"url", url("http://shop.example.com/")},
		"other scheme":     {"url", url("ftp://shop.example.com/")},
		"no scheme":        {"url", url("shop.example.com/push")},
		"no host":          {"url", url("https:///push")},
		"no host but port": {"url", url("https://:443/push")},
		"opaque":           {"url", url("https:shop.example.com")},
		"user":             {"url", url("https://a:b@shop.example.com/")},
		"fragment":         {"url", url("https://shop.example.com/#a")},
		"empty fragment":   {"url", url("https://shop.example.com/#")},
		"port":             {"url", url("https://shop.example.com:70000/")},
		"port 0":           {"url", url("https://shop.example.com:0/")},
		"no port":          {"url", url("https://shop.example.com:/")},
		"blank":            {"url", url("https://shop.example.com/a b")},
		"line break":       {"url", url("https://shop.example.com/a\r\nb")},
		"not ASCII":        {"url", url("https://商店.example/")},
		"long URL":         {"url", url("https://shop.example.com/" + strings.Repeat("a", 2000))},

		"no topics":       {"topics", platform.SubscriptionSettings{Topics: []string{}}},
		"unknown topic":   {"topics", platform.SubscriptionSettings{Topics: []string{"order.nope"}}},
		"offline topic":   {"topics", platform.SubscriptionSettings{Topics: []string{"order.gone"}}},
		"foreign package": {"topics", platform.SubscriptionSettings{Topics: []string{"order.paid", "rate.changed"}}},

		"unknown user":    {"filter.users[0]", platform.SubscriptionSettings{Filter: &platform.MessageFilter{Users: []string{"nobody"}}}},
		"many users":      {"filter.users", platform.SubscriptionSettings{Filter: &platform.MessageFilter{Users: make([]string, 1001)}}},
		"many conditions": {"filter.conditions", platform.SubscriptionSettings{Filter: &platform.MessageFilter{Conditions: make([]platform.Condition, 11)}}},
		"pointer":         {"filter.conditions[1].pointer", where("status", "eq", "1")},
		"pointer escape":  {"filter.conditions[1].pointer", where("/a~2b", "eq", "1")},
		"pointer tilde":   {"filter.conditions[1].pointer", where("/a~", "eq", "1")},
		"pointer NUL":     {"filter.conditions[1].pointer", where("/\x00", "eq", "1")},
		"op":              {"filter.conditions[1].op", where("/a", "like", "1")},
		"no value":        {"filter.conditions[1].value", where("/a", "eq", "")},
		"no JSON":         {"filter.conditions[1].value", where("/a", "eq", "{")},
		"NUL":             {"filter.conditions[1].value", where("/a", "eq", `"\u0000"`)},
		"eq of an object": {"filter.conditions[1].value", where("/a", "eq", "{}")},
		"ne of a list":    {"filter.conditions[1].value", where("/a", "ne", "[1]")},
		"in a scalar":     {"filter.conditions[1].value", where("/a", "in", "1")},
		"in nothing":      {"filter.conditions[1].value", where("/a", "in", "[]")},
		"in lists":        {"filter.conditions[1].value", where("/a", "in", "[[1]]")},
		"in too many":     {"filter.conditions[1].value", where("/a", "in", "[1"+strings.Repeat(",1", 100)+"]")},
		"exists of 1":     {"filter.conditions[1].value", where("/a", "exists", "1")},
		"gt of text":      {"filter.conditions[1].value", where("/a", "gt", `"1"`)},
		"prefix of 1":     {"filter.conditions[1].value", where("/a", "prefix", "1")},
		"large value":     {"filter.conditions[1].value", where("/a", "eq", `"`+strings.Repeat("a", 4000)+`"`)},

		"hold":           {"hold_for", platform.SubscriptionSettings{HoldFor: new(time.Millisecond)}},
		"concurrency":    {"concurrency", platform.SubscriptionSettings{Concurrency: new(1001)}},
		"no concurrency": {"concurrency", platform.SubscriptionSettings{Concurrency: new(-1)}},
		"rate":           {"rate.requests", platform.SubscriptionSettings{Rate: &limit.Rate{Period: time.Second}}},
		"short wait":     {"schedule[1]", platform.SubscriptionSettings{Schedule: []time.Duration{time.Second, time.Millisecond}}},
		"long wait":      {"schedule[0]", platform.SubscriptionSettings{Schedule: []time.Duration{25 * time.Hour}}},
		"many waits":     {"schedule", platform.SubscriptionSettings{Schedule: make([]time.Duration, 21)}},
		"format":         {"format", platform.SubscriptionSettings{Format: new(platform.PushFormat("xml"))}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := f.create("", c.settings)
			requireField(t, err, c.field)
		})
	}
	_, _, err := f.create("test", platform.SubscriptionSettings{})
	requireField(t, err, "environment")
	_, _, err = f.CreateSubscription(t.Context(), "test", platform.NewSubscription{SubscriptionSettings: platform.SubscriptionSettings{URL: new(callback)}})
	requireField(t, err, "app")
	_, _, err = f.CreateSubscription(t.Context(), "test", platform.NewSubscription{App: "ak_nobody"})
	require.ErrorIs(t, err, platform.ErrNotFound)
	none, err := f.Subscriptions(t.Context(), platform.SubscriptionFilter{}, platform.Page{})
	require.NoError(t, err)
	require.Empty(t, none)
	keys, err := f.PushKeys(t.Context(), f.shop.ID)
	require.NoError(t, err)
	require.Empty(t, keys)
	require.Empty(t, f.changes)
}

// A package that has ended gives no more topics; one that will begin does.
func TestSubscriptionNeedsThePackage(t *testing.T) {
	f := newPushFixture(t)
	ask := func() error {
		_, _, err := f.create("", platform.SubscriptionSettings{Topics: []string{"rate.changed"}})
		return err
	}
	_, err := f.GrantPackage(t.Context(), "test", f.shop.ID, "other", platform.Period{Until: start})
	require.NoError(t, err)
	requireField(t, ask(), "topics")
	_, err = f.GrantPackage(t.Context(), "test", f.shop.ID, "other", platform.Period{From: start.Add(time.Hour)})
	require.NoError(t, err)
	require.NoError(t, ask())
}

// Plain bodies are there for whoever asks in so many words.
func TestPlainFormat(t *testing.T) {
	f := newPushFixture(t)
	sub, _, err := f.create("", platform.SubscriptionSettings{Format: new(platform.PlainFormat)})
	require.NoError(t, err)
	require.Equal(t, platform.PlainFormat, sub.Format)
}

func TestAllowHTTP(t *testing.T) {
	f := newPushFixture(t)
	s := platform.NewService(platform.ServiceOptions{Store: f.store, AllowHTTP: func(host string) bool { return host == "::1" }})
	create := func(url string) error {
		_, _, err := s.CreateSubscription(t.Context(), "test", platform.NewSubscription{App: f.shop.ID, SubscriptionSettings: platform.SubscriptionSettings{
			URL: &url, Topics: []string{"order.created"},
		}})
		return err
	}
	requireField(t, create("http://127.0.0.1:8000/push"), "url")
	require.NoError(t, create("http://[::1]:8000/push"))
}

func TestSubscriptionsOfAnAppAreBounded(t *testing.T) {
	f := newPushFixture(t)
	names := make([]string, 101)
	topics := make([]platform.Topic, len(names))
	for i := range names {
		names[i] = fmt.Sprintf("order.t%d", i)
		topics[i] = topic(names[i])
	}
	f.apply(t, withTopics("2", topics...))
	for i, name := range names {
		_, _, err := f.create("", platform.SubscriptionSettings{Topics: []string{name}})
		if i < 100 {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, platform.ErrConflict)
		}
	}
}

func TestUpdateSubscription(t *testing.T) {
	f := newPushFixture(t)
	ctx := t.Context()
	sub := f.active(t, platform.SubscriptionSettings{Topics: []string{"order.created"}, Schedule: []time.Duration{time.Second}, Concurrency: new(2)})
	f.now, f.changes = f.now.Add(time.Hour), nil

	// What is not named stays, also topics that could not be had anew.
	_, err := f.RevokePackage(ctx, "test", f.shop.ID, "trade")
	require.NoError(t, err)
	changed, keys, err := f.UpdateSubscription(ctx, "cli:root", sub.ID, platform.SubscriptionSettings{Concurrency: new(0), Schedule: []time.Duration{}, Topics: []string{"order.created"}})
	require.NoError(t, err)
	require.Empty(t, keys)
	want := *sub
	want.Concurrency, want.Schedule, want.UpdatedAt = 0, nil, f.now.Truncate(time.Microsecond)
	require.Equal(t, &want, changed)
	e := f.entries(t)[0]
	require.Equal(t, []string{"cli:root", "subscription.update", sub.ID}, []string{e.Actor, e.Action, e.Target})
	require.Contains(t, string(e.Before), `"schedule":["1s"]`)
	require.NotContains(t, string(e.After), "schedule")
	_, _, err = f.UpdateSubscription(ctx, "test", sub.ID, platform.SubscriptionSettings{Topics: []string{"order.created", "order.paid"}})
	requireField(t, err, "topics")
	_, err = f.GrantPackage(ctx, "test", f.shop.ID, "trade", platform.Period{})
	require.NoError(t, err)

	// Asymmetric signatures need a key of their own.
	changed, keys, err = f.UpdateSubscription(ctx, "test", sub.ID, platform.SubscriptionSettings{Asymmetric: new(true)})
	require.NoError(t, err)
	require.True(t, changed.Asymmetric)
	require.Len(t, keys, 1)
	require.Equal(t, platform.Ed25519Key, keys[0].Kind)

	// Another URL must be verified; the same one need not.
	changed, _, err = f.UpdateSubscription(ctx, "test", sub.ID, platform.SubscriptionSettings{URL: new(callback)})
	require.NoError(t, err)
	require.Equal(t, platform.SubscriptionActive, changed.Status)
	changed, _, err = f.UpdateSubscription(ctx, "test", sub.ID, platform.SubscriptionSettings{URL: new(callback + "2")})
	require.NoError(t, err)
	require.Equal(t, platform.Unverified, changed.Status)
	require.Zero(t, changed.VerifiedAt)
	_, _, err = f.UpdateSubscription(ctx, "test", sub.ID, platform.SubscriptionSettings{URL: new("")})
	requireField(t, err, "url")
	_, _, err = f.UpdateSubscription(ctx, "test", "sub_x", platform.SubscriptionSettings{})
	require.ErrorIs(t, err, platform.ErrNotFound)
}

func TestPauseAndResume(t *testing.T) {
	f := newPushFixture(t)
	ctx := t.Context()
	fresh, _, err := f.create(platform.Production, platform.SubscriptionSettings{})
	require.NoError(t, err)
	_, err = f.PauseSubscription(ctx, "test", fresh.ID)
	require.ErrorIs(t, err, platform.ErrConflict)
	_, err = f.ResumeSubscription(ctx, "test", fresh.ID)
	require.ErrorIs(t, err, platform.ErrConflict)
	require.ErrorContains(t, err, "has not been verified")

	sub := f.active(t, platform.SubscriptionSettings{})
	for range 2 {
		paused, err := f.PauseSubscription(ctx, "test", sub.ID)
		require.NoError(t, err)
		require.Equal(t, platform.Paused, paused.Status)
	}
	again, err := f.VerifySubscription(ctx, "test", sub.ID, passes)
	require.NoError(t, err)
	require.Equal(t, platform.Paused, again.Status, "a proof is no order to go on")
	resumed, err := f.ResumeSubscription(ctx, "test", sub.ID)
	require.NoError(t, err)
	require.Equal(t, platform.SubscriptionActive, resumed.Status)

	f.disable(t, sub.ID)
	_, err = f.PauseSubscription(ctx, "test", sub.ID)
	require.ErrorIs(t, err, platform.ErrConflict)
	resumed, err = f.ResumeSubscription(ctx, "test", sub.ID)
	require.NoError(t, err)
	require.Equal(t, platform.SubscriptionActive, resumed.Status)
	require.Empty(t, resumed.Reason)
	require.Zero(t, resumed.FailingSince)
	require.Equal(t, "subscription.resume", f.entries(t)[0].Action)
}

// disable does what the pusher does with an endpoint that fails for days.
func (f *pushFixture) disable(t *testing.T, id string) {
	t.Helper()
	require.NoError(t, f.store.Update(t.Context(), func(tx platform.Tx) error {
		sub, err := tx.Subscription(t.Context(), id)
		if err != nil {
			return err
		}
		sub.Status, sub.Reason, sub.FailingSince = platform.Disabled, "410 Gone", start
		return tx.PutSubscription(t.Context(), sub)
	}))
}

func TestVerifySubscription(t *testing.T) {
	f := newPushFixture(t)
	ctx := t.Context()
	sub, issued, err := f.create("", platform.SubscriptionSettings{})
	require.NoError(t, err)

	_, err = f.VerifySubscription(ctx, "test", sub.ID, func(context.Context, *platform.Subscriber, *platform.Subscription) error {
		return errors.New("it answered 404")
	})
	require.ErrorIs(t, err, platform.ErrConflict)
	require.ErrorContains(t, err, "it answered 404")
	_, err = f.VerifySubscription(ctx, "test", sub.ID, func(context.Context, *platform.Subscriber, *platform.Subscription) error {
		return fmt.Errorf("no pusher: %w", platform.ErrUnavailable)
	})
	require.ErrorIs(t, err, platform.ErrUnavailable)
	require.NotErrorIs(t, err, platform.ErrConflict)
	_, err = f.VerifySubscription(ctx, "test", sub.ID, func(ctx context.Context, _ *platform.Subscriber, _ *platform.Subscription) error {
		// No transaction is open: others may change things meanwhile.
		_, _, err := f.UpdateSubscription(ctx, "test", sub.ID, platform.SubscriptionSettings{URL: new(callback + "2")})
		return err
	})
	require.ErrorIs(t, err, platform.ErrConflict)
	require.ErrorContains(t, err, "was changed during the challenge")
	got, err := f.Subscription(ctx, sub.ID)
	require.NoError(t, err)
	require.Equal(t, platform.Unverified, got.Status)

	f.now = f.now.Add(time.Hour)
	f.changes = nil
	got, err = f.VerifySubscription(ctx, "test", sub.ID, func(_ context.Context, app *platform.Subscriber, asked *platform.Subscription) error {
		require.Equal(t, f.shop.ID, app.App.ID)
		require.Equal(t, callback+"2", asked.URL)
		require.Equal(t, []platform.Subscription{*asked}, app.Subscriptions)
		require.Len(t, app.Keys, 2)
		require.Contains(t, issued[0].Secret, "whsec_")
		require.Len(t, app.Keys[0].Secret.Reveal(), 32)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, platform.SubscriptionActive, got.Status)
	require.Equal(t, f.now.Truncate(time.Microsecond), got.VerifiedAt)
	require.Equal(t, []platform.Change{{Kind: platform.ChangePush, Key: fmt.Sprint(f.shop.Number)}}, f.changes)
	require.Equal(t, "subscription.verify", f.entries(t)[0].Action)

	f.disable(t, sub.ID)
	got, err = f.VerifySubscription(ctx, "test", sub.ID, passes)
	require.NoError(t, err)
	require.Equal(t, platform.SubscriptionActive, got.Status)
	require.Empty(t, got.Reason)
	_, err = f.VerifySubscription(ctx, "test", "sub_x", passes)
	require.ErrorIs(t, err, platform.ErrNotFound)
	_, err = f.VerifySubscription(ctx, " ", sub.ID, passes)
	requireField(t, err, "actor")
}

func TestSubscriptionLists(t *testing.T) {
	f := newPushFixture(t)
	ctx := t.Context()
	first := f.active(t, platform.SubscriptionSettings{})
	second, _, err := f.create(platform.Production, platform.SubscriptionSettings{Topics: []string{"order.paid"}})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		filter platform.SubscriptionFilter
		want   string
	}{
		"app key":     {platform.SubscriptionFilter{App: f.shop.Key, Status: platform.SubscriptionActive}, first.ID},
		"environment": {platform.SubscriptionFilter{Environment: platform.Production}, second.ID},
		"topic":       {platform.SubscriptionFilter{Topic: "order.paid"}, second.ID},
		"status":      {platform.SubscriptionFilter{Status: platform.Unverified}, second.ID},
	} {
		list, err := f.Subscriptions(ctx, c.filter, platform.Page{})
		require.NoError(t, err)
		require.Len(t, list, 1, name)
		require.Equal(t, c.want, list[0].ID, name)
	}
	for field, filter := range map[string]platform.SubscriptionFilter{
		"environment": {Environment: "x"}, "status": {Status: "x"}, "topic": {Topic: "a b"},
	} {
		_, err := f.Subscriptions(ctx, filter, platform.Page{})
		requireField(t, err, field)
	}
	_, err = f.Subscriptions(ctx, platform.SubscriptionFilter{}, platform.Page{Limit: -1})
	requireField(t, err, "limit")
	_, err = f.Subscriptions(ctx, platform.SubscriptionFilter{App: "ak_nobody"}, platform.Page{})
	require.ErrorIs(t, err, platform.ErrNotFound)

	require.ErrorIs(t, f.DeleteSubscription(ctx, "test", "sub_x"), platform.ErrNotFound)
	require.NoError(t, f.DeleteSubscription(ctx, "test", first.ID))
	require.Equal(t, "subscription.delete", f.entries(t)[0].Action)
	require.NoError(t, f.DeleteApp(ctx, "test", f.shop.ID))
	_, err = f.Subscription(ctx, second.ID)
	require.ErrorIs(t, err, platform.ErrNotFound)
}

// What a subscription has as JSON is read back as it was.
func TestSubscriptionJSON(t *testing.T) {
	sub := platform.Subscription{
		ID: "sub_1", App: "app_1", Environment: platform.Sandbox, URL: callback, Topics: []string{"order.paid"},
		Filter:  platform.MessageFilter{Users: []string{"usr_1"}, Conditions: []platform.Condition{{Pointer: "/a", Op: "eq", Value: json.RawMessage("1")}}},
		HoldFor: time.Hour, Rate: limit.Rate{Requests: 5, Period: time.Second}, Schedule: []time.Duration{time.Second, 90 * time.Minute},
		Format: platform.EncryptedFormat, Status: platform.SubscriptionActive, CreatedAt: start, UpdatedAt: start,
	}
	text, err := json.Marshal(sub)
	require.NoError(t, err)
	for _, part := range []string{`"hold_for":"1h0m0s"`, `"schedule":["1s","1h30m0s"]`, `"rate":{"requests":5,"period":"1s"}`} {
		require.Contains(t, string(text), part)
	}
	var got platform.Subscription
	require.NoError(t, json.Unmarshal(text, &got))
	require.Equal(t, sub, got)
	text, err = json.Marshal(platform.Subscription{})
	require.NoError(t, err)
	for _, absent := range []string{"hold_for", "rate", "schedule", "filter", "verified_at"} {
		require.NotContains(t, string(text), absent)
	}
	require.Error(t, json.Unmarshal([]byte(`{"hold_for":"soon"}`), &got))
}
