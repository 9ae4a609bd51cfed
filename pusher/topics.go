package pusher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// topics is the catalog's topics by name. It is immutable but for the schemas,
// which are made ready when they are first asked for.
type topics struct {
	catalog *platform.Catalog
	byName  map[string]*topic
}

type topic struct {
	*platform.Topic
	schema func() (*jsonschema.Schema, error)
}

// currentTopics are those of the catalog in force.
func (p *Pusher) currentTopics(ctx context.Context) (*topics, error) {
	c, err := p.options.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	if t := p.topics.Load(); t != nil && t.catalog == c {
		return t, nil
	}
	t := &topics{catalog: c, byName: make(map[string]*topic, len(c.Topics))}
	for i := range c.Topics {
		x := &topic{Topic: &c.Topics[i]}
		x.schema = sync.OnceValues(func() (*jsonschema.Schema, error) { return newSchema(x.Topic) })
		t.byName[x.Name] = x
	}
	p.topics.Store(t)
	return t, nil
}

// noLoader keeps schemas from naming files and hosts.
type noLoader struct{}

func (noLoader) Load(string) (any, error) {
	return nil, errors.New("a schema may not refer to other documents")
}

// newSchema makes a topic's schema ready; nil where it has none.
func newSchema(t *platform.Topic) (*jsonschema.Schema, error) {
	if len(t.Schema) == 0 {
		return nil, nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(t.Schema))
	if err != nil {
		return nil, fmt.Errorf("reading the schema of topic %s: %w", t.Name, err)
	}
	const name = "topic:schema"
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	if err := c.AddResource(name, doc); err != nil {
		return nil, fmt.Errorf("reading the schema of topic %s: %w", t.Name, err)
	}
	s, err := c.Compile(name)
	if err != nil {
		return nil, fmt.Errorf("reading the schema of topic %s: %w", t.Name, err)
	}
	return s, nil
}

// checkSchema compares data with the topic's schema. The first error is a
// mistake in the data, the second one in the schema.
func (t *topic) checkSchema(data []byte) (mistake, err error) {
	s, err := t.schema()
	if s == nil || err != nil {
		return nil, err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return &platform.FieldError{Field: "data", Problem: "it is no JSON"}, nil
	}
	mistake = s.Validate(v)
	if detail, ok := errors.AsType[*jsonschema.ValidationError](mistake); ok {
		mistake = &platform.FieldError{Field: "data", Problem: schemaProblem(detail), Want: "what the schema of topic " + t.Name + " says"}
	}
	return mistake, nil
}

// maxSchemaProblems is how many places of a message's data are named.
const maxSchemaProblems = 5

// schemaProblem names the places where data and schema differ.
func schemaProblem(e *jsonschema.ValidationError) string {
	var places []string
	var walk func(*jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		if len(e.Causes) == 0 && len(places) < maxSchemaProblems {
			places = append(places, e.Error())
		}
		for _, c := range e.Causes {
			walk(c)
		}
	}
	walk(e)
	return plainText(strings.Join(places, "; "))
}
