package signing

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// maskedSecret stands for the secret in a string to sign that is shown.
const maskedSecret = "***"

func (s *paramScheme) sign(r *Request, cred Credentials, now time.Time, _ string) (*Signed, error) {
	d := s.byMethod(cred.Key.method)
	if hasBody(r) && !r.BodyRead {
		return nil, ErrBodyNeeded
	}
	p, kind, err := s.parse(r)
	if err != nil {
		return nil, err
	}
	if p.has(s.signParam) {
		return nil, fmt.Errorf("parameter %s is there already: sign a request that is not signed", s.signParam)
	}
	added := s.fill(p, d, cred, now)
	if found, err := s.asked(p); err != nil {
		return nil, err
	} else if s.methodParam != "" && p.has(s.methodParam) && found != d {
		return nil, fmt.Errorf("%w: parameter %s asks for %s, the key is one for %s", ErrMethod, s.methodParam, found.method, d.method)
	}
	p.digest = d
	var said Claim
	if err := s.describe(&said, p, r); err != nil {
		return nil, err
	}
	if said.AppKey != cred.AppKey {
		return nil, errors.New("the request names another app key than the credentials")
	}
	if err := s.scanned(p); err != nil {
		return nil, err
	}
	text := s.stringToSign(nil, p, d, cred.Key.secret, s.drops[0])
	added = append(added, param{s.signParam, d.encode(d.sum(text, cred.Key.secret))})

	signed := &Signed{
		Header:       r.Header.Clone(),
		RawQuery:     r.RawQuery,
		Body:         r.Body,
		StringToSign: string(s.stringToSign(nil, p, d, []byte(maskedSecret), s.drops[0])),
	}
	switch {
	case s.signBody && kind == bodyPairs:
		signed.Body = []byte(withPairs(string(r.Body), added))
	case s.signBody && kind == bodyMembers:
		signed.Body = s.withMembers(string(r.Body), added)
	default:
		signed.RawQuery = withPairs(r.RawQuery, added)
	}
	return signed, nil
}

// fill adds the parameters that are absent to p and returns them.
func (s *paramScheme) fill(p *paramState, d *digest, cred Credentials, now time.Time) []param {
	var added []param
	add := func(name, value string) {
		if name != "" && value != "" && !p.has(name) {
			p.put(name, value)
			added = append(added, param{name, value})
		}
	}
	if !s.keyless {
		add(s.keyParam, cred.AppKey)
	}
	if !s.timeOptional {
		add(s.timeParam, s.time.write(now))
	}
	if s.fillMethod {
		add(s.methodParam, d.wire)
	}
	if s.apiParam != "" && p.has(s.apiParam) {
		add("v", s.version)
	}
	add(s.tokenParam, cred.Token)
	return added
}

// withPairs appends parameters to a query or a form body.
func withPairs(pairs string, added []param) string {
	var b strings.Builder
	b.WriteString(pairs)
	for _, q := range added {
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(q.name) + "=" + url.QueryEscape(q.value))
	}
	return b.String()
}

// withMembers appends parameters to the JSON object of a body; the time as a
// number, as the SDKs write it.
func (s *paramScheme) withMembers(text string, added []param) []byte {
	end := strings.LastIndexByte(text, '}')
	members, _ := scanMembers(text) // parse has read it before
	body := []byte(text[:end])
	for i, q := range added {
		if i > 0 || len(members) > 0 {
			body = append(body, ',')
		}
		body = append(appendQuoted(body, q.name), ':')
		if q.name == s.timeParam {
			body = append(body, q.value...)
		} else {
			body = appendQuoted(body, q.value)
		}
	}
	return append(body, text[end:]...)
}
