package oauth

import (
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// parseScope reads a scope parameter (RFC 6749 section 3.3): the names of
// packages, sorted, each once. The basic package is implied and left out.
func parseScope(scope string) ([]string, *refusal) {
	var names []string
	for name := range strings.SplitSeq(scope, " ") {
		for i := range len(name) {
			if c := name[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
				return nil, refuse(invalidScope, "scope has a character that is not allowed; write names of packages with spaces between them")
			}
		}
		if name != "" && name != platform.BasicPackage {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// formatScope is the reverse. It is never empty, as a scope has at least one
// name.
func formatScope(names []string) string {
	if len(names) == 0 {
		return platform.BasicPackage
	}
	return strings.Join(names, " ")
}

// scopesFor returns the packages that the app asks for. It may ask for those
// that it holds now; it asks for all of them when it names none.
func (s *Server) scopesFor(app *platform.App, scope string) ([]string, *refusal) {
	var held []string
	now := s.Now()
	for _, p := range app.Packages {
		if p.State(now) == platform.Current && p.Package != platform.BasicPackage {
			held = append(held, p.Package)
		}
	}
	if scope == "" {
		slices.Sort(held)
		return slices.Compact(held), nil
	}
	return narrowScope(scope, held, "the app does not hold the package now: ")
}

// narrowScope returns what scope names, which must be within allowed.
func narrowScope(scope string, allowed []string, problem string) ([]string, *refusal) {
	names, refused := parseScope(scope)
	if refused != nil {
		return nil, refused
	}
	for _, name := range names {
		if !slices.Contains(allowed, name) {
			return nil, refuse(invalidScope, problem+name[:min(len(name), 64)])
		}
	}
	return names, nil
}

// narrowResources returns the resources asked for, which must be within allowed
// (RFC 8707 section 2).
func narrowResources(asked, allowed []string) ([]string, *refusal) {
	var resources []string
	for _, resource := range asked {
		if !slices.Contains(allowed, resource) {
			return nil, refuse(invalidTarget, "the resource is not one that may be asked for here")
		}
		if !slices.Contains(resources, resource) {
			resources = append(resources, resource)
		}
	}
	return resources, nil
}

// validResource holds a resource to RFC 8707 section 2: an absolute URI without
// a fragment.
func validResource(resource string) bool {
	u, err := url.Parse(resource)
	return err == nil && u.IsAbs() && !strings.Contains(resource, "#")
}
