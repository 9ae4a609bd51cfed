package oauth

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxParams bounds the parameters of a request.
const maxParams = 64

// params are the parameters of a request, form-encoded in a query or a body.
// An empty one is absent, and an unknown one is not looked at (RFC 6749
// sections 3.1 and 3.2).
type params struct {
	values map[string]string
	// resources are the values of resource, which alone may be repeated (RFC
	// 8707 section 2).
	resources []string
	// repeated are the known parameters that stand there twice.
	repeated []string
}

// parseParams reads raw, a query or a body, and keeps the known parameters.
func parseParams(raw string, known []string) (*params, *refusal) {
	p := &params{values: make(map[string]string, len(known))}
	if refused := p.add(raw, known); refused != nil {
		return nil, refused
	}
	return p, nil
}

// add reads further parameters.
func (p *params) add(raw string, known []string) *refusal {
	for n := 0; raw != ""; n++ {
		if n == maxParams {
			return refuse(invalidRequest, "too many parameters")
		}
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return refuse(invalidRequest, "a parameter's name is not form-encoded")
		}
		if !slices.Contains(known, name) {
			continue
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return refuse(invalidRequest, name+" is not form-encoded")
		}
		if !utf8.ValidString(value) {
			return refuse(invalidRequest, name+" is not UTF-8")
		}
		if value != "" {
			p.set(name, value)
		}
	}
	return nil
}

func (p *params) set(name, value string) {
	if name == "resource" {
		p.resources = append(p.resources, value)
		return
	}
	if _, there := p.values[name]; there && !p.isRepeated(name) {
		p.repeated = append(p.repeated, name)
	}
	p.values[name] = value
}

// get is the value of a parameter, or "" when it is absent.
func (p *params) get(name string) string { return p.values[name] }

func (p *params) isRepeated(name string) bool { return slices.Contains(p.repeated, name) }

// refuseRepeated refuses a request with a parameter that stands there twice.
func (p *params) refuseRepeated() *refusal {
	if len(p.repeated) == 0 {
		return nil
	}
	return refuse(invalidRequest, p.repeated[0]+" stands more than once in the request; write it once")
}
