package signing

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

var (
	errAbsent    = fmt.Errorf("%w: it covers a header that the request does not carry", ErrInvalid)
	errLineBreak = malformed("a covered value contains a line break")
	errTwice     = malformed("a covered header occurs twice")
)

// appendBase appends the signature base of RFC 9421, section 2.5: a line for
// each component of list, then the line of params. With single, a header that
// occurs twice is refused; else its values are joined as the RFC says.
func appendBase(dst []byte, r *Request, list, params string, single bool) ([]byte, error) {
	start, lines := len(dst), 0
	for {
		c, rest, ok, err := nextComponent(list)
		if err != nil {
			return dst, err
		}
		if !ok {
			break
		}
		dst = append(dst, c.text...)
		dst = append(dst, ": "...)
		if dst, err = appendValue(dst, r, c, single); err != nil {
			return dst, err
		}
		dst = append(dst, '\n')
		list = rest
		lines++
	}
	dst = append(dst, `"@signature-params": `...)
	dst = append(dst, params...)
	// A line break inside a value could stand for another component.
	if bytes.Count(dst[start:], newline) != lines {
		return dst, errLineBreak
	}
	return dst, nil
}

var newline = []byte{'\n'}

// appendValue appends the value of one component (RFC 9421, sections 2.1 and 2.2).
func appendValue(dst []byte, r *Request, c component, single bool) ([]byte, error) {
	if c.name == "@query-param" {
		return appendQueryParam(dst, r, c)
	}
	if c.param != "" {
		return dst, malformed("Signature-Input: component parameters (sf, key, bs, req, tr) are not supported: cover the plain component")
	}
	switch c.name {
	case "@method":
		return append(dst, r.Method...), nil
	case "@authority":
		return appendAuthority(dst, r), nil
	case "@path":
		return appendPath(dst, r), nil
	case "@query":
		return append(append(dst, '?'), r.RawQuery...), nil
	case "@scheme":
		return appendLower(dst, r.Scheme), nil
	case "@target-uri":
		dst = append(appendLower(dst, r.Scheme), "://"...)
		return appendTarget(appendAuthority(dst, r), r), nil
	case "@request-target":
		return appendTarget(dst, r), nil
	}
	if c.name[0] == '@' {
		return dst, malformed("Signature-Input: the component " + c.name + " is not supported")
	}
	values := headerValues(r, c.name)
	switch {
	case len(values) == 0:
		return dst, errAbsent
	case len(values) > 1 && single:
		return dst, errTwice
	}
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(dst, strings.Trim(v, " \t")...)
	}
	return dst, nil
}

// headerValues finds a header by its lower-case name. The canonical keys of
// op1's headers are written out: making them would allocate.
func headerValues(r *Request, name string) []string {
	switch name {
	case "content-digest":
		return r.Header["Content-Digest"]
	case "content-type":
		return r.Header["Content-Type"]
	case "authorization":
		return r.Header["Authorization"]
	case "host":
		return []string{r.Authority}
	}
	return r.Header[http.CanonicalHeaderKey(name)]
}

// appendAuthority appends the authority in lower case, without the scheme's
// default port (RFC 9421, section 2.2.3).
func appendAuthority(dst []byte, r *Request) []byte {
	authority := r.Authority
	switch r.Scheme {
	case "https":
		authority = strings.TrimSuffix(authority, ":443")
	case "http":
		authority = strings.TrimSuffix(authority, ":80")
	}
	return appendLower(dst, authority)
}

func appendLower(dst []byte, s string) []byte {
	dst = append(dst, s...)
	for i, b := range dst[len(dst)-len(s):] {
		if b >= 'A' && b <= 'Z' {
			dst[len(dst)-len(s)+i] = b + 'a' - 'A'
		}
	}
	return dst
}

func appendPath(dst []byte, r *Request) []byte {
	if r.Path == "" {
		return append(dst, '/')
	}
	return append(dst, r.Path...)
}

func appendTarget(dst []byte, r *Request) []byte {
	dst = appendPath(dst, r)
	if r.RawQuery != "" {
		dst = append(append(dst, '?'), r.RawQuery...)
	}
	return dst
}

// appendQueryParam appends the value of one query parameter, decoded and
// encoded again (RFC 9421, section 2.2.8). A name that occurs twice is refused.
func appendQueryParam(dst []byte, r *Request, c component) ([]byte, error) {
	quoted, ok := strings.CutPrefix(c.param, "name=")
	if !ok || len(quoted) < 2 || quoted[0] != '"' || stringLen(quoted) != len(quoted) {
		return dst, malformed(`Signature-Input: write "@query-param";name="the parameter's name"`)
	}
	name, err := url.PathUnescape(quoted[1 : len(quoted)-1])
	if err != nil {
		return dst, malformed("Signature-Input: the name of a @query-param has a bad escape")
	}
	seen := false
	for pair := range strings.SplitSeq(r.RawQuery, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if key, err = url.QueryUnescape(key); err != nil || key != name {
			continue
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return dst, malformed("query: a covered parameter has a bad escape")
		}
		if seen {
			return dst, malformed("query: a covered parameter occurs twice")
		}
		seen = true
		dst = appendFormEscaped(dst, value)
	}
	if !seen {
		return dst, fmt.Errorf("%w: it covers a query parameter that the request does not carry", ErrInvalid)
	}
	return dst, nil
}

// appendFormEscaped escapes all but the characters that the URL standard leaves
// alone in application/x-www-form-urlencoded; a space becomes %20.
func appendFormEscaped(dst []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		b := s[i]
		if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("*-._", b) >= 0 {
			dst = append(dst, b)
			continue
		}
		dst = append(dst, '%', digits[b>>4], digits[b&15])
	}
	return dst
}
