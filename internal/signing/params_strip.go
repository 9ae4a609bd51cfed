package signing

import (
	"slices"
	"strings"
)

// tokenParam is where most dialects carry the merchant's token. It is private
// in all of them.
const tokenParam = "access_token"

// secretParams are parameters that carry a secret in some platform's calls.
var secretParams = []string{"client_secret", "app_secret", "signSecret"}

// private tells whether a parameter must not reach the upstream.
func (s *paramScheme) private(name string) bool {
	return name == s.signParam || name == s.tokenParam || name == tokenParam || slices.Contains(secretParams, name)
}

func (s *paramScheme) strip(_ *Claim, r *Request) (header []string, rawQuery string, body []byte) {
	rawQuery = s.stripPairs(r.RawQuery)
	switch s.body.kind(r) {
	case bodyPairs:
		if rest := s.stripPairs(string(r.Body)); len(rest) != len(r.Body) {
			body = []byte(rest)
		}
	case bodyMembers:
		body = s.stripMembers(string(r.Body))
	}
	return nil, rawQuery, body
}

// stripPairs cuts the private pairs out of a query or a form body.
func (s *paramScheme) stripPairs(pairs string) string {
	all := strings.Split(pairs, "&")
	kept := slices.DeleteFunc(slices.Clone(all), func(pair string) bool {
		raw, _, _ := strings.Cut(pair, "=")
		name, err := unescape(raw)
		return err == nil && s.private(name)
	})
	if len(kept) == len(all) {
		return pairs
	}
	return strings.Join(kept, "&")
}

// stripMembers cuts the private members out of a JSON body; nil when there is
// none. What stays keeps its bytes, the space before it among them.
func (s *paramScheme) stripMembers(text string) []byte {
	members, err := scanMembers(text)
	if err != nil || !slices.ContainsFunc(members, func(m jsonMember) bool { return s.private(m.name) }) {
		return nil
	}
	rest := []byte(text[:members[0].start])
	first := true
	for i, m := range members {
		if s.private(m.name) {
			continue
		}
		if !first {
			rest = append(rest, text[members[i-1].end:m.start]...)
		}
		first = false
		rest = append(rest, text[m.start:m.end]...)
	}
	return append(rest, text[members[len(members)-1].end:]...)
}
