package pusher

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxKept is how much of an answer is recorded, maxRead how much is read
	// so that the connection can be used again.
	maxKept = 4 << 10
	maxRead = 64 << 10
	// maxAnswerHeader bounds the head of an answer.
	maxAnswerHeader = 32 << 10
	// idleConnections is for how long a connection waits for another request.
	idleConnections = 60 * time.Second
	userAgent       = "Open-Platform-Push/1.0"
)

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

// answer is what became of a post.
type answer struct {
	started  time.Time
	duration time.Duration
	address  string
	status   int
	class    ErrorClass
	// problem says in words what went wrong.
	problem string
	body    []byte
	// retryAfter is what the endpoint asked for, in bounds; 0 is nothing.
	retryAfter time.Duration
}

// sender posts to endpoints.
type sender struct {
	transport *http.Transport
	timeout   time.Duration
	now       func() time.Time
}

// lookup resolves a name, as net.Resolver.LookupNetIP does.
type lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

// newSender makes a sender for the settings.
func newSender(s *Settings, find lookup, now func() time.Time) *sender {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.TLS != nil {
		config = s.TLS.Clone()
		config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	}
	config.NextProtos = []string{"h2", "http/1.1"}
	if config.ClientSessionCache == nil {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1024)
	}
	d := &dialer{allow: s.Allow, egress: s.Egress, timeout: s.Timeout, tls: config, lookup: find}
	return &sender{
		timeout: s.Timeout,
		now:     now,
		transport: &http.Transport{
			Proxy:                  nil, // a proxy would look names up by itself
			DialContext:            d.dialPlain,
			DialTLSContext:         d.dialTLS,
			DisableCompression:     true, // what comes compressed is kept compressed
			MaxIdleConns:           2 * s.Workers,
			MaxIdleConnsPerHost:    s.Workers,
			IdleConnTimeout:        idleConnections,
			MaxResponseHeaderBytes: maxAnswerHeader,
			ForceAttemptHTTP2:      true,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: s.Timeout},
		},
	}
}

// close ends connections that wait; those in use end after their request.
func (s *sender) close() { s.transport.CloseIdleConnections() }

var answerBuffers = sync.Pool{New: func() any { return new([2 * maxKept]byte) }}

// send posts, within the timeout from the look-up of the name to the last byte
// that is read. It never follows a redirect.
func (s *sender) send(ctx context.Context, p *post) (a answer) {
	began := time.Now()
	a.started = s.now()
	defer func() { a.duration = time.Since(began) }()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()

	var connected atomic.Pointer[string]
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { connected.Store(addressOf(i.Conn)) }})
	response, err := s.transport.RoundTrip(p.request(ctx))
	if at := connected.Load(); at != nil {
		a.address = *at
	}
	if err != nil {
		a.class, a.problem = s.classify(ctx, err, a.address != "")
		return a
	}
	defer response.Body.Close()
	a.status = response.StatusCode
	a.retryAfter = retryAfter(response.Header.Get("Retry-After"), a.started)
	a.body, err = readAnswer(response.Body)
	switch {
	case a.status/100 != 2:
		a.class, a.problem = ErrStatus, statusProblem(a.status)
	case err != nil:
		a.class, a.problem = s.classify(ctx, err, true)
	}
	return a
}

// request makes the request as DESIGN's receivers know it. Names of headers are
// in lower case where the standard writes them so.
func (p *post) request(ctx context.Context) *http.Request {
	kind := "application/json"
	if !p.encrypted {
		kind = "application/cloudevents+json"
	}
	v := [...]string{kind, p.message, p.timestamp, p.signatures, p.appKey, p.topic, strconv.Itoa(p.attempt), p.cause.String(), userAgent, p.delivery}
	h := make(http.Header, len(v)+1)
	for i, name := range [...]string{"Content-Type", "webhook-id", "webhook-timestamp", "webhook-signature", "X-Open-App-Key", "X-Open-Topic", "X-Open-Attempt", "X-Open-Cause", "User-Agent"} {
		h[name] = v[i : i+1 : i+1]
	}
	if p.delivery != "" {
		h["X-Open-Delivery"] = v[len(v)-1:]
	}
	// An empty list sends no header, and lets the transport try again on a
	// connection that the other side closed while it waited.
	h["Idempotency-Key"] = []string{}
	r := &http.Request{
		Method: http.MethodPost, URL: p.url, Host: p.url.Host, Header: h,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(p.body)),
		Body:          newBody(p.body),
		GetBody:       func() (io.ReadCloser, error) { return newBody(p.body), nil },
	}
	return r.WithContext(ctx)
}

func newBody(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }

// readAnswer keeps the beginning of an answer, and reads on a little.
func readAnswer(r io.Reader) ([]byte, error) {
	buffer := answerBuffers.Get().(*[2 * maxKept]byte)
	defer answerBuffers.Put(buffer)
	kept := 0
	for total := 0; total < maxRead; {
		into := buffer[kept:maxKept]
		if kept == maxKept {
			into = buffer[maxKept:]
		}
		n, err := r.Read(into)
		total += n
		kept = min(kept+n, maxKept)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return bytes.Clone(buffer[:kept]), err
		}
	}
	return bytes.Clone(buffer[:kept]), nil
}

// addressOf is where a connection leads, without its port.
func addressOf(c net.Conn) *string {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if d, ok := c.(*dialed); ok {
		return &d.address
	}
	return nil
}

// classify tells what kind of failure an error of the transport is.
func (s *sender) classify(ctx context.Context, err error, connected bool) (ErrorClass, string) {
	var dial *dialError
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &dial):
		return dial.class, plainText(dial.Error())
	case errors.Is(ctx.Err(), context.DeadlineExceeded), isTimeout(err):
		if !connected {
			return ErrTimeout, fmt.Sprintf("not connected within %v", s.timeout)
		}
		return ErrTimeout, fmt.Sprintf("no complete answer within %v", s.timeout)
	case ctx.Err() != nil:
		return ErrInterrupted, "the request was interrupted"
	case errors.As(err, &certificate), errors.As(err, &authority):
		return ErrTLS, plainText(err.Error())
	case !connected:
		return ErrConnect, plainText(err.Error())
	}
	return ErrProtocol, plainText(err.Error())
}
