package signing

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
)

func (s *paramScheme) name() string { return s.id }

func (s *paramScheme) methods() []string {
	names := make([]string, len(s.digests))
	for i, d := range s.digests {
		names[i] = d.method
	}
	return names
}

func (s *paramScheme) optIn(method string) bool {
	d := s.byMethod(method)
	return d != nil && d.optIn
}

// byMethod finds a digest by our name of it; "" means the first one.
func (s *paramScheme) byMethod(method string) *digest {
	for i := range s.digests {
		if method == "" || s.digests[i].method == method {
			return &s.digests[i]
		}
	}
	return nil
}

func (s *paramScheme) window() time.Duration { return s.reach }

func (s *paramScheme) carried(r *Request) (bool, error) {
	carried, marked, err := s.carries(r)
	return carried && marked, err
}

// carries tells whether r has the app key and the signature of the dialect, and
// what marks it.
func (s *paramScheme) carries(r *Request) (carried, marked bool, err error) {
	kind := s.body.kind(r)
	if kind == bodyMembers && peekQuery(r).has(s.signParam) {
		kind = bodyOpaque // the body has business fields only
	}
	parsed := kind == bodyPairs || kind == bodyMembers
	if parsed && !r.BodyRead {
		return false, false, ErrBodyNeeded
	}
	if kind == bodyMembers {
		// A JSON body: whatever is signed in it is dewu's.
		return bytes.Contains(r.Body, []byte(`"`+s.signParam+`"`)) && bytes.Contains(r.Body, []byte(`"`+s.keyParam+`"`)), true, nil
	}
	p := peekQuery(r)
	if kind == bodyPairs {
		if !p.has(s.signParam) && !bytes.Contains(r.Body, []byte(s.signParam+"=")) {
			return false, false, nil
		}
		p.form = string(r.Body)
	}
	return p.has(s.signParam) && (s.keyless || p.has(s.keyParam)), s.marked == nil || s.marked(p), nil
}

func peekQuery(r *Request) peek { return peek{query: r.RawQuery} }

func (s *paramScheme) claim(dst *Claim, r *Request) error {
	if hasBody(r) && !r.BodyRead {
		return ErrBodyNeeded
	}
	p, _, err := s.parse(r)
	if err != nil {
		return err
	}
	text := p.take(s.signParam)
	if text == "" {
		return fmt.Errorf("%w: parameter %s is empty", ErrMissing, s.signParam)
	}
	if p.digest, err = s.asked(p); err != nil {
		return err
	}
	if p.signature, err = p.digest.decode(text); err != nil {
		return err
	}
	if err := s.describe(dst, p, r); err != nil {
		return err
	}
	if dst.Time, err = s.signedAt(p); err != nil {
		return err
	}
	dst.state.params = p
	return nil
}

// asked finds the digest that the call's method parameter asks for.
func (s *paramScheme) asked(p *paramState) (*digest, error) {
	var wire string
	if s.methodParam != "" {
		wire = p.get(s.methodParam)
	}
	for i := range s.digests {
		if wire == "" || strings.EqualFold(wire, s.digests[i].wire) {
			return &s.digests[i], nil
		}
	}
	err := fmt.Errorf("%w: %s %.20q is none of %s", ErrMethod, s.methodParam, wire, s.id)
	if s.mark != "" {
		// A wrong form of the time may have made it look to be of this dialect.
		err = fmt.Errorf("%w, whose calls have: %s", err, s.mark)
	}
	return nil, err
}

// describe fills in what the call says about itself, its time aside.
func (s *paramScheme) describe(dst *Claim, p *paramState, r *Request) error {
	dst.AppKey = p.get(s.keyParam)
	if len(s.digests) > 1 {
		dst.Method = p.digest.method
	}
	if s.apiParam != "" {
		dst.APIName = p.get(s.apiParam)
	}
	if dst.Token = p.get(s.tokenParam); dst.Token == "" {
		dst.Token = p.get(tokenParam) // some SDKs of top and aliexpress
	}
	if s.inspect != nil {
		if err := s.inspect(p, r.Path, dst); err != nil {
			return err
		}
	}
	if dst.AppKey == "" {
		return fmt.Errorf("%w: parameter %s is empty", ErrMalformed, s.keyParam)
	}
	if s.apiParam != "" && dst.APIName == "" && p.prefix == "" {
		dst.Unnamed = "parameter " + s.apiParam
	}
	return nil
}

func (s *paramScheme) signedAt(p *paramState) (time.Time, error) {
	text := p.get(s.timeParam)
	if text == "" {
		if s.timeOptional {
			return time.Time{}, nil
		}
		return time.Time{}, fmt.Errorf("%w: parameter %s is missing", ErrTimestamp, s.timeParam)
	}
	t, err := s.time.parse(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: parameter %s: %w", ErrMalformed, s.timeParam, err)
	}
	return t, nil
}

func (s *paramScheme) verify(c *Claim, _ *Request, k *Key, _ Options) error {
	p := c.state.params
	if k.method != p.digest.method {
		return errMethod
	}
	scratch := getScratch()
	defer scratch.put()
	for i, drop := range s.drops {
		if i > 0 && !p.hasBlank() {
			break // the variants are the same string
		}
		scratch.buf = s.stringToSign(scratch.buf[:0], p, p.digest, k.secret, drop)
		if subtle.ConstantTimeCompare(p.digest.sum(scratch.buf, k.secret), p.signature) == 1 {
			return s.scanned(p)
		}
	}
	return errMismatch
}

// scanned checks what only the app itself can have wrong.
func (s *paramScheme) scanned(p *paramState) error {
	if s.scan == nil {
		return nil
	}
	return s.scan(p)
}

func (p *paramState) hasBlank() bool {
	for _, q := range p.params {
		if blank(q.value) {
			return true
		}
	}
	return false
}

// stringToSign appends what the digest is taken of.
func (s *paramScheme) stringToSign(dst []byte, p *paramState, d *digest, secret []byte, drop bool) []byte {
	if d.frame == frameAround {
		dst = append(dst, secret...)
	}
	dst = s.join(dst, p, drop)
	if d.frame != frameNone {
		dst = append(dst, secret...)
	}
	return dst
}

func (s *paramScheme) replayID(dst []byte, c *Claim, r *Request) []byte {
	dst = append(dst, c.state.params.signature...)
	if s.unsigned == nil {
		return dst
	}
	h := sha256.New()
	s.unsigned(h, c, r)
	return h.Sum(dst)
}

// writeField writes a text with its length before it, so that no two
// sequences of texts hash alike.
func writeField(h hash.Hash, text string) {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(text)))
	h.Write(length[:])
	_, _ = io.WriteString(h, text) // a hash never fails
}
