package integration

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// TestProtocols sends the same calls over HTTP/1.1, 2 and 3.
func TestProtocols(t *testing.T) {
	n, s := startShop(t, globals("")+gated("https://localhost:%site%", "sandbox", ""))
	base := n.fill("https://localhost:%site%")
	a := n.newApp()
	large := make([]byte, 5<<20)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(large)

	for _, version := range []int{1, 2, 3} {
		t.Run(fmt.Sprintf("HTTP%d", version), func(t *testing.T) {
			client := n.client(version)

			t.Run("identity", func(t *testing.T) {
				req := a.sign(t, call{url: base + "/v1/echo?a=1&b=%20x+y", token: "merchant-token-1", header: http.Header{
					"X-Open-App-Id": {"forged"}, "X-Open-User-Id": {"forged"}, "X-Open-Anything": {"forged"}, "X-Other": {"kept"},
				}})
				got := send(t, client, req)
				require.Equal(t, version, got.ProtoMajor)
				e := got.echoed(t)
				require.Equal(t, "/v1/echo?a=1&b=%20x+y", e.URI)
				identified(t, e, a)
				require.Equal(t, []string{"kept"}, e.Header["X-Other"])
				require.Equal(t, []string{got.Header.Get("X-Open-Request-Id")}, e.Header["X-Open-Request-Id"])
			})

			t.Run("paths arrive as sent", func(t *testing.T) {
				for _, path := range []string{"/v1/items/a%2Fb", "/v1/items/%E4%B8%AD%7E~", "/v1/items/a%20b;c=d?q=%2F&&x", "/v1/items/1?"} {
					e := send(t, client, a.sign(t, call{url: base + path})).echoed(t)
					require.Equal(t, strings.TrimSuffix(path, "?"), strings.TrimSuffix(e.URI, "?"))
				}
			})

			t.Run("bodies arrive as sent", func(t *testing.T) {
				for _, body := range [][]byte{[]byte("{}"), large[:1<<20], large[:1<<20+1], large, zipped(t, large[:1000])} {
					for _, chunked := range []bool{false, true} {
						req := a.sign(t, call{url: base + "/v1/echo", body: body, header: http.Header{"Content-Encoding": {"gzip"}}})
						if chunked {
							req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), -1
						}
						e := send(t, client, req).echoed(t)
						require.Equal(t, len(body), e.Length)
						require.Equal(t, sum(body), e.SHA256)
						require.Equal(t, []string{"gzip"}, e.Header["Content-Encoding"])
						identified(t, e, a)
					}
				}
			})

			t.Run("a changed body never arrives whole", func(t *testing.T) {
				for _, size := range []int{100, len(large)} {
					for _, chunked := range []bool{false, true} {
						req := a.sign(t, call{url: base + "/v1/echo", body: large[:size]})
						changed := bytes.Clone(large[:size])
						changed[size/2] ^= 1
						req.Body = io.NopCloser(bytes.NewReader(changed))
						if chunked {
							req.ContentLength = -1
						}
						send(t, client, req).refused(t, http.StatusUnauthorized, "digest_mismatch")
						if size > 1<<20 {
							require.Less(t, s.brokenOff(t).Length, size)
						}
						require.Empty(t, s.seen)
					}
				}
			})

			t.Run("trailers cannot forge", func(t *testing.T) {
				for _, size := range []int{10, len(large)} {
					req := a.sign(t, call{url: base + "/v1/echo", body: large[:size]})
					req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(large[:size])), -1
					req.Trailer = http.Header{"X-Open-App-Id": {"forged"}, "X-Open-User-Id": {"forged"}, "X-Other": {"fine"}}
					e := send(t, client, req).echoed(t)
					identified(t, e, a)
					require.NotContains(t, e.Trailer, "X-Open-App-Id")
					require.NotContains(t, e.Trailer, "X-Open-User-Id")
				}
			})

			t.Run("events arrive one by one", func(t *testing.T) {
				resp, err := client.Do(a.sign(t, call{url: base + "/v1/events"}))
				require.NoError(t, err)
				defer resp.Body.Close()
				require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
				lines := bufio.NewScanner(resp.Body)
				require.True(t, lines.Scan())
				require.Equal(t, "data: first", lines.Text())
				s.next(t) // only now the second one is sent
				require.True(t, lines.Scan())
				require.Empty(t, lines.Text())
				require.True(t, lines.Scan())
				require.Equal(t, "data: second", lines.Text())
			})
		})
	}

	t.Run("Connection cannot strip", func(t *testing.T) {
		for _, value := range []string{"X-Open-App-Id", "close, x-open-app-id, X-Other", "keep-alive,X-Open-App-Key,X-Open-Environment,"} {
			e := send(t, n.client(1), a.sign(t, call{url: base + "/v1/echo", header: http.Header{"Connection": {value}, "X-Other": {"1"}}})).echoed(t)
			identified(t, e, a)
			require.Equal(t, strings.Contains(value, "X-Other"), e.Header["X-Other"] == nil, "its own headers a client may strip")
		}
	})

	t.Run("web sockets", func(t *testing.T) {
		req := a.sign(t, call{url: base + "/v1/socket"})
		conn, _, err := websocket.Dial(t.Context(), req.URL.String(), &websocket.DialOptions{HTTPClient: n.client(1), HTTPHeader: req.Header}) //nolint:bodyclose // it closes it
		require.NoError(t, err)
		defer func() { _ = conn.CloseNow() }()
		require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte("hello")))
		_, data, err := conn.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, a.ID+" HELLO", string(data))

		_, resp, err := websocket.Dial(t.Context(), req.URL.String(), &websocket.DialOptions{HTTPClient: n.client(1), HTTPHeader: req.Header}) //nolint:bodyclose // it closes it
		require.Error(t, err, "the same handshake twice")
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	})
}

// identified checks that the shop was told who called, by one value each, and
// nothing that it must not know.
func identified(t *testing.T, e echo, a app) {
	t.Helper()
	require.Equal(t, []string{a.ID}, e.Header["X-Open-App-Id"])
	require.Equal(t, []string{a.Key}, e.Header["X-Open-App-Key"])
	require.Equal(t, []string{a.Environment}, e.Header["X-Open-Environment"])
	require.Len(t, e.Header["X-Open-Request-Id"], 1)
	for _, name := range []string{"Signature", "Signature-Input", "Authorization", "X-Open-User-Id", "X-Open-Scopes", "X-Open-Anything"} {
		require.NotContains(t, e.Header, name)
	}
}

func sum(body []byte) string {
	s := sha256.Sum256(body)
	return hex.EncodeToString(s[:])
}

func zipped(t *testing.T, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(body)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}
