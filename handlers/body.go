package handlers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/caddy-openplatform/openplatform/internal/gate"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// body is what the upstream reads in place of the client's body: either the
// bytes that were read and checked, or a stream that is checked on its way.
type body struct {
	bytes.Reader
	source io.Closer
	client clientBody
	stream *signing.DigestReader
}

// clientBody is a body that streams. It notes whether it was read to its end, and
// that the client did not send all of it, which must not be taken for a failure of
// the upstream.
type clientBody struct {
	io.ReadCloser
	ended, broken atomic.Bool
}

// Read reads the body.
func (b *clientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.ended.Store(true)
	case err != nil:
		b.broken.Store(true)
	}
	return n, err
}

// Close closes the client's body.
func (b *body) Close() error { return b.source.Close() }

// mismatch tells whether the streamed body turned out not to be the signed one.
func (b *body) mismatch() bool { return b.stream != nil && b.stream.Mismatch() }

// readBody reads the whole body, up to limit bytes, and puts it back for those
// who come after.
func (x *exchange) readBody(limit int64) *gate.Refusal {
	if x.signed.BodyRead {
		return nil
	}
	r := x.request
	if r.Body == nil || r.Body == http.NoBody {
		x.signed.BodyRead = true
		return nil
	}
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	data, err := readAll(r.Body, r.ContentLength, limit)
	if err != nil {
		return bodyRefusal(err, limit)
	}
	x.putBody(data)
	return nil
}

// settleLength finds out whether a body that did not announce its length is
// there at all: over HTTP/3 not even a GET says so. A body with a digest is
// looked at once its signature is verified.
func (x *exchange) settleLength() *gate.Refusal {
	r := x.request
	if x.signed.ContentLength >= 0 || x.signed.BodyRead || len(r.Header["Content-Digest"]) > 0 {
		return nil
	}
	first := make([]byte, 1)
	switch _, err := io.ReadFull(r.Body, first); {
	case err == nil:
		r.Body = rejoin(first, r.Body)
	case errors.Is(err, io.EOF):
		r.ContentLength, x.signed.ContentLength = 0, 0
	default:
		return bodyRefusal(err, 0)
	}
	return nil
}

// putBody makes data the body of the request.
func (x *exchange) putBody(data []byte) {
	r := x.request
	if x.body.source == nil {
		x.body.source = r.Body
	}
	x.signed.Body, x.signed.BodyRead = data, true
	x.body.Reset(data)
	r.Body = &x.body
	// The length is known now, so a chunked body goes on as a plain one.
	r.ContentLength = int64(len(data))
	r.TransferEncoding = nil
}

// replaceBody is putBody for a body that differs from what was signed.
func (x *exchange) replaceBody(data []byte) {
	signed := x.signed.Body
	x.putBody(data)
	x.signed.Body = signed
	if _, ok := x.request.Header["Content-Length"]; ok {
		x.set(x.request.Header, "Content-Length", fmt.Sprint(len(data)))
	}
}

// streamBody lets the body flow on while its digest is taken. It is cut short,
// with its last block held back, if it is not the one that was signed.
func (x *exchange) streamBody(sum [32]byte, limit int64) {
	r := x.request
	x.body.client.ReadCloser = http.MaxBytesReader(&x.writer, r.Body, limit)
	x.body.stream = signing.NewDigestReader(&x.body.client, sum)
	r.Body = x.body.stream
	if r.ProtoMajor == 1 {
		x.writer.streams = &x.body.client
	}
}

// believed is the largest announced length for which there is memory before the
// body has come: whoever announces more, and sends nothing, gets no more than that.
const believed = 32 << 10

// readAll reads up to limit bytes; size is what was announced, or -1.
func readAll(r io.Reader, size, limit int64) (data []byte, err error) {
	var n int
	if 0 <= size && size <= believed {
		data = make([]byte, size)
		n, err = io.ReadFull(r, data)
	} else {
		data, err = io.ReadAll(io.LimitReader(r, limit+1))
		n = len(data)
	}
	switch short := int64(n) < size; {
	case short && (err == nil || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)):
		return nil, fmt.Errorf("the body ended after %d of %d bytes", n, size)
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case int64(n) > limit:
		return nil, &http.MaxBytesError{Limit: limit}
	}
	return data, nil
}

func bodyRefusal(err error, limit int64) *gate.Refusal {
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(min(e.Limit, limit))
	}
	return &gate.Refusal{
		Code: gate.RequestMalformed, Stage: gate.StageSignature,
		Detail: "the body could not be read to its end", Err: err,
	}
}

func tooLarge(limit int64) *gate.Refusal {
	return &gate.Refusal{
		Code: gate.BodyTooLarge, Stage: gate.StageSignature,
		Detail: fmt.Sprintf("this route takes bodies such as this one of up to %d bytes", limit),
	}
}

// rejoin puts back in front of rest what was read from it.
func rejoin(start []byte, rest io.ReadCloser) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(start), rest), rest}
}
