package signing

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// op1Tag marks a signature of op1; the label is the client's choice.
const op1Tag = "op1"

// The reach of a signing time for op1 and rfc9421.
const headerWindow = 300 * time.Second

const op1Required = coversMethod | coversAuthority | coversPath | coversQuery

var (
	errOp1Several = malformed("op1 takes one Signature-Input and one Signature header, with one signature of tag op1")
	errOp1List    = malformed(`op1 covers each once of "@method" "@authority" "@path" "@query" "content-digest" "content-type" "authorization" and nothing else`)
	errOp1Params  = malformed("op1 needs the parameters created, nonce and keyid")
	errOp1Nonce   = malformed("op1: the nonce must be 16 to 64 of A-Za-z0-9_-")
	errKeyID      = malformed(`keyid must be "appKey" or "appKey#n"`)

	errUnsigned = fmt.Errorf("%w: op1 must cover @method, @authority, @path and @query; content-digest when there is a body; "+
		"content-type and authorization when they are sent", ErrInvalid)
)

// op1Scheme is our profile of RFC 9421: nothing in it is optional that could
// be left out by mistake.
type op1Scheme struct{}

var op1Methods = []string{algHMAC, algEd25519, algRSA}

func (op1Scheme) name() string          { return "op1" }
func (op1Scheme) methods() []string     { return op1Methods }
func (op1Scheme) optIn(string) bool     { return false }
func (op1Scheme) window() time.Duration { return headerWindow }

func (op1Scheme) carried(r *Request) (bool, error) {
	for _, v := range r.Header[headerInput] {
		if strings.Contains(v, `tag="op1"`) {
			return true, nil
		}
	}
	return false, nil
}

func (op1Scheme) claim(dst *Claim, r *Request) error {
	inputs, signatures := r.Header[headerInput], r.Header[headerSignature]
	if len(signatures) == 0 {
		return fmt.Errorf("%w: there is a Signature-Input header, but no Signature header", ErrMissing)
	}
	if len(inputs) != 1 || len(signatures) != 1 {
		return errOp1Several
	}
	var in input
	if err := selectInput(&in, inputs[0], true); err != nil {
		return err
	}
	h := &dst.state.header
	h.read(&in)
	var err error
	if h.covered, err = op1Covers(in.list); err != nil {
		return err
	}
	if !in.hasCreated || !in.hasID {
		return errOp1Params
	}
	if !nonceOK(in.nonce) {
		return errOp1Nonce
	}
	if in.hasAlg && !slices.Contains(op1Methods, in.alg) {
		return errMethod
	}
	var ok bool
	if dst.AppKey, dst.KeyNumber, ok = keyNumber(in.keyID); !ok {
		return errKeyID
	}
	if h.signature, err = signatureOf(signatures[0], in.label); err != nil {
		return err
	}
	if h.covered&coversDigest != 0 {
		if err := h.digest.readOne(r.Header[headerDigest]); err != nil {
			return err
		}
	}
	dst.Time = time.Unix(in.created, 0)
	dst.Nonce = in.nonce
	dst.Method = in.alg
	return nil
}

// op1Covers reads the list of a signature of op1.
func op1Covers(list string) (covered, error) {
	var all covered
	for {
		c, rest, ok, err := nextComponent(list)
		if err != nil {
			return 0, err
		}
		if !ok {
			return all, nil
		}
		b := bit(c.name)
		if b == 0 || b == coversTarget || c.param != "" || all&b != 0 {
			return 0, errOp1List
		}
		all |= b
		list = rest
	}
}

func nonceOK(nonce string) bool {
	if len(nonce) < 16 || len(nonce) > 64 {
		return false
	}
	for i := range len(nonce) {
		b := nonce[i]
		if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '-' {
			continue
		}
		return false
	}
	return true
}

func (op1Scheme) verify(c *Claim, r *Request, k *Key, opt Options) error {
	h := &c.state.header
	need := op1Required
	if hasContent(r) {
		need |= coversDigest
	}
	if len(r.Header["Content-Type"]) > 0 {
		need |= coversType
	}
	if len(r.Header["Authorization"]) > 0 {
		need |= coversAuthorization
	}
	if h.covered&need != need {
		return errUnsigned
	}
	if err := h.checkAge(opt); err != nil {
		return err
	}
	if err := verifyHeader(c, r, k, true, false); err != nil {
		return err
	}
	return h.checkEmpty(r)
}

// checkAge honours the parameter expires.
func (h *headerState) checkAge(opt Options) error {
	if h.hasExpires && opt.Now.Unix() > h.expires {
		return errTimestamp
	}
	return nil
}

// checkEmpty refuses a digest of something where there is no body.
func (h *headerState) checkEmpty(r *Request) error {
	if h.digest.has256 && !hasContent(r) && h.digest.sha256 != emptySHA256 {
		return errDigestBody
	}
	return nil
}

func (op1Scheme) replayID(dst []byte, c *Claim, _ *Request) []byte {
	return append(append(dst, "n:"...), c.Nonce...)
}

func (op1Scheme) sign(r *Request, cred Credentials, now time.Time, nonce string) (*Signed, error) {
	if !nonceOK(nonce) {
		return nil, errOp1Nonce
	}
	return signHeader(profile{label: "op", tag: op1Tag}, r, cred, now, nonce)
}

func (op1Scheme) strip(_ *Claim, r *Request) (header []string, rawQuery string, body []byte) {
	return signatureHeaders, r.RawQuery, nil
}
