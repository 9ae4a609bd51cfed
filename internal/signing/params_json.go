package signing

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth bounds the nesting of a JSON body.
const maxJSONDepth = 64

// jsonMember is a member of the outermost object: places in the text.
type jsonMember struct {
	name            string // decoded
	start           int    // the name's opening quote
	valueStart, end int    // the value
}

// scanMembers checks a JSON text (RFC 8259) and returns the members of its
// outermost object in their order. Beyond the grammar it refuses duplicate
// names at every level, text that is no UTF-8, lone surrogates and deep nests:
// parsers disagree about what those mean.
func scanMembers(text string) ([]jsonMember, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("%w: JSON body: it is not UTF-8", ErrMalformed)
	}
	s := jsonScanner{text: text}
	s.space()
	if s.peek() != '{' {
		return nil, s.fail("an object is expected")
	}
	members, err := s.object(true)
	if err != nil {
		return nil, err
	}
	s.space()
	if s.pos != len(text) {
		return nil, s.fail("text after the object")
	}
	return members, nil
}

// jsonScanner walks a JSON text. Numbers stay text, nothing is converted.
type jsonScanner struct {
	text  string
	pos   int
	depth int
	names []string // of the objects that are open, the outermost first
}

func (s *jsonScanner) fail(what string) error {
	return fmt.Errorf("%w: JSON body: byte %d: %s", ErrMalformed, s.pos, what)
}

// peek is the next byte, or 0 at the end.
func (s *jsonScanner) peek() byte {
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

func (s *jsonScanner) space() {
	for s.pos < len(s.text) && strings.IndexByte(" \t\n\r", s.text[s.pos]) >= 0 {
		s.pos++
	}
}

// next skips the byte c and tells whether it was there.
func (s *jsonScanner) next(c byte) bool {
	s.space()
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

// value skips one value.
func (s *jsonScanner) value() error {
	s.space()
	switch c := s.peek(); {
	case c == '{':
		_, err := s.object(false)
		return err
	case c == '[':
		return s.array(nil)
	case c == '"':
		_, err := s.str()
		return err
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	default:
		for _, word := range [...]string{"true", "false", "null"} {
			if strings.HasPrefix(s.text[s.pos:], word) {
				s.pos += len(word)
				return nil
			}
		}
		return s.fail("a value is expected")
	}
}

func (s *jsonScanner) enter() error {
	s.pos++
	if s.depth++; s.depth > maxJSONDepth {
		return s.fail(fmt.Sprintf("nested deeper than %d", maxJSONDepth))
	}
	return nil
}

// object skips an object; it returns the members when they are wanted.
func (s *jsonScanner) object(wanted bool) ([]jsonMember, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	var members []jsonMember
	base := len(s.names)
	for first := true; !s.next('}'); first = false {
		if !first && !s.next(',') {
			return nil, s.fail("a comma or } is expected")
		}
		s.space()
		m := jsonMember{start: s.pos}
		var err error
		if m.name, err = s.str(); err != nil {
			return nil, err
		}
		if !s.next(':') {
			return nil, s.fail("a colon is expected")
		}
		s.space()
		m.valueStart = s.pos
		if err := s.value(); err != nil {
			return nil, err
		}
		m.end = s.pos
		s.names = append(s.names, m.name)
		if wanted {
			members = append(members, m)
		}
	}
	names := s.names[base:]
	slices.Sort(names)
	for i := 1; i < len(names); i++ {
		if names[i] == names[i-1] {
			return nil, s.fail(fmt.Sprintf("the object has two members named %.40q", names[i]))
		}
	}
	s.names = s.names[:base]
	s.depth--
	return members, nil
}

// array skips an array and calls each with the places of its elements.
func (s *jsonScanner) array(each func(start, end int)) error {
	if err := s.enter(); err != nil {
		return err
	}
	for first := true; !s.next(']'); first = false {
		if !first && !s.next(',') {
			return s.fail("a comma or ] is expected")
		}
		s.space()
		start := s.pos
		if err := s.value(); err != nil {
			return err
		}
		if each != nil {
			each(start, s.pos)
		}
	}
	s.depth--
	return nil
}

// number skips a number.
func (s *jsonScanner) number() error {
	digits := func() bool {
		start := s.pos
		for '0' <= s.peek() && s.peek() <= '9' {
			s.pos++
		}
		return s.pos > start
	}
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if !digits() {
		return s.fail("a digit is expected")
	}
	if s.peek() == '.' {
		s.pos++
		if !digits() {
			return s.fail("a digit is expected")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !digits() {
			return s.fail("a digit is expected")
		}
	}
	return nil
}

// str reads a string and returns it decoded.
func (s *jsonScanner) str() (string, error) {
	if s.peek() != '"' {
		return "", s.fail("a string is expected")
	}
	s.pos++
	start := s.pos
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; {
		case c == '"':
			s.pos++
			return s.text[start : s.pos-1], nil
		case c == '\\':
			return s.escaped(start)
		case c < ' ':
			return "", s.fail("a control character in a string")
		default:
			s.pos++
		}
	}
	return "", s.fail("the text ends inside a string")
}

// escaped reads the rest of a string that has escapes and began at start.
func (s *jsonScanner) escaped(start int) (string, error) {
	decoded := append([]byte(nil), s.text[start:s.pos]...)
	for s.pos < len(s.text) {
		c := s.text[s.pos]
		switch {
		case c == '"':
			s.pos++
			return string(decoded), nil
		case c < ' ':
			return "", s.fail("a control character in a string")
		case c != '\\':
			decoded = append(decoded, c)
			s.pos++
			continue
		}
		s.pos++
		c = s.peek()
		if c == 'u' {
			char, err := s.unicode()
			if err != nil {
				return "", err
			}
			decoded = utf8.AppendRune(decoded, char)
			continue
		}
		i := strings.IndexByte(`"\/bfnrt`, c)
		if c == 0 || i < 0 {
			return "", s.fail("an unknown escape in a string")
		}
		decoded = append(decoded, "\"\\/\b\f\n\r\t"[i])
		s.pos++
	}
	return "", s.fail("the text ends inside a string")
}

// unicode reads the u and four hex digits of an escape, or a surrogate pair.
func (s *jsonScanner) unicode() (rune, error) {
	char, ok := s.unit()
	if ok && utf16.IsSurrogate(char) {
		if ok = strings.HasPrefix(s.text[s.pos:], `\u`); ok {
			s.pos++
			var low rune
			low, ok = s.unit()
			char = utf16.DecodeRune(char, low)
			ok = ok && char != utf8.RuneError
		}
	}
	if !ok {
		return 0, s.fail("a bad \\u escape in a string")
	}
	return char, nil
}

// unit reads the u and four hex digits.
func (s *jsonScanner) unit() (rune, bool) {
	if len(s.text)-s.pos < 5 {
		return 0, false
	}
	var unit rune
	for _, c := range []byte(s.text[s.pos+1 : s.pos+5]) {
		digit := unhex(c)
		if digit < 0 {
			return 0, false
		}
		unit = unit<<4 | rune(digit)
	}
	s.pos += 5
	return unit, true
}
