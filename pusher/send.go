package pusher

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"
)

const (
	// maxKept is how much of an answer is recorded, maxRead how much is read
	// so that the connection can be used again.
	maxKept = 4 << 10
	maxRead = 64 << 10
	// maxAnswerHeader bounds the head of an answer.
	maxAnswerHeader = 32 << 10
	// idleShare is how many connections may wait for each worker. Where there are
	// fewer than the endpoints have use for in turn, each request makes one.
	idleShare = 4
)

// answer is what became of a post.
type answer struct {
	started  time.Time
	duration time.Duration
	// connecting is how much of that made a connection that others can use; 0 where
	// there was one, or where it cannot be used again.
	connecting time.Duration
	address    string
	status     int
	class      ErrorClass
	// problem says in words what went wrong.
	problem string
	body    []byte
	// retryAfter is what the endpoint asked for, in bounds; 0 is nothing.
	retryAfter time.Duration
}

// sender posts to endpoints, by HTTP/1.1.
type sender struct {
	dialer  *dialer
	idle    *idleConnections
	timeout time.Duration
	now     func() time.Time
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
	config.NextProtos = []string{"http/1.1"}
	if config.ClientSessionCache == nil {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1024)
	}
	return &sender{
		dialer:  &dialer{allow: s.Allow, egress: s.Egress, tls: config, lookup: find},
		idle:    newIdleConnections(idleShare*s.Workers, now),
		timeout: s.Timeout,
		now:     now,
	}
}

// close ends connections that wait; those in use end after their request.
func (s *sender) close() { s.idle.close() }

// send posts, within the timeout from the look-up of the name to the last byte
// that is read. It never follows a redirect.
func (s *sender) send(ctx context.Context, p *post) (a answer) {
	began := time.Now()
	a.started = s.now()
	defer func() { a.duration = time.Since(began) }()
	buffer := requestBuffers.Get().(*[]byte)
	defer requestBuffers.Put(buffer)
	request, err := p.appendRequest((*buffer)[:0])
	if err == nil {
		if len(request) < largeRequest {
			*buffer = request
		}
		err = s.exchange(ctx, targetOf(p.url), request, began.Add(s.timeout), &a)
	}
	switch {
	case a.status != 0 && a.status/100 != 2:
		a.class, a.problem = ClassStatus, statusProblem(a.status)
	case err != nil:
		a.class, a.problem = s.classify(ctx, err, a.address != "")
	}
	return a
}

// exchange sends a request and takes the answer. A connection that waited may have
// been closed by the other side meanwhile: where it brings nothing at all, the
// request goes over a new one. Receivers drop what they have seen already.
func (s *sender) exchange(ctx context.Context, to target, request []byte, deadline time.Time, a *answer) error {
	if c := s.idle.take(to); c != nil {
		err := s.exchangeOver(ctx, c, request, deadline, a)
		if _, ok := errors.AsType[*unanswered](err); !ok || isTimeout(err) || ctx.Err() != nil {
			return err
		}
		a.address = ""
	}
	dialing, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	began := time.Now()
	c, err := s.dialer.connection(dialing, to)
	if err != nil {
		return err
	}
	a.connecting = time.Since(began)
	return s.exchangeOver(ctx, c, request, deadline, a)
}

// exchangeOver is an exchange over a connection, which waits for another one
// afterwards if it can.
func (s *sender) exchangeOver(ctx context.Context, c *connection, request []byte, deadline time.Time, a *answer) (err error) {
	a.address = c.address
	if err := c.SetDeadline(deadline); err != nil {
		c.close()
		return &unanswered{err}
	}
	reusable := false
	defer func() {
		if c.finishWriting() && reusable {
			s.idle.put(c)
		} else {
			c.close()
			a.connecting = 0
		}
	}()
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
		defer func() { reusable = stop() && reusable }()
	}
	response, err := c.ask(request) //nolint:bodyclose // to close it would be to read all of it
	if err != nil {
		return err
	}
	a.status = response.StatusCode
	a.retryAfter = retryAfter(response.Header.Get("Retry-After"), a.started)
	var whole bool
	a.body, whole, err = readAnswer(response.Body)
	reusable = whole && !response.Close && c.reader.Buffered() == 0 && a.status != http.StatusSwitchingProtocols
	return err
}

// target is what a URL leads to: requests with the same one share connections.
type target struct {
	hostPort string
	// plain is without TLS.
	plain bool
}

func targetOf(u *url.URL) target {
	plain, port := u.Scheme == "http", u.Port()
	switch {
	case port != "":
	case plain:
		port = "80"
	default:
		port = "443"
	}
	return target{net.JoinHostPort(u.Hostname(), port), plain}
}

var answerBuffers = sync.Pool{New: func() any { return new([2 * maxKept]byte) }}

// readAnswer keeps the beginning of an answer, and reads on a little. It tells
// whether it came to the end.
func readAnswer(r io.Reader) (kept []byte, whole bool, err error) {
	if r == http.NoBody {
		return nil, true, nil
	}
	buffer := answerBuffers.Get().(*[2 * maxKept]byte)
	defer answerBuffers.Put(buffer)
	n := 0
	for total := 0; total < maxRead; {
		into := buffer[n:maxKept]
		if n == maxKept {
			into = buffer[maxKept:]
		}
		read, err := r.Read(into)
		total += read
		n = min(n+read, maxKept)
		if errors.Is(err, io.EOF) {
			return bytes.Clone(buffer[:n]), true, nil
		}
		if err != nil {
			return bytes.Clone(buffer[:n]), false, err
		}
	}
	return bytes.Clone(buffer[:n]), false, nil
}

// classify tells what kind of failure an error is.
func (s *sender) classify(ctx context.Context, err error, connected bool) (ErrorClass, string) {
	var dial *dialError
	var alert *net.OpError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ClassInterrupted, "the request was interrupted"
	case errors.As(err, &dial):
		return dial.class, plainText(dial.Error())
	case isTimeout(err), ctx.Err() != nil:
		if !connected {
			return ClassTimeout, fmt.Sprintf("not connected within %v", s.timeout)
		}
		return ClassTimeout, fmt.Sprintf("no complete answer within %v", s.timeout)
	case errors.As(err, &alert) && alert.Op == "remote error":
		return ClassTLS, plainText(err.Error()) // in TLS 1.3 a client's certificate is refused only now
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ClassProtocol, "the connection ended before the answer was complete"
	}
	return ClassProtocol, plainText(err.Error())
}
