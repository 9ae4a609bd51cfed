package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// Rule is what a route demands of a signature.
type Rule struct {
	// Environment is the route's.
	Environment platform.Environment
	// Dialects are the schemes that the route takes, and Names their names.
	Dialects *signing.Set
	Names    []string
	// Skew is how far the signing time may lie from now; 0 means the
	// dialect's own window.
	Skew time.Duration
	// NonceWithRate leaves the nonce to Charge, which spends it together with
	// the limits, in one step of the ledger.
	NonceWithRate bool
}

// decoys stand in for the keys of an unknown app, so that it takes as long as
// a wrong signature does.
var decoys = func() map[string]*dialectKeys {
	m := map[string]*dialectKeys{}
	for _, name := range signing.Names() {
		key, err := signing.NewSecretKey(name, "", 1, []byte(strings.Repeat("decoy", 16)))
		if err != nil {
			panic(fmt.Sprintf("making the decoy key of %s: %v", name, err))
		}
		m[name] = &dialectKeys{dialect: name, keys: []*signing.Key{key}}
	}
	return m
}()

// Verify checks signature and time, then environment and status of the app.
func (g *Gate) Verify(c *Call, req *signing.Request, rule *Rule) *Refusal {
	if c.Verified {
		return c.recheck(rule)
	}
	c.Environment = rule.Environment
	if c.ipChecked && c.ipApp != c.app {
		// The route's open_ip does not know the dialect by which the app was
		// recognised just now.
		if refusal := g.checkWhitelist(c); refusal != nil {
			return refusal
		}
	}
	if c.claimErr != nil {
		return signatureRefusal(c.claimErr)
	}
	if c.appErr != nil {
		return unavailable(StageSignature, c.appErr)
	}
	if !slices.Contains(rule.Names, c.Claim.Dialect) {
		return dialectRefusal(c.Claim.Dialect, rule.Names)
	}
	// Not the time of arrival: a body may have been long in coming, and a call
	// must be fresh at the moment from which its nonce is remembered.
	opt := signing.Options{Now: g.now(), Skew: rule.Skew}
	if c.app == nil {
		_, err := c.Claim.Verify(req, decoys[c.Claim.Dialect].keys, opt)
		if errors.Is(err, signing.ErrTimestamp) || errors.Is(err, signing.ErrMalformed) {
			return signatureRefusal(err)
		}
		return refuse(StageSignature, AppUnknown, "no app has this appKey")
	}
	cred, refusal := g.match(c, req, rule, opt)
	if refusal != nil {
		return refusal
	}
	if cred.environment != rule.Environment {
		return refuse(StageSignature, EnvironmentMismatch, fmt.Sprintf(
			"credential %d belongs to the %s environment and this is %s", cred.Number, cred.environment, rule.Environment))
	}
	if !c.app.active {
		return refuse(StageSignature, AppSuspended, "the app is suspended; ask the platform's staff")
	}
	c.Verified, c.checked = true, opt.Now
	return nil
}

// match finds the credential that made the signature. Several dialects share
// their parameter names, so each that the request could be of and that the
// app has keys for gets a try.
func (g *Gate) match(c *Call, req *signing.Request, rule *Rule, opt signing.Options) (*credential, *Refusal) {
	first := c.Claim.Dialect
	cred, err := c.try(req, opt)
	if err == nil {
		return cred, nil
	}
	if errors.Is(err, errNoKeys) || errors.Is(err, signing.ErrInvalid) || errors.Is(err, signing.ErrMethod) {
		for _, name := range rule.Dialects.Candidates(req) {
			if name == first || c.app.keysOf(name) == nil {
				continue
			}
			one, setErr := signing.NewSet(name)
			if setErr != nil || one.Claim(&c.Claim, req) != nil || c.Claim.AppKey != c.app.Key {
				continue
			}
			if cred, otherErr := c.try(req, opt); otherErr == nil {
				return cred, nil
			}
		}
	}
	if errors.Is(err, errNoKeys) {
		return nil, refuse(StageSignature, DialectNotAllowed, "the app may not sign in the dialect "+first)
	}
	return nil, signatureRefusal(err)
}

var errNoKeys = errors.New("no keys of this dialect")

func (c *Call) try(req *signing.Request, opt signing.Options) (*credential, error) {
	keys := c.app.keysOf(c.Claim.Dialect)
	if keys == nil {
		return nil, errNoKeys
	}
	live := keys.live(opt.Now)
	i, err := c.Claim.Verify(req, live.keys, opt)
	if err != nil {
		return nil, err
	}
	return &live.about[i], nil
}

// recheck lets a second signature stage of a route agree or refuse; it never
// checks, and so never spends, a signature twice.
func (c *Call) recheck(rule *Rule) *Refusal {
	if c.Environment != rule.Environment {
		return refuse(StageSignature, EnvironmentMismatch, fmt.Sprintf(
			"the call was verified for %s and this is %s", c.Environment, rule.Environment))
	}
	if !slices.Contains(rule.Names, c.Claim.Dialect) {
		return dialectRefusal(c.Claim.Dialect, rule.Names)
	}
	return nil
}

// SpendNonce makes sure that the call was not made before. It comes after the
// signature, so that nobody else can spend an app's nonces. Where the rule
// leaves the nonce to Charge, it is only noted.
func (g *Gate) SpendNonce(ctx context.Context, c *Call, req *signing.Request, rule *Rule) *Refusal {
	now := c.checked
	if req.ContentLength != 0 {
		now = g.now() // a body may have been long in coming
	}
	signed := c.Claim.Time
	if signed.IsZero() {
		signed = now
	}
	// One second more, since the window's end is still inside the window.
	expiry := signed.Add(c.Claim.Window(signing.Options{Now: now, Skew: rule.Skew}) + time.Second)
	if !now.Before(expiry) {
		// Its nonce may be forgotten already, if it was ever used.
		return refuse(StageSignature, TimestampOutOfRange, "the body took longer to arrive than the signature is valid")
	}
	lent := g.scratch.Get().(*scratch)
	lent.spend = limit.Spend{App: c.app.Number, Nonce: c.Claim.ReplayID(lent.nonce[:0], req), Expiry: expiry}
	if rule.NonceWithRate {
		c.unspent = lent
		return nil
	}
	return g.spend(ctx, c, lent)
}

// CheckBody compares a body that was read whole with the digest that the
// signature covers.
func (c *Call) CheckBody(body []byte) *Refusal {
	if err := c.Claim.CheckBody(body); err != nil {
		return signatureRefusal(err)
	}
	return nil
}

// signatureRefusal turns a reason of package signing into a refusal.
func signatureRefusal(err error) *Refusal {
	code := SignatureInvalid
	switch {
	case errors.Is(err, signing.ErrMissing):
		code = SignatureMissing
	case errors.Is(err, signing.ErrMalformed):
		code = RequestMalformed
	case errors.Is(err, signing.ErrTimestamp):
		code = TimestampOutOfRange
	case errors.Is(err, signing.ErrDigest):
		code = DigestMismatch
	case errors.Is(err, signing.ErrMethod):
		code = DialectNotAllowed
	}
	return refuse(StageSignature, code, err.Error())
}

func dialectRefusal(dialect string, names []string) *Refusal {
	return refuse(StageSignature, DialectNotAllowed, fmt.Sprintf(
		"this route does not take the dialect %s, but %s", dialect, strings.Join(names, ", ")))
}

func unavailable(stage Stage, err error) *Refusal {
	return &Refusal{
		Code: StoreUnavailable, Stage: stage, RetryAfter: time.Second, Err: err,
		Detail: "the call could not be checked; try again soon",
	}
}
