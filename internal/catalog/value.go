package catalog

import (
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// value is a node and the place where it stands. The zero value has no members.
type value struct {
	// key is the node of the member's name; for the root and for items of a
	// list it is the node itself, or nil.
	key  *yaml.Node
	node *yaml.Node
	ptr  string
}

// get returns the member of a mapping named key.
func (v value) get(key string) (value, bool) {
	if v.node == nil || v.node.Kind != yaml.MappingNode {
		return value{}, false
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		if k := v.node.Content[i]; k.Value == key {
			return value{k, v.node.Content[i+1], v.ptr + "/" + escapePointer.Replace(key)}, true
		}
	}
	return value{}, false
}

// entries yields the members of a mapping; anything else has none.
func (v value) entries() iter.Seq[value] {
	return func(yield func(value) bool) {
		if v.node == nil || v.node.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(v.node.Content); i += 2 {
			key := v.node.Content[i]
			if !yield(value{key, v.node.Content[i+1], v.ptr + "/" + escapePointer.Replace(key.Value)}) {
				return
			}
		}
	}
}

// items yields the items of a list; anything else has none.
func (v value) items() iter.Seq[value] {
	return func(yield func(value) bool) {
		if v.node == nil || v.node.Kind != yaml.SequenceNode {
			return
		}
		for i, item := range v.node.Content {
			if !yield(value{item, item, v.ptr + "/" + strconv.Itoa(i)}) {
				return
			}
		}
	}
}

// isMapping tells whether v is a mapping, and fails when it is not.
func (p *parser) isMapping(v value) bool {
	if v.node.Kind == yaml.MappingNode {
		return true
	}
	p.fail(v.node, v.ptr, "an object", "it is %s", kindOf(v.node))
	return false
}

// text returns a string.
func (p *parser) text(v value) string {
	if v.node.Kind != yaml.ScalarNode || v.node.ShortTag() == "!!null" {
		p.fail(v.node, v.ptr, "a string", "it is %s", kindOf(v.node))
		return ""
	}
	return v.node.Value
}

// title returns a string of one line.
func (p *parser) title(v value) string {
	const most = 200
	s := p.text(v)
	if utf8.RuneCountInString(s) > most || strings.ContainsFunc(s, unicode.IsControl) {
		p.fail(v.node, v.ptr, fmt.Sprintf("one line of at most %d characters", most), "%q is no title", clip(s))
		return ""
	}
	return s
}

// boolean returns a boolean.
func (p *parser) boolean(v value) bool {
	if v.node.Kind != yaml.ScalarNode || v.node.ShortTag() != "!!bool" {
		p.fail(v.node, v.ptr, "true or false", "%q is no boolean", clip(v.node.Value))
		return false
	}
	return isTrue(v.node)
}

func isTrue(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" && strings.EqualFold(n.Value, "true")
}

// kindOf names what a node is, for an error.
func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "an object"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "a YAML alias"
	case n.ShortTag() == "!!null":
		return "empty"
	}
	return "the value " + strconv.Quote(clip(n.Value))
}

// escapePointer and unescapePointer follow RFC 6901, section 3.
var (
	escapePointer   = strings.NewReplacer("~", "~0", "/", "~1")
	unescapePointer = strings.NewReplacer("~1", "/", "~0", "~")
)

// pointer joins the way to a node to a JSON pointer.
func pointer(at []string) string {
	var b strings.Builder
	for _, token := range at {
		b.WriteString("/" + escapePointer.Replace(token))
	}
	return b.String()
}

// appendJSON writes a node as JSON. Members keep their order and numbers their
// text. The node has passed the checker, so nothing can fail.
func appendJSON(dst []byte, n *yaml.Node) []byte {
	switch n.Kind {
	case yaml.MappingNode:
		dst = append(dst, '{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendString(dst, n.Content[i].Value)
			dst = append(dst, ':')
			dst = appendJSON(dst, n.Content[i+1])
		}
		return append(dst, '}')
	case yaml.SequenceNode:
		dst = append(dst, '[')
		for i, item := range n.Content {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, item)
		}
		return append(dst, ']')
	}
	switch n.ShortTag() {
	case "!!null":
		return append(dst, "null"...)
	case "!!bool":
		return strconv.AppendBool(dst, isTrue(n))
	case "!!int", "!!float":
		number, _ := jsonNumber(n.Value)
		return append(dst, number...)
	}
	return appendString(dst, n.Value)
}

// appendString writes a JSON string without escaping what only HTML must.
func appendString(dst []byte, s string) []byte {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return append(dst, `""`...)
	}
	return append(dst, strings.TrimSuffix(b.String(), "\n")...)
}
