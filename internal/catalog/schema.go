package catalog

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

const (
	// maxSchema bounds the schema of a topic with all that it refers to, in bytes.
	maxSchema = 1 << 20
	// maxChoices bounds the ways in which schemas of schemas apply to one value,
	// each of which a validator may have to try.
	maxChoices = 10_000
)

// schemas are those that topics have or refer to, each written once.
type schemas struct {
	p *parser
	// is30 tells that the file is of OpenAPI 3.0, which has a dialect of its own.
	is30   bool
	pieces map[*yaml.Node]*piece
	// order has the pieces as they came, named those that have a name.
	order []*piece
	named map[string]*piece
	// numbers counts the pieces that would like a name.
	numbers map[string]int
}

// piece is a schema in the words of JSON Schema 2020-12. What it refers to is
// under $defs, in pieces of their own.
type piece struct {
	at   value
	text []byte
	// name is the one under $defs; empty where nothing refers to it.
	name string
	// refs are the pieces that it refers to, and inPlace those of them that
	// apply to the same value as this one, as often as they do.
	refs, inPlace []*piece
	// choices is how many schemas apply to a value, this one included; 0 while
	// it is not known.
	choices int
	// failed is set where a mistake was reported.
	failed bool
}

func newSchemas(p *parser) *schemas {
	version, _ := value{node: p.root}.get("openapi")
	return &schemas{p: p, is30: strings.HasPrefix(version.node.Value, "3.0."), pieces: map[*yaml.Node]*piece{}, named: map[string]*piece{}, numbers: map[string]int{}}
}

// bundle is a schema that stands by itself, as JSON: what it refers to is under
// $defs. Nil where there is none; the mistake is reported.
func (s *schemas) bundle(schema value) []byte {
	fail := func(want, format string, args ...any) []byte {
		s.p.fail(schema.node, schema.ptr, want, format, args...)
		return nil
	}
	if schema.node.Kind != yaml.MappingNode {
		return fail("an object", "the schema is %s", kindOf(schema.node))
	}
	root := s.piece(schema)
	for hops := 0; len(root.at.node.Content) == 2 && len(root.refs) == 1 && refOf(root.at.node) != nil; hops++ {
		if root = root.refs[0]; hops == maxHops {
			return fail("a $ref that ends at a schema", "the references lead in a circle")
		}
	}
	if root.at.node.Kind != yaml.MappingNode {
		return fail("a $ref that ends at a schema", "the references lead to no schema")
	}
	out := []byte(`{"$schema":"https://json-schema.org/draft/2020-12/schema"`)
	if len(root.text) > len("{}") {
		out = append(append(out, ','), root.text[1:len(root.text)-1]...)
	}
	all := root.reached()
	for i, def := range all {
		before := `,`
		if i == 0 {
			before = `,"$defs":{`
		}
		out = append(append(appendString(append(out, before...), def.name), ':'), def.text...)
		if len(out) > maxSchema {
			break
		}
	}
	if len(all) > 0 {
		out = append(out, '}')
	}
	if len(out) > maxSchema {
		return fail("a smaller schema", "the schema and what it refers to take more than %d MiB", maxSchema>>20)
	}
	if root.countChoices() > maxChoices {
		return fail("schemas that do not apply themselves, and fewer choices within choices",
			"the schema applies others to one value in a circle, or in more than %d ways", maxChoices)
	}
	if root.failed {
		return nil
	}
	return append(out, '}')
}

// piece writes a schema and all that it refers to, unless that is done.
func (s *schemas) piece(schema value) *piece {
	if known := s.pieces[schema.node]; known != nil {
		return known
	}
	first := len(s.order)
	made := s.add(schema)
	for i := first; i < len(s.order); i++ { // more of them come while they are written
		one := s.order[i]
		one.text = s.p.spend(func() []byte { return s.append(nil, one.at, one, true) }, one.at)
		if one.text == nil { // the file is too large, and that is reported
			one.text = []byte("{}")
		}
	}
	return made
}

func (s *schemas) add(schema value) *piece {
	made := &piece{at: schema}
	s.pieces[schema.node] = made
	s.order = append(s.order, made)
	return made
}

// refer finds or adds what the $ref of a schema of the piece names, and returns
// its address.
func (s *schemas) refer(v value, from *piece, inPlace bool) string {
	ref := refOf(v.node).Value
	target := s.p.target(ref)
	if target == nil { // reported by checkRefs
		from.failed = true
		return "#"
	}
	to := s.pieces[target]
	if to == nil {
		if !s.p.charge(target, v) {
			from.failed = true
			return "#"
		}
		to = s.add(value{v.key, target, strings.TrimPrefix(ref, "#")})
	}
	if to.name == "" {
		s.name(to, ref)
	}
	from.refs = append(from.refs, to)
	if inPlace {
		from.inPlace = append(from.inPlace, to)
	}
	return "#/$defs/" + to.name
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)

// name gives a piece the last part of the reference as its name, made simple,
// and unlike those of others.
func (s *schemas) name(to *piece, ref string) {
	last := ref[strings.LastIndexByte(ref, '/')+1:]
	if plain, err := url.PathUnescape(last); err == nil {
		last = plain
	}
	base := clip(notInName.ReplaceAllString(unescapePointer.Replace(last), "_"))
	for to.name = base; s.named[to.name] != nil; to.name = base + "_" + strconv.Itoa(s.numbers[base]) {
		s.numbers[base] = max(2, s.numbers[base]+1)
	}
	s.named[to.name] = to
}

// reached are the pieces that the piece leads to, itself only where one of them
// leads back.
func (p *piece) reached() (all []*piece) {
	seen := map[*piece]bool{}
	queue := []*piece{p}
	for i := 0; i < len(queue); i++ {
		p.failed = p.failed || queue[i].failed
		for _, to := range queue[i].refs {
			if !seen[to] {
				seen[to] = true
				queue, all = append(queue, to), append(all, to)
			}
		}
	}
	return all
}

// countChoices counts the schemas that apply to one value, each as often as it
// is applied. A circle counts as too many.
func (p *piece) countChoices() int {
	if p.choices > 0 {
		return p.choices
	}
	p.choices = maxChoices + 1 // until it is known: who meets it here is in a circle
	count := 1
	for _, to := range p.inPlace {
		if count += to.countChoices(); count > maxChoices {
			return maxChoices + 1
		}
	}
	p.choices = count
	return count
}
