package catalog_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// webhook is a topic whose operation's lines begin in line 8.
func webhook(lines ...string) string {
	all := []string{"  {}", "webhooks:", "  created:", "    post:"}
	for _, l := range append([]string{"x-open-topic: order.created"}, lines...) {
		all = append(all, "      "+l)
	}
	return doc(all...)
}

// message is a topic whose messages have that schema, with further schemas.
func message(schema, schemas string) string {
	return webhook("requestBody: {content: {application/json: {schema: "+schema+"}}}") + "components: {schemas: {" + schemas + "}}\n"
}

func oneTopic(t *testing.T, text string) platform.Topic {
	t.Helper()
	file := parse(t, text)
	require.Len(t, file.Topics, 1)
	require.Empty(t, file.APIs)
	return file.Topics[0]
}

func TestTopicsOfACatalog(t *testing.T) {
	file := parse(t, `
openapi: 3.1.0
info: {title: t, version: "1.0"}
x-open-package: trade
x-open-upstream: "a:1"
x-open-rate: 1/s
webhooks:
  created:
    post:
      x-open-topic: order.created
      summary: 订单创建
      description: |
        An order was made.
      requestBody: {$ref: "#/components/requestBodies/Order"}
      responses: {200: {description: ok}}
  rate:
    x-open-topic: rate.changed
    x-open-package: basic
    x-open-user-token: false
    x-open-status: draft
    x-open-provider: platform
    post:
      requestBody: {content: {text/plain: {example: x}, application/json: {schema: {type: object, properties: {n: {type: integer}}}}}}
  old:
    post: {x-open-topic: order.old, deprecated: true}
components:
  requestBodies:
    Order: {content: {application/json: {schema: {type: object}, example: {id: 1.50}}}}
`)
	require.Empty(t, file.APIs)
	for i := range file.Topics {
		require.True(t, json.Valid(file.Topics[i].Spec))
		file.Topics[i].Spec = nil
	}
	const draft = `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"`
	require.Equal(t, []platform.Topic{
		{
			Name: "order.created", Title: "订单创建", Description: "An order was made.", Package: "trade", UserToken: true, Source: "test.yaml",
			Schema: json.RawMessage(draft + `}`), Example: json.RawMessage(`{"id":1.50}`),
		},
		{
			Name: "rate.changed", Package: "basic", Status: platform.Draft, Source: "test.yaml",
			Schema: json.RawMessage(draft + `,"properties":{"n":{"type":"integer"}}}`), Example: json.RawMessage(`{"n":0}`),
		},
		{Name: "order.old", Package: "trade", UserToken: true, Status: platform.Deprecated, Source: "test.yaml"},
	}, file.Topics)
}

func TestTopicMistakes(t *testing.T) {
	const at = "/webhooks/created/post"
	const schema = at + "/requestBody/content/application~1json/schema"
	for name, c := range map[string]struct {
		text    string
		line    int
		pointer string
		says    string
	}{
		"empty name":      {doc("  {}", "webhooks:", "  a:", "    post: {x-open-topic: ''}"), 7, "/webhooks/a/post/x-open-topic", "no topic name; want words joined by dots"},
		"bad name":        {doc("  {}", "webhooks:", "  a:", "    x-open-topic: order created", "    post: {}"), 7, "/webhooks/a/x-open-topic", "no topic name"},
		"method":          {doc("  {}", "webhooks:", "  a:", "    get: {x-open-topic: a.b}"), 7, "/webhooks/a/get", "a message is posted, and not sent by get; want post"},
		"API's name":      {webhook("x-open-name: a.b"), 9, at + "/x-open-name", "want no x-open-name"},
		"version":         {webhook("x-open-version: '1'"), 9, at + "/x-open-version", "a topic has no version"},
		"sunset":          {webhook("deprecated: true", "x-open-sunset: 2027-01-01"), 10, at + "/x-open-sunset", "a topic has no sunset"},
		"provider":        {webhook("x-open-provider: merchant"), 9, at + "/x-open-provider", "want platform, or no x-open-topic"},
		"upstream":        {webhook("x-open-upstream: a:1"), 9, at + "/x-open-upstream", "no extension"},
		"misspelt":        {webhook("x-open-user-tokens: true"), 9, at + "/x-open-user-tokens", "want x-open-user-token"},
		"token flag":      {webhook("x-open-user-token: 1"), 9, at + "/x-open-user-token", "want true or false"},
		"status":          {webhook("x-open-status: live"), 9, at + "/x-open-status", "no status"},
		"description":     {webhook("description: " + strings.Repeat("长", 2001)), 9, at + "/description", "want at most 2000 characters"},
		"no JSON":         {webhook("requestBody: {content: {text/plain: {}}}"), 9, at + "/requestBody/content", "a message is JSON"},
		"content":         {webhook("requestBody: {content: []}"), 9, at + "/requestBody/content", "it is a list"},
		"twice":           {webhook() + "  again:\n    post: {x-open-topic: order.created}\n", 10, "/webhooks/again/post", "order.created is at line 7 (" + at + ") already"},
		"callout's token": {doc("  {}", "webhooks:", "  a:", "    get: {x-open-name: a.b, x-open-user-token: true}"), 7, "/webhooks/a/get/x-open-user-token", "a callout needs no"},

		"schema":        {message("[]", ""), 9, schema, "the schema is a list"},
		"type":          {message("{type: text}", ""), 9, schema + "/type", "the schema cannot be used"},
		"pattern":       {message("{pattern: '('}", ""), 9, schema + "/pattern", "the schema cannot be used"},
		"in a part":     {message("{$ref: '#/components/schemas/A'}", "A: {items: {properties: {b: {maximum: x}}}}"), 10, "/components/schemas/A/items/properties/b/maximum", "the schema cannot be used"},
		"list of types": {message("{properties: [1]}", ""), 9, schema + "/properties", "the schema cannot be used"},
		"address":       {message("{properties: {a: {$id: 'https://x.example/'}}}", ""), 9, schema + "/properties/a/$id", "cannot have $id; want a $ref"},
		"anchor":        {message("{$ref: '#/components/schemas/A'}", "A: {$dynamicAnchor: a}"), 10, "/components/schemas/A/$dynamicAnchor", "cannot have $dynamicAnchor"},
		"circle":        {message("{$ref: '#/components/schemas/A'}", "A: {$ref: '#/components/schemas/A'}"), 9, schema, "lead in a circle"},
		"wide circle":   {message("{$ref: '#/components/schemas/A'}", "A: {allOf: [{$ref: '#/components/schemas/B'}]}, B: {anyOf: [{$ref: '#/components/schemas/A'}]}"), 9, schema, "in a circle"},
		"no schema":     {message("{$ref: '#/info/title'}", ""), 9, schema, "lead to no schema"},
		"choices":       {message("{$ref: '#/components/schemas/S0'}", manyChoices(9)), 9, schema, "more than 10000 ways"},
		"large":         {message("{$ref: '#/components/schemas/A'}", "A: {description: "+strings.Repeat("x", 1<<20)+"}"), 9, schema, "more than 1 MiB"},
		"large parts":   {message("{$ref: '#/components/schemas/A'}", manyParts(100, 20_000)), 9, schema, "more than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			all := mistakes(t, c.text)
			require.Equal(t, c.line, all[0].Line, all.Error())
			require.Equal(t, c.pointer, all[0].Pointer, all.Error())
			require.Contains(t, all[0].Error(), c.says)
			require.NotEmpty(t, all[0].Want)
			require.Less(t, len(all[0].Error()), 1000)
		})
	}
}

// manyChoices are schemas of ten choices each, n deep.
func manyChoices(n int) string {
	var b strings.Builder
	for i := range n {
		choice := fmt.Sprintf("{$ref: '#/components/schemas/S%d'},", i+1)
		fmt.Fprintf(&b, "S%d: {oneOf: [%s]}, ", i, strings.Repeat(choice, 10))
	}
	return b.String() + fmt.Sprintf("S%d: {}", n)
}

// manyParts is a schema A of n parts of that size.
func manyParts(n, size int) string {
	var b strings.Builder
	b.WriteString("A: {properties: {")
	for i := range n {
		fmt.Fprintf(&b, "p%d: {$ref: '#/components/schemas/P%d'}, ", i, i)
	}
	b.WriteString("}}")
	for i := range n {
		fmt.Fprintf(&b, ", P%d: {description: %s}", i, strings.Repeat("x", size))
	}
	return b.String()
}

// validator compiles a schema that must need nothing but itself.
func validator(t *testing.T, schema json.RawMessage) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(schema)))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	require.NoError(t, c.AddResource("mem:///schema", doc))
	compiled, err := c.Compile("mem:///schema")
	require.NoError(t, err, string(schema))
	return compiled
}

// A schema stands by itself: a validator that knows nothing of the file accepts
// and refuses what the file means.
func TestTopicSchemaStandsByItself(t *testing.T) {
	const a = "{$ref: '#/components/schemas/A'}"
	for name, c := range map[string]struct {
		schema, schemas string
		good, bad       []string
	}{
		"nothing":       {"{}", "", []string{`1`, `null`}, nil},
		"inline":        {"{type: object, required: [n], properties: {n: {type: integer}}}", "", []string{`{"n":1}`}, []string{`{}`, `{"n":"1"}`, `1`}},
		"reference":     {a, "A: {type: object, properties: {b: {$ref: '#/components/schemas/B'}}}, B: {enum: [1, x]}", []string{`{"b":1}`, `{}`}, []string{`{"b":2}`, `[]`}},
		"chain":         {a, "A: {$ref: '#/components/schemas/B'}, B: {type: integer}", []string{`1`}, []string{`"1"`}},
		"all of":        {"{allOf: [" + a + ", {required: [c]}]}", "A: {required: [b]}", []string{`{"b":1,"c":1}`}, []string{`{"b":1}`, `{"c":1}`}},
		"siblings":      {"{$ref: '#/components/schemas/A', minimum: 5}", "A: {type: integer}", []string{`5`}, []string{`4`, `"5"`}},
		"recursion":     {a, "A: {type: object, properties: {next: " + a + ", n: {type: integer}}}", []string{`{"next":{"next":{"n":1}}}`}, []string{`{"next":{"next":{"n":"1"}}}`}},
		"into a schema": {"{$ref: '#/components/schemas/A/properties/b/items'}", "A: {properties: {b: {items: {type: string}}}}", []string{`"x"`}, []string{`1`}},
		"escaped":       {"{items: {$ref: '#/components/schemas/a~1b%20c'}}", "'a/b c': {type: string}, A: {}", []string{`["x"]`}, []string{`[1]`}},
		"same name":     {"{properties: {x: {$ref: '#/components/schemas/A'}, y: {$ref: '#/components/parameters/A'}}}", "A: {type: string}}, parameters: {A: {type: integer}", []string{`{"x":"1","y":1}`}, []string{`{"x":1}`, `{"y":"1"}`}},
		"own defs":      {a, "A: {$defs: {D: {type: string}}, items: {$ref: '#/components/schemas/A/$defs/D'}}", []string{`["x"]`}, []string{`[1]`}},
		"keywords as names": {
			"{properties: {$ref: {type: string}, $defs: {type: integer}, enum: " + a + "}, additionalProperties: false}", "A: {type: boolean}",
			[]string{`{"$ref":"x","$defs":1,"enum":true}`},
			[]string{`{"$ref":1}`, `{"$defs":"1"}`, `{"enum":1}`, `{"x":1}`},
		},
		"reference in data": {"{enum: [{$ref: '#/nowhere'}], default: {$ref: '#/nowhere'}}", "", []string{`{"$ref":"#/nowhere"}`}, []string{`{}`}},
		"booleans":          {"{properties: {a: true, b: false}, additionalProperties: false, items: " + a + "}", "A: {not: {}}", []string{`{"a":1}`, `[]`}, []string{`{"b":1}`, `{"c":1}`, `[1]`}},
		"conditions":        {"{if: {properties: {k: {const: a}}}, then: {required: [x]}, else: " + a + ", dependentRequired: {$id: [z]}}", "A: {required: [y]}", []string{`{"k":"a","x":1}`, `{"k":"b","y":1}`}, []string{`{"k":"a"}`, `{"k":"b"}`, `{"k":"b","y":1,"$id":1}`}},
	} {
		t.Run(name, func(t *testing.T) {
			topic := oneTopic(t, message(c.schema, c.schemas))
			schema := validator(t, topic.Schema)
			check := func(text string) error {
				v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
				require.NoError(t, err)
				return schema.Validate(v)
			}
			for _, text := range c.good {
				require.NoError(t, check(text), "%s by %s", text, topic.Schema)
			}
			for _, text := range c.bad {
				require.Error(t, check(text), "%s by %s", text, topic.Schema)
			}
		})
	}
}

// What OpenAPI 3.0 says in its own way means the same afterwards.
func TestTopicSchemaOf30(t *testing.T) {
	text := strings.Replace(message(
		"{type: object, properties: {a: {type: string, nullable: true, enum: [x]}, b: {minimum: 1, exclusiveMinimum: true, maximum: 9, exclusiveMaximum: false}, c: {$ref: '#/components/schemas/C', minimum: 5}}}",
		"C: {type: integer}"), "3.1.0", "3.0.3", 1)
	schema := validator(t, oneTopic(t, text).Schema)
	for text, good := range map[string]bool{
		`{"a":"x"}`: true, `{"a":null}`: true, `{"a":"y"}`: false, `{"a":1}`: false,
		`{"b":1}`: false, `{"b":1.5}`: true, `{"b":9}`: true, `{"b":10}`: false,
		`{"c":1}`: true, `{"c":"1"}`: false,
	} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		require.NoError(t, err)
		require.Equal(t, good, schema.Validate(v) == nil, text)
	}
}
