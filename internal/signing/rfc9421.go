package signing

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

var (
	errNoInput    = fmt.Errorf("%w: Signature-Input and Signature must both be sent", ErrMissing)
	errRepeated   = malformed("Signature-Input: a component is repeated, or there are more than 64")
	errNoCreated  = fmt.Errorf("%w: the parameter created is missing", ErrTimestamp)
	errUncovered  = fmt.Errorf("%w: it must cover @method, @authority, @path and @query (or @target-uri), content-digest when there is a body, and authorization when it is sent", ErrInvalid)
	errNoKeyID    = malformed("Signature-Input: the parameter keyid is missing: it names the app key")
	errOldExpires = malformed("Signature-Input: expires lies before created")
)

// rfc9421Scheme takes the signatures of generic RFC 9421 libraries. The RFC
// leaves it to the verifier what a signature must cover: that is in verify.
type rfc9421Scheme struct{}

var rfc9421Methods = []string{algHMAC, algEd25519, algRSA, algRSAPSS}

func (rfc9421Scheme) name() string          { return "rfc9421" }
func (rfc9421Scheme) methods() []string     { return rfc9421Methods }
func (rfc9421Scheme) optIn(string) bool     { return false }
func (rfc9421Scheme) window() time.Duration { return headerWindow }

// carried is true when there is a signature other than op1's, or one that
// cannot be read.
func (rfc9421Scheme) carried(r *Request) (bool, error) {
	s := strings.Join(r.Header[headerInput], ", ")
	var in input
	for s != "" {
		rest, err := nextInput(s, &in)
		if err != nil || in.tag != op1Tag {
			return true, nil //nolint:nilerr // claim reads it again and says what is wrong
		}
		s = rest
	}
	return false, nil
}

func (rfc9421Scheme) claim(dst *Claim, r *Request) error {
	inputs, signatures := r.Header[headerInput], r.Header[headerSignature]
	if len(inputs) == 0 || len(signatures) == 0 {
		return errNoInput
	}
	var in input
	err := selectInput(&in, strings.Join(inputs, ", "), false)
	if err != nil {
		return err
	}
	h := &dst.state.header
	h.read(&in)
	if h.covered, err = rfc9421Covers(in.list); err != nil {
		return err
	}
	if !in.hasID {
		return errNoKeyID
	}
	var ok bool
	if dst.AppKey, dst.KeyNumber, ok = keyNumber(in.keyID); !ok {
		dst.AppKey = in.keyID // a "#" may be a part of somebody's key id
	}
	if h.signature, err = signatureOf(strings.Join(signatures, ", "), in.label); err != nil {
		return err
	}
	if h.covered&coversDigest != 0 {
		if err := h.digest.read(r.Header[headerDigest]); err != nil {
			return err
		}
		if h.digest.sha512 != "" && !r.BodyRead && hasContent(r) {
			return ErrBodyNeeded // SHA-512 is not streamed
		}
	}
	if in.hasExpires && in.hasCreated && in.expires < in.created {
		return errOldExpires
	}
	if in.hasCreated {
		dst.Time = time.Unix(in.created, 0)
	}
	dst.Nonce = in.nonce
	dst.Method = in.alg
	return nil
}

// rfc9421Covers reads a list and refuses repeated components.
func rfc9421Covers(list string) (covered, error) {
	var all covered
	var seen []string
	for {
		c, rest, ok, err := nextComponent(list)
		if err != nil {
			return 0, err
		}
		if !ok {
			return all, nil
		}
		if len(seen) == maxComponents || slices.Contains(seen, c.text) {
			return 0, errRepeated
		}
		seen = append(seen, c.text)
		if c.param == "" {
			all |= bit(c.name)
		}
		list = rest
	}
}

func (rfc9421Scheme) verify(c *Claim, r *Request, k *Key, opt Options) error {
	h := &c.state.header
	if !opt.Bare {
		need := coversMethod | coversAuthority
		if h.covered&coversTarget == 0 {
			need |= coversPath | coversQuery
		}
		if hasContent(r) {
			need |= coversDigest
		}
		if len(r.Header["Authorization"]) > 0 {
			need |= coversAuthorization // it may say who the merchant is
		}
		if h.covered&need != need {
			return errUncovered
		}
		if c.Time.IsZero() {
			return errNoCreated
		}
	}
	if err := h.checkAge(opt); err != nil {
		return err
	}
	if err := verifyHeader(c, r, k, false, true); err != nil {
		return err
	}
	return h.checkEmpty(r)
}

// replayID is the nonce, or the signature where the client sends no nonce.
func (rfc9421Scheme) replayID(dst []byte, c *Claim, _ *Request) []byte {
	if c.Nonce != "" {
		return append(append(dst, "r:"...), c.Nonce...)
	}
	s := getScratch()
	defer s.put()
	signature, err := s.decodeSignature(c.state.header.signature)
	if err != nil {
		return dst // such a call was refused
	}
	return append(dst, signature...)
}

func (rfc9421Scheme) sign(r *Request, cred Credentials, now time.Time, nonce string) (*Signed, error) {
	return signHeader(profile{label: "sig1", alg: true}, r, cred, now, nonce)
}

func (rfc9421Scheme) strip(_ *Claim, r *Request) (header []string, rawQuery string, body []byte) {
	return signatureHeaders, r.RawQuery, nil
}
