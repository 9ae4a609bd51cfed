package pusher

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"sync"
)

const userAgent = "Open-Platform-Push/1.0"

// post is one request to an endpoint.
type post struct {
	url *url.URL
	// message is the webhook-id. timestamp and signatures are made over it.
	message, timestamp, signatures string
	appKey, topic                  string
	// delivery is empty where the request belongs to none.
	delivery string
	attempt  int
	cause    Cause
	body     []byte
	// encrypted tells what body is.
	encrypted bool
}

// requestBuffers lend the memory that requests are written in.
var requestBuffers = sync.Pool{New: func() any { return new([]byte) }}

// errHeader is a value that no header may have (RFC 9110 section 5.5).
var errHeader = errors.New("a header of the request would hold a control character")

// appendRequest appends the request as it goes over the wire (RFC 9112). Names of
// headers are in lower case where Standard Webhooks writes them so.
func (p *post) appendRequest(b []byte) ([]byte, error) {
	kind := "application/json"
	if !p.encrypted {
		kind = "application/cloudevents+json"
	}
	b = append(append(append(b, "POST "...), p.url.RequestURI()...), " HTTP/1.1\r\n"...)
	var number [20]byte
	for _, h := range [...]struct{ name, value string }{
		{"Host", p.url.Host},
		{"User-Agent", userAgent},
		{"Content-Length", string(strconv.AppendInt(number[:0], int64(len(p.body)), 10))},
		{"Content-Type", kind},
		{"webhook-id", p.message},
		{"webhook-timestamp", p.timestamp},
		{"webhook-signature", p.signatures},
		{"X-Open-App-Key", p.appKey},
		{"X-Open-Topic", p.topic},
		{"X-Open-Delivery", p.delivery},
		{"X-Open-Attempt", strconv.Itoa(p.attempt)},
		{"X-Open-Cause", p.cause.String()},
	} {
		if h.value == "" {
			continue
		}
		if strings.ContainsFunc(h.value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, errHeader
		}
		b = append(append(append(append(b, h.name...), ": "...), h.value...), "\r\n"...)
	}
	return append(append(b, "\r\n"...), p.body...), nil
}
