package pusher

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestRequest: what goes over the wire, as the standard library reads it.
func TestRequest(t *testing.T) {
	p := postTo(t, "https://shop.example.com:8443/push%2Fit?a=b%20c&d")
	p.cause = Manual
	b, err := p.appendRequest(nil)
	require.NoError(t, err)
	require.Contains(t, string(b), "\r\nwebhook-signature: v1,x\r\n", "as Standard Webhooks writes it")
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	require.NoError(t, err)
	require.Equal(t, "POST /push%2Fit?a=b%20c&d HTTP/1.1", r.Method+" "+r.RequestURI+" "+r.Proto)
	require.Equal(t, "shop.example.com:8443", r.Host)
	require.Equal(t, http.Header{
		"User-Agent": {userAgent}, "Content-Type": {"application/json"}, "Content-Length": {"15"},
		"Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {"1"}, "Webhook-Signature": {"v1,x"},
		"X-Open-App-Key": {"ak"}, "X-Open-Topic": {"t"}, "X-Open-Delivery": {"dlv_1"}, "X-Open-Attempt": {"1"}, "X-Open-Cause": {"manual"},
	}, r.Header)
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.JSONEq(t, `{"encrypt":"x"}`, string(body))

	p.encrypted, p.delivery = false, ""
	b, err = p.appendRequest(nil)
	require.NoError(t, err)
	require.Contains(t, string(b), "\r\nContent-Type: application/cloudevents+json\r\n")
	require.NotContains(t, string(b), "X-Open-Delivery")
}

// TestRequestHoldsOneRequest: no value can end a header, or begin another one.
func TestRequestHoldsOneRequest(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		p := postTo(t, "https://shop.example.com/")
		p.topic, p.appKey = rapid.String().Draw(r, "topic"), rapid.String().Draw(r, "key")
		p.body = rapid.SliceOf(rapid.Byte()).Draw(r, "body")
		b, err := p.appendRequest(nil)
		if err != nil {
			require.ErrorIs(r, err, errHeader)
			return
		}
		in := bufio.NewReader(bytes.NewReader(b))
		got, err := http.ReadRequest(in)
		require.NoError(r, err)
		require.Equal(r, strings.Trim(p.topic, " "), got.Header.Get("X-Open-Topic"))
		body, err := io.ReadAll(got.Body)
		require.NoError(r, err)
		require.Equal(r, string(p.body), string(body))
		require.Zero(r, in.Buffered())
	})
	p := postTo(t, "https://shop.example.com/")
	p.topic = "a\r\nX-Open-Cause: manual"
	a := testSender(t, nil).send(t.Context(), p)
	require.Equal(t, ClassProtocol, a.class)
	require.Empty(t, a.address)
}

func TestInformationalAnswers(t *testing.T) {
	target := raw(t, func(c net.Conn, _ *http.Request) {
		_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok")
	})
	a := testSender(t, nil).send(t.Context(), postTo(t, target))
	require.Equal(t, ClassNone, a.class, a.problem)
	require.Equal(t, http.StatusAccepted, a.status)
	require.Equal(t, "ok", string(a.body))
}

// TestRefusedBeforeItWasRead: an endpoint need not read a large request to answer it.
func TestRefusedBeforeItWasRead(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	done := make(chan struct{})
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
			<-done
			_ = c.Close()
		}
	}()
	defer close(done)
	p := postTo(t, "http://"+l.Addr().String())
	p.body = make([]byte, 32<<20) // more than the system takes of it
	sender := testSender(t, func(s *Settings) { s.Timeout = time.Minute })
	a := sender.send(t.Context(), p)
	require.Equal(t, ClassStatus, a.class, a.problem)
	require.Equal(t, http.StatusRequestEntityTooLarge, a.status)
	require.Zero(t, sender.idle.order.Len(), "nothing may follow a request that was not written")
}

// TestConnectionsThatEnd are not used again.
func TestConnectionsThatEnd(t *testing.T) {
	for name, text := range map[string]string{
		"it says so":       "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.0":         "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
		"more than asked":  "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"another protocol": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
		"without a length": "HTTP/1.1 200 OK\r\n\r\nbody",
	} {
		t.Run(name, func(t *testing.T) {
			target := raw(t, func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, text) })
			sender := testSender(t, nil)
			a := sender.send(t.Context(), postTo(t, target))
			require.NotZero(t, a.status, a.problem)
			require.Zero(t, sender.idle.order.Len())
			require.Zero(t, a.connecting, "each request takes as long")
		})
	}
}

// TestAnswerThatNobodyAskedFor: one that came while the connection waited is not
// taken for the next request's.
func TestAnswerThatNobodyAskedFor(t *testing.T) {
	var connections atomic.Int64
	forged := make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
				return
			}
			if connections.Add(1) > 1 {
				_, _ = io.WriteString(c, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			<-forged
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			forged <- struct{}{}
		}
	}()
	sender := testSender(t, nil)
	a := sender.send(t.Context(), postTo(t, "http://"+l.Addr().String()))
	require.Equal(t, ClassNone, a.class, a.problem)
	require.NotNil(t, sender.idle.oldest())
	forged <- struct{}{}
	<-forged
	sender.idle.now = func() time.Time { return time.Now().Add(surelyOpen) }
	a = sender.send(t.Context(), postTo(t, "http://"+l.Addr().String()))
	require.Equal(t, http.StatusInternalServerError, a.status, "the endpoint's own answer")
}

// TestPlainConnectionsArePlain: what is for https never goes over one, although it
// leads to the same port.
func TestPlainConnectionsArePlain(t *testing.T) {
	var requests atomic.Int64
	s := serve(t, func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	s.Config.ErrorLog = quiet()
	sender := testSender(t, nil)
	a := sender.send(t.Context(), postTo(t, s.URL))
	require.Equal(t, ClassNone, a.class, a.problem)
	require.NotNil(t, sender.idle.oldest())
	a = sender.send(t.Context(), postTo(t, strings.Replace(s.URL, "http:", "https:", 1)))
	require.Equal(t, ClassTLS, a.class, a.problem)
	require.EqualValues(t, 1, requests.Load())
}

// TestNothingListensAnyMore: a connection that waited is gone, and so is the server.
func TestNothingListensAnyMore(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	sender := testSender(t, nil)
	a := sender.send(t.Context(), postTo(t, s.URL))
	require.Equal(t, ClassNone, a.class, a.problem)
	s.Close()
	a = sender.send(t.Context(), postTo(t, s.URL))
	require.Equal(t, ClassConnect, a.class, a.problem)
	require.Empty(t, a.address, "nothing was connected to")
}

// TestInterrupted: who waits no longer is heard, and the connection is not used again.
func TestInterrupted(t *testing.T) {
	arrived := make(chan struct{})
	target := raw(t, func(c net.Conn, _ *http.Request) { close(arrived); _, _ = c.Read(make([]byte, 1)) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	sender := testSender(t, nil)
	a := sender.send(ctx, postTo(t, target))
	require.Equal(t, ClassInterrupted, a.class, a.problem)
	require.Zero(t, sender.idle.order.Len())
}

// TestManyRequestsAtOnce share what waits, and each gets its own answer.
func TestManyRequestsAtOnce(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("Webhook-Id"))
	}))
	defer s.Close()
	sender := testSender(t, nil)
	failed := make(chan string, 16)
	for worker := range cap(failed) {
		p := postTo(t, s.URL)
		go func() {
			problem := ""
			for i := range 200 {
				p.message = fmt.Sprintf("msg_%d_%d", worker, i)
				if a := sender.send(context.Background(), p); string(a.body) != p.message {
					problem = fmt.Sprintf("%s: %s %s", p.message, a.body, a.problem)
				}
			}
			failed <- problem
		}()
	}
	for range cap(failed) {
		require.Empty(t, <-failed)
	}
	require.LessOrEqual(t, sender.idle.order.Len(), cap(failed))
	sender.close()
	require.Zero(t, sender.idle.order.Len())
	a := sender.send(t.Context(), postTo(t, s.URL))
	require.Equal(t, ClassNone, a.class, "what is under way while it is closed")
	require.Zero(t, sender.idle.order.Len(), "and does not wait afterwards")
}

// answering is a connection whose other side has said all that it will say.
type answering struct {
	net.Conn
	text *bytes.Reader
}

func (a answering) Read(p []byte) (int, error)  { return a.text.Read(p) }
func (a answering) Write(p []byte) (int, error) { return len(p), nil }

// FuzzAnswer: whatever is answered, it is read to a limit.
func FuzzAnswer(f *testing.F) {
	for _, text := range []string{
		"", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "HTTP/1.0 500 No\r\n\r\nbody", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP/1.1 099 x\r\n\r\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		side := answering{text: bytes.NewReader(text)}
		c := newConnection(side, &dialed{Conn: side}, target{})
		r, err := c.ask([]byte("POST / HTTP/1.1\r\n\r\n")) //nolint:bodyclose // as in the sender
		if err != nil {
			return
		}
		require.True(t, r.StatusCode/100 != 1 || r.StatusCode == http.StatusSwitchingProtocols)
		body, _, _ := readAnswer(r.Body)
		require.LessOrEqual(t, len(body), maxKept)
	})
}
