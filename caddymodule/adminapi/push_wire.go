package adminapi

import (
	"encoding/json"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

func viewMessage(m *pusher.MessageRecord) Message {
	view := Message{
		ID: m.ID.String(), Environment: m.Environment, Topic: m.Topic, User: m.User, Key: m.Key,
		AcceptedAt: time.UnixMicro(m.ID.At).UTC(), Time: m.Time, PublisherID: m.Idempotency, Deliveries: map[string]int{},
	}
	for state, n := range m.States {
		view.Deliveries[state.String()] = n
	}
	return view
}

func viewDelivery(d *pusher.Record) Delivery {
	view := Delivery{
		ID: d.ID.String(), Message: d.Message.String(), Environment: d.Environment, Topic: d.Topic, User: d.User, Key: d.Key,
		App: d.App, AppKey: d.AppKey, Subscription: d.Subscription, State: d.State, Cause: d.Cause, Attempts: d.Attempts,
		CreatedAt: d.Created, DeliveredAt: d.DeliveredAt, LastStatus: d.LastStatus, LastError: d.LastClass,
	}
	if !d.State.Final() {
		view.DueAt = d.Due
	}
	if d.Origin != (pusher.DeliveryID{}) {
		view.Origin = d.Origin.String()
	}
	return view
}

func viewAttempt(a *pusher.Attempt) Attempt {
	return Attempt{
		Number: a.Number, Cause: a.Cause, StartedAt: a.Started, DurationMS: float64(a.Duration.Microseconds()) / 1000,
		Address: a.Address, Status: a.Status, ErrorClass: a.Class, Error: a.Error, Response: string(a.Response), Node: a.Node,
	}
}

func viewJob(j *pusher.Job) Job {
	return Job{Job: *j, Cause: j.Cause}
}

// Message is a message as lists show it.
type Message struct {
	ID          string               `json:"id"`
	Environment platform.Environment `json:"environment"`
	Topic       string               `json:"topic"`
	User        string               `json:"user,omitempty"`
	Key         string               `json:"key,omitempty"`
	// AcceptedAt is when the platform took it, Time when it happened.
	AcceptedAt time.Time `json:"accepted_at"`
	Time       time.Time `json:"time,omitzero"`
	// PublisherID is what the publisher calls it.
	PublisherID string `json:"publisher_id,omitempty"`
	// Deliveries counts its deliveries by state.
	Deliveries map[string]int `json:"deliveries"`
}

// MessagePage is one page of a list of messages.
type MessagePage struct {
	Messages []Message `json:"messages"`
	// Next is the "after" of the next page; absent on the last one.
	Next string `json:"next,omitempty"`
}

// MessageDetails are a message with its data and its deliveries.
type MessageDetails struct {
	Message
	Data       json.RawMessage `json:"data"`
	Deliveries []Delivery      `json:"delivery_list"`
}

// Delivery is a message on its way to one app.
type Delivery struct {
	ID           string               `json:"id"`
	Message      string               `json:"message"`
	Environment  platform.Environment `json:"environment"`
	Topic        string               `json:"topic"`
	User         string               `json:"user,omitempty"`
	Key          string               `json:"key,omitempty"`
	App          string               `json:"app"`
	AppKey       string               `json:"app_key"`
	Subscription string               `json:"subscription"`
	State        pusher.State         `json:"state"`
	Cause        pusher.Cause         `json:"cause"`
	Attempts     int                  `json:"attempts"`
	DueAt        time.Time            `json:"due_at,omitzero"`
	CreatedAt    time.Time            `json:"created_at"`
	DeliveredAt  time.Time            `json:"delivered_at,omitzero"`
	// Origin is the delivery that a reset repeats.
	Origin     string            `json:"origin,omitempty"`
	LastStatus int               `json:"last_status,omitempty"`
	LastError  pusher.ErrorClass `json:"last_error,omitempty"`
}

// DeliveryPage is one page of a list of deliveries.
type DeliveryPage struct {
	Deliveries []Delivery `json:"deliveries"`
	// Next is the "after" of the next page; absent on the last one.
	Next string `json:"next,omitempty"`
}

// DeliveryDetails are a delivery with all its attempts and what is posted.
type DeliveryDetails struct {
	Delivery
	AttemptLog []Attempt `json:"attempt_log"`
	// Body is what is posted, encrypted with the app's push key of the number.
	Body      json.RawMessage `json:"body,omitempty"`
	KeyNumber int             `json:"key_number,omitempty"`
}

// Attempt is one request to the app's server.
type Attempt struct {
	Number     int          `json:"number"`
	Cause      pusher.Cause `json:"cause"`
	StartedAt  time.Time    `json:"started_at"`
	DurationMS float64      `json:"duration_ms"`
	// Address is what was connected to.
	Address    string            `json:"address,omitempty"`
	Status     int               `json:"status,omitempty"`
	ErrorClass pusher.ErrorClass `json:"error_class,omitempty"`
	Error      string            `json:"error,omitempty"`
	// Response is the first 4 KiB of the answer's body.
	Response string `json:"response,omitempty"`
	Node     string `json:"node"`
}

// NewJob asks for many deliveries to be pushed again.
type NewJob struct {
	// Cause is manual, repush or reset.
	Cause pusher.Cause `json:"cause"`
	pusher.Query
}

// Job is how far pushing again has come.
type Job struct {
	pusher.Job
	Cause pusher.Cause `json:"cause"`
}

// JobPage is a list of jobs, newest first.
type JobPage struct {
	Jobs []Job `json:"jobs"`
}

// PushReport is how the push is doing.
type PushReport struct {
	// Pending, Delivering and Suspended count deliveries of all nodes.
	Pending    int64 `json:"pending"`
	Delivering int64 `json:"delivering"`
	Suspended  int64 `json:"suspended"`
	// OldestDue is when the oldest pending one was due.
	OldestDue time.Time `json:"oldest_due,omitzero"`
	// Node are the figures of the node that answers, since it started.
	Node pusher.Stats `json:"node"`
}
