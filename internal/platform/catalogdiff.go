package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// CatalogFile is a parsed catalog file. It owns the APIs, topics and packages
// that it declares: its Source is theirs.
type CatalogFile struct {
	// Source is the file's short name: "mall.openapi.yaml".
	Source string
	// Digest is the SHA-256 of the file in hex; the same one is applied once.
	Digest string
	// APIs and Topics have an empty Status where the file does not say one.
	APIs     []API
	Topics   []Topic
	Packages []Package
	// Positions are where they are declared, by kind and name: "api shop.get@1.0",
	// "topic shop.sold", "package trade".
	Positions map[string]Position
}

// CatalogChange is one thing that applying a file changes.
type CatalogChange struct {
	// Kind is "api", "topic" or "package".
	Kind string `json:"kind"`
	// Name is an API's ID, or the name of a topic or a package.
	Name string `json:"name"`
	// Action is "add", "change" or "offline".
	Action string `json:"action"`
	// Before and After hold the whole thing that is added, and else only the
	// fields that change.
	Before any `json:"before,omitempty"`
	After  any `json:"after,omitempty"`
	// Fields names the changed fields.
	Fields []string `json:"fields,omitempty"`
}

// CatalogDiff is what applying a file changes.
type CatalogDiff struct {
	Source  string          `json:"source"`
	Changes []CatalogChange `json:"changes"`
	// Unchanged counts the file's APIs, topics and packages that stay as they are.
	Unchanged int `json:"unchanged"`
}

// PreviewCatalog tells what ApplyCatalog would do, and fails where it would.
func (s *Service) PreviewCatalog(ctx context.Context, f CatalogFile) (*CatalogDiff, error) {
	cat, err := s.store.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	p, err := planCatalog(cat, f, s.clock())
	if err != nil {
		return nil, err
	}
	return &p.diff, nil
}

// ApplyCatalog brings the store in line with the file, in one transaction.
// APIs and topics that the file no longer has go offline. A file with the digest that was
// applied last changes nothing and leaves no audit entry.
func (s *Service) ApplyCatalog(ctx context.Context, actor string, f CatalogFile) (*CatalogDiff, error) {
	if cat, err := s.store.Catalog(ctx); err != nil {
		return nil, err
	} else if cat.Has(&f) {
		return &CatalogDiff{Source: f.Source, Unchanged: f.size()}, nil
	}
	var p *catalogPlan
	err := s.update(ctx, actor, func(tx Tx) (event, error) {
		cat, err := tx.Catalog(ctx)
		if err != nil {
			return event{}, err
		}
		if p, err = planCatalog(cat, f, s.clock()); err != nil {
			return event{}, err
		}
		for i := range p.packages {
			if err := tx.PutPackage(ctx, &p.packages[i]); err != nil {
				return event{}, err
			}
		}
		for i := range p.apis {
			if err := tx.PutAPI(ctx, &p.apis[i]); err != nil {
				return event{}, err
			}
		}
		for i := range p.topics {
			if err := tx.PutTopic(ctx, &p.topics[i]); err != nil {
				return event{}, err
			}
		}
		before, after := p.diff.audit(cat.Digests[f.Source], f.Digest)
		return event{"catalog.apply", f.Source, before, after, catalogChange}, tx.PutCatalogDigest(ctx, f.Source, f.Digest)
	})
	if err != nil {
		return nil, err
	}
	return &p.diff, nil
}

// size counts what the file declares.
func (f *CatalogFile) size() int { return len(f.APIs) + len(f.Topics) + len(f.Packages) }

// Has tells whether the very file was applied last.
func (c *Catalog) Has(f *CatalogFile) bool {
	return f.Digest != "" && c.Digests[f.Source] == f.Digest
}

// catalogPlan is what to write, and the same as a diff.
type catalogPlan struct {
	diff     CatalogDiff
	apis     []API
	topics   []Topic
	packages []Package
	mistakes CatalogErrors
}

// planCatalog compares the file with the store. It writes nothing, and tells all
// mistakes at once.
func planCatalog(cat *Catalog, f CatalogFile, now time.Time) (*catalogPlan, error) {
	p := &catalogPlan{diff: CatalogDiff{Source: f.Source}}
	if cat.Has(&f) {
		p.diff.Unchanged = f.size()
		return p, nil
	}
	if err := checkCatalogFile(f); err != nil {
		return nil, err
	}
	packages := map[string]bool{BasicPackage: true}
	for _, old := range cat.Packages {
		packages[old.Name] = true
	}
	for _, pkg := range f.Packages {
		packages[pkg.Name] = true
		old := cat.pkg(pkg.Name)
		// The basic package is there from the start and nobody's, until a file
		// describes it.
		if old != nil && old.Source != pkg.Source && (pkg.Name != BasicPackage || old.Source != "") {
			p.mistakes.Add(f.mistake("package", pkg.Name, declaredAlready("package "+pkg.Name, pkg.Source, old.Source)))
			continue
		}
		if err := p.addPackage(old, pkg); err != nil {
			return nil, err
		}
	}
	if err := p.addTopics(cat, f, packages); err != nil {
		return nil, err
	}
	next := make(map[string]API, len(cat.APIs)+len(f.APIs))
	for _, a := range cat.APIs {
		next[a.ID()] = a
	}
	for _, a := range f.APIs {
		if !packages[a.Package] {
			p.mistakes.Add(f.mistake("api", a.ID(), noPackage(apiField(&a, "package"), a.Package)))
		}
		old, exists := next[a.ID()]
		if exists && old.Source != a.Source {
			p.mistakes.Add(f.mistake("api", a.ID(), declaredAlready("API "+a.ID(), a.Source, old.Source)))
			continue
		}
		a.settleStatus(&old, now)
		next[a.ID()] = a
		if err := p.addAPI(exists, old, a); err != nil {
			return nil, err
		}
	}
	for _, old := range cat.APIs {
		if old.Source == f.Source && old.Status != Offline && !slices.ContainsFunc(f.APIs, func(a API) bool { return a.ID() == old.ID() }) {
			gone := old
			gone.setStatus(Offline, time.Time{}, now)
			next[old.ID()] = gone
			p.apis = append(p.apis, gone)
			p.diff.Changes = append(p.diff.Changes, CatalogChange{
				Kind: "api", Name: old.ID(), Action: "offline", Fields: []string{"status"},
				Before: map[string]any{"status": old.Status}, After: map[string]any{"status": Offline},
			})
		}
	}
	for _, c := range routeConflicts(slices.Collect(maps.Values(next))) {
		ours := c.api
		if ours.Source != f.Source {
			ours = c.other
		}
		p.mistakes.Add(f.mistake("api", ours.ID(), c.err))
	}
	if len(p.mistakes) > 0 {
		return nil, p.mistakes.Sorted()
	}
	return p, nil
}

func (p *catalogPlan) addPackage(old *Package, pkg Package) error {
	if old == nil {
		p.diff.Changes = append(p.diff.Changes, CatalogChange{Kind: "package", Name: pkg.Name, Action: "add", After: pkg})
	} else if changed, err := p.compare("package", pkg.Name, old, pkg); err != nil || !changed {
		return err
	}
	p.packages = append(p.packages, pkg)
	return nil
}

func (p *catalogPlan) addAPI(exists bool, old, a API) error {
	if !exists {
		p.diff.Changes = append(p.diff.Changes, CatalogChange{Kind: "api", Name: a.ID(), Action: "add", After: a})
	} else if changed, err := p.compare("api", a.ID(), old, a); err != nil || !changed {
		return err
	}
	p.apis = append(p.apis, a)
	return nil
}

// compare adds a change with the fields in which the two differ, or counts
// them as unchanged.
func (p *catalogPlan) compare(kind, name string, stored, declared any) (changed bool, err error) {
	o, err := jsonFields(stored)
	if err != nil {
		return false, err
	}
	n, err := jsonFields(declared)
	if err != nil {
		return false, err
	}
	before, after := map[string]any{}, map[string]any{}
	fields := map[string]bool{}
	for _, key := range slices.Concat(slices.Collect(maps.Keys(o)), slices.Collect(maps.Keys(n))) {
		if bytes.Equal(o[key], n[key]) {
			continue
		}
		fields[key] = true
		if v, ok := o[key]; ok {
			before[key] = v
		}
		if v, ok := n[key]; ok {
			after[key] = v
		}
	}
	if len(fields) == 0 {
		p.diff.Unchanged++
		return false, nil
	}
	p.diff.Changes = append(p.diff.Changes, CatalogChange{
		Kind: kind, Name: name, Action: "change", Before: before, After: after, Fields: slices.Sorted(maps.Keys(fields)),
	})
	return true, nil
}

// jsonFields are the members that v has as JSON, each without blanks.
func jsonFields(v any) (map[string]json.RawMessage, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("comparing catalogs: %w", err)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("comparing catalogs: %w", err)
	}
	return m, nil
}

// audit is the diff as the two sides of an audit entry.
func (d *CatalogDiff) audit(oldDigest, newDigest string) (before, after map[string]any) {
	before, after = map[string]any{}, map[string]any{"digest": newDigest}
	if oldDigest != "" {
		before["digest"] = oldDigest
	}
	for _, c := range d.Changes {
		name := c.Kind + " " + c.Name
		if c.Before != nil {
			before[name] = c.Before
		}
		after[name] = c.After
	}
	return before, after
}
