package pusher

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"time"
)

const (
	// answerBuffer is how much of an answer is read at a time.
	answerBuffer = 4 << 10
	// largeRequest is from what size on a request is written while its answer is
	// read, since an endpoint may refuse it without having read all of it. Its memory
	// is not kept for others.
	largeRequest = 32 << 10
)

// connection leads to an endpoint. One request after the other goes over it, each
// by the goroutine that wants it: there is none that only waits.
type connection struct {
	net.Conn
	// below is Conn without TLS.
	below net.Conn
	// to is what it was made for, address where it leads.
	to      target
	address string
	reader  *bufio.Reader
	source  boundedSource
	// writing has the outcome of the write, where it goes on while the answer is read.
	writing chan error
	// since is when it began to wait.
	since time.Time
}

func newConnection(c net.Conn, below *dialed, to target) *connection {
	out := &connection{Conn: c, below: below.Conn, to: to, address: below.address, source: boundedSource{conn: c}}
	out.reader = bufio.NewReaderSize(&out.source, answerBuffer)
	return out
}

// unanswered is the error of a connection that brought not a byte of an answer.
type unanswered struct{ err error }

func (u *unanswered) Error() string { return u.err.Error() }
func (u *unanswered) Unwrap() error { return u.err }

// asked is what http.ReadResponse must know of a request.
var asked = &http.Request{Method: http.MethodPost}

// ask sends a request and reads the head of its answer. Informational ones before
// it (RFC 9110 section 15.2) are passed over.
func (c *connection) ask(request []byte) (*http.Response, error) {
	c.source.left = maxAnswerHeader
	c.writing = make(chan error, 1)
	write := func() {
		_, err := c.Write(request)
		c.writing <- err
	}
	if len(request) < largeRequest {
		write()
	} else {
		go write()
	}
	// Who refuses a request may answer and close before all of it was written.
	if _, err := c.reader.Peek(1); err != nil {
		return nil, &unanswered{err}
	}
	for {
		r, err := http.ReadResponse(c.reader, asked)
		if c.source.err != nil && err != nil {
			err = c.source.err // a line that was cut off is told as a malformed one
		}
		if err != nil {
			return nil, err //nolint:wrapcheck // what is wrong with the answer
		}
		if r.StatusCode/100 != 1 || r.StatusCode == http.StatusSwitchingProtocols {
			c.source.left = unbounded
			return r, nil
		}
	}
}

// finishWriting tells whether the request has gone out, and so whether another one
// may follow it. Where it is still going out, the connection is closed.
func (c *connection) finishWriting() bool {
	select {
	case err := <-c.writing:
		return err == nil
	default:
		c.close()
		err := <-c.writing
		return err == nil
	}
}

// close ends the connection without a word: TLS would say goodbye first, and wait
// for seconds on an endpoint that reads nothing.
func (c *connection) close() { _ = c.below.Close() }

// unbounded is the bound of what is read where another one holds.
const unbounded = 1 << 62

// boundedSource reads from a connection up to a bound.
type boundedSource struct {
	conn net.Conn
	left int64
	// err is what ended the reading.
	err error
}

var errLongHead = fmt.Errorf("the head of the answer is longer than %d bytes", maxAnswerHeader)

// Read reads.
func (s *boundedSource) Read(p []byte) (int, error) {
	if s.left <= 0 {
		s.err = errLongHead
		return 0, s.err
	}
	var n int
	n, s.err = s.conn.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	return n, s.err //nolint:wrapcheck // a reader passes on what it reads
}
