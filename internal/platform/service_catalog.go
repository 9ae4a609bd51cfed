package platform

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Catalog loads everything but the apps.
func (s *Service) Catalog(ctx context.Context) (*Catalog, error) { return s.store.Catalog(ctx) }

// APIs lists the APIs that f selects, by name and version.
func (s *Service) APIs(ctx context.Context, f APIFilter) ([]API, error) {
	if f.Status != "" {
		if err := checkAPIStatus("status", f.Status); err != nil {
			return nil, err
		}
	}
	cat, err := s.store.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(cat.APIs, func(a API) bool { return !f.matches(&a) }), nil
}

func (f APIFilter) matches(a *API) bool {
	text := strings.ToLower(f.Text)
	return (f.Status == "" || a.Status == f.Status) &&
		(f.Package == "" || a.Package == f.Package) &&
		(text == "" || strings.Contains(strings.ToLower(a.Name+"\n"+a.Title+"\n"+a.Path), text))
}

// API loads one API. Without a version it must be the only one of its name,
// else ErrConflict lists the versions.
func (s *Service) API(ctx context.Context, name, version string) (*API, error) {
	cat, err := s.store.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	return cat.api(name, version)
}

func (c *Catalog) api(name, version string) (*API, error) {
	var found []*API
	for i := range c.APIs {
		a := &c.APIs[i]
		switch {
		case a.Name != name:
		case a.Version == version:
			return a, nil
		case version == "" || PlainVersion(a.Version) == PlainVersion(version):
			found = append(found, a)
		}
	}
	switch len(found) {
	case 0:
		if version != "" {
			name += "@" + version
		}
		return nil, fmt.Errorf("API %q: %w", name, ErrNotFound)
	case 1:
		return found[0], nil
	}
	versions := make([]string, len(found))
	for i, a := range found {
		versions[i] = a.Version
	}
	return nil, fmt.Errorf("API %q has the versions %s: name one: %w", name, strings.Join(versions, ", "), ErrConflict)
}

// SetAPIStatus moves an API through its life. The sunset, when calls end, goes
// with the status deprecated alone; a zero one leaves it open.
func (s *Service) SetAPIStatus(ctx context.Context, actor, name, version string, st APIStatus, sunset time.Time) (*API, error) {
	if err := checkAPIStatus("status", st); err != nil {
		return nil, err
	}
	sunset = storeTime(sunset)
	switch now := s.clock(); {
	case !sunset.IsZero() && st != Deprecated:
		return nil, &FieldError{Field: "sunset", Problem: "only a deprecated API has one", Want: "the status deprecated, or no sunset"}
	case !sunset.IsZero() && !now.Before(sunset):
		return nil, &FieldError{Field: "sunset", Problem: "lies in the past", Want: "a time to come, or the status offline"}
	}
	var api *API
	err := s.update(ctx, actor, func(tx Tx) (event, error) {
		cat, err := tx.Catalog(ctx)
		if err != nil {
			return event{}, err
		}
		if api, err = cat.api(name, version); err != nil {
			return event{}, err
		}
		before := statusOf(api)
		api.setStatus(st, sunset, s.clock())
		if found := routeConflicts(cat.APIs); len(found) > 0 {
			return event{}, found[0].err
		}
		return event{"api." + string(st), api.ID(), before, statusOf(api), catalogChange}, tx.PutAPI(ctx, api)
	})
	if err != nil {
		return nil, err
	}
	return api, nil
}

// setStatus keeps the dates in step with the status: a deprecation that goes
// on keeps its date, an offline API keeps both.
func (a *API) setStatus(st APIStatus, sunset, now time.Time) {
	switch st {
	case Draft, Online:
		a.DeprecatedAt, a.Sunset = time.Time{}, time.Time{}
	case Deprecated:
		a.Sunset = sunset
		if a.Status != Deprecated || a.DeprecatedAt.IsZero() {
			a.DeprecatedAt = now
		}
	}
	a.Status = st
}

// apiState is what a change of status leaves in the audit log.
type apiState struct {
	Status       APIStatus `json:"status"`
	DeprecatedAt time.Time `json:"deprecated_at,omitzero"`
	Sunset       time.Time `json:"sunset,omitzero"`
}

func statusOf(a *API) apiState { return apiState{a.Status, a.DeprecatedAt, a.Sunset} }

// pkg is the package of that name, or nil.
func (c *Catalog) pkg(name string) *Package {
	for i := range c.Packages {
		if c.Packages[i].Name == name {
			return &c.Packages[i]
		}
	}
	return nil
}

func (c *Catalog) packageNames() []string {
	names := make([]string, len(c.Packages))
	for i, p := range c.Packages {
		names[i] = p.Name
	}
	return names
}

// PutPackage makes or changes a package of the staff's own. One that a catalog
// file declares is changed there: ErrConflict.
func (s *Service) PutPackage(ctx context.Context, actor string, p Package) (*Package, error) {
	if p.Source != "" {
		return nil, &FieldError{Field: "source", Problem: "only a catalog file has one", Want: "no source"}
	}
	if err := checkPackage("", &p); err != nil {
		return nil, err
	}
	err := s.update(ctx, actor, func(tx Tx) (event, error) {
		cat, err := tx.Catalog(ctx)
		if err != nil {
			return event{}, err
		}
		ev := event{"package.put", p.Name, nil, &p, catalogChange}
		if old := cat.pkg(p.Name); old != nil {
			if old.Source != "" {
				return event{}, fmt.Errorf("package %s is declared in the catalog %s: change it there: %w", p.Name, old.Source, ErrConflict)
			}
			ev.before = old
		}
		return ev, tx.PutPackage(ctx, &p)
	})
	if err != nil {
		return nil, err
	}
	return &p, nil
}

// checkPackage names faulty fields below prefix.
func checkPackage(prefix string, p *Package) error {
	if err := checkName(prefix+"name", p.Name); err != nil {
		return err
	}
	if err := checkText(prefix+"title", p.Title, 0, maxTitle); err != nil {
		return err
	}
	return checkText(prefix+"description", p.Description, 0, maxDescription)
}

// DeletePackage removes a package that no API and no topic uses and no app holds.
func (s *Service) DeletePackage(ctx context.Context, actor, name string) error {
	if name == BasicPackage {
		return fmt.Errorf("package %s is granted to every app and stays: %w", name, ErrConflict)
	}
	return s.update(ctx, actor, func(tx Tx) (event, error) {
		cat, err := tx.Catalog(ctx)
		if err != nil {
			return event{}, err
		}
		old := cat.pkg(name)
		if old == nil {
			return event{}, fmt.Errorf("package %q: %w", name, ErrNotFound)
		}
		for i := range cat.APIs {
			if cat.APIs[i].Package == name {
				return event{}, fmt.Errorf("package %s has the API %s: %w", name, cat.APIs[i].ID(), ErrConflict)
			}
		}
		for i := range cat.Topics {
			if cat.Topics[i].Package == name {
				return event{}, fmt.Errorf("package %s has the topic %s: %w", name, cat.Topics[i].Name, ErrConflict)
			}
		}
		if err := unused(ctx, tx, AppFilter{Package: name}, "package "+name+" is granted to", "revoke it there first"); err != nil {
			return event{}, err
		}
		return event{"package.delete", name, old, nil, catalogChange}, tx.DeletePackage(ctx, name)
	})
}

// PutIPGroup makes or changes a global group of networks. Groups do not nest.
func (s *Service) PutIPGroup(ctx context.Context, actor string, g IPGroup) (*IPGroup, error) {
	if err := checkName("name", g.Name); err != nil {
		return nil, err
	}
	if len(g.Rules) > maxGroupRules {
		return nil, &FieldError{Field: "rules", Problem: fmt.Sprintf("has %d entries", len(g.Rules)), Want: fmt.Sprintf("at most %d", maxGroupRules)}
	}
	g.Rules = slices.Clone(g.Rules)
	seen := make(map[netip.Prefix]bool, len(g.Rules))
	for i := range g.Rules {
		r, field := &g.Rules[i], fmt.Sprintf("rules[%d]", i)
		if r.Group != "" {
			return nil, &FieldError{Field: field, Problem: "a group cannot hold a group", Want: "a network like 203.0.113.0/24"}
		}
		var err error
		if r.Prefix, err = network(field, r.Prefix); err != nil {
			return nil, err
		}
		if seen[r.Prefix] {
			return nil, &FieldError{Field: field, Problem: r.Prefix.String() + " is there twice", Want: "each network once"}
		}
		seen[r.Prefix] = true
		if err := checkText(field+".note", r.Note, 0, maxNote); err != nil {
			return nil, err
		}
	}
	err := s.update(ctx, actor, func(tx Tx) (event, error) {
		old, err := ipGroup(ctx, tx, g.Name)
		if err != nil {
			return event{}, err
		}
		ev := event{"ip_group.put", g.Name, nil, &g, catalogChange}
		if old != nil {
			ev.before = old
		}
		return ev, tx.PutIPGroup(ctx, &g)
	})
	if err != nil {
		return nil, err
	}
	return &g, nil
}

// DeleteIPGroup removes a group that no app's whitelist names.
func (s *Service) DeleteIPGroup(ctx context.Context, actor, name string) error {
	return s.update(ctx, actor, func(tx Tx) (event, error) {
		old, err := ipGroup(ctx, tx, name)
		switch {
		case err != nil:
			return event{}, err
		case old == nil:
			return event{}, fmt.Errorf("IP group %q: %w", name, ErrNotFound)
		}
		if err := unused(ctx, tx, AppFilter{IPGroup: name}, "IP group "+name+" is in the whitelist of", "remove it there first"); err != nil {
			return event{}, err
		}
		return event{"ip_group.delete", name, old, nil, catalogChange}, tx.DeleteIPGroup(ctx, name)
	})
}

// ipGroup is the group of that name, or nil.
func ipGroup(ctx context.Context, r Reader, name string) (*IPGroup, error) {
	cat, err := r.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	for i := range cat.IPGroups {
		if cat.IPGroups[i].Name == name {
			return &cat.IPGroups[i], nil
		}
	}
	return nil, nil
}
