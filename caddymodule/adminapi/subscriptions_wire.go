package adminapi

import "github.com/caddy-openplatform/openplatform/internal/platform"

// SubscriptionSettings are what is sent to make or change a subscription.
// Fields that are left out take the default, or stay as they are.
type SubscriptionSettings struct {
	URL *string `json:"url,omitempty"`
	// Topics are all that the subscription is to have.
	Topics []string `json:"topics,omitempty"`
	// Filter replaces the whole filter; {} takes all messages. Its users may be
	// IDs or logins.
	Filter  *platform.MessageFilter `json:"filter,omitempty"`
	Ordered *bool                   `json:"ordered,omitempty"`
	// HoldFor is a duration: "1h"; "0s" is the default.
	HoldFor *string `json:"hold_for,omitempty"`
	// Concurrency 0 is the default.
	Concurrency *int `json:"concurrency,omitempty"`
	// Rate {} is none.
	Rate *platform.Rate `json:"rate,omitempty"`
	// Schedule are durations; [] is the platform's.
	Schedule []string `json:"schedule,omitzero"`
	// Format is "encrypted" (the default) or "plain".
	Format     *platform.PushFormat `json:"format,omitempty"`
	Asymmetric *bool                `json:"asymmetric,omitempty"`
}

// NewSubscription describes a subscription to make.
type NewSubscription struct {
	// App is an app's ID or app key.
	App         string               `json:"app"`
	Environment platform.Environment `json:"environment,omitempty"`
	SubscriptionSettings
}

// SubscriptionWithKeys is a subscription with the push keys that were made for
// it just now, whose secrets are shown this once.
type SubscriptionWithKeys struct {
	Subscription platform.Subscription    `json:"subscription"`
	PushKeys     []platform.IssuedPushKey `json:"push_keys,omitempty"`
}

// SubscriptionPage is one page of a list of subscriptions.
type SubscriptionPage struct {
	Subscriptions []platform.Subscription `json:"subscriptions"`
	// Next is the "after" of the next page; absent on the last one.
	Next string `json:"next,omitempty"`
}

// PushKeyList are an app's push keys, without their secrets.
type PushKeyList struct {
	PushKeys []platform.PushKey `json:"push_keys"`
}
