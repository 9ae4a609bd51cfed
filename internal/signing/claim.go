package signing

import (
	"errors"
	"fmt"
	"time"
)

// clockMargin is added to a replay's window: the nodes of a platform do not
// share one clock.
const clockMargin = 10 * time.Second

// claimState is what a scheme keeps between claim and verify.
type claimState struct {
	scheme scheme
	// header is what op1 and rfc9421 read.
	header headerState
	// params is what the dialects with parameters read.
	params *paramState
}

// Refusals that tell nothing about a key; made once, a flood of bad calls
// allocates nothing for them.
var (
	errNoClaim   = fmt.Errorf("%w: nothing was claimed", ErrMissing)
	errNoKey     = fmt.Errorf("%w: the app has no key of this number and dialect", ErrInvalid)
	errMismatch  = fmt.Errorf("%w: it matches none of the app's keys", ErrInvalid)
	errMethod    = fmt.Errorf("%w: the call asks for another method than the app's key has", ErrMethod)
	errTimestamp = fmt.Errorf("%w: the signing time is too far from the clock of the platform", ErrTimestamp)
)

// Verify checks the time of c, then its signature against each of keys that
// can serve it: the key number, the dialect and the method must fit. It returns
// the index of the key that matched, or -1 and an error that wraps one of
// [ErrTimestamp], [ErrInvalid], [ErrMethod], [ErrMalformed], [ErrDigest] and
// [ErrMissing]. A body that was not read is not covered by the result: see
// [Claim.CheckBody] and [Claim.Digest].
func (c *Claim) Verify(r *Request, keys []*Key, opt Options) (int, error) {
	s := c.state.scheme
	if s == nil {
		return -1, errNoClaim
	}
	if !c.Time.IsZero() {
		if d := opt.Now.Sub(c.Time).Abs(); d > reach(s, opt) {
			return -1, errTimestamp
		}
	}
	refusal, tried := errNoKey, false
	for i, k := range keys {
		if c.KeyNumber != 0 && c.KeyNumber != k.Number || !k.fits(s) {
			continue
		}
		if c.Method != "" && !k.serves(c.Method) {
			if !tried {
				refusal = errMethod
			}
			continue
		}
		err := s.verify(c, r, k, opt)
		if err == nil {
			return i, nil
		}
		if errors.Is(err, ErrMalformed) {
			return -1, err // which no other key makes good
		}
		refusal, tried = err, true
	}
	return -1, refusal
}

// InParameters tells whether the dialect says everything in parameters, the access
// token among it, and signs no headers.
func (c *Claim) InParameters() bool {
	_, ok := c.state.scheme.(*paramScheme)
	return ok
}

// ReplayID appends to dst what must be unique among the app's calls within
// [Claim.Window]: the nonce for op1 and rfc9421, else the decoded signature,
// with a hash of what the dialect leaves unsigned and makes another call.
func (c *Claim) ReplayID(dst []byte, r *Request) []byte {
	if c.state.scheme == nil {
		return dst
	}
	return c.state.scheme.replayID(dst, c, r)
}

// Window is how long a replay of c must be remembered, counted from c.Time, or
// from now where the call carries no time.
func (c *Claim) Window(opt Options) time.Duration {
	if c.state.scheme == nil {
		return 0
	}
	return reach(c.state.scheme, opt) + clockMargin
}

// reach is how far a signing time may lie from now.
func reach(s scheme, opt Options) time.Duration {
	if opt.Skew > 0 {
		return opt.Skew
	}
	return s.window()
}

// Strip tells what must not reach the upstream: the names of the headers to
// delete, and the raw query and the body without signature, access token and
// secret parameters. All other bytes stay as they were. The body is nil when
// it is unchanged. The caller must not change header.
func Strip(c *Claim, r *Request) (header []string, rawQuery string, body []byte) {
	if c.state.scheme == nil {
		return nil, r.RawQuery, nil
	}
	return c.state.scheme.strip(c, r)
}
