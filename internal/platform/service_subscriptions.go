package platform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
)

// SubscriptionSettings are what an app chooses about a subscription. Nil fields
// take the default of a subscription that is made, and leave one that is
// changed as it is.
type SubscriptionSettings struct {
	URL    *string
	Topics []string
	// Filter replaces the whole filter. Its users may be IDs or logins.
	Filter      *MessageFilter
	Ordered     *bool
	HoldFor     *time.Duration
	Concurrency *int
	Rate        *limit.Rate
	// Schedule replaces all waits; an empty one is the platform's.
	Schedule []time.Duration
	// Format is encrypted by default. PlainFormat is for staff to set: pages of
	// developers must not pass it on.
	Format     *PushFormat
	Asymmetric *bool
}

// NewSubscription describes a subscription to make.
type NewSubscription struct {
	// App is the app's ID or appKey.
	App string
	// Environment is the sandbox by default.
	Environment Environment
	SubscriptionSettings
}

// CreateSubscription makes a subscription, which is unverified. The first one
// of an app in an environment makes its push keys, which are shown this once.
func (s *Service) CreateSubscription(ctx context.Context, actor string, n NewSubscription) (*Subscription, []IssuedPushKey, error) {
	env, err := ParseEnvironment(string(orSandbox(n.Environment)))
	if err != nil {
		return nil, nil, err
	}
	if n.App == "" {
		return nil, nil, &FieldError{Field: "app", Problem: "is empty", Want: "the ID or the app key of an app"}
	}
	now := s.clock()
	var sub *Subscription
	var issued []IssuedPushKey
	err = s.update(ctx, actor, func(tx Tx) (event, error) {
		app, err := findApp(ctx, tx, n.App)
		if err != nil {
			return event{}, err
		}
		sub = &Subscription{
			App: app.ID, AppNumber: app.Number, Environment: env, Format: EncryptedFormat, Status: Unverified, CreatedAt: now, UpdatedAt: now,
		}
		if err := s.settle(ctx, tx, app, sub, &n.SubscriptionSettings); err != nil {
			return event{}, err
		}
		if sub.ID, err = newID(s.rand, subPrefix); err != nil {
			return event{}, err
		}
		if issued, err = s.completePushKeys(ctx, tx, app, sub); err != nil {
			return event{}, err
		}
		return event{"subscription.create", sub.ID, nil, sub, pushChange(app)}, tx.PutSubscription(ctx, sub)
	})
	if err != nil {
		return nil, nil, err
	}
	return sub, issued, nil
}

// settle puts the settings into the subscription and checks what comes of it.
func (s *Service) settle(ctx context.Context, r Reader, app *App, sub *Subscription, n *SubscriptionSettings) error {
	if n.URL != nil && *n.URL != sub.URL {
		if err := s.checkCallbackURL(*n.URL); err != nil {
			return err
		}
		// Whoever answers there has not shown yet that it wants messages.
		sub.URL, sub.Status, sub.Reason, sub.FailingSince, sub.VerifiedAt = *n.URL, Unverified, "", time.Time{}, time.Time{}
	} else if sub.URL == "" {
		return s.checkCallbackURL("")
	}
	if n.Filter != nil {
		filter, err := findUsers(ctx, r, *n.Filter)
		if err != nil {
			return err
		}
		sub.Filter = filter
	}
	set(&sub.Ordered, n.Ordered)
	set(&sub.HoldFor, n.HoldFor)
	set(&sub.Concurrency, n.Concurrency)
	set(&sub.Rate, n.Rate)
	set(&sub.Format, n.Format)
	set(&sub.Asymmetric, n.Asymmetric)
	if n.Schedule != nil {
		sub.Schedule = slices.Clip(slices.Clone(n.Schedule))
	}
	if len(sub.Schedule) == 0 {
		sub.Schedule = nil
	}
	if err := sub.check(); err != nil {
		return err
	}
	var fresh []string
	if n.Topics != nil || sub.ID == "" {
		before := sub.Topics
		sub.Topics = slices.Compact(slices.Sorted(slices.Values(n.Topics)))
		// What it has it keeps, also when it could not be had anew.
		fresh = slices.DeleteFunc(slices.Clone(sub.Topics), func(name string) bool { return slices.Contains(before, name) })
	}
	cat, err := r.Catalog(ctx)
	if err != nil {
		return err
	}
	others, err := r.Subscriptions(ctx, SubscriptionFilter{App: app.ID}, Page{Limit: maxPageRows})
	if err != nil {
		return err
	}
	if sub.ID == "" && len(others) >= maxSubscriptions {
		return fmt.Errorf("app %s has %d subscriptions already: %w", app.ID, len(others), ErrConflict)
	}
	if err := sub.checkTopics(app, cat, fresh, others, s.clock()); err != nil || n.Filter == nil && n.Topics == nil {
		return err
	}
	return sub.checkUsers(cat)
}

// set puts a value that is given.
func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// findUsers checks that the merchants of a filter exist, and names them by ID.
func findUsers(ctx context.Context, r Reader, f MessageFilter) (MessageFilter, error) {
	if len(f.Users) > maxUsers {
		return f, &FieldError{Field: "filter.users", Problem: fmt.Sprintf("has %d entries", len(f.Users)), Want: fmt.Sprintf("at most %d", maxUsers)}
	}
	var ids []string
	for i, ref := range f.Users {
		u, err := findUser(ctx, r, ref)
		if errors.Is(err, ErrNotFound) {
			return f, &FieldError{Field: fmt.Sprintf("filter.users[%d]", i), Problem: fmt.Sprintf("there is no merchant %q", ref), Want: "the ID or the login of a merchant"}
		}
		if err != nil {
			return f, err
		}
		ids = append(ids, u.ID)
	}
	slices.Sort(ids)
	f.Users, f.Conditions = slices.Compact(ids), slices.Clone(f.Conditions)
	return f, nil
}

// Subscription loads a subscription by its ID.
func (s *Service) Subscription(ctx context.Context, id string) (*Subscription, error) {
	return s.store.Subscription(ctx, id)
}

// Subscriptions lists subscriptions by ID. The filter's app may be an app's ID
// or appKey.
func (s *Service) Subscriptions(ctx context.Context, f SubscriptionFilter, p Page) ([]Subscription, error) {
	limit, err := checkLimit(p.Limit)
	if err != nil {
		return nil, err
	}
	p.Limit = limit
	if f.Environment != "" {
		if f.Environment, err = ParseEnvironment(string(f.Environment)); err != nil {
			return nil, err
		}
	}
	if f.Status != "" && !slices.Contains([]SubscriptionStatus{Unverified, SubscriptionActive, Paused, Disabled}, f.Status) {
		return nil, &FieldError{Field: "status", Problem: fmt.Sprintf("%q is no status of a subscription", f.Status), Want: "unverified, active, paused or disabled"}
	}
	if f.Topic != "" {
		if err := checkTopicName("topic", f.Topic); err != nil {
			return nil, err
		}
	}
	if f.App != "" {
		a, err := findApp(ctx, s.store, f.App)
		if err != nil {
			return nil, err
		}
		f.App = a.ID
	}
	return s.store.Subscriptions(ctx, f, p)
}

// updateSubscription loads the subscription, lets fn edit it, and writes it.
func (s *Service) updateSubscription(ctx context.Context, actor, id, action string, fn func(Tx, *App, *Subscription) error) (*Subscription, error) {
	var sub *Subscription
	err := s.update(ctx, actor, func(tx Tx) (event, error) {
		var err error
		if sub, err = tx.Subscription(ctx, id); err != nil {
			return event{}, err
		}
		app, err := tx.App(ctx, sub.App)
		if err != nil {
			return event{}, err
		}
		before, err := auditJSON(sub)
		if err != nil {
			return event{}, err
		}
		if err := fn(tx, app, sub); err != nil {
			return event{}, err
		}
		sub.UpdatedAt = s.clock()
		return event{action, sub.ID, before, sub, pushChange(app)}, tx.PutSubscription(ctx, sub)
	})
	if err != nil {
		return nil, err
	}
	return sub, nil
}

// UpdateSubscription changes settings. With another URL the subscription is
// unverified again. The keys are those that the change made, if it needed any.
func (s *Service) UpdateSubscription(ctx context.Context, actor, id string, n SubscriptionSettings) (*Subscription, []IssuedPushKey, error) {
	var issued []IssuedPushKey
	sub, err := s.updateSubscription(ctx, actor, id, "subscription.update", func(tx Tx, app *App, sub *Subscription) error {
		err := s.settle(ctx, tx, app, sub, &n)
		if err == nil {
			issued, err = s.completePushKeys(ctx, tx, app, sub)
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return sub, issued, nil
}

// PauseSubscription lets messages wait until the subscription is resumed.
func (s *Service) PauseSubscription(ctx context.Context, actor, id string) (*Subscription, error) {
	return s.updateSubscription(ctx, actor, id, "subscription.pause", func(_ Tx, _ *App, sub *Subscription) error {
		if sub.Status != SubscriptionActive && sub.Status != Paused {
			return fmt.Errorf("subscription %s is %s, and nothing is delivered: %w", id, sub.Status, ErrConflict)
		}
		sub.Status = Paused
		return nil
	})
}

// ResumeSubscription delivers again what was paused or disabled, and forgets
// the failures that led there.
func (s *Service) ResumeSubscription(ctx context.Context, actor, id string) (*Subscription, error) {
	return s.updateSubscription(ctx, actor, id, "subscription.resume", func(_ Tx, _ *App, sub *Subscription) error {
		if sub.Status == Unverified {
			return fmt.Errorf("the URL of subscription %s has not been verified: verify it instead: %w", id, ErrConflict)
		}
		sub.Status, sub.Reason, sub.FailingSince = SubscriptionActive, "", time.Time{}
		return nil
	})
}

// DeleteSubscription removes a subscription. What waits for it is cancelled.
func (s *Service) DeleteSubscription(ctx context.Context, actor, id string) error {
	return s.update(ctx, actor, func(tx Tx) (event, error) {
		sub, err := tx.Subscription(ctx, id)
		if err != nil {
			return event{}, err
		}
		app, err := tx.App(ctx, sub.App)
		if err != nil {
			return event{}, err
		}
		return event{"subscription.delete", sub.ID, sub, nil, pushChange(app)}, tx.DeleteSubscription(ctx, id)
	})
}

// VerifySubscription calls challenge, which asks the URL for a proof that it can
// read the messages, and makes the subscription active where it passes. One
// that is paused stays so. An error of the challenge is ErrConflict, unless it
// is ErrUnavailable; so is another URL that was set meanwhile.
func (s *Service) VerifySubscription(ctx context.Context, actor, id string, challenge func(context.Context, *Subscriber, *Subscription) error) (*Subscription, error) {
	if err := checkActor(actor); err != nil {
		return nil, err
	}
	sub, err := s.store.Subscription(ctx, id)
	if err != nil {
		return nil, err
	}
	app, err := s.store.App(ctx, sub.App)
	if err != nil {
		return nil, err
	}
	keys, err := s.store.PushKeys(ctx, app.ID)
	if err != nil {
		return nil, err
	}
	asked := sub.URL
	if err := challenge(ctx, &Subscriber{App: *app, Subscriptions: []Subscription{*sub}, Keys: keys}, sub); err != nil {
		if errors.Is(err, ErrUnavailable) {
			return nil, fmt.Errorf("verifying subscription %s: %w", id, err)
		}
		return nil, fmt.Errorf("the URL of subscription %s did not pass the challenge: %s: %w", id, strings.TrimSpace(err.Error()), ErrConflict)
	}
	return s.updateSubscription(ctx, actor, id, "subscription.verify", func(_ Tx, _ *App, sub *Subscription) error {
		if sub.URL != asked {
			return fmt.Errorf("the URL of subscription %s was changed during the challenge: verify it again: %w", id, ErrConflict)
		}
		if sub.VerifiedAt = s.clock(); sub.Status != Paused {
			sub.Status, sub.Reason, sub.FailingSince = SubscriptionActive, "", time.Time{}
		}
		return nil
	})
}
