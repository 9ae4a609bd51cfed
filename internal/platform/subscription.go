package platform

import (
	"encoding/json"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
)

// SubscriptionStatus is whether messages are delivered.
type SubscriptionStatus string

// The states of a subscription.
const (
	// Unverified waits for the URL to answer its challenge. Nothing is
	// delivered, and no message waits for it.
	Unverified SubscriptionStatus = "unverified"
	// SubscriptionActive takes messages.
	SubscriptionActive SubscriptionStatus = "active"
	// Paused keeps messages waiting until somebody resumes it.
	Paused SubscriptionStatus = "paused"
	// Disabled is what becomes of an endpoint that failed for days or said that
	// it is gone. Its deliveries are suspended until somebody resumes it.
	Disabled SubscriptionStatus = "disabled"
)

// PushFormat is what the body of a push is.
type PushFormat string

// The formats of pushed bodies.
const (
	// EncryptedFormat is {"encrypt":"<JWE>"}. The default.
	EncryptedFormat PushFormat = "encrypted"
	// PlainFormat is the CloudEvent itself; only staff may set it.
	PlainFormat PushFormat = "plain"
)

// Subscription is an endpoint of an app: which topics it gets, where and how.
// A topic is in one subscription of an app and environment at the most, so a
// message makes one delivery for an app.
type Subscription struct {
	// ID never changes: "sub_" and 20 characters.
	ID string `json:"id"`
	// Number is its row in the store. Deliveries refer to it.
	Number uint64 `json:"-"`
	// App is the app's ID, AppNumber its number.
	App         string      `json:"app"`
	AppNumber   uint64      `json:"-"`
	Environment Environment `json:"environment"`
	// URL is where messages are posted: https, or http where the operator
	// allows the address.
	URL string `json:"url"`
	// Topics are sorted.
	Topics []string      `json:"topics"`
	Filter MessageFilter `json:"filter,omitzero"`
	// Ordered keeps messages of one key in the order of their publication.
	Ordered bool `json:"ordered,omitempty"`
	// HoldFor is how long a failing message of an ordered subscription may hold
	// up the others of its key; then it has failed. 0 means DefaultHoldFor.
	HoldFor time.Duration `json:"hold_for,omitempty"`
	// Concurrency is how many requests are under way at once, on all nodes
	// together. 0 means DefaultConcurrency.
	Concurrency int `json:"concurrency,omitempty"`
	// Rate bounds requests on each node; zero does not.
	Rate limit.Rate `json:"rate,omitzero"`
	// Schedule is the waits between attempts; empty is the platform's.
	Schedule []time.Duration `json:"schedule,omitempty"`
	Format   PushFormat      `json:"format"`
	// Asymmetric asks for Ed25519 signatures (v1a) beside the HMAC ones.
	Asymmetric bool               `json:"asymmetric,omitempty"`
	Status     SubscriptionStatus `json:"status"`
	// Reason says in words why it is disabled.
	Reason string `json:"reason,omitempty"`
	// FailingSince is when the first of the failures in a row was; zero while
	// it works.
	FailingSince time.Time `json:"failing_since,omitzero"`
	VerifiedAt   time.Time `json:"verified_at,omitzero"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`
}

// SubscriptionFilter selects subscriptions in a list. Zero fields select
// everything.
type SubscriptionFilter struct {
	// App is an app's ID; the service takes an appKey too.
	App         string
	Environment Environment
	Topic       string
	Status      SubscriptionStatus
}

// Defaults of a subscription, and their bounds.
const (
	DefaultConcurrency = 16
	MaxConcurrency     = 1000
	DefaultHoldFor     = time.Hour
)

// MessageFilter selects messages. A zero filter takes all.
type MessageFilter struct {
	// Users are the merchants whose messages are taken; empty takes all.
	Users []string `json:"users,omitempty"`
	// Conditions must all hold for the data of a message.
	Conditions []Condition `json:"conditions,omitempty"`
}

// IsZero tells whether all messages are taken.
func (f MessageFilter) IsZero() bool { return len(f.Users) == 0 && len(f.Conditions) == 0 }

// Condition compares one value of a message's data.
type Condition struct {
	// Pointer names the value (RFC 6901): "/status", "/items/0/sku".
	Pointer string `json:"pointer"`
	// Op is eq, ne, in, exists, gt, ge, lt, le or prefix.
	Op string `json:"op"`
	// Value is what it is compared with: a JSON scalar, for in an array of
	// them, for exists a boolean.
	Value json.RawMessage `json:"value,omitempty"`
}

// PushKeyKind tells what a push key is for.
type PushKeyKind string

// The kinds of push key. All are 32 random bytes.
const (
	// SigningKey signs each attempt with HMAC-SHA256 (Standard Webhooks v1).
	SigningKey PushKeyKind = "sign"
	// Ed25519Key is the seed of the key that signs with Ed25519 (v1a).
	Ed25519Key PushKeyKind = "sign_ed25519"
	// EncryptionKey wraps the content keys of bodies (A256KW, RFC 7518 section 4.4).
	EncryptionKey PushKeyKind = "encrypt"
)

// PushKey signs or encrypts what is pushed to an app. At most two of a kind
// and environment are live at a time: all live ones sign, the newest encrypts.
type PushKey struct {
	// Number counts an app's push keys from 1; the JWE's kid is "appKey.2".
	Number      int         `json:"number"`
	Environment Environment `json:"environment"`
	Kind        PushKeyKind `json:"kind"`
	// Secret is encrypted at rest and shown once.
	Secret Secret `json:"-"`
	// PublicKey is "whpk_" and the base64 of an Ed25519 key's public half.
	PublicKey string    `json:"public_key,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	// ExpiresAt ends it; zero for never. Revoking sets it.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// Live tells whether the key is in use at now.
func (k *PushKey) Live(now time.Time) bool { return k.ExpiresAt.IsZero() || now.Before(k.ExpiresAt) }

// Subscriber is an app as the pusher needs it: with its subscriptions and its
// push keys, its packages and whether it is active.
type Subscriber struct {
	App           App
	Subscriptions []Subscription
	Keys          []PushKey
}
