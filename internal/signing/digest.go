package signing

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync/atomic"
)

// digestPrefix starts the one form of Content-Digest that op1 takes (RFC 9530,
// section 2): sha-256=:<44 characters of base64>:
const digestPrefix = "sha-256=:"

var (
	errDigestForm  = malformed("Content-Digest must be one sha-256=:<base64>: and nothing else")
	errDigestOther = malformed("Content-Digest has no sha-256 or sha-512 of its full length: send one of them")
	errDigestBody  = fmt.Errorf("%w: the body is not the one that Content-Digest names", ErrDigest)
)

// emptySHA256 is the digest of no body at all.
var emptySHA256 = sha256.Sum256(nil)

// contentDigest is the digest of a body that a signature covers.
type contentDigest struct {
	sha256 [sha256.Size]byte
	has256 bool
	sha512 string // base64: rare, and thus decoded late
}

// readOne reads the only form that op1 takes.
func (d *contentDigest) readOne(values []string) error {
	if len(values) != 1 {
		return errDigestForm
	}
	text, ok := strings.CutPrefix(strings.Trim(values[0], " \t"), digestPrefix)
	if !ok || !d.decode256(strings.TrimSuffix(text, ":")) || text[len(text)-1] != ':' {
		return errDigestForm
	}
	return nil
}

// read reads a dictionary of digests; algorithms other than sha-256 and
// sha-512 are passed over.
func (d *contentDigest) read(values []string) error {
	s := strings.Join(values, ", ")
	for s != "" {
		key, rest, ok := cutLabel(s)
		if !ok || rest[0] != ':' {
			return errDigestOther
		}
		n := itemLen(rest)
		if n == 0 {
			return errDigestOther
		}
		text := rest[1 : n-1]
		switch {
		case key == "sha-256" && !d.has256:
			ok = d.decode256(text)
		case key == "sha-512" && d.sha512 == "":
			ok, d.sha512 = len(text) == base64.StdEncoding.EncodedLen(sha512.Size), text
		case key == "sha-256" || key == "sha-512":
			ok = false
		}
		if !ok {
			return errDigestOther
		}
		if s, ok = nextMember(rest[n:]); !ok {
			return errDigestOther
		}
	}
	if !d.has256 && d.sha512 == "" {
		return errDigestOther
	}
	return nil
}

func (d *contentDigest) decode256(text string) bool {
	var in [44]byte
	var out [33]byte // the decoder may write three bytes for the last four
	if len(text) != len(in) {
		return false
	}
	copy(in[:], text)
	n, err := base64Strict.Decode(out[:], in[:])
	d.has256 = err == nil && n == sha256.Size
	copy(d.sha256[:], out[:])
	return d.has256
}

// Digest returns the SHA-256 Content-Digest that the signature covers; ok is
// false when there is none. A body may be streamed against it: see
// [NewDigestReader]. Only op1 and rfc9421 have one.
func (c *Claim) Digest() (sum [sha256.Size]byte, ok bool) {
	return c.state.header.digest.sha256, c.state.header.digest.has256
}

// CheckBody returns an error that wraps [ErrDigest] unless body matches the
// Content-Digest that the signature covers; nil when it covers none.
func (c *Claim) CheckBody(body []byte) error {
	d := &c.state.header.digest
	if d.has256 && sha256.Sum256(body) != d.sha256 {
		return errDigestBody
	}
	if d.sha512 != "" {
		sum := sha512.Sum512(body)
		want, err := base64Strict.DecodeString(d.sha512)
		if err != nil || !bytes.Equal(want, sum[:]) {
			return errDigestBody
		}
	}
	return nil
}

// holdBack is how much of a body a DigestReader keeps until the digest of all
// of it matches.
const holdBack = 32 << 10

// DigestReader passes a body on while hashing it, and holds back its last
// 32 KiB until the digest of the whole body matches. A receiver of a body with
// a wrong digest never sees its end.
type DigestReader struct {
	body     io.ReadCloser
	want     [sha256.Size]byte
	hash     hash.Hash
	buf      []byte // buf[start:end] was read and not yet released
	start    int
	end      int
	matched  bool  // the body has ended and its digest matches
	err      error // why no more is read from body
	mismatch atomic.Bool
}

// NewDigestReader reads body against the SHA-256 digest sum.
func NewDigestReader(body io.ReadCloser, sum [sha256.Size]byte) *DigestReader {
	return &DigestReader{body: body, want: sum, hash: sha256.New(), buf: make([]byte, 2*holdBack)}
}

// Read implements io.Reader. At the end of a body that does not match, it
// returns an error that wraps [ErrDigest]; errors of the body are passed
// through. In both cases what is held back is never released.
func (d *DigestReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if free := d.free(); free > 0 {
			n := copy(p[:min(len(p), free)], d.buf[d.start:d.end])
			d.start += n
			return n, nil
		}
		if d.err != nil {
			return 0, d.err
		}
		if err := d.fill(); err != nil {
			return 0, err
		}
	}
}

// free is how many bytes may be released.
func (d *DigestReader) free() int {
	switch {
	case d.matched:
		return d.end - d.start
	case d.err == nil:
		return d.end - d.start - holdBack
	}
	return 0
}

// fill reads once from the body. It returns an error only when the body makes
// no progress.
func (d *DigestReader) fill() error {
	if d.end == len(d.buf) {
		d.end = copy(d.buf, d.buf[d.start:d.end])
		d.start = 0
	}
	for range 100 {
		n, err := d.body.Read(d.buf[d.end:])
		if n < 0 || n > len(d.buf)-d.end {
			d.err = fmt.Errorf("reading the body: it returned the impossible count %d", n)
			return nil
		}
		d.hash.Write(d.buf[d.end : d.end+n])
		d.end += n
		if d.err = err; errors.Is(err, io.EOF) {
			d.finish()
		}
		if n > 0 || err != nil {
			return nil //nolint:nilerr // kept in d.err: Read returns it after what may be released
		}
	}
	return io.ErrNoProgress
}

// finish compares the digest at the end of the body.
func (d *DigestReader) finish() {
	var sum [sha256.Size]byte
	if d.hash.Sum(sum[:0]); sum == d.want {
		d.matched = true
		return
	}
	d.mismatch.Store(true)
	d.err = errDigestBody
}

// Close closes the body.
func (d *DigestReader) Close() error { return d.body.Close() }

// Mismatch tells whether the body ended with another digest. It may be asked
// while another goroutine reads.
func (d *DigestReader) Mismatch() bool { return d.mismatch.Load() }
