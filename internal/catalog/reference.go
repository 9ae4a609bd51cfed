package catalog

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxHops is how many references may follow one another before a value.
const maxHops = 32

// deref follows references until a value. It fails when they lead in a circle,
// and returns false when there is no value. A broken reference is reported by
// checkRefs, not here.
func (p *parser) deref(v value) (value, bool) {
	start := v
	for range maxHops {
		ref := refOf(v.node)
		if ref == nil {
			return v, true
		}
		target := p.target(ref.Value)
		if target == nil {
			return v, false
		}
		if !p.charge(target, v) {
			return v, false
		}
		ptr, _ := strings.CutPrefix(ref.Value, "#")
		v = value{v.key, target, ptr}
	}
	p.fail(start.node, start.ptr, "a $ref that ends at a value", "the references lead in a circle")
	return v, false
}

// charge counts what a reference stands for. Without a bound, a short file
// could make a long walk by naming a large value many times.
func (p *parser) charge(target *yaml.Node, v value) bool {
	size, known := p.sizes[target]
	if !known {
		size = sizeOf(target)
		p.sizes[target] = size
	}
	if p.followed > maxFollowed {
		return false
	}
	if p.followed += size; p.followed > maxFollowed {
		p.fail(v.node, v.ptr, "the catalog split into several files", "the references of the file stand for more than %d values", maxFollowed)
		return false
	}
	return true
}

// sizeOf counts the values in n.
func sizeOf(n *yaml.Node) int {
	size := 1
	for _, child := range n.Content {
		size += sizeOf(child)
	}
	return size
}

// refOf returns the node of a $ref's text, or nil if n is no reference.
func refOf(n *yaml.Node) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "$ref" && n.Content[i+1].Kind == yaml.ScalarNode {
			return n.Content[i+1]
		}
	}
	return nil
}

// target finds what a reference names; nil if it is not in this document.
func (p *parser) target(ref string) *yaml.Node {
	if n, known := p.refs[ref]; known {
		return n
	}
	n := p.find(ref)
	p.refs[ref] = n
	return n
}

func (p *parser) find(ref string) *yaml.Node {
	rest, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return nil
	}
	rest, err := url.PathUnescape(rest)
	if err != nil {
		return nil
	}
	n := p.root
	for token := range strings.SplitSeq(rest, "/") {
		if n = p.member(n, unescapePointer.Replace(token)); n == nil {
			return nil
		}
	}
	return n
}

// member finds a member of a mapping by an index, for a catalog of many
// schemas, or an item of a list.
func (p *parser) member(n *yaml.Node, token string) *yaml.Node {
	switch n.Kind {
	case yaml.MappingNode:
		members, ok := p.index[n]
		if !ok {
			members = make(map[string]*yaml.Node, len(n.Content)/2)
			for i := 0; i+1 < len(n.Content); i += 2 {
				members[n.Content[i].Value] = n.Content[i+1]
			}
			p.index[n] = members
		}
		return members[token]
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i]
		}
	}
	return nil
}

// namedBy lists the members whose own members are named by the author, so that
// a "$ref" or an "example" among them is a name and no keyword.
var namedBy = []string{
	"properties", "patternProperties", "dependentSchemas", "$defs", "definitions", "schemas",
	"responses", "headers", "requestBodies", "parameters", "examples", "links", "callbacks",
	"securitySchemes", "pathItems", "paths", "webhooks", "content", "encoding", "variables",
}

// dataIn lists the members that hold data, in which "$ref" means nothing.
var dataIn = []string{"example", "default", "const", "enum", "value"}

// checkRefs reports every reference that does not lead to a value in this
// document. None is fetched: a catalog is one file.
func (p *parser) checkRefs() { p.refsIn(value{node: p.root}, nil, false) }

func (p *parser) refsIn(v value, at []string, named bool) {
	switch v.node.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(v.node.Content); i += 2 {
			key, child := v.node.Content[i].Value, v.node.Content[i+1]
			way := append(slices.Clip(at), key)
			switch {
			case named:
				p.refsIn(value{node: child}, way, false)
			case key == "$ref":
				p.checkRef(child, way)
			case slices.Contains(dataIn, key), strings.HasPrefix(key, "x-"),
				key == "examples" && child.Kind == yaml.SequenceNode:
			default:
				p.refsIn(value{node: child}, way, slices.Contains(namedBy, key))
			}
		}
	case yaml.SequenceNode:
		for i, item := range v.node.Content {
			p.refsIn(value{node: item}, append(at, strconv.Itoa(i)), false)
		}
	}
}

func (p *parser) checkRef(ref *yaml.Node, at []string) {
	const want = "a reference into this file, as #/components/schemas/Order"
	switch {
	case ref.Kind != yaml.ScalarNode:
		p.fail(ref, pointer(at), want, "the $ref is %s", kindOf(ref))
	case !strings.HasPrefix(ref.Value, "#/"):
		p.fail(ref, pointer(at), want, "the $ref %q leaves the document; other files and addresses are never read", clip(ref.Value))
	case p.target(ref.Value) == nil:
		p.fail(ref, pointer(at), want, "the $ref %q leads nowhere", clip(ref.Value))
	}
}
