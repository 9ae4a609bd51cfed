package adminapi

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (a *AdminAPI) listAPIs(r *http.Request) (any, error) {
	q, err := query(r, "status", "package", "text")
	if err != nil {
		return nil, err
	}
	status, err := oneOf(q, "status", string(platform.Draft), string(platform.Online), string(platform.Deprecated), string(platform.Offline))
	if err != nil {
		return nil, err
	}
	apis, err := a.app.Service().APIs(r.Context(), platform.APIFilter{Status: platform.APIStatus(status), Package: q.Get("package"), Text: q.Get("text")})
	if err != nil {
		return nil, err
	}
	list := slices.Clone(nonNil(apis))
	for i := range list { // a list is for choosing; the documentation is in the single answer
		list[i].Spec, list[i].Example = nil, platform.Example{}
	}
	return map[string]any{"apis": list}, nil
}

func (a *AdminAPI) getAPI(r *http.Request) (any, error) {
	return a.app.Service().API(r.Context(), r.PathValue("name"), r.PathValue("version"))
}

func (a *AdminAPI) setAPIStatus(r *http.Request) (any, error) {
	status, ok := map[string]platform.APIStatus{
		"online": platform.Online, "deprecate": platform.Deprecated, "offline": platform.Offline,
	}[r.PathValue("state")]
	if !ok {
		return nil, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("%s: no such path; want online, deprecate or offline", r.URL.Path)}
	}
	var body struct {
		Sunset time.Time `json:"sunset"`
	}
	if err := decodeOptional(r, &body); err != nil {
		return nil, err
	}
	return a.app.Service().SetAPIStatus(r.Context(), actor(r), r.PathValue("name"), r.PathValue("version"), status, body.Sunset)
}

func (a *AdminAPI) listPackages(r *http.Request) (any, error) {
	c, err := a.app.Service().Catalog(r.Context())
	if err != nil {
		return nil, err
	}
	return map[string]any{"packages": nonNil(c.Packages)}, nil
}

func (a *AdminAPI) getPackage(r *http.Request) (any, error) {
	c, err := a.app.Service().Catalog(r.Context())
	if err != nil {
		return nil, err
	}
	return byName("package", c.Packages, r, func(p platform.Package) string { return p.Name })
}

func (a *AdminAPI) putPackage(r *http.Request) (any, error) {
	var body struct {
		Name        string `json:"name"`
		Title       string `json:"title"`
		Description string `json:"description"`
	}
	if err := decodeOptional(r, &body); err != nil {
		return nil, err
	}
	name, err := pathName(r, body.Name)
	if err != nil {
		return nil, err
	}
	return a.app.Service().PutPackage(r.Context(), actor(r), platform.Package{Name: name, Title: body.Title, Description: body.Description})
}

func (a *AdminAPI) deletePackage(r *http.Request) (any, error) {
	return nil, a.app.Service().DeletePackage(r.Context(), actor(r), r.PathValue("name"))
}

// applyCatalog applies the catalog file in the body, or with dry_run=true
// tells what would change.
func (a *AdminAPI) applyCatalog(r *http.Request) (any, error) {
	q, err := query(r, "source", "dry_run")
	if err != nil {
		return nil, err
	}
	source := q.Get("source")
	if source == "" || source != path.Base(source) {
		return nil, &platform.FieldError{Field: "source", Problem: fmt.Sprintf("%q is no file name", source), Want: "the catalog file's name without folders: mall.openapi.yaml"}
	}
	dryRun, err := strconv.ParseBool(q.Get("dry_run"))
	if err != nil && q.Get("dry_run") != "" {
		return nil, &platform.FieldError{Field: "dry_run", Problem: "neither true nor false", Want: "true or false"}
	}
	data, err := readBody(r)
	if err != nil {
		return nil, err
	}
	if dryRun {
		return a.app.PreviewCatalog(r.Context(), source, data)
	}
	return a.app.ApplyCatalog(r.Context(), actor(r), source, data)
}

// byName picks the element that the path names.
func byName[T any](what string, list []T, r *http.Request, name func(T) string) (any, error) {
	want := r.PathValue("name")
	for _, v := range list {
		if name(v) == want {
			return v, nil
		}
	}
	return nil, fmt.Errorf("%s %q: %w", what, want, platform.ErrNotFound)
}
