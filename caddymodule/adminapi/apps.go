package adminapi

import (
	"net/http"
	"strconv"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (a *AdminAPI) listApps(r *http.Request) (any, error) {
	q, err := query(r, "status", "kind", "text", "limit", "after")
	if err != nil {
		return nil, err
	}
	status, err := oneOf(q, "status", string(platform.Active), string(platform.Suspended))
	if err != nil {
		return nil, err
	}
	kind, err := oneOf(q, "kind", string(platform.Merchant), string(platform.ISV))
	if err != nil {
		return nil, err
	}
	limit, err := rows(q)
	if err != nil {
		return nil, err
	}
	f := platform.AppFilter{Status: platform.AppStatus(status), Kind: platform.AppKind(kind), Text: q.Get("text")}
	apps, err := a.app.Service().Apps(r.Context(), f, platform.Page{Limit: limit, After: q.Get("after")})
	if err != nil {
		return nil, err
	}
	page := AppPage{Apps: nonNil(apps)}
	if len(apps) == limit {
		page.Next = apps[len(apps)-1].ID
	}
	return page, nil
}

func (a *AdminAPI) createApp(r *http.Request) (any, error) {
	var n platform.NewApp
	if err := decode(r, &n); err != nil {
		return nil, err
	}
	app, secret, err := a.app.Service().CreateApp(r.Context(), actor(r), n)
	if err != nil {
		return nil, err
	}
	return created{CreatedApp{App: *app, IssuedSecret: *secret}}, nil
}

func (a *AdminAPI) getApp(r *http.Request) (any, error) {
	return a.app.Service().App(r.Context(), r.PathValue("ref"))
}

func (a *AdminAPI) deleteApp(r *http.Request) (any, error) {
	return nil, a.app.Service().DeleteApp(r.Context(), actor(r), r.PathValue("ref"))
}

func (a *AdminAPI) suspendApp(r *http.Request) (any, error) {
	return a.app.Service().SuspendApp(r.Context(), actor(r), r.PathValue("ref"))
}

func (a *AdminAPI) resumeApp(r *http.Request) (any, error) {
	return a.app.Service().ResumeApp(r.Context(), actor(r), r.PathValue("ref"))
}

func (a *AdminAPI) setAppPlan(r *http.Request) (any, error) {
	var body struct {
		Plan string `json:"plan"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	return a.app.Service().SetAppPlan(r.Context(), actor(r), r.PathValue("ref"), body.Plan)
}

func (a *AdminAPI) addSecret(r *http.Request) (any, error) {
	var body platform.SecretRequest
	if err := decodeOptional(r, &body); err != nil {
		return nil, err
	}
	secret, err := a.app.Service().AddSecret(r.Context(), actor(r), r.PathValue("ref"), body)
	if err != nil {
		return nil, err
	}
	return created{secret}, nil
}

func (a *AdminAPI) addKey(r *http.Request) (any, error) {
	var body struct {
		Environment platform.Environment `json:"environment"`
		PublicKey   string               `json:"public_key"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if body.Environment == "" {
		body.Environment = platform.Sandbox
	}
	key, err := a.app.Service().AddPublicKey(r.Context(), actor(r), r.PathValue("ref"), body.Environment, body.PublicKey)
	if err != nil {
		return nil, err
	}
	return created{key}, nil
}

func (a *AdminAPI) revokeCredential(r *http.Request) (any, error) {
	q, err := query(r, "after")
	if err != nil {
		return nil, err
	}
	after, err := duration(q, "after")
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 1 {
		return nil, &platform.FieldError{Field: "number", Problem: "no credential number", Want: "1, 2, …"}
	}
	return a.app.Service().RevokeCredential(r.Context(), actor(r), r.PathValue("ref"), n, after)
}

func (a *AdminAPI) addIP(r *http.Request) (any, error) {
	var body struct {
		Rule string `json:"rule"`
		Note string `json:"note"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	return a.app.Service().AddIP(r.Context(), actor(r), r.PathValue("ref"), body.Rule, body.Note)
}

// removeIP takes the rule from the query, for a CIDR has a slash.
func (a *AdminAPI) removeIP(r *http.Request) (any, error) {
	q, err := query(r, "rule")
	if err != nil {
		return nil, err
	}
	return a.app.Service().RemoveIP(r.Context(), actor(r), r.PathValue("ref"), q.Get("rule"))
}

func (a *AdminAPI) grantPackage(r *http.Request) (any, error) {
	var period platform.Period
	if err := decodeOptional(r, &period); err != nil {
		return nil, err
	}
	return a.app.Service().GrantPackage(r.Context(), actor(r), r.PathValue("ref"), r.PathValue("name"), period)
}

func (a *AdminAPI) revokePackage(r *http.Request) (any, error) {
	return a.app.Service().RevokePackage(r.Context(), actor(r), r.PathValue("ref"), r.PathValue("name"))
}

func (a *AdminAPI) allowDialect(r *http.Request) (any, error) {
	var body struct {
		Method      string               `json:"method"`
		Environment platform.Environment `json:"environment"`
	}
	if err := decodeOptional(r, &body); err != nil {
		return nil, err
	}
	if body.Environment == "" {
		body.Environment = platform.Sandbox
	}
	secret, err := a.app.Service().AllowDialect(r.Context(), actor(r), r.PathValue("ref"), r.PathValue("name"), body.Method, body.Environment)
	if err != nil {
		return nil, err
	}
	return created{secret}, nil
}

func (a *AdminAPI) disallowDialect(r *http.Request) (any, error) {
	return a.app.Service().DisallowDialect(r.Context(), actor(r), r.PathValue("ref"), r.PathValue("name"))
}

// nonNil makes an empty list "[]" and not "null" in JSON.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
