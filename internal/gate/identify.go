package gate

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// Identify reads which app the call claims to come from and looks it up. It
// refuses nothing: what is missing or wrong is told by [Gate.Verify], so that
// an address is checked before anything is said about apps. It reports
// signing.ErrBodyNeeded when the claim stands in the body: read it into req
// and ask again.
func (g *Gate) Identify(ctx context.Context, c *Call, req *signing.Request, dialects *signing.Set) error {
	if c.identified {
		return nil
	}
	c.catalog = g.catalog.Load()
	c.claimErr = dialects.Claim(&c.Claim, req)
	if errors.Is(c.claimErr, signing.ErrBodyNeeded) {
		return signing.ErrBodyNeeded
	}
	if c.claimErr == nil {
		c.app, c.appErr = g.apps.get(ctx, c.Claim.AppKey)
		c.identified = true
	}
	return nil
}

// CheckIP compares the caller's address with the route's groups, one of which
// must hold it if there are any, and then with the claimed app's whitelist.
func (g *Gate) CheckIP(c *Call, groups []string) *Refusal {
	if !c.ClientIP.IsValid() {
		return refuse(StageIP, IPDenied, "the caller's address is not known")
	}
	catalog := g.snapshot(c)
	if len(groups) > 0 && !catalog.inGroups(c, groups) {
		return c.ipDenied("is not in the address groups of this route")
	}
	c.ipChecked, c.ipApp = true, c.app
	return g.checkWhitelist(c)
}

// checkWhitelist compares the caller's address with the app's whitelist.
func (g *Gate) checkWhitelist(c *Call) *Refusal {
	catalog := g.snapshot(c)
	if c.app == nil || c.app.ips.empty() && len(c.app.groups) == 0 {
		return nil
	}
	if !c.app.ips.contains(c.ClientIP) && !catalog.inGroups(c, c.app.groups) {
		return c.ipDenied("is not in the app's whitelist")
	}
	return nil
}

func (c *Call) ipDenied(why string) *Refusal {
	return refuse(StageIP, IPDenied, fmt.Sprintf("the address %s %s", c.ClientIP, why))
}

func (s *snapshot) inGroups(c *Call, names []string) bool {
	for _, n := range names {
		if g := s.groups[n]; g != nil && g.contains(c.ClientIP) {
			return true
		}
	}
	return false
}

// snapshot is the catalog that all stages of the call see, even if it changes
// on the way.
func (g *Gate) snapshot(c *Call) *snapshot {
	if c.catalog == nil {
		c.catalog = g.catalog.Load()
	}
	return c.catalog
}
