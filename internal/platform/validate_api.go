package platform

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxPath bounds an API's path template, in bytes.
const maxPath = 500

// apiMethods are the HTTP methods that a catalog can declare.
var apiMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut,
	http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// apiField is how errors name a field of an API.
func apiField(a *API, field string) string { return a.ID() + "." + field }

// checkCatalogFile checks the file by itself, without the store.
func checkCatalogFile(f CatalogFile) error {
	if err := checkText("source", f.Source, 1, maxName); err != nil {
		return err
	}
	if f.Digest == "" {
		return &FieldError{Field: "digest", Problem: "is empty", Want: "the SHA-256 of the file in hex"}
	}
	seen := map[string]bool{}
	for i := range f.Packages {
		p := &f.Packages[i]
		prefix := fmt.Sprintf("packages[%d].", i)
		if err := checkPackage(prefix, p); err != nil {
			return err
		}
		if p.Source != f.Source {
			return &FieldError{Field: prefix + "source", Problem: fmt.Sprintf("%q is not the file's", p.Source), Want: f.Source}
		}
		if seen[p.Name] {
			return &FieldError{Field: prefix + "name", Problem: fmt.Sprintf("package %s is declared twice", p.Name), Want: "each package once"}
		}
		seen[p.Name] = true
	}
	apis := map[string]bool{}
	for i := range f.APIs {
		a := &f.APIs[i]
		if err := checkAPI(fmt.Sprintf("apis[%d]", i), a); err != nil {
			return err
		}
		if a.Source != f.Source {
			return &FieldError{Field: apiField(a, "source"), Problem: fmt.Sprintf("%q is not the file's", a.Source), Want: f.Source}
		}
		if apis[a.ID()] {
			return &FieldError{Field: apiField(a, "name"), Problem: "is declared twice", Want: "each name and version once"}
		}
		apis[a.ID()] = true
	}
	return checkTopics(f)
}

// checkAPI checks one API; place names it as long as it has no proper ID.
func checkAPI(place string, a *API) error {
	if len(a.Name) > 128 || !apiName.MatchString(a.Name) {
		return &FieldError{Field: place + ".name", Problem: fmt.Sprintf("%q is no API's name", a.Name), Want: `words joined by dots: "trade.order.get"`}
	}
	if !apiVersion.MatchString(a.Version) {
		return &FieldError{Field: place + ".version", Problem: fmt.Sprintf("%q is no version of %s", a.Version, a.Name), Want: `numbers: "1.0"`}
	}
	if err := checkText(apiField(a, "title"), a.Title, 0, maxTitle); err != nil {
		return err
	}
	if !slices.Contains(apiMethods, a.Method) {
		return &FieldError{Field: apiField(a, "method"), Problem: fmt.Sprintf("%q is no method", a.Method), Want: strings.Join(apiMethods, ", ")}
	}
	switch a.Provider {
	case ByPlatform:
		if err := checkTemplate(apiField(a, "path"), a.Path); err != nil {
			return err
		}
	case ByMerchant: // the merchant registers the URL
		if err := checkText(apiField(a, "path"), a.Path, 0, maxPath); err != nil {
			return err
		}
	default:
		return &FieldError{Field: apiField(a, "provider"), Problem: fmt.Sprintf("%q is no provider", a.Provider), Want: "platform or merchant"}
	}
	if err := checkName(apiField(a, "package"), a.Package); err != nil {
		return err
	}
	if a.Status != "" {
		if err := checkAPIStatus(apiField(a, "status"), a.Status); err != nil {
			return err
		}
	}
	if a.Example.Status != 0 && (a.Example.Status < 200 || a.Example.Status > 599) {
		return &FieldError{Field: apiField(a, "example.status"), Problem: fmt.Sprintf("%d is no status of an answer", a.Example.Status), Want: "200 to 599"}
	}
	if err := checkText(apiField(a, "example.content_type"), a.Example.ContentType, 0, maxTitle); err != nil {
		return err
	}
	if err := checkText(apiField(a, "upstream"), a.Upstream, 0, maxPath); err != nil {
		return err
	}
	if !utf8.Valid(a.Spec) || bytes.IndexByte(a.Spec, 0) >= 0 {
		return &FieldError{Field: apiField(a, "spec"), Problem: "is not UTF-8", Want: "JSON"}
	}
	return a.Limits.check(apiField(a, "limits"))
}

// checkTemplate accepts a path of literal and {name} segments. Whatever a
// client could write in two ways (escapes, empty and dot segments) is refused,
// because calls are matched by their bytes.
func checkTemplate(field, path string) error {
	fail := func(problem, want string) error {
		return &FieldError{Field: field, Problem: fmt.Sprintf("%q %s", path, problem), Want: want}
	}
	if !strings.HasPrefix(path, "/") || len(path) > maxPath {
		return fail("is no path", fmt.Sprintf("/ at the start, and at most %d bytes", maxPath))
	}
	names := map[string]bool{}
	for segment := range strings.SplitSeq(path[1:], "/") {
		name, isName := strings.CutPrefix(segment, "{")
		name, closed := strings.CutSuffix(name, "}")
		switch {
		case segment == "" || segment == "." || segment == "..":
			return fail("has an empty or dot segment", "a name between two slashes, and none at the end")
		case !isName && !closed:
			if strings.ContainsFunc(segment, func(r rune) bool { return !literalRune(r) }) {
				return fail(fmt.Sprintf("has the segment %q", segment), "letters, digits and -._~!$&'()*+,;=:@, or one {name}")
			}
		case !isName || !closed || name == "" || strings.ContainsAny(name, "{}"):
			return fail(fmt.Sprintf("has the segment %q", segment), "a {name} that is the whole segment")
		case names[name]:
			return fail(fmt.Sprintf("names {%s} twice", name), "each name once")
		default:
			names[name] = true
		}
	}
	return nil
}

// literalRune tells whether r stands for itself in a path (RFC 3986, section
// 3.3, without percent escapes).
func literalRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~!$&'()*+,;=:@", r)
}

// routeConflict is an API that takes the same calls as another one.
type routeConflict struct {
	api, other *API
	err        error
}

// routeConflicts finds the APIs that a call could mean as well as another one,
// as many as are reported. The rules are those of [http.ServeMux], so it is
// asked: it panics where neither of two patterns is the more specific one. APIs
// that are offline make room for others.
func routeConflicts(apis []API) (found []routeConflict) {
	apis = slices.DeleteFunc(slices.Clone(apis), func(a API) bool { return a.Provider != ByPlatform || a.Status == Offline })
	slices.SortFunc(apis, func(a, b API) int { return strings.Compare(a.ID(), b.ID()) })
	mux := http.NewServeMux()
	for i := range apis {
		if len(found) == maxCatalogErrors {
			break
		}
		if !register(mux, &apis[i]) {
			found = append(found, conflictOf(apis[:i], &apis[i]))
		}
	}
	return found
}

// conflictOf finds the earlier API that the mux refuses a for.
func conflictOf(earlier []API, a *API) routeConflict {
	for i := range earlier {
		other, pair := &earlier[i], http.NewServeMux()
		if register(pair, other) && !register(pair, a) {
			return routeConflict{a, other, fmt.Errorf("API %s (%s, %s %s) takes the same calls as %s (%s, %s %s): %w",
				a.ID(), sourceName(a.Source), a.Method, a.Path, other.ID(), sourceName(other.Source), other.Method, other.Path, ErrConflict)}
		}
	}
	return routeConflict{a, a, &FieldError{Field: apiField(a, "path"), Problem: fmt.Sprintf("%q cannot be routed", a.Path)}}
}

// register tells whether the mux takes the API's pattern.
func register(mux *http.ServeMux, a *API) (ok bool) {
	defer func() { ok = recover() == nil }()
	segments := strings.Split(a.Path, "/")
	for i, s := range segments {
		if strings.HasPrefix(s, "{") {
			segments[i] = fmt.Sprintf("{p%d}", i) // a mux's names are Go identifiers
		}
	}
	mux.Handle(a.Method+" "+strings.Join(segments, "/"), http.NotFoundHandler())
	return true
}
