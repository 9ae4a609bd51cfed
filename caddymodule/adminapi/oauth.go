package adminapi

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (a *AdminAPI) setOAuth(r *http.Request) (any, error) {
	var body platform.OAuthSettings
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	return a.app.Service().SetOAuth(r.Context(), actor(r), r.PathValue("ref"), body)
}

func (a *AdminAPI) startLink(r *http.Request) (any, error) {
	var body NewStartLink
	if err := decodeOptional(r, &body); err != nil {
		return nil, err
	}
	valid, err := duration(url.Values{"valid": {cmp.Or(body.Valid, "24h")}}, "valid")
	if err != nil {
		return nil, err
	}
	return a.app.StartLink(r.Context(), r.PathValue("ref"),
		oauth.StartOptions{Environment: body.Environment, Issuer: body.Issuer, Lifetime: valid})
}

func (a *AdminAPI) listGrants(r *http.Request) (any, error) {
	p, q, err := listPage(r, "user", "app", "live")
	if err != nil {
		return nil, err
	}
	if live := q["live"]; live != "" && live != "true" && live != "false" {
		return nil, &platform.FieldError{Field: "live", Problem: fmt.Sprintf("%q is unknown", live), Want: "true or false"}
	}
	f := platform.GrantFilter{User: q["user"], App: q["app"], Live: q["live"] == "true"}
	grants, err := a.app.Service().Grants(r.Context(), f, p)
	if err != nil {
		return nil, err
	}
	page := GrantPage{Grants: nonNil(grants)}
	if len(grants) == p.Limit {
		page.Next = grants[len(grants)-1].ID
	}
	return page, nil
}

func (a *AdminAPI) getGrant(r *http.Request) (any, error) {
	return a.app.Service().Grant(r.Context(), r.PathValue("id"))
}

func (a *AdminAPI) revokeGrant(r *http.Request) (any, error) {
	return a.app.Service().RevokeGrant(r.Context(), actor(r), r.PathValue("id"))
}

// tokenOf reads a token from the body: Caddy logs the URLs of the admin
// endpoint.
func tokenOf(r *http.Request) (string, error) {
	var body struct {
		Token string `json:"token"`
	}
	err := decode(r, &body)
	return body.Token, err
}

func (a *AdminAPI) inspectToken(r *http.Request) (any, error) {
	token, err := tokenOf(r)
	if err != nil {
		return nil, err
	}
	return a.app.Service().InspectToken(r.Context(), token)
}

func (a *AdminAPI) revokeToken(r *http.Request) (any, error) {
	token, err := tokenOf(r)
	if err != nil {
		return nil, err
	}
	return a.app.Service().RevokeToken(r.Context(), actor(r), token)
}
