package gate

import (
	"net/netip"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// Call is one call on its way through the gate.
type Call struct {
	// RequestID identifies the call in answers, logs and reports.
	RequestID string
	// ClientIP is the caller's address as Caddy determined it, 4-in-6 unmapped.
	ClientIP netip.Addr
	// Started is when the call arrived: the time that packages and periods are
	// checked against. Signatures and counters take the time of their check.
	Started time.Time
	// Duration is the whole time it took; set when the call has ended.
	Duration time.Duration
	// Environment is the route's; "" before the signature stage.
	Environment platform.Environment
	// Claim is what the call says about itself; verified once Verified is set.
	Claim signing.Claim
	// Verified says that the signature was checked and is good.
	Verified bool
	// Limits is the answer of the rate stage.
	Limits limit.Result
	// Limited says that a limit applied, so that Limits means something.
	Limited bool
	// Refusal is why the call was refused; nil while it was not.
	Refusal *Refusal
	// Status and Bytes describe the answer; set when the call has ended.
	Status int
	Bytes  int64

	identified bool
	claimErr   error
	app        *app
	appErr     error
	api        *api
	user       User
	granted    bool
	charged    bool
	// checked is the time by which the signature is fresh.
	checked time.Time
	// unspent holds a nonce that Charge will spend.
	unspent *scratch
	// ipChecked says that the caller's address was checked, with the whitelist
	// of ipApp.
	ipChecked bool
	ipApp     *app
	catalog   *snapshot
}

// User is the merchant on whose behalf the app calls.
type User = platform.TokenUser

// App is the verified app, or nil.
func (c *Call) App() *platform.App {
	if !c.Verified {
		return nil
	}
	return c.app.App
}

// API is the matched API, or nil.
func (c *Call) API() *platform.API {
	if c.api == nil {
		return nil
	}
	return c.api.API
}

// Admitted tells whether the call may go on to the upstream as far as the gate
// has come: its signature is good and its nonce is not waiting to be spent.
func (c *Call) Admitted() bool { return c.Verified && c.unspent == nil }

// User is the merchant; the zero User when the call carries no authorization.
func (c *Call) User() User { return c.user }
