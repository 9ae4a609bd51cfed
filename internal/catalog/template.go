package catalog

import (
	"go/token"
	"net/http"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	maxPath     = 500
	maxSegments = 24
)

// template splits a path into segments. A segment is literal, or one {name}
// that matches any one segment.
func (p *parser) template(item value) ([]string, bool) {
	path := item.key.Value
	refuse := func(want, format string, args ...any) ([]string, bool) {
		p.fail(item.key, item.ptr, want, format, args...)
		return nil, false
	}
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return refuse("/"+clip(path), "the path does not begin with a slash")
	}
	segments := strings.Split(rest, "/")
	if len(path) > maxPath || len(segments) > maxSegments {
		return refuse("a shorter path", "the path is longer than %d characters or %d segments", maxPath, maxSegments)
	}
	names := map[string]bool{}
	for _, s := range segments {
		name, wild := wildcard(s)
		switch {
		case s == "":
			return refuse("one slash between segments and none at the end", "the path has an empty segment")
		case s == "." || s == "..":
			return refuse("the path that it leads to", "the path has a segment %q", s)
		case wild && !token.IsIdentifier(name):
			return refuse("letters, digits and _, as {order_id}", "{%s} is no parameter name", clip(name))
		case wild && names[name]:
			return refuse("a name of its own for each", "the path has {%s} twice", name)
		case wild:
			names[name] = true
		case strings.ContainsAny(s, "{}"):
			return refuse("a parameter that is a whole segment, as /orders/{order_id}", "the segment %q mixes text and a parameter", clip(s))
		default:
			if i := strings.IndexFunc(s, notInPath); i >= 0 {
				return refuse("letters, digits and -._~!$&'()*+,;=:@", "the segment %q has a character that no literal segment may have", clip(s))
			}
		}
	}
	return segments, true
}

// notInPath tells whether r is not one of the pchar of RFC 3986, section 3.3.
// Percent-encoding is left out, so that a path is written in one way only.
func notInPath(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune("-._~!$&'()*+,;=:@", r)
}

// wildcard returns the name in a segment {name}.
func wildcard(segment string) (string, bool) {
	if !strings.HasPrefix(segment, "{") || !strings.HasSuffix(segment, "}") {
		return "", false
	}
	return segment[1 : len(segment)-1], true
}

// checkConflicts reports two operations that could both match one call with
// neither being the more specific. The rules are those of [http.ServeMux], and
// its index finds the operations that have a conflict. What is offline makes
// room for others.
func (p *parser) checkConflicts() {
	mux := http.NewServeMux()
	var routed []*operation
	for i := range p.operations {
		o := &p.operations[i]
		if len(o.segments) == 0 || o.api.Status == platform.Offline {
			continue
		}
		if !register(mux, o) {
			if p.errs.Full() {
				return
			}
			p.failConflict(o, routed)
		}
		routed = append(routed, o)
	}
}

// failConflict reports that o conflicts with one of the earlier operations.
func (p *parser) failConflict(o *operation, earlier []*operation) {
	for _, first := range earlier {
		if conflict(first, o) {
			p.fail(o.at.key, o.at.ptr, "paths of which one is more specific",
				"%s %s matches the same calls as %s %s at line %d (%s)", o.api.Method, o.api.Path,
				first.api.Method, first.api.Path, first.at.key.Line, first.at.ptr)
			return
		}
	}
}

// register tells whether mux takes the operation; it panics on a conflict.
func register(mux *http.ServeMux, o *operation) (taken bool) {
	defer func() { taken = recover() == nil }()
	mux.Handle(o.api.Method+" "+o.api.Path, http.NotFoundHandler())
	return true
}

// conflict follows the precedence rules of http.ServeMux: a parameter is more
// general than a literal segment, and GET more general than HEAD. Of two that
// overlap, it is a conflict if neither or both are the more general somewhere.
func conflict(a, b *operation) bool {
	if len(a.segments) != len(b.segments) {
		return false
	}
	var aMore, bMore bool
	switch am, bm := a.api.Method, b.api.Method; {
	case am == bm:
	case am == "GET" && bm == "HEAD":
		aMore = true
	case am == "HEAD" && bm == "GET":
		bMore = true
	default:
		return false
	}
	for i, s := range a.segments {
		t := b.segments[i]
		switch aWild, bWild := s[0] == '{', t[0] == '{'; {
		case aWild && !bWild:
			aMore = true
		case bWild && !aWild:
			bMore = true
		case !aWild && s != t:
			return false
		}
	}
	return aMore == bMore
}

// checkParameters checks that the parameters that are declared are the path's.
func (p *parser) checkParameters(o operation) {
	declared := map[string]bool{}
	own, _ := o.at.get("parameters")
	for _, list := range []value{o.shared, own} {
		if list.node != nil && list.node.Kind != yaml.SequenceNode {
			p.fail(list.node, list.ptr, "a list of parameters", "it is %s", kindOf(list.node))
			continue
		}
		for item := range list.items() {
			param, ok := p.deref(item)
			if !ok || !p.isMapping(param) {
				continue
			}
			name, hasName := param.get("name")
			in, hasIn := param.get("in")
			if !hasName || !hasIn {
				p.fail(param.node, param.ptr, "{name: page, in: query}", "the parameter has no name or no in")
				continue
			}
			if in.node.Value != "path" {
				continue
			}
			declared[name.node.Value] = true
			if required, _ := param.get("required"); required.node == nil || !isTrue(required.node) {
				p.fail(param.node, param.ptr, "required: true", "the path parameter %q is not required", clip(name.node.Value))
			}
		}
	}
	// A file that declares none leaves its parameters undescribed; one that
	// declares some and misses another has made a mistake.
	describes := len(declared) > 0
	for _, s := range o.segments {
		name, wild := wildcard(s)
		if wild && describes && !declared[name] {
			p.fail(o.at.key, o.at.ptr, "a parameter {name: "+name+", in: path, required: true, schema: …}", "the path's {%s} is not declared", name)
		}
		delete(declared, name)
	}
	for name := range declared {
		p.fail(o.at.key, o.at.ptr, "{"+clip(name)+"} in the path, or no such parameter", "the path has no {%s}", clip(name))
	}
}
