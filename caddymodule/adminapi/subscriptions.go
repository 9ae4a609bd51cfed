package adminapi

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// SubscriptionBody describes a subscription to make, or what to change of one:
// what is left out takes its default, or stays as it is.
type SubscriptionBody struct {
	// App is an ID or an appKey. App and Environment are for new ones alone.
	App         string                  `json:"app,omitempty"`
	Environment platform.Environment    `json:"environment,omitempty"`
	URL         *string                 `json:"url,omitempty"`
	Topics      []string                `json:"topics,omitempty"`
	Filter      *platform.MessageFilter `json:"filter,omitempty"`
	Ordered     *bool                   `json:"ordered,omitempty"`
	// HoldFor is a duration such as "1h".
	HoldFor     *string        `json:"hold_for,omitempty"`
	Concurrency *int           `json:"concurrency,omitempty"`
	Rate        *platform.Rate `json:"rate,omitempty"`
	// Schedule are durations such as "5s"; an empty list is the platform's.
	Schedule   *[]string            `json:"schedule,omitempty"`
	Format     *platform.PushFormat `json:"format,omitempty"`
	Asymmetric *bool                `json:"asymmetric,omitempty"`
}

// settings reads the durations of the body.
func (b *SubscriptionBody) settings() (platform.SubscriptionSettings, error) {
	s := platform.SubscriptionSettings{
		URL: b.URL, Topics: b.Topics, Filter: b.Filter, Ordered: b.Ordered, Concurrency: b.Concurrency,
		Rate: (*limit.Rate)(b.Rate), Format: b.Format, Asymmetric: b.Asymmetric,
	}
	if b.HoldFor != nil {
		d, err := parseSpan("hold_for", *b.HoldFor)
		if err != nil {
			return s, err
		}
		s.HoldFor = &d
	}
	if b.Schedule != nil {
		s.Schedule = []time.Duration{}
		for i, text := range *b.Schedule {
			d, err := parseSpan(fmt.Sprintf("schedule[%d]", i), text)
			if err != nil {
				return s, err
			}
			s.Schedule = append(s.Schedule, d)
		}
	}
	return s, nil
}

func parseSpan(field, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, &platform.FieldError{Field: field, Problem: fmt.Sprintf("%q is no duration", text), Want: "5s, 30m, 2h, …"}
	}
	return d, nil
}

// IssuedSubscription is a subscription with the push keys that were made for
// it, which are shown this once.
type IssuedSubscription struct {
	Subscription platform.Subscription    `json:"subscription"`
	Keys         []platform.IssuedPushKey `json:"keys,omitempty"`
}

// SubscriptionPage is one page of a list of subscriptions.
type SubscriptionPage struct {
	Subscriptions []platform.Subscription `json:"subscriptions"`
	// Next is the "after" of the next page; absent on the last one.
	Next string `json:"next,omitempty"`
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
	var body SubscriptionBody
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
	return created{IssuedSubscription{*sub, keys}}, nil
}

func (a *AdminAPI) getSubscription(r *http.Request) (any, error) {
	return a.app.Service().Subscription(r.Context(), r.PathValue("id"))
}

func (a *AdminAPI) updateSubscription(r *http.Request) (any, error) {
	var body SubscriptionBody
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if body.App != "" || body.Environment != "" {
		return nil, &platform.FieldError{Field: "app", Problem: "app and environment never change", Want: "another subscription"}
	}
	settings, err := body.settings()
	if err != nil {
		return nil, err
	}
	sub, keys, err := a.app.Service().UpdateSubscription(r.Context(), actor(r), r.PathValue("id"), settings)
	if err != nil {
		return nil, err
	}
	return IssuedSubscription{*sub, keys}, nil
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

func (a *AdminAPI) deleteSubscription(r *http.Request) (any, error) {
	return nil, a.app.Service().DeleteSubscription(r.Context(), actor(r), r.PathValue("id"))
}

func (a *AdminAPI) listPushKeys(r *http.Request) (any, error) {
	keys, err := a.app.Service().PushKeys(r.Context(), r.PathValue("ref"))
	if err != nil {
		return nil, err
	}
	return map[string]any{"keys": nonNil(keys)}, nil
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

func (a *AdminAPI) listTopics(r *http.Request) (any, error) {
	q, err := query(r, "status", "package", "text")
	if err != nil {
		return nil, err
	}
	topics, err := a.app.Service().Topics(r.Context(), platform.TopicFilter{
		Status: platform.APIStatus(q.Get("status")), Package: q.Get("package"), Text: q.Get("text"),
	})
	if err != nil {
		return nil, err
	}
	for i := range topics { // a list is to be looked through
		topics[i].Schema, topics[i].Example, topics[i].Spec = nil, nil, nil
	}
	return map[string]any{"topics": nonNil(topics)}, nil
}

func (a *AdminAPI) getTopic(r *http.Request) (any, error) {
	return a.app.Service().Topic(r.Context(), r.PathValue("name"))
}

// setTopicStatus is the endpoint that moves a topic through its life.
func (a *AdminAPI) setTopicStatus(status platform.APIStatus) endpoint {
	return func(r *http.Request) (any, error) {
		return a.app.Service().SetTopicStatus(r.Context(), actor(r), r.PathValue("name"), status)
	}
}
