package adminapi

import (
	"net/http"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (a *AdminAPI) listPlans(r *http.Request) (any, error) {
	c, err := a.app.Service().Catalog(r.Context())
	if err != nil {
		return nil, err
	}
	return map[string]any{"plans": nonNil(c.Plans)}, nil
}

func (a *AdminAPI) getPlan(r *http.Request) (any, error) {
	c, err := a.app.Service().Catalog(r.Context())
	if err != nil {
		return nil, err
	}
	return byName("plan", c.Plans, r, func(p platform.Plan) string { return p.Name })
}

func (a *AdminAPI) putPlan(r *http.Request) (any, error) {
	var p platform.Plan
	err := decode(r, &p)
	if err != nil {
		return nil, err
	}
	if p.Name, err = pathName(r, p.Name); err != nil {
		return nil, err
	}
	return a.app.Service().PutPlan(r.Context(), actor(r), p)
}

func (a *AdminAPI) deletePlan(r *http.Request) (any, error) {
	return nil, a.app.Service().DeletePlan(r.Context(), actor(r), r.PathValue("name"))
}

func (a *AdminAPI) listIPGroups(r *http.Request) (any, error) {
	c, err := a.app.Service().Catalog(r.Context())
	if err != nil {
		return nil, err
	}
	return map[string]any{"ip_groups": nonNil(c.IPGroups)}, nil
}

func (a *AdminAPI) getIPGroup(r *http.Request) (any, error) {
	c, err := a.app.Service().Catalog(r.Context())
	if err != nil {
		return nil, err
	}
	return byName("ip group", c.IPGroups, r, func(g platform.IPGroup) string { return g.Name })
}

func (a *AdminAPI) putIPGroup(r *http.Request) (any, error) {
	var g platform.IPGroup
	err := decode(r, &g)
	if err != nil {
		return nil, err
	}
	if g.Name, err = pathName(r, g.Name); err != nil {
		return nil, err
	}
	return a.app.Service().PutIPGroup(r.Context(), actor(r), g)
}

func (a *AdminAPI) deleteIPGroup(r *http.Request) (any, error) {
	return nil, a.app.Service().DeleteIPGroup(r.Context(), actor(r), r.PathValue("name"))
}

func (a *AdminAPI) getLimits(r *http.Request) (any, error) {
	c, err := a.app.Service().Catalog(r.Context())
	if err != nil {
		return nil, err
	}
	return c.Platform, nil
}

func (a *AdminAPI) putLimits(r *http.Request) (any, error) {
	var l platform.Limits
	err := decode(r, &l)
	if err != nil {
		return nil, err
	}
	if err := a.app.Service().SetPlatformLimits(r.Context(), actor(r), l); err != nil {
		return nil, err
	}
	return l, nil
}
