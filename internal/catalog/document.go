package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	// maxDepth is how deep values may nest.
	maxDepth = 100
	// maxMarks bounds the characters that YAML makes values of. The YAML
	// parser spends a few microseconds and some hundred bytes on each.
	maxMarks = 2_000_000
	// maxTagDirectives bounds %TAG lines, each of which the YAML parser
	// compares with all others.
	maxTagDirectives = 100
)

// readDocument reads data as one YAML or JSON document that is safe to walk:
// a mapping, bounded in depth and size, without aliases, merge keys, duplicate
// keys or values that JSON cannot hold.
func readDocument(source string, data []byte) (*yaml.Node, platform.CatalogErrors) {
	refuse := func(problem, want string) (*yaml.Node, platform.CatalogErrors) {
		return nil, platform.CatalogErrors{{Source: source, Problem: problem, Want: want}}
	}
	switch {
	case len(data) > maxSize:
		return refuse(fmt.Sprintf("the file is larger than %d MiB", maxSize>>20), "the catalog split into several files")
	case !utf8.Valid(data):
		return refuse("the file is not UTF-8", "the file saved as UTF-8")
	case countMarks(data) > maxMarks:
		return refuse("the file holds too many values", "the catalog split into several files")
	case bytes.Count(data, []byte("%TAG")) > maxTagDirectives:
		return refuse("the file holds too many %TAG directives", "a file without them")
	}
	var doc yaml.Node
	limits := yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth)))
	if err := yaml.Load(joinSurrogates(data), &doc, limits); err != nil {
		return nil, platform.CatalogErrors{syntaxError(source, err)}
	}
	root := &doc
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		root = doc.Content[0]
	}
	c := checker{source: source}
	if root.Kind != yaml.MappingNode {
		c.fail(root, "an OpenAPI document", "the document is "+kindOf(root))
		return nil, c.errs
	}
	c.check(root)
	return root, c.errs
}

func countMarks(data []byte) int {
	n := 0
	for _, b := range data {
		switch b {
		case ',', ':', '[', '{', '-', '?', '&', '!', '*':
			n++
		}
	}
	return n
}

// syntaxError turns the YAML parser's error into ours.
func syntaxError(source string, err error) *platform.CatalogError {
	e := &platform.CatalogError{Source: source, Problem: "the YAML cannot be read: " + clip(err.Error()), Want: "one valid YAML or JSON document"}
	var le *yaml.LoadError
	if !errors.As(err, &le) {
		return e
	}
	e.Line, e.Column = le.Mark.Line, le.Mark.Column
	e.Problem = "the YAML cannot be read: " + clip(strings.TrimPrefix(le.Message, "yaml: "))
	if strings.Contains(le.Message, "max depth") {
		e.Problem = fmt.Sprintf("values nest deeper than %d", maxDepth)
		e.Want = "a $ref where it gets too deep"
	}
	return e
}

// joinSurrogates rewrites the escaped surrogate pairs of a JSON document
// (RFC 8259, section 7), which YAML does not know, as the characters that they
// stand for. Lines stay what they are.
func joinSurrogates(data []byte) []byte {
	if !bytes.Contains(data, []byte(`\ud`)) && !bytes.Contains(data, []byte(`\uD`)) || !json.Valid(data) {
		return data
	}
	out := make([]byte, 0, len(data))
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			out = append(out, data[i])
			continue
		}
		r := escapedRune(data[i:])
		switch {
		case !utf16.IsSurrogate(r):
			out = append(out, data[i], data[i+1])
			i++
		default:
			if pair := utf16.DecodeRune(r, escapedRune(data[i+6:])); pair != utf8.RuneError {
				r, i = pair, i+6
			} else {
				r = utf8.RuneError
			}
			out = utf8.AppendRune(out, r)
			i += 5
		}
	}
	return out
}

// escapedRune reads a \u escape of four digits at the start of b; 0 if there is
// none.
func escapedRune(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(n)
}

// checker visits every node once.
type checker struct {
	source string
	// at is the way from the root to the node that is looked at.
	at   []string
	errs platform.CatalogErrors
}

func (c *checker) fail(n *yaml.Node, want, problem string) {
	c.errs.Add(&platform.CatalogError{Source: c.source, Position: position(n, pointer(c.at)), Problem: problem, Want: want})
}

func (c *checker) check(n *yaml.Node) {
	if len(c.at) > maxDepth {
		c.fail(n, "a $ref where it gets too deep", fmt.Sprintf("values nest deeper than %d", maxDepth))
		return
	}
	switch n.Kind {
	case yaml.MappingNode:
		if n.ShortTag() != "!!map" {
			c.fail(n, "a plain mapping", fmt.Sprintf("the YAML tag %q is not known here", clip(n.Tag)))
		}
		c.checkMapping(n)
	case yaml.SequenceNode:
		if n.ShortTag() != "!!seq" {
			c.fail(n, "a plain list", fmt.Sprintf("the YAML tag %q is not known here", clip(n.Tag)))
		}
		for i, item := range n.Content {
			c.at = append(c.at, strconv.Itoa(i))
			c.check(item)
			c.at = c.at[:len(c.at)-1]
		}
	case yaml.ScalarNode:
		c.checkScalar(n)
	case yaml.AliasNode:
		c.fail(n, "the value itself, or a $ref", fmt.Sprintf("YAML aliases like *%s are not supported", clip(n.Value)))
	default:
		c.fail(n, "a mapping, a list or a value", "the node is of an unknown kind")
	}
}

func (c *checker) checkMapping(n *yaml.Node) {
	lines := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		c.at = append(c.at, key.Value)
		line, dup := lines[key.Value]
		switch {
		case key.Kind == yaml.AliasNode:
			c.fail(key, "the value itself, or a $ref", fmt.Sprintf("YAML aliases like *%s are not supported", clip(key.Value)))
		case key.Kind != yaml.ScalarNode:
			c.fail(key, "a string", "the key is "+kindOf(key))
		case key.ShortTag() == "!!merge":
			c.fail(key, "the members themselves, or a $ref", "YAML merge keys are not supported")
		case dup:
			c.fail(key, "each key once", fmt.Sprintf("the key %q is in line %d already", clip(key.Value), line))
		default:
			lines[key.Value] = key.Line
			c.check(n.Content[i+1])
		}
		c.at = c.at[:len(c.at)-1]
	}
}

func (c *checker) checkScalar(n *yaml.Node) {
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!null", "!!bool", "!!timestamp", "!!binary":
	case "!!int", "!!float":
		if _, ok := jsonNumber(n.Value); !ok {
			c.fail(n, "a number as JSON writes it, or a string in quotes", fmt.Sprintf("JSON has no number %q", clip(n.Value)))
		}
	default:
		c.fail(n, "a plain value", fmt.Sprintf("the YAML tag %q is not known here", clip(tag)))
	}
}

// jsonNumber gives the text of a YAML number in JSON. A number that JSON could
// have written keeps its text, whatever its precision.
func jsonNumber(s string) (string, bool) {
	if json.Valid([]byte(s)) && s != "" && (s[0] == '-' || s[0] >= '0' && s[0] <= '9') && strings.TrimSpace(s) == s {
		return s, true
	}
	if len(s) > 64 {
		return "", false
	}
	if n, err := strconv.ParseInt(s, 0, 64); err == nil {
		return strconv.FormatInt(n, 10), true
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return "", false
	}
	return strconv.FormatFloat(f, 'g', -1, 64), true
}
