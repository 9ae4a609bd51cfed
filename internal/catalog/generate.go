package catalog

import (
	"slices"

	"go.yaml.in/yaml/v4"
)

// The bounds of examples made from schemas, whose references multiply.
const (
	// maxExampleDepth is how deep a made example nests.
	maxExampleDepth = 16
	// maxExampleSize is when it stops to grow, in bytes.
	maxExampleSize = 64 << 10
	// maxExampleSteps is how many schemas one example visits, and
	// maxFileSteps how many all examples of a file do. Beyond them members
	// are left out.
	maxExampleSteps = 5_000
	maxFileSteps    = 2_000_000
)

// generator makes an example from a schema.
type generator struct {
	p     *parser
	steps int
	// within are the schemas that are being written, to stop at a circle.
	within []*yaml.Node
}

// value appends an example of schema; false if there is none.
func (g *generator) value(dst []byte, schema value) ([]byte, bool) {
	schema, ok := g.enter(schema, len(dst))
	if !ok {
		return dst, false
	}
	defer g.leave()
	if n := given(schema); n != nil {
		return appendJSON(dst, n), true
	}
	var members []value
	switch t := schemaType(schema); t {
	case "object", "":
		if members = g.members(nil, map[string]bool{}, schema); len(members) > 0 || t == "object" && !combines(schema) {
			return g.object(dst, members), true
		}
	case "array":
		return g.array(dst, schema), true
	default:
		return append(dst, scalar(t, schema)...), true
	}
	for _, keyword := range []string{"allOf", "oneOf", "anyOf"} {
		choices, _ := schema.get(keyword)
		for choice := range choices.items() {
			if out, ok := g.value(dst, choice); ok {
				return out, true
			}
		}
	}
	return dst, false
}

// enter follows references to a schema and counts the visit.
func (g *generator) enter(schema value, size int) (value, bool) {
	g.steps++
	g.p.steps++
	if g.steps > maxExampleSteps || g.p.steps > maxFileSteps || size > maxExampleSize || len(g.within) >= maxExampleDepth {
		return schema, false
	}
	schema, ok := g.p.deref(schema)
	if !ok || schema.node.Kind != yaml.MappingNode || slices.Contains(g.within, schema.node) {
		return schema, false
	}
	g.within = append(g.within, schema.node)
	return schema, true
}

func (g *generator) leave() { g.within = g.within[:len(g.within)-1] }

// given is the value that a schema names itself.
func given(schema value) *yaml.Node {
	for _, keyword := range []string{"example", "examples", "const", "default", "enum"} {
		v, ok := schema.get(keyword)
		if !ok {
			continue
		}
		if keyword != "examples" && keyword != "enum" {
			return v.node
		}
		for first := range v.items() {
			return first.node
		}
	}
	return nil
}

// schemaType is the type of a schema, the first but null where it has several.
func schemaType(schema value) string {
	v, _ := schema.get("type")
	for t := range v.items() {
		if t.node.Value != "null" {
			return t.node.Value
		}
	}
	if v.node != nil {
		return v.node.Value
	}
	if _, ok := schema.get("items"); ok {
		return "array"
	}
	return ""
}

// combines tells whether a schema is made of others.
func combines(schema value) bool {
	return slices.ContainsFunc([]string{"allOf", "oneOf", "anyOf"}, func(k string) bool {
		_, ok := schema.get(k)
		return ok
	})
}

// members appends the properties of a schema and of all that it is made of.
func (g *generator) members(dst []value, seen map[string]bool, schema value) []value {
	properties, _ := schema.get("properties")
	for property := range properties.entries() {
		if g.steps++; g.steps > maxExampleSteps {
			break
		}
		if name := property.key.Value; !seen[name] {
			seen[name] = true
			dst = append(dst, property)
		}
	}
	all, _ := schema.get("allOf")
	for part := range all.items() {
		if part, ok := g.enter(part, 0); ok {
			dst = g.members(dst, seen, part)
			g.leave()
		}
	}
	return dst
}

// object appends an object of those members that have an example. What only a
// request carries is left out.
func (g *generator) object(dst []byte, members []value) []byte {
	dst = append(dst, '{')
	first := true
	for _, m := range members {
		if w, _ := m.get("writeOnly"); w.node != nil && isTrue(w.node) {
			continue
		}
		before := len(dst)
		if !first {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, m.key.Value), ':')
		out, ok := g.value(dst, m)
		if !ok {
			dst = dst[:before]
			continue
		}
		dst, first = out, false
	}
	return append(dst, '}')
}

// array appends a list of one item, or of none where the item has no example.
func (g *generator) array(dst []byte, schema value) []byte {
	dst = append(dst, '[')
	if items, ok := schema.get("items"); ok {
		dst, _ = g.value(dst, items)
	}
	return append(dst, ']')
}

// scalar is an example of a plain type.
func scalar(t string, schema value) string {
	switch t {
	case "integer", "number":
		if least, ok := schema.get("minimum"); ok {
			if number, ok := jsonNumber(least.node.Value); ok {
				return number
			}
		}
		return "0"
	case "boolean":
		return "true"
	case "null":
		return "null"
	}
	format, _ := schema.get("format")
	if format.node != nil {
		switch format.node.Value {
		case "date-time":
			return `"2026-01-02T15:04:05+08:00"`
		case "date":
			return `"2026-01-02"`
		case "uuid":
			return `"00000000-0000-4000-8000-000000000000"`
		case "uri":
			return `"https://example.com/"`
		case "email":
			return `"name@example.com"`
		}
	}
	return `"string"`
}
