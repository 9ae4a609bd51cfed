package platform

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// AddIP lets the app call from an address ("203.0.113.7"), a network
// ("203.0.113.0/24") or a global group ("@office"). With the first rule the
// whitelist comes into force.
func (s *Service) AddIP(ctx context.Context, actor, ref, rule, note string) (*App, error) {
	if err := checkText("note", note, 0, maxNote); err != nil {
		return nil, err
	}
	return s.updateApp(ctx, actor, ref, "ip.add", func(tx Tx, a *App) error {
		cat, err := tx.Catalog(ctx)
		if err != nil {
			return err
		}
		return addIP(a, cat, "rule", rule, note)
	})
}

// RemoveIP takes a rule off the whitelist. Without the last one the app may
// call from anywhere.
func (s *Service) RemoveIP(ctx context.Context, actor, ref, rule string) (*App, error) {
	parsed, err := parseIPRule("rule", rule)
	if err != nil {
		return nil, err
	}
	return s.updateApp(ctx, actor, ref, "ip.remove", func(_ Tx, a *App) error {
		i := slices.IndexFunc(a.IPs, parsed.same)
		if i < 0 {
			return fmt.Errorf("ip rule %s of app %s: %w", rule, a.ID, ErrNotFound)
		}
		a.IPs = slices.Delete(a.IPs, i, i+1)
		return nil
	})
}

// addIP adds a rule to the app's whitelist; field is how errors name it.
func addIP(a *App, cat *Catalog, field, rule, note string) error {
	r, err := parseIPRule(field, rule)
	if err != nil {
		return err
	}
	if r.Group != "" && !slices.ContainsFunc(cat.IPGroups, func(g IPGroup) bool { return g.Name == r.Group }) {
		return &FieldError{Field: field, Problem: fmt.Sprintf("there is no group %q", r.Group), Want: "the name of an IP group after the @"}
	}
	if slices.ContainsFunc(a.IPs, r.same) {
		return fmt.Errorf("ip rule %s is already in the whitelist: %w", rule, ErrConflict)
	}
	if len(a.IPs) >= maxIPs {
		return fmt.Errorf("the whitelist has %d rules already: put them into a group: %w", maxIPs, ErrConflict)
	}
	r.Note = note
	a.IPs = append(a.IPs, r)
	return nil
}

// GrantPackage gives the app a package for a period; an earlier grant of the
// same package is replaced.
func (s *Service) GrantPackage(ctx context.Context, actor, ref, pkg string, p Period) (*App, error) {
	return s.updateApp(ctx, actor, ref, "package.grant", func(tx Tx, a *App) error {
		cat, err := tx.Catalog(ctx)
		if err != nil {
			return err
		}
		return grant(a, cat, "package", pkg, p)
	})
}

// RevokePackage takes a package from the app.
func (s *Service) RevokePackage(ctx context.Context, actor, ref, pkg string) (*App, error) {
	if err := notBasic("package", pkg); err != nil {
		return nil, err
	}
	return s.updateApp(ctx, actor, ref, "package.revoke", func(_ Tx, a *App) error {
		i := slices.IndexFunc(a.Packages, func(g PackageGrant) bool { return g.Package == pkg })
		if i < 0 {
			return fmt.Errorf("package %q of app %s: %w", pkg, a.ID, ErrNotFound)
		}
		a.Packages = slices.Delete(a.Packages, i, i+1)
		return nil
	})
}

// grant gives the app a package; field is how errors name it.
func grant(a *App, cat *Catalog, field, pkg string, p Period) error {
	if err := notBasic(field, pkg); err != nil {
		return err
	}
	if cat.pkg(pkg) == nil {
		return &FieldError{Field: field, Problem: fmt.Sprintf("there is no package %q", pkg), Want: "one of " + strings.Join(cat.packageNames(), ", ")}
	}
	p = Period{From: storeTime(p.From), Until: storeTime(p.Until)}
	if !p.Until.IsZero() && !p.From.Before(p.Until) {
		return &FieldError{Field: "until", Problem: "the period ends before it begins", Want: "a time after from"}
	}
	g := PackageGrant{Package: pkg, Period: p}
	if i := slices.IndexFunc(a.Packages, func(o PackageGrant) bool { return o.Package == pkg }); i >= 0 {
		a.Packages[i] = g
	} else {
		a.Packages = append(a.Packages, g)
	}
	slices.SortFunc(a.Packages, func(x, y PackageGrant) int { return strings.Compare(x.Package, y.Package) })
	return nil
}

func notBasic(field, pkg string) error {
	if pkg == BasicPackage {
		return &FieldError{Field: field, Problem: "every app has " + BasicPackage, Want: "another package"}
	}
	return nil
}

// AllowDialect lets the app sign in a dialect besides op1 and issues the
// dialect's own secret in env. Method pins the digest algorithm. One built on
// MD5 must be named: it is never chosen for the app.
func (s *Service) AllowDialect(ctx context.Context, actor, ref, dialect, method string, env Environment) (*IssuedSecret, error) {
	if err := checkDialect(dialect); err != nil {
		return nil, err
	}
	if dialect == signing.Op1 {
		return nil, &FieldError{Field: "dialect", Problem: "every app may sign in " + signing.Op1, Want: "another dialect"}
	}
	method, err := chooseMethod(dialect, method)
	if err != nil {
		return nil, err
	}
	if env, err = ParseEnvironment(string(orSandbox(env))); err != nil {
		return nil, err
	}
	var issued *IssuedSecret
	_, err = s.updateApp(ctx, actor, ref, "dialect.allow", func(_ Tx, a *App) error {
		if g := a.dialect(dialect); g != nil {
			return fmt.Errorf("app %s may already sign in %s (method %q): add a secret for it, or disallow it first: %w", a.ID, dialect, g.Method, ErrConflict)
		}
		a.Dialects = append(a.Dialects, DialectGrant{Dialect: dialect, Method: method})
		slices.SortFunc(a.Dialects, func(x, y DialectGrant) int { return strings.Compare(x.Dialect, y.Dialect) })
		issued, err = s.issue(a, env, dialect)
		return err
	})
	if err != nil {
		return nil, err
	}
	return issued, nil
}

// DisallowDialect takes a dialect from the app and ends its credentials.
func (s *Service) DisallowDialect(ctx context.Context, actor, ref, dialect string) (*App, error) {
	if dialect == signing.Op1 {
		return nil, &FieldError{Field: "dialect", Problem: signing.Op1 + " cannot be taken from an app", Want: "another dialect, or suspend the app"}
	}
	return s.updateApp(ctx, actor, ref, "dialect.disallow", func(_ Tx, a *App) error {
		if a.dialect(dialect) == nil {
			return fmt.Errorf("dialect %q of app %s: %w", dialect, a.ID, ErrNotFound)
		}
		a.Dialects = slices.DeleteFunc(a.Dialects, func(g DialectGrant) bool { return g.Dialect == dialect })
		now := s.clock()
		for i := range a.Credentials {
			if c := &a.Credentials[i]; c.Dialect == dialect {
				c.endBy(now)
			}
		}
		return nil
	})
}

// chooseMethod checks the digest algorithm of a dialect, or takes the first
// that needs no consent. Only those that a secret serves are of use.
func chooseMethod(dialect, method string) (string, error) {
	known := slices.DeleteFunc(signing.Methods(dialect), func(m string) bool {
		_, err := signing.NewSecretKey(dialect, m, 1, []byte("probe"))
		return err != nil
	})
	switch {
	case method != "" && slices.Contains(known, method):
		return method, nil
	case method != "":
		return "", &FieldError{Field: "method", Problem: fmt.Sprintf("%s has no method %q", dialect, method), Want: strings.Join(known, " or ")}
	}
	for _, m := range known {
		if !signing.OptIn(dialect, m) {
			return m, nil
		}
	}
	return "", &FieldError{
		Field: "method", Problem: dialect + " signs with MD5 only, which is weak and never chosen by itself",
		Want: strings.Join(known, " or ") + ", if the app cannot do better",
	}
}
