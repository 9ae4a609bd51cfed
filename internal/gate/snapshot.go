package gate

import (
	"cmp"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unique"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// snapshot is the catalog made ready for checking calls. It is immutable: a
// change makes a new one.
type snapshot struct {
	catalog *platform.Catalog
	routes  router
	// names lists the versions of an API that apps may call, lowest first.
	names    map[string][]*api
	plans    map[string]*platform.Plan
	groups   map[string]*addresses
	platform platform.Limits
}

// api is one API with what each call of it needs.
type api struct {
	*platform.API
	// counter tells the API's limits from those of others.
	counter     uint64
	packageName unique.Handle[string]
	// deprecation and sunset are header values (RFC 9745, RFC 8594), or "".
	deprecation, sunset string
}

func newSnapshot(c *platform.Catalog) (*snapshot, error) {
	s := &snapshot{
		catalog:  c,
		names:    make(map[string][]*api, len(c.APIs)),
		plans:    make(map[string]*platform.Plan, len(c.Plans)),
		groups:   make(map[string]*addresses, len(c.IPGroups)),
		platform: c.Platform,
	}
	for i := range c.APIs {
		a := newAPI(&c.APIs[i])
		if a.Provider != platform.ByPlatform || a.Status == platform.Draft {
			continue
		}
		if err := s.routes.add(a); err != nil {
			return nil, err
		}
		s.names[a.Name] = append(s.names[a.Name], a)
	}
	for _, versions := range s.names {
		slices.SortFunc(versions, func(a, b *api) int { return compareVersions(a.Version, b.Version) })
	}
	for i := range c.Plans {
		s.plans[c.Plans[i].Name] = &c.Plans[i]
	}
	for i := range c.IPGroups {
		var prefixes []netip.Prefix
		for _, r := range c.IPGroups[i].Rules {
			prefixes = append(prefixes, r.Prefix)
		}
		set := newAddresses(prefixes)
		s.groups[c.IPGroups[i].Name] = &set
	}
	return s, nil
}

func newAPI(p *platform.API) *api {
	a := &api{API: p, counter: limit.Hash(p.ID()), packageName: unique.Make(p.Package)}
	if p.Status == platform.Deprecated {
		a.deprecation = "@0"
		if !p.DeprecatedAt.IsZero() {
			a.deprecation = "@" + strconv.FormatInt(p.DeprecatedAt.Unix(), 10)
		}
		if !p.Sunset.IsZero() {
			a.sunset = p.Sunset.UTC().Format(http.TimeFormat)
		}
	}
	return a
}

// serves tells whether the API answers at now: an API past its sunset does not.
func (a *api) serves(now time.Time) bool {
	if a.Status == platform.Offline {
		return false
	}
	return a.Status != platform.Deprecated || a.Sunset.IsZero() || now.Before(a.Sunset)
}

// named returns the API of that name. Without a version it is the lowest one
// that serves, so that a new version never changes what old callers reach.
func (s *snapshot) named(name, version string, now time.Time) *api {
	versions := s.names[name]
	for _, a := range versions {
		if version != "" && platform.PlainVersion(a.Version) == platform.PlainVersion(version) {
			return a
		}
		if version == "" && a.serves(now) {
			return a
		}
	}
	if version == "" && len(versions) > 0 {
		return versions[len(versions)-1]
	}
	return nil
}

// plan returns the plan of that name; the default plan when there is none.
func (s *snapshot) plan(name string) *platform.Plan {
	if p := s.plans[cmp.Or(name, platform.DefaultPlan)]; p != nil {
		return p
	}
	return s.plans[platform.DefaultPlan]
}

// compareVersions orders "1.0" < "1.9" < "1.10" < "2.0".
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); c != 0 {
			return c
		}
	}
	return 0
}
