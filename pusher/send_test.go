package pusher

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// testSender sends to loopback.
func testSender(t *testing.T, change func(*Settings)) *sender {
	t.Helper()
	s := Settings{Allow: loopback}.WithDefaults()
	if change != nil {
		change(&s)
	}
	out := newSender(&s, func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}, time.Now)
	t.Cleanup(out.close)
	return out
}

func postTo(t *testing.T, target string) *post {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	return &post{url: u, message: "msg_1", timestamp: "1", signatures: "v1,x", appKey: "ak", topic: "t", delivery: "dlv_1", attempt: 1, body: []byte(`{"encrypt":"x"}`), encrypted: true}
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestAnswers(t *testing.T) {
	var followed atomic.Int64
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	redirect := func(to string, status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, status) }
	}
	status := func(n int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n) }
	}
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		class   ErrorClass
		verdict verdict
		status  int
		after   time.Duration
	}{
		"ok":              {status(http.StatusOK), ClassNone, arrived, http.StatusOK, 0},
		"no content":      {status(http.StatusNoContent), ClassNone, arrived, http.StatusNoContent, 0},
		"any 2xx":         {status(299), ClassNone, arrived, 299, 0},
		"moved":           {redirect(elsewhere.URL, http.StatusMovedPermanently), ClassStatus, rejected, http.StatusMovedPermanently, 0},
		"led to metadata": {redirect("http://169.254.169.254/", http.StatusTemporaryRedirect), ClassStatus, rejected, http.StatusTemporaryRedirect, 0},
		"moved for good":  {redirect(elsewhere.URL, http.StatusPermanentRedirect), ClassStatus, rejected, http.StatusPermanentRedirect, 0},
		"not modified":    {status(http.StatusNotModified), ClassStatus, rejected, http.StatusNotModified, 0},
		"bad request":     {status(http.StatusBadRequest), ClassStatus, rejected, http.StatusBadRequest, 0},
		"gone":            {status(http.StatusGone), ClassStatus, gone, http.StatusGone, 0},
		"too many":        {status(http.StatusTooManyRequests), ClassStatus, throttled, http.StatusTooManyRequests, 0},
		"internal error":  {status(http.StatusInternalServerError), ClassStatus, broken, http.StatusInternalServerError, 0},
		"bad gateway":     {status(http.StatusBadGateway), ClassStatus, throttled, http.StatusBadGateway, 0},
		"gateway timeout": {status(http.StatusGatewayTimeout), ClassStatus, throttled, http.StatusGatewayTimeout, 0},
		"unavailable":     {status(http.StatusServiceUnavailable), ClassStatus, broken, http.StatusServiceUnavailable, 0},
		"not this one yet": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "120")
			status(http.StatusBadRequest)(w, r)
		}, ClassStatus, rejected, http.StatusBadRequest, 2 * time.Minute},
		"later": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "120")
			status(http.StatusServiceUnavailable)(w, r)
		}, ClassStatus, throttled, http.StatusServiceUnavailable, 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, c.answer)
			a := testSender(t, nil).send(t.Context(), postTo(t, s.URL))
			require.Equal(t, c.class, a.class, a.problem)
			require.Equal(t, c.verdict, a.verdict())
			require.Equal(t, c.status, a.status)
			require.Equal(t, c.after, a.retryAfter)
			require.Equal(t, "127.0.0.1", a.address)
			require.Positive(t, a.duration)
			require.Equal(t, c.class == ClassNone, a.problem == "")
			require.NotContains(t, a.problem, "169.254")
		})
	}
	require.Zero(t, followed.Load(), "redirects are not followed")
}

// endless writes until the other side has enough, and tells how much it was.
func endless(w io.Writer, written *atomic.Int64) {
	chunk := bytes.Repeat([]byte("x"), 16<<10)
	for {
		n, err := w.Write(chunk)
		written.Add(int64(n))
		if err != nil {
			return
		}
	}
}

func TestAnswersAreReadToALimit(t *testing.T) {
	var written atomic.Int64
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(make([]byte, 64<<20))
	_ = z.Close()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endless":
			endless(w, &written)
		case "/bomb":
			if r.Header.Get("Accept-Encoding") != "" {
				return // then the answer is not what the test wants
			}
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		case "/header":
			w.Header().Set("X-Large", strings.Repeat("x", 256<<10))
		default:
			_, _ = io.WriteString(w, strings.Repeat("y", 5000))
		}
	})
	sender := testSender(t, nil)
	a := sender.send(t.Context(), postTo(t, s.URL+"/endless"))
	require.Equal(t, ClassNone, a.class, a.problem)
	require.Equal(t, bytes.Repeat([]byte("x"), maxKept), a.body)
	require.Less(t, written.Load(), int64(16<<20))

	a = sender.send(t.Context(), postTo(t, s.URL+"/bomb"))
	require.Equal(t, ClassNone, a.class)
	require.Equal(t, bomb.Bytes()[:maxKept], a.body, "what is compressed stays so")

	a = sender.send(t.Context(), postTo(t, s.URL+"/header"))
	require.Equal(t, ClassProtocol, a.class)

	a = sender.send(t.Context(), postTo(t, s.URL+"/"))
	require.Equal(t, ClassNone, a.class)
	require.Len(t, a.body, maxKept)
}

// raw answers each connection by hand.
func raw(t *testing.T, answer func(net.Conn, *http.Request)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				answer(c, r)
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// drip writes a byte now and then until the other side has enough.
func drip(c net.Conn, b string) {
	for {
		for i := range b {
			if _, err := c.Write([]byte{b[i]}); err != nil {
				return
			}
			<-time.After(5 * time.Millisecond)
		}
	}
}

// TestOneDeadline: whatever is slow, it ends with the timeout.
func TestOneDeadline(t *testing.T) {
	short := func(s *Settings) { s.Timeout = 150 * time.Millisecond }
	for name, answer := range map[string]func(net.Conn, *http.Request){
		"silence": func(c net.Conn, _ *http.Request) { _, _ = c.Read(make([]byte, 1)) },
		"header":  func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "); drip(c, "x") },
		"body": func(c net.Conn, _ *http.Request) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
			drip(c, "x")
		},
		"chunks": func(c net.Conn, _ *http.Request) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			drip(c, "1\r\nx\r\n")
		},
		"informational": func(c net.Conn, _ *http.Request) { drip(c, "HTTP/1.1 103 Early Hints\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			target := raw(t, answer)
			a := testSender(t, short).send(t.Context(), postTo(t, target))
			require.Equal(t, ClassTimeout, a.class, a.problem)
			require.Less(t, a.duration, 3*time.Second)
			require.Equal(t, broken, a.verdict())
		})
	}
	t.Run("name", func(t *testing.T) {
		s := Settings{Allow: loopback}.WithDefaults()
		short(&s)
		slow := newSender(&s, func(ctx context.Context, _, _ string) ([]netip.Addr, error) { <-ctx.Done(); return nil, ctx.Err() }, time.Now)
		a := slow.send(t.Context(), postTo(t, "http://shop.example.com/"))
		require.Equal(t, ClassTimeout, a.class)
		require.Empty(t, a.address)
	})
	t.Run("handshake", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, says nothing
		require.NoError(t, err)
		defer l.Close()
		a := testSender(t, short).send(t.Context(), postTo(t, "https://"+l.Addr().String()))
		require.Equal(t, ClassTimeout, a.class, a.problem)
	})
}

func TestBrokenAnswers(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "no HTTP": "220 smtp ready\r\n\r\n", "half a head": "HTTP/1.1 200 OK\r\nX",
		"cut off": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "bad chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"invalid text": "\xff\x00\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			target := raw(t, func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, text) })
			a := testSender(t, nil).send(t.Context(), postTo(t, target+"/?token=hidden"))
			require.Equal(t, ClassProtocol, a.class, a.problem)
			require.NotEmpty(t, a.problem)
			require.NotContains(t, a.problem, "hidden")
			require.NotContains(t, a.problem, "\x00")
		})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	target := "http://" + l.Addr().String()
	require.NoError(t, l.Close())
	a := testSender(t, nil).send(t.Context(), postTo(t, target))
	require.Equal(t, ClassConnect, a.class, a.problem)
}

func TestTLS(t *testing.T) {
	var protocols atomic.Value
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { protocols.Store(r.Proto) }))
	s.Config.ErrorLog = quiet()
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	trusting := func(s *Settings) { s.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10} }

	a := testSender(t, nil).send(t.Context(), postTo(t, s.URL))
	require.Equal(t, ClassTLS, a.class, "an unknown authority: %s", a.problem)
	sender := testSender(t, trusting)
	a = sender.send(t.Context(), postTo(t, s.URL))
	require.Equal(t, ClassNone, a.class, a.problem)
	require.Equal(t, "HTTP/1.1", protocols.Load())
	require.Equal(t, "127.0.0.1", a.address)
	a = sender.send(t.Context(), postTo(t, strings.Replace(s.URL, "127.0.0.1", "other.test", 1)))
	require.Equal(t, ClassTLS, a.class, "a certificate for another name: %s", a.problem)
	a = sender.send(t.Context(), postTo(t, strings.Replace(s.URL, "127.0.0.1", "example.com", 1)))
	require.Equal(t, ClassNone, a.class, a.problem)

	old := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.Config.ErrorLog = quiet()
	old.StartTLS()
	defer old.Close()
	roots.AddCert(old.Certificate())
	a = sender.send(t.Context(), postTo(t, old.URL))
	require.Equal(t, ClassTLS, a.class, "TLS 1.1: %s", a.problem)

	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	a = sender.send(t.Context(), postTo(t, strings.Replace(plain.URL, "http:", "https:", 1)))
	require.Equal(t, ClassTLS, a.class, a.problem)
}

// TestConnectionsAreUsedAgain, and one that the other side has closed meanwhile is
// no failure.
func TestConnectionsAreUsedAgain(t *testing.T) {
	var connections, requests atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	sender := testSender(t, nil)
	for n := range 20 {
		a := sender.send(t.Context(), postTo(t, s.URL))
		require.Equal(t, ClassNone, a.class, a.problem)
		require.Equal(t, n == 0, a.connecting > 0)
		require.Less(t, a.connecting, a.duration)
	}
	require.EqualValues(t, 1, connections.Load())
	for range 20 {
		s.CloseClientConnections()
		a := sender.send(t.Context(), postTo(t, s.URL))
		require.Equal(t, ClassNone, a.class, a.problem)
	}
	require.EqualValues(t, 40, requests.Load())
}

func TestMutualTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, len(r.TLS.PeerCertificates))
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	s.Config.ErrorLog = quiet()
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	a := testSender(t, func(x *Settings) { x.TLS = &tls.Config{RootCAs: roots} }).send(t.Context(), postTo(t, s.URL))
	require.NotEqual(t, ClassNone, a.class)
	a = testSender(t, func(x *Settings) { x.TLS = &tls.Config{RootCAs: roots, Certificates: s.TLS.Certificates} }).send(t.Context(), postTo(t, s.URL))
	require.Equal(t, ClassNone, a.class, a.problem)
	require.Equal(t, "1", string(a.body))
}
