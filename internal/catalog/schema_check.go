package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// checkSchemas has a validator read all schemas of topics: one that it cannot
// use is a mistake of the file, and not of the first message.
func (p *parser) checkSchemas() {
	if p.schemas == nil || len(p.errs) > 0 {
		return
	}
	for batch := range slices.Chunk(p.schemas.order, 100) {
		if err := p.schemas.compile(batch); err != nil {
			at, problem := p.schemas.mistake(err)
			p.fail(at.node, at.ptr, "a schema of JSON Schema 2020-12", "the schema cannot be used: %s", problem)
			return
		}
	}
}

// compile has a validator read some of the pieces. Together, since it costs it
// more to begin than to read; and not all together, for it gets slow then.
func (s *schemas) compile(batch []*piece) error {
	const address = "https://schema.invalid/"
	var defs, all []byte
	there := map[*piece]bool{}
	for _, one := range batch {
		if one.name == "" {
			s.name(one, "#/schema")
		}
		there[one] = true
		defs = append(append(append(appendString(defs, one.name), ':'), one.text...), ',')
		all = append(append(appendString(append(all, `{"$ref":`...), "#/$defs/"+one.name), '}'), ',')
	}
	for _, one := range batch {
		for _, to := range one.refs { // those of other batches have their turn
			if !there[to] {
				there[to] = true
				defs = append(appendString(defs, to.name), `:true,`...)
			}
		}
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(fmt.Appendf(nil, `{"$defs":{%s},"allOf":[%s]}`, withoutComma(defs), withoutComma(all))))
	if err != nil {
		return err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	if err := c.AddResource(address, doc); err != nil {
		return err
	}
	_, err = c.Compile(address)
	return err
}

// noLoader fetches nothing.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) { return nil, fmt.Errorf("%s is never fetched", url) }

// mistake finds the place of what a validator complains of.
func (s *schemas) mistake(err error) (at value, problem string) {
	var way []string
	problem = err.Error()
	if invalid := (*jsonschema.SchemaValidationError)(nil); errors.As(err, &invalid) {
		if v := (*jsonschema.ValidationError)(nil); errors.As(invalid.Err, &v) {
			for len(v.Causes) > 0 {
				v = v.Causes[0]
			}
			way = v.InstanceLocation
			problem = v.ErrorKind.LocalizedString(message.NewPrinter(language.English))
		}
	} else if _, place, ok := strings.Cut(problem, "#/"); ok {
		place, _, _ = strings.Cut(place, `"`)
		for token := range strings.SplitSeq(place, "/") {
			way = append(way, unescapePointer.Replace(token))
		}
	}
	at = s.order[0].at
	if len(way) < 2 || s.named[way[1]] == nil {
		return at, clipLong(problem)
	}
	at = s.named[way[1]].at
	for _, token := range way[2:] {
		next, ok := at.get(token)
		if !ok {
			break
		}
		at = next
	}
	return at, clipLong(problem)
}

// clipLong shortens what another library says, and makes it one line.
func clipLong(s string) string {
	const most = 300
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
