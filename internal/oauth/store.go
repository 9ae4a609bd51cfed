// Package oauth is the core of the authorization server (RFC 6749): who may get
// which token for what. It knows the rules; pages and Caddy are elsewhere.
package oauth

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Hash is what is stored of a code or a token: its SHA-256. The value itself is
// 256 bits of randomness, so no slow hash is needed, and a stolen database
// yields nothing that can be used.
type Hash [32]byte

// Family is all that hangs from one authorization: the tokens that were issued
// for one code, and their successors. A replay revokes a family.
type Family string

// Code is an authorization code (RFC 6749 section 4.1.2) that waits to be
// exchanged.
type Code struct {
	Hash        Hash
	Family      Family
	Grant       string // the grant's ID
	App         uint64 // the app's number
	Environment platform.Environment
	User        string
	RedirectURI string
	// RedirectGiven says that the request had a redirect_uri, so that the
	// exchange must repeat it (RFC 6749 section 4.1.3).
	RedirectGiven bool
	// Challenge is the S256 challenge of RFC 7636; empty when none was sent.
	Challenge string
	Scopes    []string
	Resources []string // RFC 8707
	// Key is the thumbprint of the DPoP key it is bound to (RFC 9449 section
	// 10), or empty.
	Key       string
	IssuedAt  time.Time
	ExpiresAt time.Time
	// Until is when its grant ends, and all that hangs from it.
	Until time.Time
}

// Token is an access token or a refresh token.
type Token struct {
	Hash        Hash
	Family      Family
	Kind        TokenKind
	Grant       string // empty for client credentials
	App         uint64
	Environment platform.Environment
	User        string // empty for client credentials
	Scopes      []string
	Resources   []string
	Key         string // thumbprint of the DPoP key, or empty
	IssuedAt    time.Time
	ExpiresAt   time.Time
	// ReplacedAt is when a rotating refresh token was exchanged; zero while it
	// was not. It is then no longer accepted, and shows a replay.
	ReplacedAt time.Time
}

// TokenKind tells access tokens from refresh tokens.
type TokenKind uint8

// The kinds of token. The values are stored.
const (
	AccessToken  TokenKind = 1
	RefreshToken TokenKind = 2
)

// Device is a device without a browser that waits for a merchant's answer (RFC
// 8628 section 3.1).
type Device struct {
	// Hash is of the device code, UserCode of the code that people type.
	Hash, UserCode Hash
	// App is the app's number, AppKey its appKey.
	App         uint64
	AppKey      string
	Environment platform.Environment
	Scopes      []string
	Resources   []string
	Key         string // thumbprint of the DPoP key it is bound to, or empty
	State       DeviceState
	// User, Grant and Family are set once a merchant has approved.
	User   string
	Grant  string
	Family Family
	// Hasty says that the device asked before its interval was over, Redeemed that
	// its code was taken out of the store before it was loaded.
	Hasty     bool
	Redeemed  bool
	IssuedAt  time.Time
	ExpiresAt time.Time
}

// DeviceState is what a merchant has answered.
type DeviceState string

// The states of a device. The values are stored.
const (
	DevicePending  DeviceState = "pending"
	DeviceApproved DeviceState = "approved"
	DeviceDenied   DeviceState = "denied"
)

// ErrReplayed means that a code, a device code or a rotating refresh token was used before.
// Its family has been revoked.
var ErrReplayed = errors.New("used before")

// Store keeps codes, tokens and grants. Every method is one transaction, and
// those that say so are one atomic statement, so that of any number of parallel
// callers on any number of nodes one succeeds. Errors wrap platform.ErrNotFound,
// platform.ErrConflict or platform.ErrUnavailable.
type Store interface {
	// User finds a merchant by ID, UserByLogin by the name that it logs in with.
	User(ctx context.Context, id string) (*platform.User, error)
	UserByLogin(ctx context.Context, login string) (*platform.User, error)
	// UserByIdentity finds the merchant that an outside passport names, or makes
	// one: issuer and subject are the passport's, name is what it calls them.
	UserByIdentity(ctx context.Context, issuer, subject, name string, now time.Time) (*platform.User, error)

	// Grant loads a grant by its ID.
	Grant(ctx context.Context, id string) (*platform.Grant, error)
	// GrantOf finds the live grant of a user for an app and environment.
	GrantOf(ctx context.Context, user string, app uint64, env platform.Environment, now time.Time) (*platform.Grant, error)
	// Authorize makes the user's live grant for the app, or widens it by the
	// scopes and prolongs it, and saves the code in the same transaction. Where
	// g.ID is set it changes no grant: that one must be live and cover the scopes,
	// else it is platform.ErrConflict. It sets code.Grant and code.Until.
	Authorize(ctx context.Context, g *platform.Grant, code *Code) error

	// Code loads a code that was not redeemed. It may have expired.
	Code(ctx context.Context, hash Hash) (*Code, error)
	// RedeemCode takes a code out of the store: once, atomically. A second time
	// it revokes the family and returns ErrReplayed. The code may have expired:
	// the caller looks.
	RedeemCode(ctx context.Context, hash Hash, now time.Time) (*Code, error)
	// SaveDevice saves a device that waits. A user code that another one has is
	// platform.ErrConflict.
	SaveDevice(ctx context.Context, d *Device) error
	// Device loads a device by its device code, whatever became of it.
	Device(ctx context.Context, hash Hash) (*Device, error)
	// DeviceByUserCode finds the device that shows the code, while it waits.
	DeviceByUserCode(ctx context.Context, userCode Hash, env platform.Environment, now time.Time) (*Device, error)
	// ApproveDevice does for a device that waits what Authorize does for a code,
	// once, atomically; else it is platform.ErrConflict. d.Family is the caller's.
	ApproveDevice(ctx context.Context, g *platform.Grant, d *Device) error
	// DenyDevice refuses a device that waits; else it is platform.ErrConflict.
	DenyDevice(ctx context.Context, hash Hash, now time.Time) error
	// PollDevice notes that the device asked, sets of d what has changed, and
	// takes its code out of the store if a merchant has approved in time: once,
	// atomically. A second time it revokes the family and returns ErrReplayed.
	PollDevice(ctx context.Context, d *Device, now time.Time) error

	// SaveTokens saves new tokens, all or none. It fails with
	// platform.ErrConflict if their grant or family was revoked meanwhile.
	SaveTokens(ctx context.Context, tokens ...*Token) error
	// Token loads a token, expired or not, unless it or what it hangs from was
	// revoked, or its merchant is disabled.
	Token(ctx context.Context, hash Hash) (*Token, error)
	// ReplaceToken marks a rotating refresh token as used and saves its
	// successors in the same transaction: once, atomically. A second time it
	// revokes the family and returns ErrReplayed.
	ReplaceToken(ctx context.Context, hash Hash, now time.Time, successors ...*Token) error
	// RevokeToken revokes one token; RevokeFamily all tokens of a family.
	RevokeToken(ctx context.Context, hash Hash) error
	RevokeFamily(ctx context.Context, family Family) error

	// Prune deletes codes, devices and tokens that expired before, in batches of a
	// bounded size, and returns how many.
	Prune(ctx context.Context, before time.Time) (int, error)
}
