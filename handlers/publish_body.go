package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// messageBody is a message as publishers write it.
type messageBody struct {
	Topic string          `json:"topic"`
	User  string          `json:"user"`
	Data  json.RawMessage `json:"data"`
	// ID makes a message that is published twice one message.
	ID string `json:"id"`
	// Key orders messages for subscriptions that ask for it.
	Key  string     `json:"key"`
	Time *time.Time `json:"time"`
}

// receiptBody tells that a message was accepted.
type receiptBody struct {
	ID         string `json:"id"`
	Deliveries int    `json:"deliveries"`
	Duplicate  bool   `json:"duplicate,omitempty"`
}

// readMessages reads one message, or a batch of them.
func readMessages(body []byte, environment platform.Environment) (messages []pusher.Message, batch bool, err error) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return nil, false, &platform.FieldError{Field: "body", Problem: "empty", Want: "a message as a JSON object, or an array of them"}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if body[0] != '[' {
		one, err := readMessage(d, body, environment)
		if err != nil {
			return nil, false, err
		}
		return []pusher.Message{one}, false, atEnd(d)
	}
	if _, err := d.Token(); err != nil {
		return nil, true, noJSON(err)
	}
	for i := 0; d.More(); i++ {
		if i == pusher.MaxBatch {
			return nil, true, &platform.FieldError{Field: "body", Problem: fmt.Sprintf("more than %d messages", pusher.MaxBatch), Want: "several requests"}
		}
		one, err := readMessage(d, body, environment)
		if err != nil {
			return nil, true, err
		}
		messages = append(messages, one)
	}
	if _, err := d.Token(); err != nil {
		return nil, true, noJSON(err)
	}
	if len(messages) == 0 {
		return nil, true, &platform.FieldError{Field: "body", Problem: "an empty array", Want: "at least one message"}
	}
	return messages, true, atEnd(d)
}

// readMessage reads the next message of body, which is what d reads. What is wrong
// with it the message tells; an error says that this is no JSON.
func readMessage(d *json.Decoder, body []byte, environment platform.Environment) (pusher.Message, error) {
	var m messageBody
	start := d.InputOffset()
	err := d.Decode(&m)
	message := pusher.Message{Environment: environment, Topic: m.Topic, User: m.User, Key: m.Key, Data: m.Data, Idempotency: m.ID}
	if err != nil {
		if message.Mistake = messageMistake(err); message.Mistake == nil {
			return message, noJSON(err)
		}
		return message, nil
	}
	message.Mistake = checkMembers(body[start:d.InputOffset()])
	if m.Time != nil {
		message.Time = *m.Time
		if m.Time.IsZero() {
			message.Mistake = pusher.BadTime(*m.Time)
		}
	}
	return message, nil
}

// atEnd refuses anything behind the message.
func atEnd(d *json.Decoder) error {
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return &platform.FieldError{Field: "body", Problem: "there is something behind the JSON value", Want: "one message, or one array of messages"}
	}
	return nil
}

// messageMistake words what encoding/json says of a message that is JSON; nil where
// it is none.
func messageMistake(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return &platform.FieldError{Field: "message", Problem: "is a JSON " + wrong.Value, Want: "a JSON object"}
		}
		return &platform.FieldError{Field: wrong.Field, Problem: "is a JSON " + wrong.Value, Want: "a string"}
	}
	if _, ok := errors.AsType[*time.ParseError](err); ok || strings.HasPrefix(err.Error(), "Time.UnmarshalJSON") {
		return &platform.FieldError{Field: "time", Problem: "is no time", Want: "RFC 3339: 2027-01-31T08:00:00Z"}
	}
	return nil
}

func noJSON(err error) error {
	return &platform.FieldError{Field: "body", Problem: "no valid JSON: " + err.Error(), Want: "a message as a JSON object, or an array of them"}
}

// writeReceipts answers with what was accepted, as it was asked: one, or all.
func writeReceipts(w http.ResponseWriter, receipts []pusher.Receipt, batch bool) error {
	bodies := make([]receiptBody, len(receipts))
	for i, r := range receipts {
		bodies[i] = receiptBody{r.ID.String(), r.Deliveries, r.Duplicate}
	}
	var answer any = map[string]any{"messages": bodies}
	if !batch {
		answer = bodies[0]
	}
	return writeJSON(w, http.StatusAccepted, answer)
}

// writeJSON answers with a JSON value that nobody is to keep.
func writeJSON(w http.ResponseWriter, status int, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // the client may have gone; what was done stands
	return nil
}

// entryMistake is what is wrong with one message of a request.
type entryMistake struct {
	Index  int    `json:"index"`
	Field  string `json:"field,omitempty"`
	Detail string `json:"detail"`
}

// entryMistakes lists the mistakes of a batch, in the order of its messages.
func entryMistakes(mistakes map[int]error) []entryMistake {
	var list []entryMistake
	for _, i := range slices.Sorted(maps.Keys(mistakes)) {
		m := entryMistake{Index: i, Detail: mistakes[i].Error()}
		if field, ok := errors.AsType[*platform.FieldError](mistakes[i]); ok {
			m.Field, m.Detail = field.Field, field.Error()
		}
		list = append(list, m)
	}
	return list
}
