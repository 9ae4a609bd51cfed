package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// subscribersBatch is how many apps are asked for by one statement.
const subscribersBatch = 256

const (
	// subscribing are the numbers of all apps that the pusher knows: few of those
	// that there are, so each query goes by them.
	subscribing        = `(SELECT app FROM subscriptions UNION SELECT app FROM push_keys)`
	subscribersQuery   = `SELECT ` + appColumns + ` FROM apps WHERE number IN `
	subscriberPackages = `SELECT app, package, valid_from, valid_until FROM app_packages WHERE app IN `
)

// Subscribers loads the apps that have subscriptions or push keys, by number:
// all of them, or those of the numbers. Of an app there is what the pusher goes
// by, and no credential.
func (s *Store) Subscribers(ctx context.Context, apps ...uint64) ([]platform.Subscriber, error) {
	all := []platform.Subscriber{}
	err := s.view(ctx, func(r *reader) error {
		if len(apps) == 0 {
			return r.subscribers(ctx, &all, subscribing)
		}
		apps = slices.Clone(apps)
		slices.Sort(apps)
		for some := range slices.Chunk(slices.Compact(apps), subscribersBatch) {
			args := make([]any, subscribersBatch) // the last again and again: one statement to keep prepared
			for i := range args {
				args[i] = some[min(i, len(some)-1)]
			}
			if err := r.subscribers(ctx, &all, `(?`+strings.Repeat(", ?", subscribersBatch-1)+`)`, args...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("loading subscribers: %w", err)
	}
	// Those that were asked for may have neither.
	return slices.DeleteFunc(all, func(s platform.Subscriber) bool { return len(s.Subscriptions)+len(s.Keys) == 0 }), nil
}

// subscribers adds the apps whose numbers are among those of a list in SQL.
func (r *reader) subscribers(ctx context.Context, all *[]platform.Subscriber, among string, args ...any) error {
	first := len(*all)
	err := r.each(ctx, func(rows *sql.Rows) error {
		*all = append(*all, platform.Subscriber{})
		return scanApp(rows, &(*all)[len(*all)-1].App)
	}, subscribersQuery+among+` ORDER BY number`, args...)
	if err != nil {
		return err
	}
	byNumber := make(map[uint64]*platform.Subscriber, len(*all)-first)
	for i := first; i < len(*all); i++ {
		byNumber[(*all)[i].App.Number] = &(*all)[i]
	}
	if err := r.subscriberPackages(ctx, byNumber, among, args...); err != nil {
		return err
	}
	if err := r.subscriberSubscriptions(ctx, byNumber, among, args...); err != nil {
		return err
	}
	return r.eachPushKey(ctx, func(app uint64, k platform.PushKey) {
		if s := byNumber[app]; s != nil {
			s.Keys = append(s.Keys, k)
		}
	}, `k.app IN `+among, args...)
}

func (r *reader) subscriberPackages(ctx context.Context, byNumber map[uint64]*platform.Subscriber, among string, args ...any) error {
	return r.each(ctx, func(rows *sql.Rows) error {
		var app uint64
		var g platform.PackageGrant
		var from, until sql.NullInt64
		err := rows.Scan(&app, &g.Package, &from, &until)
		g.From, g.Until = fromMicros(from), fromMicros(until)
		if s := byNumber[app]; s != nil {
			s.App.Packages = append(s.App.Packages, g)
		}
		return err
	}, subscriberPackages+among+` ORDER BY app, package`, args...)
}

func (r *reader) subscriberSubscriptions(ctx context.Context, byNumber map[uint64]*platform.Subscriber, among string, args ...any) error {
	topics := map[uint64][]string{}
	err := r.each(ctx, func(rows *sql.Rows) error {
		var subscription uint64
		var topic string
		err := rows.Scan(&subscription, &topic)
		topics[subscription] = append(topics[subscription], topic)
		return err
	}, `SELECT subscription, topic FROM subscription_topics WHERE app IN `+among+` ORDER BY subscription, topic`, args...)
	if err != nil {
		return err
	}
	return r.each(ctx, func(rows *sql.Rows) error {
		var sub platform.Subscription
		if err := scanSubscription(rows, &sub); err != nil {
			return err
		}
		sub.Topics = topics[sub.Number]
		if s := byNumber[sub.AppNumber]; s != nil {
			s.Subscriptions = append(s.Subscriptions, sub)
		}
		return nil
	}, subscriptionQuery+` WHERE s.app IN `+among+` ORDER BY s.number`, args...)
}
