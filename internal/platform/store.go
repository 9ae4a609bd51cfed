package platform

import (
	"context"
	"time"
)

// Store keeps the domain. Package store fills it. Every error wraps
// ErrNotFound, ErrConflict or ErrUnavailable where one of them is the reason.
type Store interface {
	Reader
	// Update runs fn in one transaction: all of it happens, or nothing.
	Update(ctx context.Context, fn func(Tx) error) error
}

// Reader reads the domain.
type Reader interface {
	// AppByKey loads an app with everything that hangs from it.
	AppByKey(ctx context.Context, appKey string) (*App, error)
	// App loads an app by its ID.
	App(ctx context.Context, id string) (*App, error)
	// Apps lists apps by ID, without their credentials.
	Apps(ctx context.Context, f AppFilter, p Page) ([]App, error)
	// CountApps counts all apps.
	CountApps(ctx context.Context) (int, error)
	// Catalog loads all APIs, topics, packages, plans, groups and platform limits.
	Catalog(ctx context.Context) (*Catalog, error)
	// Audit lists changes, newest first.
	Audit(ctx context.Context, f AuditFilter) ([]AuditEntry, error)
	// User loads a user by its ID, UserByLogin by what it logs in with.
	User(ctx context.Context, id string) (*User, error)
	UserByLogin(ctx context.Context, login string) (*User, error)
	// Users lists users by ID.
	Users(ctx context.Context, f UserFilter, p Page) ([]User, error)
	// Grant loads a grant by its ID, also one that has ended.
	Grant(ctx context.Context, id string) (*Grant, error)
	// Grants lists grants by ID.
	Grants(ctx context.Context, f GrantFilter, p Page) ([]Grant, error)
	// TokenInfo tells about the token of the SHA-256, unless it was revoked.
	TokenInfo(ctx context.Context, hash [32]byte) (*TokenInfo, error)
	// Subscription loads a subscription by its ID.
	Subscription(ctx context.Context, id string) (*Subscription, error)
	// Subscriptions lists subscriptions by ID.
	Subscriptions(ctx context.Context, f SubscriptionFilter, p Page) ([]Subscription, error)
	// PushKeys lists all push keys of the app with that ID, by number, with
	// their secrets.
	PushKeys(ctx context.Context, app string) ([]PushKey, error)
}

// Tx reads and writes the domain within one transaction.
type Tx interface {
	Reader
	// PutApp writes the app and all that hangs from it. It sets Number on a
	// new app. A taken ID or appKey is ErrConflict.
	PutApp(ctx context.Context, a *App) error
	DeleteApp(ctx context.Context, id string) error
	PutAPI(ctx context.Context, a *API) error
	PutTopic(ctx context.Context, t *Topic) error
	PutPackage(ctx context.Context, p *Package) error
	DeletePackage(ctx context.Context, name string) error
	PutPlan(ctx context.Context, p *Plan) error
	DeletePlan(ctx context.Context, name string) error
	PutIPGroup(ctx context.Context, g *IPGroup) error
	DeleteIPGroup(ctx context.Context, name string) error
	PutPlatformLimits(ctx context.Context, l Limits) error
	PutCatalogDigest(ctx context.Context, source, digest string) error
	// PutUser writes a user. A login or an identity that another one has is
	// ErrConflict.
	PutUser(ctx context.Context, u *User) error
	// RevokeGrant ends a grant, and deletes all tokens that hang from it.
	RevokeGrant(ctx context.Context, id string, at time.Time) error
	// RevokeToken deletes the token; of a refresh token all of its family.
	RevokeToken(ctx context.Context, t *TokenInfo) error
	// PutSubscription writes a subscription. It sets Number on a new one. A
	// topic that another one of the app and environment has is ErrConflict.
	PutSubscription(ctx context.Context, s *Subscription) error
	DeleteSubscription(ctx context.Context, id string) error
	// PutPushKey writes a push key of the app.
	PutPushKey(ctx context.Context, a *App, k *PushKey) error
	AppendAudit(ctx context.Context, e *AuditEntry) error
	// Announce tells the other nodes of the change, once it is committed.
	// Where one process owns the store it does nothing.
	Announce(ctx context.Context, c Change) error
}

// Catalog is everything that the gate keeps in memory but the apps.
type Catalog struct {
	APIs     []API
	Topics   []Topic
	Packages []Package
	Plans    []Plan
	IPGroups []IPGroup
	// Platform limits all calls together.
	Platform Limits
	// Digests holds, for each applied catalog file, the SHA-256 of what was
	// applied, in hex.
	Digests map[string]string
}
