package signing

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// schemes are all dialects in canonical order: the order in which a call that
// could be of several is tried.
var schemes = registry()

func registry() []scheme {
	all := []scheme{op1Scheme{}}
	all = append(all, paramSchemes()...)
	return append(all, rfc9421Scheme{})
}

// Names returns all dialects in canonical order, "op1" first.
func Names() []string {
	names := make([]string, len(schemes))
	for i, s := range schemes {
		names[i] = s.name()
	}
	return names
}

// Known tells whether there is a dialect of this name.
func Known(name string) bool { return lookup(name) != nil }

// Methods returns the digest algorithms of a dialect, the one that an absent
// method means first; nil for an unknown dialect.
func Methods(dialect string) []string {
	s := lookup(dialect)
	if s == nil {
		return nil
	}
	return slices.Clone(s.methods())
}

// OptIn tells whether a method of a dialect is so weak (it rests on MD5) that
// it must be allowed explicitly for each app.
func OptIn(name, method string) bool {
	s := lookup(name)
	return s != nil && s.optIn(method)
}

func lookup(name string) scheme {
	for _, s := range schemes {
		if s.name() == name {
			return s
		}
	}
	return nil
}

func unknown(dialect string) error {
	return fmt.Errorf("unknown dialect %q: write one of %s", dialect, strings.Join(Names(), ", "))
}

// Set is an ordered selection of dialects. It is immutable.
type Set struct {
	schemes []scheme
	missing error
}

// NewSet selects dialects. Their order matters where a call could be of
// several: the first one is taken. Unknown and repeated names are errors.
func NewSet(names ...string) (*Set, error) {
	if len(names) == 0 {
		return nil, fmt.Errorf("no dialect selected: write one or more of %s", strings.Join(Names(), ", "))
	}
	s := &Set{
		schemes: make([]scheme, 0, len(names)),
		missing: fmt.Errorf("%w: expected one of %s", ErrMissing, strings.Join(names, ", ")),
	}
	for i, name := range names {
		found := lookup(name)
		if found == nil {
			return nil, unknown(name)
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("dialect %q is named twice: name it once", name)
		}
		s.schemes = append(s.schemes, found)
	}
	return s, nil
}

// Claim fills dst with what r says about itself, read by the first dialect of
// s whose markers r carries; while the body is unread, one that it could still
// be of comes after those that headers and query tell. Errors wrap [ErrMissing],
// [ErrMalformed], [ErrTimestamp] or [ErrBodyNeeded]; after the last one the
// caller reads the body and asks again.
func (s *Set) Claim(dst *Claim, r *Request) error {
	*dst = Claim{}
	var needed error
	for _, candidate := range s.schemes {
		ok, err := candidate.carried(r)
		if err != nil {
			needed = err
		}
		if !ok {
			continue
		}
		dst.Dialect = candidate.name()
		dst.state.scheme = candidate
		if err := candidate.claim(dst, r); err != nil {
			dst.state = claimState{}
			return err
		}
		return nil
	}
	if needed != nil {
		return needed
	}
	return s.unmarked(r)
}

// unmarked says what a call lacks that is of none of the dialects, and of which
// one it looks to be.
func (s *Set) unmarked(r *Request) error {
	for _, candidate := range s.schemes {
		if p, ok := candidate.(*paramScheme); ok {
			if carried, _, err := p.carries(r); err == nil && carried {
				return fmt.Errorf("%w: it has %s and %s, and is no call of %s without: %s", ErrMalformed, p.keyParam, p.signParam, p.id, p.mark)
			}
		}
	}
	for _, candidate := range s.schemes {
		var err error
		switch candidate := candidate.(type) {
		case op1Scheme:
			err = s.untagged(r)
		case *paramScheme:
			err = s.unread(r, candidate.body, candidate.id)
		}
		if err != nil {
			return err
		}
	}
	return s.missing
}

// untagged says what is wrong with a Signature-Input that is none of op1's.
func (s *Set) untagged(r *Request) error {
	var in input
	rest := strings.Join(r.Header[headerInput], ", ")
	if rest == "" {
		return nil
	}
	for rest != "" {
		var err error
		if rest, err = nextInput(rest, &in); err != nil {
			return err
		}
	}
	return fmt.Errorf(`%w; its Signature-Input has no tag="op1", which makes a signature one of op1`, s.missing)
}

// unread says why a body was not looked into for the parameters of a dialect.
func (s *Set) unread(r *Request, rule bodyRule, dialect string) error {
	kind, types := rule.kind(r), "application/x-www-form-urlencoded"
	if kind == bodyAbsent || rule == bodyWhole || rule == bodyUnsigned {
		return nil
	}
	if rule == bodyFormOrJSON {
		types = "application/json or " + types
	}
	var came string
	switch coding := coded(r); {
	case coding != "":
		came = fmt.Sprintf("Content-Encoding %.40q", coding)
	case kind == bodyOpaque:
		came = fmt.Sprintf("Content-Type %.40q", mediaType(r))
	default:
		return nil
	}
	return fmt.Errorf("%w; a body with the parameters of %s must be %s without Content-Encoding, not %s", s.missing, dialect, types, came)
}

// Candidates returns every dialect of s whose markers r carries, in the order
// of s. A dialect that only an unread body could tell is left out.
func (s *Set) Candidates(r *Request) []string {
	var names []string
	for _, candidate := range s.schemes {
		if ok, err := candidate.carried(r); err == nil && ok {
			names = append(names, candidate.name())
		}
	}
	return names
}

// Sign signs r at the time now. It does not change r; headers and parameters
// that the dialect requires are filled in where they are absent. The nonce is
// for op1 (16 to 64 of A-Za-z0-9_-) and rfc9421; the other dialects have none.
func Sign(dialect string, r *Request, c Credentials, now time.Time, nonce string) (*Signed, error) {
	s := lookup(dialect)
	switch {
	case s == nil:
		return nil, unknown(dialect)
	case c.AppKey == "":
		return nil, errors.New("signing: no app key given")
	case c.Key == nil:
		return nil, errors.New("signing: no key given")
	case !c.Key.fits(s):
		return nil, fmt.Errorf("signing: the key was not made for dialect %q", dialect)
	}
	signed, err := s.sign(r, c, now, nonce)
	if err != nil {
		return nil, fmt.Errorf("signing for %s: %w", dialect, err)
	}
	return signed, nil
}
