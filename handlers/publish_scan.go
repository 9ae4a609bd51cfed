package handlers

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// messageMembers are the names of what a message has.
var messageMembers = [...]string{"topic", "user", "data", "id", "key", "time"}

// checkMembers finds what encoding/json lets pass in a message: members that are
// unknown, in another case or twice, and text that is no Unicode, in which it puts
// U+FFFD. That would make different ids the same. encoding/json has read the text
// before: it is valid, a comma before the object aside, and is not checked again.
func checkMembers(text []byte) error {
	open := bytes.IndexByte(text, '{')
	if open < 0 {
		return nil // null: a message with nothing in it
	}
	text = text[open:]
	var seen [len(messageMembers)]bool
	for {
		quote := bytes.IndexByte(text, '"')
		if quote < 0 {
			return nil
		}
		text = text[quote:]
		name, after := memberName(text)
		text = text[after:]
		text = text[bytes.IndexByte(text, ':')+1:]
		value := text[:valueEnd(text)]
		text = text[len(value):]
		i := slices.Index(messageMembers[:], name)
		switch {
		case i < 0:
			return &platform.FieldError{Field: cmp.Or(name, `""`), Problem: "unknown field", Want: strings.Join(messageMembers[:], ", ")}
		case seen[i]:
			return &platform.FieldError{Field: name, Problem: "given more than once", Want: "one value"}
		case name != "data" && !utf8.Valid(value):
			return &platform.FieldError{Field: name, Problem: "it is not UTF-8", Want: "text in UTF-8"}
		case name != "data" && loneSurrogate(value):
			return &platform.FieldError{Field: name, Problem: `it has half of a pair of \u escapes (\ud800 to \udfff)`, Want: "both halves, or the character itself"}
		}
		seen[i] = true
	}
}

// memberName decodes the string that text begins with and tells where it ends. The
// names of a message, as everybody writes them, cost nothing.
func memberName(text []byte) (name string, end int) {
	end = stringEnd(text)
	for _, known := range messageMembers {
		if string(text[1:end-1]) == known {
			return known, end
		}
	}
	var decoded string
	_ = json.Unmarshal(text[:end], &decoded) // was read before: cannot fail
	return decoded, end
}

// valueEnd is the index of the comma or the brace behind the value that text begins
// with.
func valueEnd(text []byte) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i += stringEnd(text[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return len(text)
}

// stringEnd is the length of the JSON string that text begins with, quotes included.
func stringEnd(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// loneSurrogate tells whether a JSON string has an escape that stands for no
// character.
func loneSurrogate(text []byte) bool {
	if !bytes.Contains(text, []byte(`\u`)) {
		return false
	}
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return false
		}
		text = text[i:]
		switch high, low := surrogate(text); {
		case high:
			if _, low = surrogate(text[len(`\ud83d`):]); !low {
				return true
			}
			text = text[len(`\ud83d\ude00`):]
		case low:
			return true
		default:
			text = text[len(`\n`):]
		}
	}
}

// surrogate tells whether text begins with an escape for half of a pair, and which.
func surrogate(text []byte) (high, low bool) {
	if len(text) < len(`\ud83d`) || text[0] != '\\' || text[1] != 'u' || text[2]|0x20 != 'd' {
		return false, false
	}
	switch digit := text[3] | 0x20; digit {
	case '8', '9', 'a', 'b':
		return true, false
	default:
		return false, digit >= 'c'
	}
}
