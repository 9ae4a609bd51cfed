package platform

import (
	"context"
	"fmt"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// NewApp describes an app to make. Zero fields take the defaults: kind
// merchant, mode web, the default plan, environment sandbox.
type NewApp struct {
	Name string  `json:"name"`
	Kind AppKind `json:"kind,omitempty"`
	Mode AppMode `json:"mode,omitempty"`
	Plan string  `json:"plan,omitempty"`
	// Environment is the one that the first secret is for.
	Environment Environment `json:"environment,omitempty"`
	// IPs are whitelist rules as [Service.AddIP] takes them.
	IPs []string `json:"ips,omitempty"`
	// Packages are granted without an end. Every app has BasicPackage anyway.
	Packages []string `json:"packages,omitempty"`
}

// CreateApp makes an app with one op1 secret, which is shown this once.
func (s *Service) CreateApp(ctx context.Context, actor string, n NewApp) (*App, *IssuedSecret, error) {
	var app *App
	var issued *IssuedSecret
	err := s.update(ctx, actor, func(tx Tx) (event, error) {
		var err error
		if app, err = s.newApp(ctx, tx, n); err != nil {
			return event{}, err
		}
		if issued, err = s.issue(app, orSandbox(n.Environment), signing.Op1); err != nil {
			return event{}, err
		}
		if err := tx.PutApp(ctx, app); err != nil {
			return event{}, err
		}
		return event{"app.create", app.ID, nil, app, Change{ChangeApp, app.Key}}, nil
	})
	if err != nil {
		return nil, nil, err
	}
	return app, issued, nil
}

// newApp checks n and makes the app without credentials.
func (s *Service) newApp(ctx context.Context, r Reader, n NewApp) (*App, error) {
	now := s.clock()
	app := &App{
		Name: n.Name, Kind: n.Kind, Mode: n.Mode, Status: Active,
		Plan: planRef(n.Plan), CreatedAt: now, UpdatedAt: now,
	}
	if app.Kind == "" {
		app.Kind = Merchant
	}
	if app.Mode == "" {
		app.Mode = Web
	}
	if err := checkNewApp(app); err != nil {
		return nil, err
	}
	if _, err := ParseEnvironment(string(orSandbox(n.Environment))); err != nil {
		return nil, err
	}
	cat, err := r.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	if err := cat.checkPlan(app.Plan); err != nil {
		return nil, err
	}
	for i, rule := range n.IPs {
		if err := addIP(app, cat, fmt.Sprintf("ips[%d]", i), rule, ""); err != nil {
			return nil, err
		}
	}
	for i, name := range n.Packages {
		if name == BasicPackage {
			continue
		}
		if err := grant(app, cat, fmt.Sprintf("packages[%d]", i), name, Period{}); err != nil {
			return nil, err
		}
	}
	if app.ID, err = newID(s.rand, idPrefix); err != nil {
		return nil, err
	}
	if app.Key, err = newID(s.rand, keyPrefix); err != nil {
		return nil, err
	}
	return app, nil
}

// App loads an app by its ID or its appKey.
func (s *Service) App(ctx context.Context, ref string) (*App, error) {
	return findApp(ctx, s.store, ref)
}

// Apps lists apps by ID, without their credentials.
func (s *Service) Apps(ctx context.Context, f AppFilter, p Page) ([]App, error) {
	limit, err := checkLimit(p.Limit)
	if err != nil {
		return nil, err
	}
	p.Limit = limit
	if err := checkAppFilter(f); err != nil {
		return nil, err
	}
	return s.store.Apps(ctx, f, p)
}

// CountApps counts all apps.
func (s *Service) CountApps(ctx context.Context) (int, error) { return s.store.CountApps(ctx) }

// SetAppPlan puts the app under a plan; "" is the default plan.
func (s *Service) SetAppPlan(ctx context.Context, actor, ref, plan string) (*App, error) {
	return s.updateApp(ctx, actor, ref, "app.plan", func(tx Tx, a *App) error {
		cat, err := tx.Catalog(ctx)
		if err != nil {
			return err
		}
		a.Plan = planRef(plan)
		return cat.checkPlan(a.Plan)
	})
}

// SuspendApp makes the app's calls be refused until it is resumed.
func (s *Service) SuspendApp(ctx context.Context, actor, ref string) (*App, error) {
	return s.setAppStatus(ctx, actor, ref, "app.suspend", Suspended)
}

// ResumeApp ends a suspension.
func (s *Service) ResumeApp(ctx context.Context, actor, ref string) (*App, error) {
	return s.setAppStatus(ctx, actor, ref, "app.resume", Active)
}

func (s *Service) setAppStatus(ctx context.Context, actor, ref, action string, st AppStatus) (*App, error) {
	return s.updateApp(ctx, actor, ref, action, func(_ Tx, a *App) error {
		a.Status = st
		return nil
	})
}

// DeleteApp removes the app and everything that hangs from it. The audit log
// keeps what it was, without its secrets.
func (s *Service) DeleteApp(ctx context.Context, actor, ref string) error {
	return s.update(ctx, actor, func(tx Tx) (event, error) {
		app, err := findApp(ctx, tx, ref)
		if err != nil {
			return event{}, err
		}
		return event{"app.delete", app.ID, app, nil, Change{ChangeApp, app.Key}}, tx.DeleteApp(ctx, app.ID)
	})
}

// planRef is how an app names its plan: the default one by no name.
func planRef(name string) string {
	if name == DefaultPlan {
		return ""
	}
	return name
}

// orSandbox is e, or the sandbox where none is named.
func orSandbox(e Environment) Environment {
	if e == "" {
		return Sandbox
	}
	return e
}

// unused fails while there are apps that f selects, and names some of them.
func unused(ctx context.Context, r Reader, f AppFilter, use, remedy string) error {
	const most = 3
	apps, err := r.Apps(ctx, f, Page{Limit: most + 1})
	if err != nil || len(apps) == 0 {
		return err
	}
	var keys []string
	for _, a := range apps[:min(len(apps), most)] {
		keys = append(keys, a.Key)
	}
	if len(apps) > most {
		keys = append(keys, "…")
	}
	return fmt.Errorf("%s %s: %s: %w", use, strings.Join(keys, ", "), remedy, ErrConflict)
}
