package adminapi

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (a *AdminAPI) listTopics(r *http.Request) (any, error) {
	q, err := query(r, "status", "package", "text")
	if err != nil {
		return nil, err
	}
	topics, err := a.app.Service().Topics(r.Context(), platform.TopicFilter{Status: platform.APIStatus(q.Get("status")), Package: q.Get("package"), Text: q.Get("text")})
	if err != nil {
		return nil, err
	}
	list := slices.Clone(nonNil(topics))
	for i := range list { // a list is for choosing; the documentation is in the single answer
		list[i].Schema, list[i].Example, list[i].Spec = nil, nil, nil
	}
	return map[string]any{"topics": list}, nil
}

func (a *AdminAPI) getTopic(r *http.Request) (any, error) {
	return a.app.Service().Topic(r.Context(), r.PathValue("name"))
}

func (a *AdminAPI) setTopicStatus(r *http.Request) (any, error) {
	status, ok := map[string]platform.APIStatus{
		"online": platform.Online, "deprecate": platform.Deprecated, "offline": platform.Offline,
	}[r.PathValue("state")]
	if !ok {
		return nil, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("%s: no such path; want online, deprecate or offline", r.URL.Path)}
	}
	return a.app.Service().SetTopicStatus(r.Context(), actor(r), r.PathValue("name"), status)
}

func (a *AdminAPI) listSubscriptions(r *http.Request) (any, error) {
	p, q, err := listPage(r, "app", "environment", "topic", "status")
	if err != nil {
		return nil, err
	}
	subs, err := a.app.Service().Subscriptions(r.Context(), platform.SubscriptionFilter{
		App: q["app"], Environment: platform.Environment(q["environment"]), Topic: q["topic"], Status: platform.SubscriptionStatus(q["status"]),
	}, p)
	if err != nil {
		return nil, err
	}
	page := SubscriptionPage{Subscriptions: nonNil(subs)}
	if len(subs) == p.Limit {
		page.Next = subs[len(subs)-1].ID
	}
	return page, nil
}

func (a *AdminAPI) createSubscription(r *http.Request) (any, error) {
	var body NewSubscription
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	settings, err := body.settings()
	if err != nil {
		return nil, err
	}
	sub, keys, err := a.app.Service().CreateSubscription(r.Context(), actor(r), platform.NewSubscription{
		App: body.App, Environment: body.Environment, SubscriptionSettings: settings,
	})
	if err != nil {
		return nil, err
	}
	return created{SubscriptionWithKeys{*sub, keys}}, nil
}

func (a *AdminAPI) getSubscription(r *http.Request) (any, error) {
	return a.app.Service().Subscription(r.Context(), r.PathValue("id"))
}

func (a *AdminAPI) updateSubscription(r *http.Request) (any, error) {
	var body SubscriptionSettings
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	settings, err := body.settings()
	if err != nil {
		return nil, err
	}
	sub, keys, err := a.app.Service().UpdateSubscription(r.Context(), actor(r), r.PathValue("id"), settings)
	if err != nil {
		return nil, err
	}
	return SubscriptionWithKeys{*sub, keys}, nil
}

func (a *AdminAPI) deleteSubscription(r *http.Request) (any, error) {
	return nil, a.app.Service().DeleteSubscription(r.Context(), actor(r), r.PathValue("id"))
}

func (a *AdminAPI) pauseSubscription(r *http.Request) (any, error) {
	return a.app.Service().PauseSubscription(r.Context(), actor(r), r.PathValue("id"))
}

func (a *AdminAPI) resumeSubscription(r *http.Request) (any, error) {
	return a.app.Service().ResumeSubscription(r.Context(), actor(r), r.PathValue("id"))
}

func (a *AdminAPI) verifySubscription(r *http.Request) (any, error) {
	return a.app.Service().VerifySubscription(r.Context(), actor(r), r.PathValue("id"), a.app.Challenge)
}

func (a *AdminAPI) listPushKeys(r *http.Request) (any, error) {
	keys, err := a.app.Service().PushKeys(r.Context(), r.PathValue("ref"))
	if err != nil {
		return nil, err
	}
	return PushKeyList{nonNil(keys)}, nil
}

func (a *AdminAPI) addPushKey(r *http.Request) (any, error) {
	var body platform.PushKeyRequest
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	key, err := a.app.Service().AddPushKey(r.Context(), actor(r), r.PathValue("ref"), body)
	if err != nil {
		return nil, err
	}
	return created{key}, nil
}

func (a *AdminAPI) revokePushKey(r *http.Request) (any, error) {
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
		return nil, &platform.FieldError{Field: "number", Problem: "no number of a push key", Want: "1, 2, …"}
	}
	return a.app.Service().RevokePushKey(r.Context(), actor(r), r.PathValue("ref"), n, after)
}

// settings reads the spans of time.
func (s *SubscriptionSettings) settings() (platform.SubscriptionSettings, error) {
	out := platform.SubscriptionSettings{
		URL: s.URL, Topics: s.Topics, Filter: s.Filter, Ordered: s.Ordered, Concurrency: s.Concurrency, Rate: (*limit.Rate)(s.Rate),
		Format: s.Format, Asymmetric: s.Asymmetric,
	}
	if s.HoldFor != nil {
		d, err := span("hold_for", *s.HoldFor)
		if err != nil {
			return out, err
		}
		out.HoldFor = &d
	}
	if s.Schedule != nil {
		out.Schedule = []time.Duration{}
	}
	for i, wait := range s.Schedule {
		d, err := span(fmt.Sprintf("schedule[%d]", i), wait)
		if err != nil {
			return out, err
		}
		out.Schedule = append(out.Schedule, d)
	}
	return out, nil
}

func span(field, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, &platform.FieldError{Field: field, Problem: fmt.Sprintf("%q is no duration", text), Want: "a number with a unit: 5s, 10m, 1h30m"}
	}
	return d, nil
}
