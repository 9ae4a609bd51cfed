package handlers_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// small is a gate whose buffer and largest body are small.
const small = "open_gate {\n environment production\n dialects op1 top\n buffer 1KiB\n max_body 64KiB\n}\n reverse_proxy UPSTREAM"

// randomText is n bytes that do not repeat.
func randomText(t *testing.T, n int) string {
	b := make([]byte, n/2+1)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return fmt.Sprintf("%x", b)[:n]
}

// onlyReader hides that a body can do more than be read.
type onlyReader struct{ io.Reader }

// TestBodies: what was signed arrives whole, anything else never does.
func TestBodies(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, small)
	_, c := w.app(platform.Production, "trade")
	for _, test := range []struct {
		name    string
		size    int
		chunked bool
		change  func(string) string
		status  int
		code    string
		reaches bool // the upstream sees the call, but not all of it
	}{
		{"buffered", 1024, false, nil, 200, "", true},
		{"buffered, chunked", 1024, true, nil, 200, "", true},
		{"streamed", 60_000, false, nil, 200, "", true},
		{"streamed, chunked", 60_000, true, nil, 200, "", true},
		{"buffered, changed", 1000, false, flip, 401, "digest_mismatch", false},
		{"buffered, chunked, changed", 1000, true, flip, 401, "digest_mismatch", false},
		{"streamed, changed", 60_000, false, flip, 401, "digest_mismatch", true},
		{"streamed, chunked, changed", 60_000, true, flip, 401, "digest_mismatch", true},
		{"streamed, chunked, cut", 60_000, true, func(s string) string { return s[:30_000] }, 401, "digest_mismatch", true},
		{"streamed, chunked, longer", 60_000, true, func(s string) string { return s + "x" }, 401, "digest_mismatch", true},
		{"the largest", 64 << 10, false, nil, 200, "", true},
		{"the largest, chunked", 64 << 10, true, nil, 200, "", true},
		{"too large", 70_000, false, nil, 413, "body_too_large", false},
		{"too large, chunked", 70_000, true, nil, 413, "body_too_large", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			body := randomText(t, test.size)
			r := c.request(t, "POST", "/v1/orders", body)
			sent := body
			if test.change != nil {
				sent = test.change(body)
			}
			setBody(r, []byte(sent))
			if test.chunked {
				r.Body, r.ContentLength = io.NopCloser(onlyReader{strings.NewReader(sent)}), -1
				r.TransferEncoding = []string{"chunked"}
			}
			rec := w.do(r)
			if test.code == "" {
				require.Equal(t, test.status, rec.Code, rec.Body)
				s := one(t, got)
				require.NoError(t, s.err)
				require.Equal(t, body, s.body)
				return
			}
			refused(t, rec, test.status, test.code)
			if test.reaches {
				s := one(t, got)
				require.Error(t, s.err, "the upstream must see that the body is not whole")
				require.Less(t, len(s.body), len(sent))
			}
			require.Empty(t, got)
		})
	}
}

// TestAnnouncedTooLarge: a body that says that it is too large is not read.
func TestAnnouncedTooLarge(t *testing.T) {
	w := newWorld(t, "127.0.0.1:9", small)
	_, c := w.app(platform.Production, "trade")
	r := c.request(t, "POST", "/v1/orders", strings.Repeat("x", 64<<10+1))
	var read atomic.Bool
	r.Body = io.NopCloser(readFunc(func([]byte) (int, error) { read.Store(true); return 0, io.ErrUnexpectedEOF }))
	refused(t, w.do(r), http.StatusRequestEntityTooLarge, "body_too_large")
	require.False(t, read.Load())
}

// readFunc is a body that a function makes.
type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// TestDefaultBuffer: without a word of it, a body of up to 1 MiB is checked before
// the upstream hears of the call.
func TestDefaultBuffer(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, "open_sign production\n open_scope\n reverse_proxy UPSTREAM")
	_, c := w.app(platform.Production, "trade")
	for size, streams := range map[int]bool{10: false, 1 << 20: false, 1<<20 + 1: true} {
		body := strings.Repeat("x", size)
		r := c.request(t, "POST", "/v1/orders", body)
		setBody(r, []byte(flip(body)))
		refused(t, w.do(r), http.StatusUnauthorized, "digest_mismatch")
		if streams {
			require.Error(t, one(t, got).err)
		}
		require.Empty(t, got, "%d bytes", size)
	}
}

// flip changes the last byte.
func flip(s string) string { return s[:len(s)-1] + "~" }

// TestDialectsDoNotStream: what needs the whole body to be verified is refused
// above the buffer.
func TestDialectsDoNotStream(t *testing.T) {
	for name, site := range map[string]string{
		"open_gate": small, "no open_ip": strings.Replace(small, "open_gate", "open_sign", 1) + "\n open_scope",
	} {
		t.Run(name, func(t *testing.T) {
			address, got := witness(t)
			w := newWorld(t, address, site)
			app, _ := w.app(platform.Production, "trade")
			c := w.dialect(app, "top", "hmac-sha256", platform.Production)
			form := []string{"Content-Type", "application/x-www-form-urlencoded"}
			target := "/router?method=trade.order.add&v=3.0"
			require.Equal(t, http.StatusOK, w.do(c.request(t, "POST", target, "a="+strings.Repeat("x", 500), form...)).Code)
			one(t, got)
			refused(t, w.do(c.request(t, "POST", target, "a="+strings.Repeat("x", 2000), form...)), http.StatusRequestEntityTooLarge, "body_too_large")
			r := c.request(t, "POST", target, "a="+strings.Repeat("x", 2000), form...)
			r.Body, r.ContentLength = io.NopCloser(onlyReader{r.Body}), -1
			refused(t, w.do(r), http.StatusRequestEntityTooLarge, "body_too_large")
			require.Empty(t, got)
		})
	}
}

// TestStreamBesideDialects: an op1 call streams whatever its media type, and
// whichever dialects the route names first.
func TestStreamBesideDialects(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, strings.Replace(small, "op1 top", "dewu top op1", 1))
	_, c := w.app(platform.Production, "trade")
	for _, media := range []string{"application/x-www-form-urlencoded", "application/json"} {
		body := randomText(t, 2000)
		require.Equal(t, http.StatusOK, w.do(c.request(t, "POST", "/v1/orders", body, "Content-Type", media)).Code)
		require.Equal(t, body, one(t, got).body)
	}
}

// TestTruncatedBody: a client that hangs up early is not the upstream's failure.
func TestTruncatedBody(t *testing.T) {
	for _, size := range []int{1000, 20_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			address, got := witness(t)
			w := newWorld(t, address, small)
			_, c := w.app(platform.Production, "trade")
			for range 8 {
				body := randomText(t, size)
				r := c.request(t, "POST", "/v1/orders", body)
				status, answer := w.raw(head(r, fmt.Sprintf("Content-Length: %d", size))+body[:size/2], true)
				// While a body streams, Caddy may be the first to see that the
				// client has gone, and ends the call with its own 499.
				if size < 1024 || status != 499 {
					require.Equal(t, http.StatusBadRequest, status, answer)
					require.Contains(t, answer, `"code":"request_malformed"`)
				}
				select {
				case s := <-got:
					require.Error(t, s.err)
				default:
				}
			}
		})
	}
}

// TestBodyOverTCP: the upstream gets a signed body byte by byte as it was sent.
func TestBodyOverTCP(t *testing.T) {
	address, got := witness(t)
	w := newWorld(t, address, small)
	_, c := w.app(platform.Production, "trade")
	body := randomText(t, 30_000)
	r := c.request(t, "POST", "/v1/orders", body)
	var chunks bytes.Buffer
	for i := 0; i < len(body); i += 7000 {
		part := body[i:min(i+7000, len(body))]
		fmt.Fprintf(&chunks, "%x\r\n%s\r\n", len(part), part)
	}
	status, answer := w.raw(head(r, "Transfer-Encoding: chunked")+chunks.String()+"0\r\n\r\n", false)
	require.Equal(t, http.StatusOK, status, answer)
	s := one(t, got)
	require.NoError(t, s.err)
	require.Equal(t, body, s.body)
}

// TestNoRequestInABody: what is left of a body that was not read to its end is never
// taken for the next request of its connection.
func TestNoRequestInABody(t *testing.T) {
	hasty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	t.Cleanup(hasty.Close)
	patient, _ := witness(t)
	request := "GET /v1/products HTTP/1.1\r\nHost: gate.test\r\n\r\n"
	large := strings.Repeat(request, 1<<20/len(request))
	for name, test := range map[string]struct {
		upstream, max, body, framing string
		sent, rest                   string // before the answer, and after it
		status                       int
	}{
		"too large": {
			patient, "64KiB", large, "Transfer-Encoding: chunked",
			fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(large), large), "", http.StatusRequestEntityTooLarge,
		},
		"a broken chunk": {
			patient, "4MiB", large, "Transfer-Encoding: chunked",
			fmt.Sprintf("%x\r\n%s\r\nZZ\r\n%s", len(large)/2, large[:len(large)/2], request), "", http.StatusBadRequest,
		},
		"answered before it was read": {
			strings.TrimPrefix(hasty.URL, "http://"), "4MiB", large, fmt.Sprintf("Content-Length: %d", len(large)),
			large[:len(large)/2], large[len(large)/2:], http.StatusTeapot,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.upstream, strings.Replace(small, "64KiB", test.max, 1))
			_, c := w.app(platform.Production, "trade")
			conn, err := net.Dial("tcp", w.listen())
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
			sent := head(c.request(t, "POST", "/v1/orders", test.body), test.framing) + test.sent
			go func() { _, _ = io.WriteString(conn, sent) }() // the server need not take all of it
			answers := bufio.NewReader(conn)
			resp, err := http.ReadResponse(answers, nil)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(t, errors.Join(err, resp.Body.Close()))
			require.Equal(t, test.status, resp.StatusCode)
			_, _ = io.WriteString(conn, test.rest)
			more, err := io.ReadAll(answers)
			require.Empty(t, string(more))
			require.False(t, os.IsTimeout(err))
		})
	}
}

// TestNoRequestInARefusedBody: nor is what is left of the body of a call that was
// refused before, where an error route passes it to a service that does not read it.
func TestNoRequestInARefusedBody(t *testing.T) {
	hasty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	t.Cleanup(hasty.Close)
	request := "GET /v1/products HTTP/1.1\r\nHost: gate.test\r\n\r\n"
	large := strings.Repeat(request, 1<<20/len(request))
	w := newWorld(t, strings.TrimPrefix(hasty.URL, "http://"), small+"\n handle_errors {\n reverse_proxy UPSTREAM\n }")
	for name, framed := range map[string]string{
		"announced": fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(large), large),
		"chunked":   fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(large), large),
		"small":     "Content-Length: 4\r\n\r\nbody",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", w.listen())
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
			go func() { _, _ = io.WriteString(conn, "POST /v1/orders HTTP/1.1\r\nHost: gate.test\r\n"+framed) }()
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusTeapot, resp.StatusCode)
			require.Equal(t, name != "small", resp.Close)
		})
	}
}

// TestAnnouncedBody: a length that is announced takes no memory before the body
// comes.
func TestAnnouncedBody(t *testing.T) {
	w := newWorld(t, "127.0.0.1:9", "open_gate {\n environment production\n dialects pdd\n buffer 64MiB\n}\n reverse_proxy UPSTREAM")
	r := httptest.NewRequest(http.MethodPost, "/api/router", onlyReader{strings.NewReader("")})
	r.Host, r.RemoteAddr, r.ContentLength = "gate.test", "127.0.0.1:4711", 64<<20
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	detail := refused(t, w.do(r), http.StatusBadRequest, "request_malformed")
	runtime.ReadMemStats(&after)
	require.Contains(t, detail, "could not be read to its end")
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}
