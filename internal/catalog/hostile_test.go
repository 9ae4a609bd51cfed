package catalog_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/catalog"
)

// Each of these is refused, and says why. That none hangs or exhausts the
// memory shows in that the test ends.
func TestHostileFilesAreRefused(t *testing.T) {
	r := strings.Repeat
	const mb = 1 << 20
	head := doc("  {}")
	manySchemas := func(n int, schema func(i int) string) string {
		var b strings.Builder
		b.WriteString("components:\n  schemas:\n")
		for i := range n {
			fmt.Fprintf(&b, "    S%d: %s\n", i, schema(i))
		}
		return b.String()
	}
	operations := func(n int, body string) string {
		var b strings.Builder
		b.WriteString(doc())
		for i := range n {
			fmt.Fprintf(&b, "  /v1/a%d: {get: {x-open-name: a.b%d, %s}}\n", i, i, body)
		}
		return b.String()
	}
	topics := func(n int, schema string) string {
		var b strings.Builder
		b.WriteString(doc("  {}") + "webhooks:\n")
		for i := range n {
			fmt.Fprintf(&b, "  w%d: {post: {x-open-topic: a.b%d, requestBody: {content: {application/json: {schema: %s}}}}}\n", i, i, schema)
		}
		return b.String()
	}
	laughs := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'z'; c++ {
		laughs += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(r("*"+string(c-1)+",", 10), ","))
	}
	cases := []struct{ name, text, says string }{
		{"too large", r(" ", 16*mb) + "x", "larger than 16 MiB"},
		{"not UTF-8", "openapi: \xff", "not UTF-8"},
		{"UTF-16", "\xff\xfeo\x00p\x00", "not UTF-8"},
		{"a control character", "openapi: \x00", "cannot be read"},
		{"deep lists", r("[", 10*mb), "too many values"},
		{"deep lists, fewer", r("[", mb), "nest deeper than 100"},
		{"deep objects", r("{a: ", mb/4), "nest deeper than 100"},
		{"deep blocks", r("- ", mb/2), "nest deeper than 100"},
		{"deep schema", head + "a: " + r("{a: ", 120) + r("}", 120), "nest deeper than 100"},
		{"millions of empty lists", "[" + r("[],", 3*mb) + "]", "too many values"},
		{"millions of items", "[" + r("a,", 3*mb) + "]", "too many values"},
		{"%TAG directives", r("%TAG !a! tag:a\n", mb/2) + "--- {}", "too many"},
		{"%TAG directives of few marks", r("%TAG a\n", 1000), "too many %TAG directives"},
		{"alias cycle", head + "x: &a [*a]\n", "aliases like *a are not supported"},
		{"alias cycle in a key", head + "x: &a {? *a : 1}\n", "aliases like *a are not supported"},
		{"billion laughs", head + laughs, "aliases like *a are not supported"},
		{"references in a circle", doc("  /v1/a: {get: {x-open-name: a.b, responses: {200: {$ref: '#/components/responses/A'}}}}") +
			"components: {responses: {A: {$ref: '#/components/responses/B'}, B: {$ref: '#/components/responses/A'}}}\n", "lead in a circle"},
		{"chain of references", doc("  /v1/a: {get: {x-open-name: a.b, responses: {200: {$ref: '#/components/schemas/S0'}}}}") +
			manySchemas(50, func(i int) string { return fmt.Sprintf("{$ref: '#/components/schemas/S%d'}", min(i+1, 49)) }), "lead in a circle"},
		{"too many operations", operations(10_001, "summary: x"), "more than 10000 operations"},
		{"one large example many times", operations(100, "responses: {200: {content: {application/json: {examples: {a: {$ref: '#/components/schemas/S0'}}}}}}") +
			manySchemas(1, func(int) string { return "{value: '" + r("x", mb) + "'}" }), "take more than 64 MiB"},
		{"one large object many times", operations(2000, "parameters: [{$ref: '#/components/schemas/S0'}]") +
			manySchemas(1, func(int) string { return "{name: a, in: query, x: [" + r("a,", 100_000) + "]}" }), "stand for more than 50000000 values"},
		{"one large schema in many topics", topics(1000, "{$ref: '#/components/schemas/S0'}") +
			manySchemas(1, func(int) string { return "{description: " + r("x", mb/2) + "}" }), "take more than 64 MiB"},
		{"many schemas in many topics", topics(2000, "{$ref: '#/components/schemas/S0'}") +
			manySchemas(900, func(i int) string {
				return fmt.Sprintf("{type: object, properties: {a: {$ref: '#/components/schemas/S%d'}, b: {type: string}}}", min(i+1, 899))
			}), "take more than 64 MiB"},
		{"too many topics", topics(10_001, "{}"), "more than 10000 operations"},
		{"misspelt extensions", head + func() string {
			var b strings.Builder
			for i := range 100_000 {
				fmt.Fprintf(&b, "x-open-%d%s: 1\n", i, r("y", 50))
			}
			return b.String()
		}(), "the root has no extension"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			all := mistakes(t, c.text)
			require.LessOrEqual(t, len(all), 50)
			require.Contains(t, all.Error(), c.says)
			require.Less(t, len(all.Error()), 50_000, "an error can be read")
			require.NotEmpty(t, all[0].Want)
		})
	}
}

// Schemas may refer to one another in circles and by the thousand. Examples
// made from them stay small.
func TestSchemasThatMultiply(t *testing.T) {
	var b strings.Builder
	for i := range 200 {
		fmt.Fprintf(&b, "  /v1/a%d: {get: {x-open-name: a.b%d, responses: {200: {content: {application/json: {schema: {properties: {s: {$ref: '#/components/schemas/S%d'}}}}}}}}}\n", i, i, i%12)
	}
	b.WriteString("components:\n  schemas:\n")
	for i := range 12 {
		fmt.Fprintf(&b, "    S%d: {properties: {", i)
		for j := range 12 {
			fmt.Fprintf(&b, "p%d: {$ref: '#/components/schemas/S%d'}, ", j, j)
		}
		b.WriteString("n: {type: integer}}}\n")
	}
	file := parse(t, doc(b.String()))
	require.Len(t, file.APIs, 200)
	for _, a := range file.APIs {
		require.NotEmpty(t, a.Example.Body)
		require.Less(t, len(a.Example.Body), 128<<10)
	}
}

// Choices that all come to nothing are not tried in every combination.
func TestChoicesThatMultiply(t *testing.T) {
	var b strings.Builder
	b.WriteString("  /v1/a: {get: {x-open-name: a.b, responses: {200: {content: {application/json: {schema: {$ref: '#/components/schemas/S0'}}}}}}}\n")
	b.WriteString("components:\n  schemas:\n    S9: {}\n")
	for i := range 9 {
		choice := fmt.Sprintf("{$ref: '#/components/schemas/S%d'},", i+1)
		fmt.Fprintf(&b, "    S%d: {oneOf: [%s]}\n", i, strings.Repeat(choice, 10))
	}
	require.Empty(t, one(t, doc(b.String())).Example)
}

// Ten thousand topics with schemas of their own are read.
func TestManyTopics(t *testing.T) {
	var b strings.Builder
	b.WriteString(doc("  {}") + "webhooks:\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "  w%d: {post: {x-open-topic: a.b%d, requestBody: {content: {application/json: {schema: {type: object, properties: {p%d: {$ref: '#/components/schemas/A'}}}}}}}}\n", i, i, i)
	}
	b.WriteString("components: {schemas: {A: {properties: {id: {type: string}, part: {$ref: '#/components/schemas/A'}}}}}\n")
	file := parse(t, b.String())
	require.Len(t, file.Topics, 10_000)
	require.Contains(t, string(file.Topics[9_999].Schema), `"p9999":{"$ref":"#/$defs/A"}`)
}

// A catalog of ten thousand operations is read.
func TestLargeCatalog(t *testing.T) {
	var b strings.Builder
	b.WriteString(doc())
	for i := range 10_000 {
		fmt.Fprintf(&b, `  /v1/things/{id}/part%d/{part}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: string}}
      - {name: part, in: path, required: true, schema: {type: string}}
    get:
      x-open-name: thing.part%d
      summary: 部件
      description: %s
      responses:
        "200":
          content: {application/json: {schema: {$ref: "#/components/schemas/Part"}}}
`, i, i, strings.Repeat("text ", 120))
	}
	b.WriteString("components: {schemas: {Part: {properties: {id: {type: string}, part: {$ref: '#/components/schemas/Part'}}}}}\n")
	require.Greater(t, b.Len(), 9<<20)
	file := parse(t, b.String())
	require.Len(t, file.APIs, 10_000)
	require.JSONEq(t, `{"id":"string"}`, string(file.APIs[9_999].Example.Body))
}

// The example in the reference is one that works.
func TestReferenceExample(t *testing.T) {
	page, err := os.ReadFile(filepath.Clean("../../docs/reference/catalog.md"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(page), "```yaml\n")
	require.True(t, found)
	example, _, found := strings.Cut(rest, "```")
	require.True(t, found)
	file, err := catalog.Parse("shop.openapi.yaml", []byte(example))
	require.NoError(t, err)
	names := map[string]string{}
	for _, a := range file.APIs {
		names[a.ID()] = string(a.Provider) + " " + a.Method + " " + a.Path + " " + a.Package
	}
	require.Equal(t, map[string]string{
		"shop.item.get@1.0":      "platform GET /v1/items/{item_id} basic",
		"shop.item.update@2.0":   "platform POST /v1/items/{item_id} shop",
		"callout.item.check@1.0": "merchant GET  shop",
	}, names)
	require.JSONEq(t, `{"item_id":"1001","price":4900}`, string(file.APIs[0].Example.Body))
	require.Len(t, file.Topics, 1)
	sold := file.Topics[0]
	require.Equal(t, []any{"shop.item.sold", "shop", true}, []any{sold.Name, sold.Package, sold.UserToken})
	message, err := jsonschema.UnmarshalJSON(bytes.NewReader(sold.Example))
	require.NoError(t, err)
	require.NoError(t, validator(t, sold.Schema).Validate(message))
}
