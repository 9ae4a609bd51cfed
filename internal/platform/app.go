package platform

import (
	"net/netip"
	"time"
)

// AppKind tells whose app it is.
type AppKind string

// The kinds of app.
const (
	// Merchant is an app that a merchant made for its own shop.
	Merchant AppKind = "merchant"
	// ISV is an app of a software vendor that serves many merchants.
	ISV AppKind = "isv"
)

// AppMode is how merchants authorize the app.
type AppMode string

// The authorization modes.
const (
	Hosted AppMode = "hosted"
	Web    AppMode = "web"
	Client AppMode = "client"
)

// AppStatus is whether the app may call.
type AppStatus string

// The states of an app.
const (
	Active    AppStatus = "active"
	Suspended AppStatus = "suspended"
)

// App is what calls the platform.
type App struct {
	// ID never changes: "app_" and 20 characters.
	ID string `json:"id"`
	// Number is the app's row in the store. Limits and nonces count by it.
	Number uint64 `json:"-"`
	// Key is the appKey that calls carry: "ak_" and 20 characters.
	Key    string    `json:"app_key"`
	Name   string    `json:"name"`
	Kind   AppKind   `json:"kind"`
	Mode   AppMode   `json:"mode"`
	Status AppStatus `json:"status"`
	// Plan names the plan whose limits apply; "" is the plan named "default".
	Plan string `json:"plan,omitempty"`
	// IPs is the whitelist. Empty means any address.
	IPs         []IPRule       `json:"ips,omitempty"`
	Credentials []Credential   `json:"credentials,omitempty"`
	Dialects    []DialectGrant `json:"dialects,omitempty"`
	Packages    []PackageGrant `json:"packages,omitempty"`
	// OAuth is how merchants authorize the app.
	OAuth     OAuthSettings `json:"oauth,omitzero"`
	CreatedAt time.Time     `json:"created_at"`
	UpdatedAt time.Time     `json:"updated_at"`
}

// IPRule is one entry of an app's whitelist: a prefix (one address is a
// prefix of full length) or the name of a global group.
type IPRule struct {
	Prefix netip.Prefix `json:"prefix,omitzero"`
	Group  string       `json:"group,omitempty"`
	Note   string       `json:"note,omitempty"`
}

// CredentialKind tells a shared secret from a public key.
type CredentialKind string

// The kinds of credential.
const (
	SharedSecret CredentialKind = "secret"
	PublicKey    CredentialKind = "public_key"
)

// Credential is what a call's signature is checked with. At most two of one
// environment and dialect are live at a time, so that secrets can rotate.
type Credential struct {
	// Number counts an app's credentials from 1; "appKey#2" selects the second.
	Number      int            `json:"number"`
	Environment Environment    `json:"environment"`
	Kind        CredentialKind `json:"kind"`
	// Dialect is the signature scheme that it serves; each has its own secret.
	Dialect string `json:"dialect"`
	// Secret is set for the kind secret. It is encrypted at rest and shown once.
	Secret Secret `json:"-"`
	// PublicKeyPEM is set for the kind public_key.
	PublicKeyPEM string    `json:"public_key,omitempty"`
	CreatedAt    time.Time `json:"created_at"`
	// ExpiresAt ends it; zero for never. Revoking sets it to now.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// Live tells whether the credential is accepted at now.
func (c *Credential) Live(now time.Time) bool {
	return c.ExpiresAt.IsZero() || now.Before(c.ExpiresAt)
}

// DialectGrant lets an app sign in a dialect other than op1.
type DialectGrant struct {
	Dialect string `json:"dialect"`
	// Method pins the digest algorithm, so that no call can choose a weaker one.
	Method string `json:"method,omitempty"`
}

// PackageGrant gives an app a package for a period.
type PackageGrant struct {
	Package string `json:"package"`
	Period
}

// AppFilter selects apps in a list. Zero fields select everything.
type AppFilter struct {
	Status AppStatus
	Kind   AppKind
	// Text is a part of the name, or an ID, or an appKey.
	Text string
	// Package, Plan and IPGroup are what the app has.
	Package, Plan, IPGroup string
}
