package signing

import "time"

// scheme is one family of dialects. op1Scheme and rfc9421Scheme read headers;
// paramScheme, one row of a table, reads parameters.
type scheme interface {
	name() string
	// methods are the digest algorithms, the default first.
	methods() []string
	// optIn tells whether an app must be allowed this method explicitly.
	optIn(method string) bool
	// window is how far the signing time may lie from now.
	window() time.Duration
	// carried tells by its markers whether r is of this scheme. It may return
	// ErrBodyNeeded when only the body can tell.
	carried(r *Request) (bool, error)
	// claim fills dst. It may return ErrBodyNeeded.
	claim(dst *Claim, r *Request) error
	// verify checks the signature of c against one key, time aside.
	verify(c *Claim, r *Request, k *Key, opt Options) error
	// replayID appends what must be unique within the window.
	replayID(dst []byte, c *Claim, r *Request) []byte
	// sign makes the signature.
	sign(r *Request, cred Credentials, now time.Time, nonce string) (*Signed, error)
	// strip tells what must not be forwarded.
	strip(c *Claim, r *Request) (header []string, rawQuery string, body []byte)
}
