package integration

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// wire is a request as text, so that it can be wrong in every way.
type wire struct {
	method, path, query string
	header              []string // "Name: value", in order
	body                string
	cut                 bool // the client sends no more and says so
}

// get is a signed GET of path.
func (a app) get(t *testing.T, host, path string) wire {
	t.Helper()
	return a.wire(t, host, wire{path: path})
}

// wire signs w as op1 with its path and query as they stand.
func (a app) wire(t *testing.T, host string, w wire) wire {
	t.Helper()
	w.method = cmp.Or(w.method, "GET")
	key, err := signing.NewSigningSecret(signing.Op1, "", []byte(a.Secret))
	require.NoError(t, err)
	header := http.Header{}
	for _, line := range w.header {
		name, value, _ := strings.Cut(line, ": ")
		header.Add(name, value)
	}
	signed, err := signing.Sign(signing.Op1, &signing.Request{
		Method: w.method, Scheme: "http", Authority: host, Path: w.path, RawQuery: w.query,
		Header: header, ContentLength: int64(len(w.body)), Body: []byte(w.body), BodyRead: true,
	}, signing.Credentials{AppKey: a.Key, Key: key}, time.Now(), rand.Text())
	require.NoError(t, err)
	w.header = []string{"Host: " + host, "Connection: close"}
	for name, values := range signed.Header {
		for _, v := range values {
			w.header = append(w.header, name+": "+v)
		}
	}
	return w
}

// with adds a header.
func (w wire) with(lines ...string) wire {
	w.header = append(slices.Clone(w.header), lines...)
	return w
}

// without removes a header.
func (w wire) without(name string) wire {
	w.header = slices.DeleteFunc(slices.Clone(w.header), func(line string) bool { return strings.HasPrefix(line, name+": ") })
	return w
}

// edit replaces a part of a header.
func (w wire) edit(t *testing.T, name, pattern, by string) wire {
	t.Helper()
	re := regexp.MustCompile(pattern)
	w.header = slices.Clone(w.header)
	for i, line := range w.header {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			changed := name + ": " + re.ReplaceAllString(value, by)
			require.NotEqual(t, line, changed)
			w.header[i] = changed
			return w
		}
	}
	require.FailNow(t, "no header "+name)
	return w
}

// sized adds the length of the body.
func (w wire) sized() wire { return w.with(fmt.Sprintf("Content-Length: %d", len(w.body))) }

// chunked sends the body in chunks.
func (w wire) chunked() wire {
	var b strings.Builder
	for part := range slices.Chunk([]byte(w.body), 60_000) {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(part), part)
	}
	w = w.with("Transfer-Encoding: chunked")
	w.body = b.String() + "0\r\n\r\n"
	return w
}

// cutOff ends the connection behind what is sent.
func (w wire) cutOff() wire {
	w.cut = true
	return w
}

func (w wire) String() string {
	target := w.path
	if w.query != "" {
		target += "?" + w.query
	}
	return w.method + " " + target + " HTTP/1.1\r\n" + strings.Join(w.header, "\r\n") + "\r\n\r\n" + w.body
}

// exchange sends the request and reads the answer. The client half-closes the
// connection only where its message is cut off, since that means to a server
// that it has gone.
func exchange(t *testing.T, address string, w wire) answer {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	sent := make(chan struct{})
	go func() { // the server may answer before it has read everything
		defer close(sent)
		if _, err := io.WriteString(conn, w.String()); err == nil && w.cut {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err, "no answer")
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		require.NoError(t, err)
	}
	_ = conn.Close()
	<-sent
	return answer{resp, body}
}

// statusGone is what Caddy notes for a client that it takes for gone. A client
// that half-closes its connection can see it.
const statusGone = 499

// TestBadInput: whatever is sent, there is a clear refusal, and the server
// goes on answering. Where no code is named, net/http has refused the message
// before anyone looked at its content.
func TestBadInput(t *testing.T) {
	n, s := startShop(t, globals("")+gated("http://127.0.0.1:%site%", "sandbox", "dialects op1 top dewu\n\t\tmax_body 2MiB"))
	host := n.fill("127.0.0.1:%site%")
	a := n.newApp()
	top, dewu := n.allow(a, "top", "", "sandbox"), n.allow(a, "dewu", "md5", "sandbox")
	get := func() wire { return a.get(t, host, "/v1/echo") }
	post := func(body string) wire {
		return a.wire(t, host, wire{method: "POST", path: "/v1/echo", body: body, header: []string{"Content-Type: text/plain"}})
	}
	at := func(path string) wire { return a.get(t, host, path) }
	query := func(own app, more string) wire {
		req := own.sign(t, call{url: "http://" + host + own.target()})
		return wire{method: "GET", path: req.URL.Path, query: req.URL.RawQuery + more, header: []string{"Host: " + host, "Connection: close"}}
	}
	body := func(own app, contentType, text string) wire {
		w := query(own, "")
		w.method, w.body = "POST", text
		return w.with("Content-Type: " + contentType).sized()
	}
	long := strings.Repeat("x", 3<<20)

	cases := []struct {
		name   string
		send   wire
		status int
		code   string
	}{
		{"nothing is wrong", get(), 200, ""},
		{"nothing is wrong with a body", post("hello").sized(), 200, ""},
		{"nothing is wrong with chunks", post("hello").chunked(), 200, ""},
		{"the absolute form", func() wire { w := get(); w.path = "http://" + host + w.path; return w }(), 200, ""},

		{"no signature", get().without("Signature-Input").without("Signature"), 401, "signature_missing"},
		{"only an input", get().without("Signature"), 401, "signature_missing"},
		{"an input that is no list", get().edit(t, "Signature-Input", `\(.*?\)`, "((("), 400, "request_malformed"},
		{"an input that is cut off", get().edit(t, "Signature-Input", `"op1".*$`, `"op1"`+`;x="`), 400, "request_malformed"},
		{"two inputs", get().with(`Signature-Input: b=();tag="op1"`), 400, "request_malformed"},
		{"two signatures", get().with("Signature: b=:AAAA:"), 400, "request_malformed"},
		{"a parameter twice", get().edit(t, "Signature-Input", `;nonce=`, `;nonce="0123456789abcdef";nonce=`), 400, "request_malformed"},
		{"a component twice", get().edit(t, "Signature-Input", `"@path"`, `"@path" "@path"`), 400, "request_malformed"},
		{"a component of another kind", get().edit(t, "Signature-Input", `"@path"`, `"@path" "host"`), 400, "request_malformed"},
		{"a component fewer", get().edit(t, "Signature-Input", ` "@query"`, ``), 401, "signature_invalid"},
		{"a signature that is no base64", get().edit(t, "Signature", `:.*:`, ":!!!:"), 400, "request_malformed"},
		{"a signature that is no byte sequence", get().edit(t, "Signature", `:.*:`, "token"), 400, "request_malformed"},
		{"an empty signature", get().edit(t, "Signature", `:.*:`, "::"), 401, "signature_invalid"},
		{"a short signature", get().edit(t, "Signature", `:.*:`, ":AAAA:"), 401, "signature_invalid"},
		{"a long signature", get().edit(t, "Signature", `:.*:`, ":"+strings.Repeat("AAAA", 2000)+":"), 400, "request_malformed"},
		{"another label", get().edit(t, "Signature", `^\w+`, "other"), 400, "request_malformed"},
		{"an algorithm that is not known", get().edit(t, "Signature-Input", `;tag=`, `;alg="none";tag=`), 401, "dialect_not_allowed"},
		{"a short nonce", get().edit(t, "Signature-Input", `nonce="\w+"`, `nonce="1"`), 400, "request_malformed"},
		{"an app that is not known", get().edit(t, "Signature-Input", `keyid="\w+"`, `keyid="ak_00000000000000000000"`), 401, "app_unknown"},
		{"a key number that is none", get().edit(t, "Signature-Input", `keyid="(\w+)"`, `keyid="$1#zero"`), 400, "request_malformed"},
		{"another key number", get().edit(t, "Signature-Input", `keyid="(\w+)"`, `keyid="$1#77"`), 401, "signature_invalid"},
		{"a keyid of bytes", get().edit(t, "Signature-Input", `keyid="(\w+)"`, "keyid=\"$1\xff\xfe\""), 400, "request_malformed"},
		{"long ago", get().edit(t, "Signature-Input", `created=\d+`, "created=1"), 401, "timestamp_out_of_range"},
		{"before the epoch", get().edit(t, "Signature-Input", `created=\d+`, "created=-1"), 400, "request_malformed"},
		{"far ahead", get().edit(t, "Signature-Input", `created=\d+`, "created=999999999999999"), 401, "timestamp_out_of_range"},
		{"beyond all numbers", get().edit(t, "Signature-Input", `created=\d+`, "created=99999999999999999999"), 400, "request_malformed"},
		{"a time that is text", get().edit(t, "Signature-Input", `created=\d+`, `created="now"`), 400, "request_malformed"},

		{"a long value", get().with("X-Long: " + strings.Repeat("x", 8000)), 200, ""},
		{"a long input", get().edit(t, "Signature-Input", `keyid="(\w+)"`, `keyid="`+strings.Repeat("x", 8000)+`"`), 401, "app_unknown"},
		{"headers of 1 MB", get().with("X-Long: " + long[:1<<20]), 431, ""},
		{"a signature of 1 MB", get().edit(t, "Signature", `:.*:`, ":"+long[:1<<20]+":"), 431, ""},
		{"headers of 2 MB", get().with("X-Long: " + long[:2<<20]), 431, ""},
		{"a NUL in a header", get().with("X-Nul: a\x00b"), 400, ""},
		{"a header without a name", get().with(": x"), 400, ""},
		{"two hosts", get().with("Host: other"), 400, ""},
		{"another host", func() wire { w := get().without("Host"); return w.with("Host: other.example") }(), 200, ""},

		{"dot segments", at("/v1/../v1/echo"), 400, "request_malformed"},
		{"one dot", at("/v1/./echo"), 400, "request_malformed"},
		{"encoded dot segments", at("/v1/%2e%2e/v1/echo"), 400, "request_malformed"},
		{"half-encoded dot segments", at("/v1/.%2E/v1/echo"), 400, "request_malformed"},
		{"dot segments in a parameter", at("/v1/items/a%2F..%2Fb"), 400, "request_malformed"},
		{"an empty segment", at("/v1//echo"), 400, "request_malformed"},
		{"an empty segment at the end", at("/v1/echo/"), 400, "request_malformed"},
		{"an empty segment, encoded", at("/v1/items/a%2F%2Fb"), 400, "request_malformed"},
		{"an encoded slash outside of a parameter", at("/v1%2Fecho"), 404, "api_unknown"},
		{"a backslash", at(`/v1\echo`), 400, "request_malformed"},
		{"an encoded backslash", at("/v1/items/%5C"), 400, "request_malformed"},
		{"an encoded NUL", at("/v1/items/%00"), 400, "request_malformed"},
		{"an encoded line end", at("/v1/items/%0d%0aX: y"), 400, ""},
		{"an encoded line end alone", at("/v1/items/%0d%0aX"), 400, "request_malformed"},
		{"a bad escape", at("/v1/items/%zz"), 400, ""},
		{"a NUL in the path", at("/v1/items/\x00"), 400, ""},
		{"a path that is no UTF-8", at("/v1/items/%ff%fe"), 400, "request_malformed"},
		{"an overlong dot segment", at("/v1/items/%C0%AE%C0%AE"), 400, "request_malformed"},
		{"a dot segment with a parameter", at("/v1/items/..;x"), 400, "request_malformed"},
		{"another path than was signed", func() wire { w := get(); w.path = "/v1/items/1"; return w }(), 401, "signature_invalid"},
		{"another query than was signed", func() wire { w := get(); w.query = "x=1"; return w }(), 401, "signature_invalid"},
		{"another method than was signed", func() wire { w := get(); w.method = "DELETE"; return w }(), 401, "signature_invalid"},
		{"a method in lower case", a.wire(t, host, wire{method: "get", path: "/v1/echo"}), 405, "method_not_allowed"},
		{"a method that is not known", a.wire(t, host, wire{method: "BREW", path: "/v1/echo"}), 405, "method_not_allowed"},

		{"a wrong digest", func() wire { w := post("hello").sized(); w.body = "jello"; return w }(), 401, "digest_mismatch"},
		{"a wrong digest of chunks", func() wire { w := post("hello"); w.body = "jello"; return w.chunked() }(), 401, "digest_mismatch"},
		{"a digest and no body", func() wire { w := post("hello"); w.body = ""; return w }(), 401, "digest_mismatch"},
		{"a digest that is no base64", post("hello").edit(t, "Content-Digest", `:.*:`, ":???:").sized(), 400, "request_malformed"},
		{"a digest of another kind", post("hello").edit(t, "Content-Digest", `sha-256`, "md5").sized(), 400, "request_malformed"},
		{"no digest", post("hello").without("Content-Digest").sized(), 400, "request_malformed"},
		{"a body and no digest", func() wire { w := get(); w.body = "hello"; return w.sized() }(), 401, "signature_invalid"},
		{"another content type", post("hello").edit(t, "Content-Type", "text", "image").sized(), 401, "signature_invalid"},
		{"a body that is cut off", post("hello").with("Content-Length: 500").cutOff(), 400, "request_malformed"},
		{"a large body that is cut off", post(long[:1<<20+100]).with("Content-Length: 1500000").cutOff(), 400, "request_malformed"},
		{"chunks that are cut off", func() wire { w := post("hello").chunked(); w.body = w.body[:5]; return w.cutOff() }(), 400, "request_malformed"},
		{"chunks of no size", func() wire { w := post("hello").chunked(); w.body = "zz\r\nhello\r\n0\r\n\r\n"; return w }(), 400, "request_malformed"},
		{"a body that is too long", post(long).sized(), 413, "body_too_large"},
		{"chunks that are too long", post(long).chunked(), 413, "body_too_large"},
		{"a length that no body has", get().with("Content-Length: 9000000000000000000"), 401, "signature_invalid"},
		{"a negative length", get().with("Content-Length: -1"), 400, ""},
		{"two lengths", post("hello").sized().with("Content-Length: 6"), 400, ""},
		{"a coding that is not known", post("hello").with("Transfer-Encoding: gzip"), 501, ""},

		{"a dialect's parameter twice", query(top, "&app_key="+a.Key), 400, "request_malformed"},
		{"a dialect's signature twice", query(top, "&sign=00"), 400, "request_malformed"},
		{"a bad escape in a dialect's query", query(top, "&x=%zz"), 400, "request_malformed"},
		{"a parameter that was not signed", query(top, "&y=2"), 401, "signature_invalid"},
		{"a form with a parameter of the query", body(top, "application/x-www-form-urlencoded", "app_key="+a.Key), 400, "request_malformed"},
		{"a form with a bad escape", body(top, "application/x-www-form-urlencoded", "y=%zz"), 400, "request_malformed"},
		{"a form that was not signed", body(top, "application/x-www-form-urlencoded", "y=1"), 401, "signature_invalid"},
		{"a large body in a dialect", body(dewu, "application/json", `{"x":"`+long[:1<<20]+`"}`), 413, "body_too_large"},
		{"JSON that is none", body(dewu, "application/json", `{"x":`), 400, "request_malformed"},
		{"JSON with a member twice", body(dewu, "application/json", `{"y":1,"y":2}`), 400, "request_malformed"},
		{"JSON without an end", body(dewu, "application/json", strings.Repeat(`{"y":[`, 100_000)), 400, "request_malformed"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := exchange(t, host, c.send)
			for len(s.seen) > 0 {
				s.brokenOff(t)
			}
			if got.StatusCode != statusGone || !c.send.cut {
				require.Equal(t, c.status, got.StatusCode, "%s", got.body)
				require.Equal(t, c.code, got.code(), "%s", got.body)
			}
			exchange(t, host, get()).passed(t)
		})
	}
	for line := range strings.Lines(n.log.String()) {
		require.NotRegexp(t, `^{"level":"error".*"logger":"http\.`, line, "a caller's mistakes are no events of the server")
	}
}
