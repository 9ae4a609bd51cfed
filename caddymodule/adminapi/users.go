package adminapi

import (
	"net/http"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// listPage reads the "limit" and "after" of a list.
func listPage(r *http.Request, names ...string) (platform.Page, map[string]string, error) {
	q, err := query(r, append(names, "limit", "after")...)
	if err != nil {
		return platform.Page{}, nil, err
	}
	limit, err := rows(q)
	if err != nil {
		return platform.Page{}, nil, err
	}
	values := map[string]string{}
	for _, name := range names {
		values[name] = q.Get(name)
	}
	return platform.Page{Limit: limit, After: q.Get("after")}, values, nil
}

func (a *AdminAPI) listUsers(r *http.Request) (any, error) {
	p, q, err := listPage(r, "status", "text")
	if err != nil {
		return nil, err
	}
	users, err := a.app.Service().Users(r.Context(), platform.UserFilter{Status: platform.UserStatus(q["status"]), Text: q["text"]}, p)
	if err != nil {
		return nil, err
	}
	page := UserPage{Users: nonNil(users)}
	if len(users) == p.Limit {
		page.Next = users[len(users)-1].ID
	}
	return page, nil
}

func (a *AdminAPI) createUser(r *http.Request) (any, error) {
	var body NewUser
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	u, err := a.app.Service().CreateUser(r.Context(), actor(r), body.Login, body.Name, body.Password)
	if err != nil {
		return nil, err
	}
	return created{u}, nil
}

func (a *AdminAPI) getUser(r *http.Request) (any, error) {
	return a.app.Service().User(r.Context(), r.PathValue("ref"))
}

func (a *AdminAPI) disableUser(r *http.Request) (any, error) {
	return a.app.Service().DisableUser(r.Context(), actor(r), r.PathValue("ref"))
}

func (a *AdminAPI) enableUser(r *http.Request) (any, error) {
	return a.app.Service().EnableUser(r.Context(), actor(r), r.PathValue("ref"))
}

func (a *AdminAPI) setPassword(r *http.Request) (any, error) {
	var body struct {
		Password string `json:"password"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	return a.app.Service().SetPassword(r.Context(), actor(r), r.PathValue("ref"), body.Password)
}
