package catalog

import (
	"bytes"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// The keywords of JSON Schema that need care. Those of inPlace apply schemas to
// the value itself, and not to a part of it.
var (
	inPlaceKeywords = []string{"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"}
	// A schema that has an address of its own cannot be carried elsewhere.
	addressKeywords = []string{"$id", "$schema", "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef", "$vocabulary"}
	// What is referred to is carried along, and these are of no use then.
	uselessKeywords = []string{"$defs", "definitions", "discriminator", "xml", "externalDocs"}
)

// append writes a schema of the piece; inPlace tells whether it applies to the
// same value as that.
func (s *schemas) append(dst []byte, schema value, of *piece, inPlace bool) []byte {
	if len(dst) > maxSchema { // which bundle reports
		return append(dst, "{}"...)
	}
	if schema.node.Kind != yaml.MappingNode {
		return appendJSON(dst, schema.node)
	}
	ref := refOf(schema.node)
	dst = append(dst, '{')
	for e := range schema.entries() {
		key := e.key.Value
		if s.is30 {
			// Beside a $ref nothing counts (OpenAPI 3.0.3, section 4.7.23).
			if ref != nil && key != "$ref" || key == "nullable" {
				continue
			}
			if text, translated := member30(schema, e); translated {
				dst = append(dst, text...)
				continue
			}
		}
		switch {
		case slices.Contains(addressKeywords, key):
			of.failed = true
			s.p.fail(e.key, e.ptr, "a $ref to #/components/schemas/…", "the schema of a topic cannot have %s", key)
			continue
		case slices.Contains(uselessKeywords, key):
			continue
		}
		dst = append(appendString(dst, key), ':')
		within := inPlace && slices.Contains(inPlaceKeywords, key)
		switch {
		case key == "$ref" && ref != nil:
			dst = appendString(dst, s.refer(schema, of, inPlace))
		case slices.Contains(dataIn, key), strings.HasPrefix(key, "x-"), key == "examples", key == "dependentRequired":
			dst = appendJSON(dst, e.node)
		case slices.Contains(namedBy, key):
			dst = s.appendNamed(dst, e, of, within)
		case e.node.Kind == yaml.SequenceNode:
			dst = append(dst, '[')
			for item := range e.items() {
				dst = append(s.append(dst, item, of, within), ',')
			}
			dst = append(withoutComma(dst), ']')
		default:
			dst = s.append(dst, e, of, within)
		}
		dst = append(dst, ',')
	}
	return append(withoutComma(dst), '}')
}

// appendNamed writes schemas that are named by the author.
func (s *schemas) appendNamed(dst []byte, named value, of *piece, inPlace bool) []byte {
	if named.node.Kind != yaml.MappingNode {
		return appendJSON(dst, named.node)
	}
	dst = append(dst, '{')
	for e := range named.entries() {
		dst = append(s.append(append(appendString(dst, e.key.Value), ':'), e, of, inPlace), ',')
	}
	return append(withoutComma(dst), '}')
}

func withoutComma(dst []byte) []byte { return bytes.TrimSuffix(dst, []byte(",")) }

// member30 translates a member of a schema of OpenAPI 3.0 (section 4.7.24) that
// JSON Schema 2020-12 writes in another way, a comma after it, or in none.
func member30(schema, e value) (text []byte, translated bool) {
	has := func(keyword string) bool {
		v, ok := schema.get(keyword)
		return ok && isTrue(v.node)
	}
	member := func(key string, v []byte) ([]byte, bool) {
		return append(append(append(appendString(nil, key), ':'), v...), ','), true
	}
	switch key := e.key.Value; key {
	case "type":
		if has("nullable") && e.node.Kind == yaml.ScalarNode {
			return member(key, append(appendString([]byte{'['}, e.node.Value), `,"null"]`...))
		}
	case "enum":
		if has("nullable") && e.node.Kind == yaml.SequenceNode {
			list := appendJSON(nil, e.node)
			if len(e.node.Content) > 0 && !slices.ContainsFunc(e.node.Content, func(n *yaml.Node) bool { return n.ShortTag() == "!!null" }) {
				list = append(list[:len(list)-1], `,null]`...)
			}
			return member(key, list)
		}
	case "minimum":
		if has("exclusiveMinimum") {
			return member("exclusiveMinimum", appendJSON(nil, e.node))
		}
	case "maximum":
		if has("exclusiveMaximum") {
			return member("exclusiveMaximum", appendJSON(nil, e.node))
		}
	case "exclusiveMinimum", "exclusiveMaximum":
		return nil, e.node.ShortTag() == "!!bool"
	}
	return nil, false
}
