package signing

import (
	"fmt"
	"strconv"
	"strings"
)

// malformed is a refusal for what cannot be read; what says where and why.
func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

var (
	errInput      = malformed("Signature-Input is not a dictionary of lists as RFC 9421, section 4.1, asks")
	errAmbiguous  = malformed("Signature-Input has no signature that could be meant, or several: send one")
	errSignature  = malformed("Signature is not a dictionary of byte sequences (label=:base64:)")
	errComponents = malformed(`Signature-Input: a component must read "name", lower case, one space between two`)
)

// input is one member of a Signature-Input header.
type input struct {
	label  string
	list   string // what stands between the parentheses, verbatim
	params string // the list and its parameters, verbatim: the value of @signature-params

	created, expires        int64 // Unix seconds
	nonce, alg, keyID, tag  string
	hasCreated, hasExpires  bool
	hasNonce, hasAlg, hasID bool
	hasTag                  bool
	fault                   error // why this signature cannot be used; no matter for other members
}

// nextInput reads the first member of s into in and returns what follows it.
func nextInput(s string, in *input) (rest string, err error) {
	*in = input{}
	var ok bool
	in.label, s, ok = cutLabel(s)
	if !ok || s[0] != '(' {
		return "", errInput
	}
	end := listEnd(s)
	if end < 0 {
		return "", errInput
	}
	in.list = s[1:end]
	p := s[end+1:]
	for p != "" && p[0] == ';' {
		p = strings.TrimLeft(p[1:], " ")
		n := keyLen(p)
		if n == 0 {
			return "", errInput
		}
		key, item := p[:n], ""
		if p = p[n:]; p != "" && p[0] == '=' {
			n = itemLen(p[1:])
			if n == 0 {
				return "", errInput
			}
			item, p = p[1:1+n], p[1+n:]
		}
		if !in.set(key, item) && in.fault == nil {
			in.fault = malformed("Signature-Input: the parameter " + strconv.Quote(key) + " is unknown, repeated or not of its type")
		}
	}
	in.params = s[:len(s)-len(p)]
	rest, ok = nextMember(p)
	if !ok {
		return "", errInput
	}
	return rest, nil
}

// set keeps the parameters of RFC 9421, section 2.3; it is false for others,
// repeated ones and values of another type.
func (in *input) set(key, item string) bool {
	switch key {
	case "created":
		return setInt(&in.created, &in.hasCreated, item)
	case "expires":
		return setInt(&in.expires, &in.hasExpires, item)
	case "nonce":
		return setString(&in.nonce, &in.hasNonce, item)
	case "alg":
		return setString(&in.alg, &in.hasAlg, item)
	case "keyid":
		return setString(&in.keyID, &in.hasID, item)
	case "tag":
		return setString(&in.tag, &in.hasTag, item)
	}
	return false
}

func setInt(dst *int64, has *bool, item string) bool {
	// A structured field's integer has 15 digits at most (RFC 9651, section 3.3.1).
	if *has || item == "" || len(item) > 15 {
		return false
	}
	for i := range len(item) {
		if item[i] < '0' || item[i] > '9' {
			return false
		}
		*dst = *dst*10 + int64(item[i]-'0')
	}
	*has = true
	return true
}

func setString(dst *string, has *bool, item string) bool {
	// Strings with escapes are refused: no value that we know needs one.
	if *has || len(item) < 2 || item[0] != '"' || strings.IndexByte(item, '\\') >= 0 {
		return false
	}
	*dst, *has = item[1:len(item)-1], true
	return true
}

// selectInput reads the one member of s that has the tag of op1, or the one
// that has not.
func selectInput(dst *input, s string, op1 bool) error {
	// Nearly every call carries one signature.
	if rest, err := nextInput(s, dst); err != nil || rest == "" {
		switch {
		case err != nil:
			return err
		case (dst.tag == op1Tag) != op1:
			return errAmbiguous
		}
		return dst.fault
	}
	var in input
	found := 0
	for rest := s; rest != ""; {
		var err error
		if rest, err = nextInput(rest, &in); err != nil {
			return err
		}
		if (in.tag == op1Tag) == op1 {
			*dst = in
			found++
		}
	}
	if found != 1 {
		return errAmbiguous
	}
	// A second member of the same label would replace the first (RFC 9651,
	// section 4.2.2); who reads which is not left to chance.
	labels := 0
	for rest := s; rest != ""; {
		rest, _ = nextInput(rest, &in) // it was read before
		if in.label == dst.label {
			labels++
		}
	}
	if labels != 1 {
		return errAmbiguous
	}
	return dst.fault
}

// component is one entry of the list.
type component struct {
	text  string // verbatim
	name  string
	param string // what follows the first ";"; empty for none
}

// nextComponent reads the first component of list. At the end of the list,
// ok is false and err is nil.
func nextComponent(list string) (c component, rest string, ok bool, err error) {
	list = strings.TrimLeft(list, " ")
	if list == "" {
		return component{}, "", false, nil
	}
	n := 0
	if list[0] == '"' {
		n = stringLen(list)
	}
	if n < 3 {
		return component{}, "", false, errComponents
	}
	c.name = list[1 : n-1]
	if !token(strings.TrimPrefix(c.name, "@")) {
		return component{}, "", false, errComponents
	}
	start := n
	for n < len(list) && list[n] != ' ' {
		if list[n] == '"' {
			if m := stringLen(list[n:]); m > 0 {
				n += m
				continue
			}
			return component{}, "", false, errComponents
		}
		n++
	}
	if n > start {
		if list[start] != ';' {
			return component{}, "", false, errComponents
		}
		c.param = list[start+1 : n]
		if c.param == "" {
			return component{}, "", false, errComponents
		}
	}
	c.text = list[:n]
	return c, list[n:], true, nil
}

// token tells whether s is made of the characters of a header's name, letters
// in lower case.
func token(s string) bool {
	for i := range len(s) {
		b := s[i]
		if b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0 {
			continue
		}
		return false
	}
	return true
}

// cutLabel reads "label=" and returns what follows, never empty when ok.
func cutLabel(s string) (label, rest string, ok bool) {
	n := keyLen(s)
	if n == 0 || n+1 >= len(s) || s[n] != '=' {
		return "", "", false
	}
	return s[:n], s[n+1:], true
}

// keyLen is the length of the key that s starts with (RFC 9651, section 4.2.3.3).
func keyLen(s string) int {
	for i := range len(s) {
		b := s[i]
		if b >= 'a' && b <= 'z' || b == '*' || i > 0 && (b >= '0' && b <= '9' || b == '_' || b == '-' || b == '.') {
			continue
		}
		return i
	}
	return len(s)
}

// itemLen is the length of the bare item that s starts with; 0 for none.
func itemLen(s string) int {
	if s == "" {
		return 0
	}
	if s[0] == '"' {
		return stringLen(s)
	}
	if s[0] == ':' {
		if end := strings.IndexByte(s[1:], ':'); end >= 0 {
			return end + 2
		}
		return 0
	}
	if n := strings.IndexAny(s, ";, \t()\""); n >= 0 {
		return n
	}
	return len(s)
}

// stringLen is the length of the quoted string that s starts with, quotes
// included; 0 when it is none.
func stringLen(s string) int {
	for i := 1; i < len(s); i++ {
		switch b := s[i]; {
		case b == '"':
			return i + 1
		case b == '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return 0
			}
		case b < 0x20 || b > 0x7e:
			return 0
		}
	}
	return 0
}

// listEnd is the index of the parenthesis that closes the list s starts with.
func listEnd(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case ')':
			return i
		case '"':
			n := stringLen(s[i:])
			if n == 0 {
				return -1
			}
			i += n - 1
		}
	}
	return -1
}

// nextMember skips the comma between two members.
func nextMember(s string) (rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	if s == "" {
		return "", true
	}
	if s[0] != ',' {
		return "", false
	}
	rest = strings.TrimLeft(s[1:], " \t")
	return rest, rest != ""
}

// signatureOf returns the base64 text of the member of a Signature header that
// is called label. It must be there once.
func signatureOf(s, label string) (string, error) {
	found, seen := "", false
	for s != "" {
		key, rest, ok := cutLabel(s)
		if !ok || rest[0] != ':' {
			return "", errSignature
		}
		end := strings.IndexByte(rest[1:], ':')
		if end < 0 {
			return "", errSignature
		}
		if key == label {
			if seen {
				return "", malformed("Signature: the label occurs twice")
			}
			found, seen = rest[1:1+end], true
		}
		if s, ok = nextMember(rest[end+2:]); !ok {
			return "", errSignature
		}
	}
	if !seen {
		return "", malformed("Signature has no member with the label that Signature-Input names")
	}
	return found, nil
}
