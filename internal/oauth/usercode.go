package oauth

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// A user code is eight of twenty letters: 34 bits, which is enough for what
// lives ten minutes and is guessed slowly. Without vowels it spells no words
// (RFC 8628 section 6.1).
const (
	userCodeAlphabet = "BCDFGHJKLMNPQRSTVWXZ"
	userCodeLength   = 8
	// maxTypedCode bounds what somebody types, in bytes.
	maxTypedCode = 64
)

// newUserCode returns a random code, without its dash.
func (s *Server) newUserCode() (string, error) {
	const letters = len(userCodeAlphabet)
	code, b := make([]byte, 0, userCodeLength), make([]byte, 1)
	for len(code) < userCodeLength {
		if _, err := io.ReadFull(s.Rand, b); err != nil {
			return "", fmt.Errorf("reading random bytes: %w", err)
		}
		if n := int(b[0]); n < 256/letters*letters { // else some letters came more often
			code = append(code, userCodeAlphabet[n%letters])
		}
	}
	return string(code), nil
}

// formatUserCode is a code as people read it: WDJB-MJHT.
func formatUserCode(code string) string {
	return code[:userCodeLength/2] + "-" + code[userCodeLength/2:]
}

// parseUserCode reads what somebody typed: in any case, with or without dash and
// spaces, also in the wide letters of Chinese keyboards. ok is false for what
// cannot be a code.
func parseUserCode(typed string) (code string, ok bool) {
	if len(typed) > maxTypedCode {
		return "", false
	}
	code = strings.Map(func(c rune) rune {
		if c > 0xFF00 && c < 0xFF5F { // full-width forms of ASCII
			c -= 0xFEE0
		}
		if unicode.IsLetter(c) || unicode.IsDigit(c) {
			return unicode.ToUpper(c)
		}
		return -1
	}, typed)
	return code, len(code) == userCodeLength && strings.Trim(code, userCodeAlphabet) == ""
}
