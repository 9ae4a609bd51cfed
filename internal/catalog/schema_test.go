package catalog_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"
)

// readYAML decodes a document apart from the code under test.
func readYAML(t *testing.T, path string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Clean(path))
	require.NoError(t, err)
	var root map[string]any
	require.NoError(t, yaml.Unmarshal(data, &root))
	return root
}

// resolve follows a reference to an object.
func resolve(root map[string]any, v any) map[string]any {
	m, _ := v.(map[string]any)
	ref, ok := m["$ref"].(string)
	if !ok {
		return m
	}
	at := root
	for token := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		at, _ = at[token].(map[string]any)
	}
	return resolve(root, at)
}

// fits checks a value against the part of JSON Schema that the mall uses.
func fits(t *testing.T, root map[string]any, place string, schema, v any) {
	t.Helper()
	s := resolve(root, schema)
	require.NotNil(t, s, "%s: no schema", place)
	for _, part := range list(s["allOf"]) {
		fits(t, root, place, part, v)
	}
	if enum := list(s["enum"]); enum != nil {
		require.True(t, slices.ContainsFunc(enum, func(e any) bool { return number(e) == number(v) }), "%s: %v is not in %v", place, v, enum)
	}
	switch s["type"] {
	case "object":
		object, ok := v.(map[string]any)
		require.True(t, ok, "%s: %v is no object", place, v)
		for _, name := range list(s["required"]) {
			require.Contains(t, object, name, place)
		}
		properties, _ := s["properties"].(map[string]any)
		for name, property := range properties {
			if value, ok := object[name]; ok {
				fits(t, root, place+"/"+name, property, value)
			}
		}
		known := map[string]bool{}
		if properties != nil && schemaIsWhole(schema, root) {
			for name := range properties {
				known[name] = true
			}
			for name := range object {
				require.True(t, known[name], "%s: %s is not in the schema", place, name)
			}
		}
	case "array":
		items, ok := v.([]any)
		require.True(t, ok, "%s: %v is no list", place, v)
		for _, item := range items {
			fits(t, root, place+"[]", s["items"], item)
		}
	case "string":
		text, ok := v.(string)
		require.True(t, ok, "%s: %v is no string", place, v)
		if pattern, ok := s["pattern"].(string); ok {
			require.Regexp(t, pattern, text, place)
		}
		switch s["format"] {
		case "date-time":
			_, err := time.Parse(time.RFC3339, text)
			require.NoError(t, err, place)
		case "date":
			_, err := time.Parse(time.DateOnly, text)
			require.NoError(t, err, place)
		}
	case "integer":
		n, ok := number(v).(float64)
		require.True(t, ok && n == float64(int64(n)), "%s: %v is no integer", place, v)
		if least, ok := number(s["minimum"]).(float64); ok {
			require.GreaterOrEqual(t, n, least, place)
		}
	case "boolean":
		require.IsType(t, true, v, place)
	}
}

// schemaIsWhole tells whether a schema lists all members: parts of an allOf do not.
func schemaIsWhole(schema any, root map[string]any) bool {
	m, _ := schema.(map[string]any)
	ref, _ := m["$ref"].(string)
	return ref != "" && !slices.Contains([]string{"PageOf", "Person", "Tier"}, ref[strings.LastIndexByte(ref, '/')+1:])
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// number makes the numbers of YAML and JSON comparable.
func number(v any) any {
	switch n := v.(type) {
	case int:
		return float64(n)
	case int64:
		return float64(n)
	}
	return v
}
