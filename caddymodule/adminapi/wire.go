package adminapi

import (
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	// PathPrefix is where the admin API lives on Caddy's admin endpoint.
	PathPrefix = "/open_platform"
	// ActorHeader is the request header that tells the audit log who makes a
	// change. Default: admin-api.
	ActorHeader = "X-Open-Actor"
	// MaxBody bounds a request body in bytes; a catalog file is the largest.
	MaxBody = 16 << 20
	// Timeout bounds the work of one request, a rotation of the master key
	// excepted.
	Timeout = 30 * time.Second
)

// StatusReport is how this node is doing.
type StatusReport struct {
	// Health tells whether this node can take calls.
	Health HealthReport `json:"health"`
	// Storage names the engine and where it is: "sqlite data/openplatform.db".
	Storage string `json:"storage"`
	// StorageError says why the store does not answer; empty when it does.
	StorageError string `json:"storage_error,omitempty"`
	// Apps and APIs count what the store holds.
	Apps int `json:"apps"`
	APIs int `json:"apis"`
	// CachedApps counts the apps that this node keeps in memory.
	CachedApps int `json:"cached_apps"`
	// NonceEntries counts the remembered nonces, NonceBytes their memory.
	NonceEntries int   `json:"nonce_entries"`
	NonceBytes   int64 `json:"nonce_bytes"`
	// LimitCounters counts the live rate and quota counters.
	LimitCounters int `json:"limit_counters"`
}

// AppPage is one page of a list of apps.
type AppPage struct {
	Apps []platform.App `json:"apps"`
	// Next is the "after" of the next page; absent on the last one.
	Next string `json:"next,omitempty"`
}

// CreatedApp is a new app with its first secret, which is shown this once.
type CreatedApp struct {
	platform.App
	platform.IssuedSecret
}

// NewUser describes a merchant to make, who logs in here.
type NewUser struct {
	Login    string `json:"login"`
	Name     string `json:"name"`
	Password string `json:"password"`
}

// UserPage is one page of a list of merchants.
type UserPage struct {
	Users []platform.User `json:"users"`
	// Next is the "after" of the next page; absent on the last one.
	Next string `json:"next,omitempty"`
}

// GrantPage is one page of a list of merchants' grants.
type GrantPage struct {
	Grants []platform.Grant `json:"grants"`
	// Next is the "after" of the next page; absent on the last one.
	Next string `json:"next,omitempty"`
}

// NewStartLink describes a link to make, by which the app market starts an app.
type NewStartLink struct {
	// Environment is that of the authorization server; "" is production.
	Environment platform.Environment `json:"environment"`
	// Issuer is the authorization server's. It may be left out where the
	// configuration names one for the environment.
	Issuer string `json:"issuer"`
	// Valid is how long the link is good for: "24h", the default.
	Valid string `json:"valid"`
}

// StartLink is such a link.
type StartLink struct {
	URL         string               `json:"url"`
	AppKey      string               `json:"app_key"`
	Environment platform.Environment `json:"environment"`
	ExpiresAt   time.Time            `json:"expires_at"`
}

// RotationLine is one line of the answer to a rotation of the master key. The
// last one has Finished or Error.
type RotationLine struct {
	// Done and Total count secrets.
	Done     int    `json:"done"`
	Total    int    `json:"total"`
	Finished bool   `json:"finished,omitempty"`
	Error    string `json:"error,omitempty"`
}
