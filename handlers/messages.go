package handlers

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-openplatform/openplatform/internal/gate"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// Messages lets apps pull what could not be pushed to them, and acknowledge it:
// for the time after an outage of theirs. It stands behind open_sign or
// open_gate, which say who the app is:
//
//	GET  …               lists what has not arrived, the oldest first
//	POST …/ack           acknowledges deliveries: they are not pushed any more
//	GET  …/egress        tells which addresses messages are pushed from
//
// It has no settings.
type Messages struct {
	stage
	logger *zap.Logger
	// toldGone is when the log was last told of deliveries without a message.
	toldGone atomic.Int64
}

// Bounds of a pull.
const (
	defaultPull = 100
	maxPull     = 500
	// maxPullTopics is as many as a subscription has at the most.
	maxPullTopics = 1000
	maxAck        = 1000
	maxAckBody    = 256 << 10
	// tellGone is how often the log is told of deliveries without a message.
	tellGone = time.Hour
)

// CaddyModule returns the Caddy module information.
func (*Messages) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.open_messages", New: func() caddy.Module { return new(Messages) }}
}

// Provision sets up the handler.
func (h *Messages) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	return h.provision(ctx)
}

// ServeHTTP answers an app.
func (h *Messages) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	return h.serve(w, r, caddyhttp.HandlerFunc(h.pull), h)
}

func (h *Messages) check(x *exchange) *gate.Refusal {
	if !x.call.Admitted() {
		return &gate.Refusal{Code: gate.SignatureMissing, Stage: gate.StageUpstream, Detail: "the call has not passed open_sign on this route"}
	}
	return nil
}

// pull does what the path asks for.
func (h *Messages) pull(w http.ResponseWriter, r *http.Request) error {
	serve, method := h.list, http.MethodGet
	switch {
	case namesOne(path.Base(r.URL.Path)):
		return &gate.Refusal{Code: gate.APIUnknown, Stage: gate.StageUpstream, Detail: "nothing is here for one message or delivery: GET the list, or POST to …/ack"}
	case strings.HasSuffix(r.URL.Path, "/ack"):
		serve, method = h.acknowledge, http.MethodPost
	case strings.HasSuffix(r.URL.Path, "/egress"):
		serve = h.egress
	}
	if r.Method != method {
		return &gate.Refusal{Code: gate.MethodNotAllowed, Stage: gate.StageUpstream, Detail: "this takes " + method, Allow: method}
	}
	answer, err := serve(r, exchangeOf(r))
	if err != nil {
		return pullRefusal(err)
	}
	return writeJSON(w, http.StatusOK, answer)
}

// namesOne tells whether a segment is the ID of a message or a delivery.
func namesOne(segment string) bool {
	_, message := pusher.ParseMessageID(segment)
	_, delivery := pusher.ParseDeliveryID(segment)
	return message == nil || delivery == nil
}

// pulled is a delivery as an app pulls it.
type pulled struct {
	Delivery  string    `json:"delivery"`
	ID        string    `json:"id"` // the webhook-id
	Topic     string    `json:"topic"`
	CreatedAt time.Time `json:"created_at"`
	// Body is what is posted: encrypted, unless the app gets it plain.
	Body json.RawMessage `json:"body"`
}

// list answers with what has not arrived. A delivery whose message is gone, and that
// was kept in no form that the app can read still, is left out: it is lost.
func (h *Messages) list(r *http.Request, x *exchange) (any, error) {
	q, err := readListQuery(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	p, err := h.app.Pusher(r.Context())
	if err != nil {
		return nil, err
	}
	app := x.call.App().Number
	parcels, err := h.app.Messages().Store.Undelivered(r.Context(), app, x.call.Environment, q.topics, q.after, q.limit)
	if err != nil {
		return nil, err
	}
	list, next := make([]pulled, 0, len(parcels)), ""
	for i := range parcels {
		parcel := &parcels[i]
		body, err := p.Reseal(r.Context(), app, parcel.Message, parcel.Body, parcel.KeyNumber)
		if errors.Is(err, platform.ErrNotFound) {
			h.gone(parcel, x.call.Started)
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, pulled{parcel.ID.String(), parcel.Message.String(), parcel.Topic, parcel.Created, body})
	}
	if len(parcels) == q.limit {
		next = parcels[len(parcels)-1].ID.String()
	}
	return map[string]any{"messages": list, "next": next}, nil
}

// gone tells the log that a delivery cannot be pulled: of one, for the others are
// likely to have the same cause, and each pull meets them again.
func (h *Messages) gone(parcel *pusher.Parcel, now time.Time) {
	told := h.toldGone.Load()
	if now.Before(time.Unix(told, 0).Add(tellGone)) || !h.toldGone.CompareAndSwap(told, now.Unix()) {
		return
	}
	h.logger.Warn("a delivery cannot be pulled: its message is gone", zap.Stringer("delivery", parcel.ID), zap.Stringer("message", parcel.Message))
}

// listQuery is what a list is asked for.
type listQuery struct {
	topics []string
	after  pusher.Cursor
	limit  int
}

func readListQuery(raw string) (listQuery, error) {
	p := listQuery{limit: defaultPull}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return p, &platform.FieldError{Field: "query", Problem: err.Error(), Want: "name=value&…, percent-encoded"}
	}
	for name, values := range q {
		if len(values) > 1 && name != "topic" {
			return p, &platform.FieldError{Field: name, Problem: "given more than once", Want: "one value"}
		}
		switch name {
		case "topic":
			if p.topics = values; len(values) > maxPullTopics {
				return p, &platform.FieldError{Field: name, Problem: fmt.Sprintf("given %d times", len(values)), Want: fmt.Sprintf("at most %d", maxPullTopics)}
			}
		case "after":
			id, err := pusher.ParseDeliveryID(values[0])
			if err != nil {
				return p, &platform.FieldError{Field: name, Problem: "no delivery", Want: `the "next" of the answer before`}
			}
			p.after = pusher.Cursor(id)
		case "limit":
			if p.limit, err = strconv.Atoi(values[0]); err != nil || p.limit < 1 || p.limit > maxPull {
				return p, &platform.FieldError{Field: name, Problem: fmt.Sprintf("%q is out of range", values[0]), Want: fmt.Sprintf("1 to %d", maxPull)}
			}
		default:
			return p, &platform.FieldError{Field: name, Problem: "unknown parameter", Want: "topic, after or limit"}
		}
	}
	return p, nil
}

// acknowledge ends deliveries that the app has.
func (h *Messages) acknowledge(r *http.Request, x *exchange) (any, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxAckBody))
	if err != nil {
		return nil, &platform.FieldError{Field: "body", Problem: "too long, or it broke off", Want: fmt.Sprintf("at most %d bytes", maxAckBody)}
	}
	var asked struct {
		Deliveries []string `json:"deliveries"`
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		mistake := &platform.FieldError{Field: "body", Problem: "no valid JSON", Want: `{"deliveries":["dlv_…"]}`}
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			mistake.Field, mistake.Problem = cmp.Or(wrong.Field, "body"), "is a JSON "+wrong.Value
		}
		return nil, mistake
	}
	if n := len(asked.Deliveries); n == 0 || n > maxAck {
		return nil, &platform.FieldError{Field: "deliveries", Problem: fmt.Sprintf("%d of them", n), Want: fmt.Sprintf("1 to %d", maxAck)}
	}
	ids := make([]pusher.DeliveryID, len(asked.Deliveries))
	for i, text := range asked.Deliveries {
		if ids[i], err = pusher.ParseDeliveryID(text); err != nil {
			return nil, &platform.FieldError{Field: fmt.Sprintf("deliveries.%d", i), Problem: "no delivery", Want: `the "delivery" of a message that was pulled`}
		}
	}
	n, err := h.app.Messages().Store.Acknowledge(r.Context(), x.call.App().Number, x.call.Environment, ids)
	if err != nil {
		return nil, err
	}
	return map[string]int{"acknowledged": n}, nil
}

// egress tells where messages are pushed from.
func (h *Messages) egress(*http.Request, *exchange) (any, error) {
	addresses := []string{}
	for _, addr := range h.app.EgressIPs() {
		addresses = append(addresses, addr.String())
	}
	return map[string]any{"addresses": addresses}, nil
}

// pullRefusal says what was wrong with a pull.
func pullRefusal(err error) *gate.Refusal {
	if field, ok := errors.AsType[*platform.FieldError](err); ok {
		return &gate.Refusal{Code: gate.RequestMalformed, Stage: gate.StageUpstream, Detail: field.Error()}
	}
	return &gate.Refusal{Code: gate.StoreUnavailable, Stage: gate.StageUpstream, Detail: "messages cannot be looked up now", Err: err}
}

// parseMessages reads the directive open_messages. It takes no options.
func parseMessages(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	if err := bare(h, "open_messages"); err != nil {
		return nil, err
	}
	return new(Messages), nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Messages)(nil)
	_ caddyhttp.MiddlewareHandler = (*Messages)(nil)
	_ checker                     = (*Messages)(nil)
)
