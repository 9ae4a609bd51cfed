package signing

import (
	"fmt"
	"strings"
)

// joinJavaEncoded is dewu's: name=value joined by &, both encoded as Java's
// URLEncoder does.
func joinJavaEncoded(dst []byte, p *paramState, _ bool) []byte {
	for i, q := range p.params {
		if i > 0 {
			dst = append(dst, '&')
		}
		dst = appendJavaEncoded(dst, q.name)
		dst = append(dst, '=')
		dst = appendJavaEncoded(dst, q.value)
	}
	return dst
}

// appendJavaEncoded appends text as java.net.URLEncoder writes it: space as +,
// the letters, digits and . - * _ as they are, every other byte escaped.
func appendJavaEncoded(dst []byte, text string) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range []byte(text) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '*', c == '_':
			dst = append(dst, c)
		case c == ' ':
			dst = append(dst, '+')
		default:
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		}
	}
	return dst
}

// text is the member's value as dewu's signer writes it: strings decoded, the
// elements of an array joined by commas, all else compact.
func (m jsonMember) text(body string) string {
	value := body[m.valueStart:m.end]
	if value[0] != '[' {
		return string(appendElement(nil, value))
	}
	var joined []byte
	first := true
	s := jsonScanner{text: value}
	// The text was checked by scanMembers: it cannot fail any more.
	_ = s.array(func(start, end int) {
		if !first {
			joined = append(joined, ',')
		}
		first = false
		joined = appendElement(joined, value[start:end])
	})
	return string(joined)
}

// appendElement appends a string decoded, another value compact.
func appendElement(dst []byte, value string) []byte {
	if value[0] != '"' {
		return appendCompact(dst, value)
	}
	s := jsonScanner{text: value}
	decoded, _ := s.str()
	return append(dst, decoded...)
}

// appendCompact appends a value without the space between its tokens and with
// its strings escaped as Jackson does; the order of members and the text of
// numbers stay.
func appendCompact(dst []byte, value string) []byte {
	s := jsonScanner{text: value}
	for s.space(); s.pos < len(value); s.space() {
		if value[s.pos] == '"' {
			decoded, _ := s.str()
			dst = appendQuoted(dst, decoded)
			continue
		}
		dst = append(dst, value[s.pos])
		s.pos++
	}
	return dst
}

// appendQuoted appends a JSON string with the fewest escapes.
func appendQuoted(dst []byte, text string) []byte {
	dst = append(dst, '"')
	for _, c := range []byte(text) {
		switch i := strings.IndexByte("\"\\\b\f\n\r\t", c); {
		case i >= 0:
			dst = append(dst, '\\', `"\bfnrt`[i])
		case c < ' ':
			dst = fmt.Appendf(dst, `\u%04X`, c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
