package platform

import "time"

// TokenFormat is what an app's access tokens look like.
type TokenFormat string

// The formats of access tokens.
const (
	// OpaqueToken is a random string; only its hash is stored. The default.
	OpaqueToken TokenFormat = "opaque"
	// JWTToken is a signed token as RFC 9068 has it.
	JWTToken TokenFormat = "jwt"
)

// RefreshPolicy is what happens to a refresh token when it is used.
type RefreshPolicy string

// The policies for refresh tokens. Public apps always rotate.
const (
	// KeepRefresh leaves the earlier token valid, as the rules of 1688 want.
	// The default for confidential apps. Of one grant the newest 200 stay.
	KeepRefresh RefreshPolicy = "keep"
	// RotateRefresh ends the earlier token; its use shows a replay, which
	// revokes all tokens of the authorization (RFC 9700 section 4.14.2).
	RotateRefresh RefreshPolicy = "rotate"
)

// OAuthSettings is how merchants authorize an app.
type OAuthSettings struct {
	// RedirectURIs are compared exactly; only the port of a loopback address
	// may differ, for apps of the mode client (RFC 8252 section 7.3).
	RedirectURIs []string `json:"redirect_uris,omitempty"`
	// InitiateLoginURI is where a merchant is sent who starts an app of the mode
	// hosted from the app market (OpenID Connect Core section 4): an https URI.
	// Empty: it cannot be started.
	InitiateLoginURI string `json:"initiate_login_uri,omitempty"`
	// Tokens is the format of access tokens; "" is opaque.
	Tokens TokenFormat `json:"tokens,omitempty"`
	// Refresh is the policy for refresh tokens; "" is keep.
	Refresh RefreshPolicy `json:"refresh,omitempty"`
	// WithoutPKCE exempts a confidential app from PKCE (RFC 7636), for clients
	// that are too old for it.
	WithoutPKCE bool `json:"without_pkce,omitempty"`
}

// IsZero tells whether nothing is set.
func (o OAuthSettings) IsZero() bool {
	return len(o.RedirectURIs) == 0 && o.InitiateLoginURI == "" && o.Tokens == "" && o.Refresh == "" && !o.WithoutPKCE
}

// UserStatus is whether a merchant may log in and its grants hold.
type UserStatus string

// The states of a user.
const (
	UserActive   UserStatus = "active"
	UserDisabled UserStatus = "disabled"
)

// User is a merchant: who authorizes apps (the resource owner of RFC 6749).
type User struct {
	// ID never changes: "usr_" and 20 characters.
	ID string `json:"id"`
	// Login is what the merchant logs in with here; empty for one that an
	// outside passport knows.
	Login string `json:"login,omitempty"`
	// Name is the shop's name, as pages show it.
	Name   string     `json:"name"`
	Status UserStatus `json:"status"`
	// Issuer and Subject are who an outside passport says that it is.
	Issuer  string `json:"issuer,omitempty"`
	Subject string `json:"subject,omitempty"`
	// Password is the hash of the password, in PHC string format (argon2id);
	// empty where there is none.
	Password  Secret    `json:"-"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Grant is a merchant's authorization of an app. Tokens hang from it and die
// with it.
type Grant struct {
	// ID never changes: "gr_" and 20 characters.
	ID   string `json:"id"`
	User string `json:"user"`
	// App is the app's ID, AppNumber its number.
	App         string      `json:"app"`
	AppNumber   uint64      `json:"-"`
	Environment Environment `json:"environment"`
	// Scopes are the packages that the merchant authorized, sorted.
	Scopes    []string  `json:"scopes"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	// RevokedAt ends it; zero while it holds.
	RevokedAt time.Time `json:"revoked_at,omitzero"`
}

// Live tells whether the grant holds at now.
func (g *Grant) Live(now time.Time) bool { return g.RevokedAt.IsZero() && now.Before(g.ExpiresAt) }

// UserFilter selects users in a list. Zero fields select everything.
type UserFilter struct {
	Status UserStatus
	// Text is a part of the name or of the login, or an ID.
	Text string
}

// GrantFilter selects grants in a list. Zero fields select everything.
type GrantFilter struct {
	// User is a user's ID, App an app's ID.
	User, App   string
	Environment Environment
	// Live leaves out grants that do not hold now, by the service's clock;
	// LiveAt those that do not hold at that time, unless it is zero.
	Live   bool
	LiveAt time.Time
}

// TokenInfo is what staff may know of a token.
type TokenInfo struct {
	// Hash is the SHA-256 of the token.
	Hash [32]byte `json:"-"`
	// Refresh tells a refresh token from an access token.
	Refresh bool `json:"refresh"`
	// Family is what the token is revoked with.
	Family string `json:"-"`
	// Grant is the grant's ID; empty for client credentials, as is User.
	Grant       string      `json:"grant,omitempty"`
	User        string      `json:"user,omitempty"`
	App         string      `json:"app"`
	AppKey      string      `json:"app_key"`
	Environment Environment `json:"environment"`
	Scopes      []string    `json:"scopes"`
	IssuedAt    time.Time   `json:"issued_at"`
	ExpiresAt   time.Time   `json:"expires_at"`
	// ReplacedAt is when a rotating refresh token was used; zero while it was
	// not.
	ReplacedAt time.Time `json:"replaced_at,omitzero"`
}
