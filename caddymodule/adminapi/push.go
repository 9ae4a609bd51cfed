package adminapi

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// messageQuery are the parameters by which messages and deliveries are selected.
var messageQuery = []string{"app", "subscription", "environment", "topic", "user", "state", "since", "until", "message"}

// selection reads the parameters of a list.
func selection(r *http.Request, names ...string) (pusher.Query, platform.Page, error) {
	p, values, err := listPage(r, names...)
	if err != nil {
		return pusher.Query{}, p, err
	}
	q := pusher.Query{
		App: values["app"], Subscription: values["subscription"], Environment: values["environment"],
		Topic: values["topic"], User: values["user"], Message: values["message"],
	}
	if states := values["state"]; states != "" {
		q.States = strings.Split(states, ",")
		for _, state := range q.States {
			if _, err := pusher.ParseState(state); err != nil { // names the parameter, not the field of a job
				return q, p, err
			}
		}
	}
	times := url.Values{"since": {values["since"]}, "until": {values["until"]}}
	if q.Since, err = moment(times, "since"); err != nil {
		return q, p, err
	}
	q.Until, err = moment(times, "until")
	return q, p, err
}

func (a *AdminAPI) listMessages(r *http.Request) (any, error) {
	q, p, err := selection(r, "environment", "topic", "user", "since", "until")
	if err != nil {
		return nil, err
	}
	records, err := a.app.Messages().Messages(r.Context(), q, p.After, p.Limit)
	if err != nil {
		return nil, err
	}
	page := MessagePage{Messages: []Message{}}
	for i := range records {
		page.Messages = append(page.Messages, viewMessage(&records[i]))
	}
	if len(records) == p.Limit {
		page.Next = page.Messages[p.Limit-1].ID
	}
	return page, nil
}

func (a *AdminAPI) getMessage(r *http.Request) (any, error) {
	record, deliveries, err := a.app.Messages().Message(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	view := MessageDetails{Message: viewMessage(record), Data: record.Data, Deliveries: []Delivery{}}
	for i := range deliveries {
		view.Deliveries = append(view.Deliveries, viewDelivery(&deliveries[i]))
	}
	return view, nil
}

func (a *AdminAPI) pushMessage(r *http.Request) (any, error) {
	job, err := a.app.Messages().PushMessage(r.Context(), actor(r), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return created{viewJob(job)}, nil
}

func (a *AdminAPI) listDeliveries(r *http.Request) (any, error) {
	q, p, err := selection(r, messageQuery...)
	if err != nil {
		return nil, err
	}
	records, err := a.app.Messages().Deliveries(r.Context(), q, p.After, p.Limit)
	if err != nil {
		return nil, err
	}
	page := DeliveryPage{Deliveries: []Delivery{}}
	for i := range records {
		page.Deliveries = append(page.Deliveries, viewDelivery(&records[i]))
	}
	if len(records) == p.Limit {
		page.Next = page.Deliveries[p.Limit-1].ID
	}
	return page, nil
}

func (a *AdminAPI) getDelivery(r *http.Request) (any, error) {
	d, err := a.app.Messages().Delivery(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	view := DeliveryDetails{Delivery: viewDelivery(&d.Record), Body: d.Body, KeyNumber: d.KeyNumber, AttemptLog: []Attempt{}}
	for i := range d.Attempts {
		view.AttemptLog = append(view.AttemptLog, viewAttempt(&d.Attempts[i]))
	}
	return view, nil
}

func (a *AdminAPI) pushDelivery(r *http.Request) (any, error) {
	record, err := a.app.Messages().Push(r.Context(), actor(r), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return viewDelivery(record), nil
}

func (a *AdminAPI) cancelDelivery(r *http.Request) (any, error) {
	record, err := a.app.Messages().Cancel(r.Context(), actor(r), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return viewDelivery(record), nil
}

func (a *AdminAPI) startJob(r *http.Request) (any, error) {
	var body NewJob
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	job, err := a.app.Messages().StartJob(r.Context(), actor(r), body.Cause, body.Query)
	if err != nil {
		return nil, err
	}
	return created{viewJob(job)}, nil
}

func (a *AdminAPI) listJobs(r *http.Request) (any, error) {
	q, err := query(r, "limit")
	if err != nil {
		return nil, err
	}
	limit, err := rows(q)
	if err != nil {
		return nil, err
	}
	jobs, err := a.app.Messages().Store.Jobs(r.Context(), limit)
	if err != nil {
		return nil, err
	}
	page := JobPage{Jobs: []Job{}}
	for i := range jobs {
		page.Jobs = append(page.Jobs, viewJob(&jobs[i]))
	}
	return page, nil
}

func (a *AdminAPI) getJob(r *http.Request) (any, error) {
	job, err := a.app.Messages().Store.Job(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return viewJob(job), nil
}

// setJob is the endpoint that puts a job into the state.
func (a *AdminAPI) setJob(state pusher.JobState) endpoint {
	return func(r *http.Request) (any, error) {
		job, err := a.app.Messages().SetJob(r.Context(), actor(r), r.PathValue("id"), state)
		if err != nil {
			return nil, err
		}
		return viewJob(job), nil
	}
}

func (a *AdminAPI) pushStatus(r *http.Request) (any, error) {
	depth, err := a.app.Messages().Store.Depth(r.Context())
	if err != nil {
		return nil, err
	}
	return PushReport{
		Pending: depth.Pending, Delivering: depth.Delivering, Suspended: depth.Suspended,
		OldestDue: depth.Oldest, Node: a.app.PushStats(),
	}, nil
}
