package signing

import (
	"fmt"
	"slices"
	"strings"
)

// maxParams bounds how many parameters a call may have, query and body
// together, so that sorting them stays cheap.
const maxParams = 1000

// param is one decoded parameter.
type param struct {
	name, value string
}

// paramState is what a dialect with parameters remembers between claim and
// verify.
type paramState struct {
	digest    *digest
	signature []byte  // decoded
	params    []param // sorted by name, each name once, without the signature
	prefix    string  // the part of the path that is signed; empty for none
	raw       []byte  // the body, where it is signed as its bytes are
}

// index is the place of a parameter in p.params.
func (p *paramState) index(name string) (int, bool) {
	return slices.BinarySearchFunc(p.params, name, func(q param, name string) int {
		return strings.Compare(q.name, name)
	})
}

func (p *paramState) has(name string) bool {
	_, ok := p.index(name)
	return ok
}

// get returns the value of a parameter; "" when it is absent.
func (p *paramState) get(name string) string {
	if i, ok := p.index(name); ok {
		return p.params[i].value
	}
	return ""
}

// take removes a parameter and returns its value; "" when it is absent.
func (p *paramState) take(name string) string {
	i, ok := p.index(name)
	if !ok {
		return ""
	}
	value := p.params[i].value
	p.params = slices.Delete(p.params, i, i+1)
	return value
}

// put adds a parameter that is not there yet.
func (p *paramState) put(name, value string) {
	i, _ := p.index(name)
	p.params = slices.Insert(p.params, i, param{name, value})
}

// order sorts the parameters by the bytes of their names. A name that occurs
// twice is refused, be it in the query, in the body or once in each: signer,
// gate and upstream could each take another one for the value.
func (p *paramState) order() error {
	slices.SortFunc(p.params, func(a, b param) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(p.params); i++ {
		if p.params[i].name == p.params[i-1].name {
			return fmt.Errorf("%w: parameter %.40q occurs twice: send each name once, in the query or in the body",
				ErrMalformed, p.params[i].name)
		}
	}
	return nil
}

// readPairs appends the parameters of a query or a form body.
func (p *paramState) readPairs(pairs string) error {
	for pair := range strings.SplitSeq(pairs, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := unescape(rawName)
		if err != nil {
			return err
		}
		if name == "" {
			return fmt.Errorf("%w: a parameter has no name", ErrMalformed)
		}
		value, err := unescape(rawValue)
		if err != nil {
			return fmt.Errorf("%w of parameter %.40q", err, name)
		}
		if err := p.read(name, value); err != nil {
			return err
		}
	}
	return nil
}

// readJSON appends the members of a JSON body, as the text that dewu signs.
func (p *paramState) readJSON(body string) error {
	members, err := scanMembers(body)
	if err != nil {
		return err
	}
	for _, m := range members {
		if err := p.read(m.name, m.text(body)); err != nil {
			return err
		}
	}
	return nil
}

func (p *paramState) read(name, value string) error {
	if len(p.params) == maxParams {
		return fmt.Errorf("%w: more than %d parameters", ErrMalformed, maxParams)
	}
	p.params = append(p.params, param{name, value})
	return nil
}

// unescape decodes application/x-www-form-urlencoded text. Escapes may give
// any bytes: what is no UTF-8 stays as it is.
func unescape(raw string) (string, error) {
	if strings.IndexByte(raw, '%') < 0 && strings.IndexByte(raw, '+') < 0 {
		return raw, nil
	}
	decoded := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '+':
			decoded = append(decoded, ' ')
		case '%':
			if i+2 >= len(raw) || unhex(raw[i+1]) < 0 || unhex(raw[i+2]) < 0 {
				return "", fmt.Errorf("%w: %% without two hex digits in the text", ErrMalformed)
			}
			decoded = append(decoded, byte(unhex(raw[i+1])<<4|unhex(raw[i+2])))
			i += 2
		default:
			decoded = append(decoded, raw[i])
		}
	}
	return string(decoded), nil
}

// unhex is the value of a hex digit, or -1.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	default:
		return -1
	}
}

// peek looks for single parameters in the raw text, to tell dialects apart at
// little cost. It finds the names as every client writes them, not escaped.
type peek struct {
	query, form string
}

func (p peek) raw(name string) (string, bool) {
	for _, pairs := range [...]string{p.query, p.form} {
		for pair := range strings.SplitSeq(pairs, "&") {
			if rest, ok := strings.CutPrefix(pair, name); ok {
				if value, ok := strings.CutPrefix(rest, "="); ok {
					return value, true
				}
			}
		}
	}
	return "", false
}

func (p peek) has(name string) bool {
	_, ok := p.raw(name)
	return ok
}

func (p peek) is(name, value string) bool {
	raw, _ := p.raw(name)
	return raw == value
}

// digits tells whether a parameter is a plain number.
func (p peek) digits(name string) bool {
	raw, _ := p.raw(name)
	return allDigits(raw)
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// dated tells whether a parameter begins with a date: 2006-01-02.
func (p peek) dated(name string) bool {
	raw, _ := p.raw(name)
	return len(raw) >= 10 && allDigits(raw[:4]) && raw[4] == '-'
}

// zoned tells whether a parameter is a date with milliseconds: 19 characters,
// escaped or not, come before them.
func (p peek) zoned(name string) bool {
	raw, _ := p.raw(name)
	return p.dated(name) && strings.IndexByte(raw, '.') > 0
}
