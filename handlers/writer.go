package handlers

import (
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// responseWriter notes status and size of the answer. Flushing, hijacking and
// the rest reach the writer below through Unwrap.
type responseWriter struct {
	*caddyhttp.ResponseWriterWrapper
	wrapper caddyhttp.ResponseWriterWrapper
	status  int
	bytes   int64
	streams *clientBody // over HTTP/1, where one follows on the other
	limited bool        // the gate told the tightest limit
}

func (w *responseWriter) WriteHeader(status int) {
	// An informational answer (RFC 9110 section 15.2) is not the answer yet;
	// 101 is the last that is heard before the connection is taken over.
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
		// The first request id is the gate's; an upstream may echo it. So it is
		// with limits, of which an upstream may have some of its own.
		h := w.Header()
		keepFirst(h, headerRequestID)
		if w.limited {
			keepFirst(h, headerRateLimit)
			keepFirst(h, headerRateLimitPolicy)
		}
		w.closeUnread()
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}

// closeUnread ends the connection with this answer where the client's body was not
// read to its end (RFC 9112 section 9.3): what is left of it would be taken for the
// next request. net/http knows of that by its own body alone, and Caddy wraps it.
func (w *responseWriter) closeUnread() {
	if w.streams != nil && !w.streams.ended.Load() {
		w.Header().Set("Connection", "close")
	}
}

func keepFirst(h http.Header, name string) {
	if values := h[name]; len(values) > 1 {
		h[name] = values[:1:1]
	}
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriterWrapper.Write(p)
	w.bytes += int64(n)
	return n, err
}

func (w *responseWriter) ReadFrom(r io.Reader) (int64, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriterWrapper.ReadFrom(r)
	w.bytes += n
	return n, err
}

// Interface guards
var (
	_ http.ResponseWriter                       = (*responseWriter)(nil)
	_ io.ReaderFrom                             = (*responseWriter)(nil)
	_ interface{ Unwrap() http.ResponseWriter } = (*responseWriter)(nil)
)
