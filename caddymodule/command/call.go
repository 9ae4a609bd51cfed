package command

import (
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// callJSON is a signed call as --json prints it.
type callJSON struct {
	Method       string            `json:"method"`
	URL          string            `json:"url"`
	Headers      map[string]string `json:"headers"`
	Body         string            `json:"body,omitempty"`
	BodyBase64   string            `json:"body_base64,omitempty"`
	StringToSign string            `json:"string_to_sign,omitempty"`
}

func (s *signedCall) json() callJSON {
	out := callJSON{Method: s.Method, URL: s.URL.String(), Headers: joined(s.header()), StringToSign: s.StringToSign}
	if utf8.Valid(s.Body) {
		out.Body = string(s.Body)
	} else {
		out.BodyBase64 = base64.StdEncoding.EncodeToString(s.Body)
	}
	return out
}

// header is what must be sent, Host included where it is not the URL's.
func (s *signedCall) header() http.Header {
	if s.Host == s.URL.Host {
		return s.Header
	}
	h := s.Header.Clone()
	h.Set("Host", s.Host)
	return h
}

// write prints method, URL and headers, each line after prefix and masked.
func (s *signedCall) write(w io.Writer, prefix string, mask *strings.Replacer) {
	fmt.Fprintln(w, prefix+mask.Replace(printable(s.Method+" "+s.URL.String())))
	writeHeader(w, prefix, s.header(), mask)
}

// writeHeader prints the fields by name, each line after prefix and masked.
func writeHeader(w io.Writer, prefix string, h http.Header, mask *strings.Replacer) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			fmt.Fprintln(w, prefix+mask.Replace(printable(name+": "+v)))
		}
	}
}

// masking hides a token, raw and percent-encoded; "" hides nothing.
func masking(token string) *strings.Replacer {
	if token == "" {
		return strings.NewReplacer()
	}
	return strings.NewReplacer(token, "***", url.QueryEscape(token), "***", url.PathEscape(token), "***")
}

// curl prints a curl command that sends the call. Data is the -d flag: a file
// that was not changed by signing is named, not copied.
func (s *signedCall) curl(data string) (string, error) {
	words := []string{"curl", "--path-as-is", "--globoff"}
	if s.Method == http.MethodHead {
		words = append(words, "--head")
	} else {
		words = append(words, "-X", quote(s.Method))
	}
	if ca := localCA(s.URL.Hostname()); ca != "" && s.URL.Scheme == "https" {
		words = append(words, "--cacert", quote(ca))
	}
	h := s.header()
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			words = append(words, "-H", quote(name+": "+v))
		}
	}
	switch {
	case len(s.Body) == 0:
	case strings.HasPrefix(data, "@") && !s.changed:
		words = append(words, "--data-binary", quote(data))
	case !utf8.Valid(s.Body) || strings.ContainsRune(string(s.Body), 0):
		return "", usagef("--curl: the body is no text; give it as -d @file")
	case s.Body[0] == '@': // curl would take it for a file's name
		words = append(words, "--data-raw", quote(string(s.Body)))
	default:
		words = append(words, "--data-binary", quote(string(s.Body)))
	}
	return strings.Join(append(words, quote(s.URL.String())), " "), nil
}

// quote makes one word of a POSIX shell.
func quote(s string) string {
	plain := func(r rune) bool {
		return r < utf8.RuneSelf && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@=,+", r))
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// joined is a header with one line a name.
func joined(h http.Header) map[string]string {
	out := make(map[string]string, len(h))
	for name, values := range h {
		out[name] = strings.Join(values, ", ")
	}
	return out
}
