package handlers

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openplatform/openplatform/caddymodule"
	"github.com/caddy-openplatform/openplatform/internal/gate"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// Publish takes messages from the platform's own services: one JSON object, or
// an array of them, which is taken as a whole or not at all. It answers 202 once
// they are durable. Who may publish is told by the caller's address, by a client
// certificate that Caddy verified, or by the op1 signature of an app; one of
// them is enough.
type Publish struct {
	// Environment is where the messages belong. Default: production.
	Environment platform.Environment `json:"environment,omitempty"`

	// Networks lists addresses that may publish, as CIDR. Default: loopback
	// alone, unless certificates or apps are set.
	Networks []string `json:"networks,omitempty"`

	// ClientCertificates lets everybody publish whose TLS client certificate
	// Caddy verified (client_auth with require_and_verify). Default: false.
	ClientCertificates bool `json:"client_certificates,omitempty"`

	// Apps lists the appKeys of apps that may publish with calls signed by op1.
	// Default: none.
	Apps []string `json:"apps,omitempty"`

	// CheckSchema holds each message's data against the JSON Schema of its
	// topic. Default: false.
	CheckSchema bool `json:"check_schema,omitempty"`

	// MaxBody is the largest request, in bytes. Default: 4 MiB.
	MaxBody int64 `json:"max_body,omitempty"`

	stage
	networks []netip.Prefix
	ip       IP
	sign     Sign
}

// defaultPublishBody is the largest request to open_publish by default.
const defaultPublishBody = 4 << 20

// CaddyModule returns the Caddy module information.
func (Publish) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.open_publish", New: func() caddy.Module { return new(Publish) }}
}

// Provision sets up the handler.
func (h *Publish) Provision(ctx caddy.Context) error {
	if h.Environment == "" {
		h.Environment = platform.Production
	}
	if _, err := platform.ParseEnvironment(string(h.Environment)); err != nil {
		return err
	}
	if h.MaxBody == 0 {
		h.MaxBody = defaultPublishBody
	}
	if len(h.Networks) == 0 && !h.ClientCertificates && len(h.Apps) == 0 {
		h.Networks = []string{"127.0.0.0/8", "::1/128"}
	}
	for _, text := range h.Networks {
		network, err := caddymodule.ParseNetwork(text)
		if err != nil {
			return fmt.Errorf("networks: %w", err)
		}
		h.networks = append(h.networks, network)
	}
	if len(h.Apps) > 0 {
		h.sign.Environment, h.sign.MaxBody, h.sign.Buffer = h.Environment, h.MaxBody, h.MaxBody
		if err := errors.Join(h.ip.Provision(ctx), h.sign.Provision(ctx)); err != nil {
			return err
		}
	}
	return h.provision(ctx)
}

// Validate refuses settings that cannot work.
func (h *Publish) Validate() error {
	if h.MaxBody < 0 {
		return fmt.Errorf("max_body must not be negative")
	}
	return nil
}

// ServeHTTP takes the messages of a request.
func (h *Publish) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	return h.serve(w, r, caddyhttp.HandlerFunc(h.publish), h)
}

// check tells whether the caller may publish.
func (h *Publish) check(x *exchange) *gate.Refusal {
	if x.call.Environment == "" {
		x.call.Environment = h.Environment
	}
	switch r := x.request; {
	case r.Method != http.MethodPost:
		return &gate.Refusal{Code: gate.MethodNotAllowed, Stage: gate.StagePublish, Detail: "messages are published by POST", Allow: http.MethodPost}
	case h.trusts(x):
		return nil
	case len(h.Apps) > 0 && signed(r):
		return h.checkApp(x)
	}
	return &gate.Refusal{Code: gate.PublisherDenied, Stage: gate.StagePublish, Detail: h.wants()}
}

// checkApp has the gate's own first two stages tell which app it is.
func (h *Publish) checkApp(x *exchange) *gate.Refusal {
	for _, c := range []checker{&h.ip, &h.sign} {
		if refusal := c.check(x); refusal != nil {
			return refusal
		}
	}
	if !slices.Contains(h.Apps, x.call.App().Key) {
		return &gate.Refusal{Code: gate.PublisherDenied, Stage: gate.StagePublish, Detail: "the app is none of those that may publish here"}
	}
	return nil
}

// trusts tells whether the caller may publish by where it comes from, or by
// its certificate.
func (h *Publish) trusts(x *exchange) bool {
	if h.ClientCertificates && x.request.TLS != nil && len(x.request.TLS.VerifiedChains) > 0 {
		return true
	}
	// A browser in such a network sends what any page tells it to.
	return x.request.Header["Origin"] == nil && slices.ContainsFunc(h.networks, func(n netip.Prefix) bool { return n.Contains(x.call.ClientIP) })
}

// signed tells whether a request carries an op1 signature.
func signed(r *http.Request) bool { return r.Header.Get("Signature-Input") != "" }

// wants says who may publish.
func (h *Publish) wants() string {
	var ways []string
	if len(h.networks) > 0 {
		ways = append(ways, "from the networks that the operator allowed, by no browser")
	}
	if h.ClientCertificates {
		ways = append(ways, "with a client certificate")
	}
	if len(h.Apps) > 0 {
		ways = append(ways, "with the op1 signature of an app that may")
	}
	return "messages are published " + strings.Join(ways, ", or ")
}

// publish reads the messages, has them accepted and tells so.
func (h *Publish) publish(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.MaxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return &gate.Refusal{Code: gate.BodyTooLarge, Stage: gate.StagePublish, Detail: fmt.Sprintf("the largest request is %d bytes; publish in several", h.MaxBody)}
		}
		return &gate.Refusal{Code: gate.RequestMalformed, Stage: gate.StagePublish, Detail: "the body broke off", Err: err}
	}
	messages, batch, err := readMessages(body, h.Environment)
	if err != nil {
		return publishRefusal(err)
	}
	for i := range messages {
		messages[i].Check = h.CheckSchema
	}
	receipts, err := h.app.Publish(r.Context(), messages)
	if err != nil {
		return publishRefusal(err)
	}
	return writeReceipts(w, receipts, batch)
}

// publishRefusal says what was wrong with the messages.
func publishRefusal(err error) *gate.Refusal {
	batch, isBatch := errors.AsType[*pusher.BatchError](err)
	field, isField := errors.AsType[*platform.FieldError](err)
	switch {
	case isBatch && allConflicts(batch):
		return &gate.Refusal{Code: gate.MessageConflict, Stage: gate.StagePublish, Detail: "nothing was accepted: an id was used before for another message", Mistakes: batch.Mistakes}
	case isBatch:
		return &gate.Refusal{Code: gate.MessageInvalid, Stage: gate.StagePublish, Detail: "nothing was accepted: messages have mistakes", Mistakes: batch.Mistakes}
	case isField:
		return &gate.Refusal{Code: gate.MessageInvalid, Stage: gate.StagePublish, Detail: "nothing was accepted: " + field.Error()}
	case errors.Is(err, pusher.ErrNothingKept):
		return &gate.Refusal{Code: gate.StoreUnavailable, Stage: gate.StagePublish, Detail: "nothing was accepted: topics and authorizations cannot be looked up now; publish again soon", Err: err}
	}
	return &gate.Refusal{Code: gate.StoreUnavailable, Stage: gate.StagePublish, Detail: "whether the messages were kept is not known; publish them again soon, with the same ids", Err: err}
}

// allConflicts tells whether ids that were used before are all that is wrong.
func allConflicts(b *pusher.BatchError) bool {
	for _, err := range b.Mistakes {
		if !errors.Is(err, platform.ErrConflict) {
			return false
		}
	}
	return len(b.Mistakes) > 0
}

// parsePublish reads the directive open_publish. Syntax:
//
//	open_publish [<matcher>] {
//		environment         sandbox|production
//		networks            <CIDR>...
//		client_certificates
//		apps                <appKey>...
//		check_schema
//		max_body            <size>
//	}
func parsePublish(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next()
	if h.NextArg() {
		return nil, h.Errf("open_publish takes a matcher and no further arguments, but '%s' is given", h.Val())
	}
	p, seen := new(Publish), map[string]bool{}
	for h.NextBlock(0) {
		if err := once(h.Dispenser, seen); err != nil {
			return nil, err
		}
		var err error
		switch option := h.Val(); option {
		case "environment":
			if !h.NextArg() {
				return nil, h.Err("environment needs a value: write sandbox or production")
			}
			p.Environment, err = environmentOf(h.Dispenser)
		case "networks":
			p.Networks, err = nameList(h.Dispenser)
		case "apps":
			p.Apps, err = nameList(h.Dispenser)
		case "client_certificates":
			p.ClientCertificates, err = flagOf(h.Dispenser)
		case "check_schema":
			p.CheckSchema, err = flagOf(h.Dispenser)
		case "max_body":
			p.MaxBody, err = sizeOf(h.Dispenser)
		default:
			err = unrecognized(h.Dispenser, "open_publish", "environment", "networks", "client_certificates", "apps", "check_schema", "max_body")
		}
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Publish)(nil)
	_ caddy.Validator             = (*Publish)(nil)
	_ caddyhttp.MiddlewareHandler = (*Publish)(nil)
	_ checker                     = (*Publish)(nil)
)
