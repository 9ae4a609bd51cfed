package signing

import (
	"fmt"
	"strings"
)

// bodyRule says what a body means to a dialect.
type bodyRule int

const (
	// bodyForm: parameters in a form body. A body of another type would be
	// forwarded unsigned, so it is refused.
	bodyForm bodyRule = iota
	// bodyFormOrRaw: parameters in a form body; a body of another type is
	// signed as its bytes are.
	bodyFormOrRaw
	// bodyFormOrJSON: parameters in a form body or in a JSON object.
	bodyFormOrJSON
	// bodyWhole: every body is signed as its bytes are.
	bodyWhole
	// bodyUnsigned: no body is signed.
	bodyUnsigned
)

// bodyKind is how a dialect reads the body of one call.
type bodyKind int

const (
	bodyAbsent  bodyKind = iota
	bodyOpaque           // no parameters in it
	bodyPairs            // a form
	bodyMembers          // a JSON object
)

// kind tells how a dialect with this rule reads the body of r.
func (b bodyRule) kind(r *Request) bodyKind {
	if !hasBody(r) {
		return bodyAbsent
	}
	if b == bodyWhole || b == bodyUnsigned {
		return bodyOpaque
	}
	switch media := mediaType(r); {
	case media == "application/x-www-form-urlencoded":
		return bodyPairs
	case b == bodyFormOrJSON && (media == "application/json" || strings.HasSuffix(media, "+json")):
		return bodyMembers
	default:
		return bodyOpaque
	}
}

// mediaType is the Content-Type without its parameters.
func mediaType(r *Request) string {
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// coded is a Content-Encoding that hides what the body is; empty for none.
func coded(r *Request) string {
	for _, coding := range r.Header["Content-Encoding"] {
		if coding != "" && !strings.EqualFold(strings.TrimSpace(coding), "identity") {
			return coding
		}
	}
	return ""
}

func hasBody(r *Request) bool {
	if r.BodyRead {
		return len(r.Body) > 0
	}
	return r.ContentLength != 0
}

// checkBody refuses bodies that s cannot sign or read for sure.
func (s *paramScheme) checkBody(r *Request, kind bodyKind) error {
	if kind == bodyAbsent || s.body == bodyUnsigned {
		return nil
	}
	if len(r.Header["Content-Type"]) > 1 {
		return fmt.Errorf("%w: several Content-Type headers", ErrMalformed)
	}
	if kind == bodyOpaque {
		switch s.body {
		case bodyForm:
			return fmt.Errorf("%w: %s signs no body of this Content-Type: send the parameters as application/x-www-form-urlencoded",
				ErrMalformed, s.id)
		case bodyFormOrJSON:
			return fmt.Errorf("%w: %s signs no body of this Content-Type: send application/json or application/x-www-form-urlencoded",
				ErrMalformed, s.id)
		}
		return nil
	}
	if coded(r) != "" {
		return fmt.Errorf("%w: a body with parameters must come without Content-Encoding", ErrMalformed)
	}
	return nil
}

// parse reads all parameters of r, the signature among them.
func (s *paramScheme) parse(r *Request) (*paramState, bodyKind, error) {
	kind := s.body.kind(r)
	if err := s.checkBody(r, kind); err != nil {
		return nil, kind, err
	}
	pairs := 1 + strings.Count(r.RawQuery, "&")
	if kind != bodyAbsent {
		pairs += 16
	}
	p := &paramState{params: make([]param, 0, min(pairs, maxParams))}
	if err := p.readPairs(r.RawQuery); err != nil {
		return nil, kind, err
	}
	var err error
	switch kind {
	case bodyPairs:
		err = p.readPairs(string(r.Body))
	case bodyMembers:
		err = p.readJSON(string(r.Body))
	case bodyOpaque:
		if s.body != bodyUnsigned {
			p.raw = r.Body
		}
	}
	if err != nil {
		return nil, kind, err
	}
	return p, kind, p.order()
}
