package gate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// maxChecks is how many limits can apply to one call: platform, API, app,
// app and API, app and merchant.
const maxChecks = 5

// Charge checks all limits that apply to the call and then charges all of
// them; a refused call costs nothing, and a call is charged once, even if the
// route has a second rate stage. A nonce that SpendNonce left is spent first.
func (g *Gate) Charge(ctx context.Context, c *Call) *Refusal {
	if !c.granted {
		return refuse(StageRate, SignatureMissing, "the call has not passed open_sign and open_scope on this route")
	}
	if c.charged {
		return nil
	}
	lent := c.unspent
	if lent == nil {
		lent = g.scratch.Get().(*scratch)
		lent.spend = limit.Spend{App: c.app.Number}
	}
	lent.spend.Checks = c.applicable(lent.checks[:0])
	return g.spend(ctx, c, lent)
}

// spend has the ledger account for what the call spends, and takes lent back.
func (g *Gate) spend(ctx context.Context, c *Call, lent *scratch) *Refusal {
	defer g.scratch.Put(lent)
	c.unspent = nil
	s := &lent.spend
	if s.Nonce == nil && len(s.Checks) == 0 {
		return nil
	}
	now := g.now()
	result, err := g.ledger.Spend(ctx, now, s)
	if err != nil {
		c.granted = false
		return ledgerRefusal(err, s, now)
	}
	if len(s.Checks) == 0 {
		return nil
	}
	c.Limits, c.Limited = result, true
	if result.Allowed {
		c.charged = true
		return nil
	}
	return limitRefusal(&result)
}

// ledgerRefusal turns the reason for which the ledger spent nothing into a refusal.
func ledgerRefusal(err error, s *limit.Spend, now time.Time) *Refusal {
	stage := StageSignature
	if len(s.Checks) > 0 {
		stage = StageRate
	}
	switch {
	case errors.Is(err, limit.ErrUsed):
		return refuse(StageSignature, NonceReused, "sign every call anew, with a nonce of its own")
	case errors.Is(err, limit.ErrFull):
		r := unavailable(StageSignature, err)
		r.RetryAfter = s.Expiry.Sub(now)
		return r
	}
	return unavailable(stage, err)
}

func limitRefusal(result *limit.Result) *Refusal {
	r := refuse(StageRate, RateLimited, fmt.Sprintf(
		"the limit of %d calls in %s (%s) is reached", result.Limit, result.Window, result.Scope))
	if result.Quota {
		r = refuse(StageRate, QuotaExceeded, fmt.Sprintf(
			"the quota of %d calls (%s) is used up", result.Limit, result.Scope))
	}
	r.RetryAfter = result.RetryAfter
	return r
}

// applicable appends the limits of the call to checks.
func (c *Call) applicable(checks []limit.Check) []limit.Check {
	add := func(scope limit.Scope, app, sub uint64, l *platform.Limits) {
		if !l.Rate.IsZero() || l.Quota != (limit.Quota{}) {
			checks = append(checks, limit.Check{Key: limit.Key{Scope: scope, App: app, Sub: sub}, Rate: l.Rate, Quota: l.Quota})
		}
	}
	environment := c.environmentBit()
	add(limit.ScopePlatform, environment, 0, &c.catalog.platform)
	add(limit.ScopeAPI, environment, c.api.counter, &c.api.Limits)
	plan := c.catalog.plan(c.app.Plan)
	if plan == nil {
		return checks
	}
	app := c.app.Number<<1 | environment
	add(limit.ScopeApp, app, 0, &plan.App)
	if own, ok := plan.APIs[c.api.Name]; ok {
		add(limit.ScopeAppAPI, app, c.api.counter, &own)
	} else {
		add(limit.ScopeAppAPI, app, c.api.counter, &plan.AppAPI)
	}
	if c.user.ID != "" {
		add(limit.ScopeAppUser, app, limit.Hash(c.user.ID), &plan.AppUser)
	}
	return checks
}

// environmentBit keeps the counters of the two environments apart, so that
// tests in the sandbox never use up what production needs.
func (c *Call) environmentBit() uint64 {
	if c.Environment == platform.Sandbox {
		return 1
	}
	return 0
}

// Deprecation gives the values of the Deprecation and Sunset headers for the
// call's API; "" where there is none.
func (c *Call) Deprecation() (deprecation, sunset string) {
	if c.api == nil {
		return "", ""
	}
	return c.api.deprecation, c.api.sunset
}
