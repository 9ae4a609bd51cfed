package catalog_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/catalog"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const mallPath = "../../examples/mall.openapi.yaml"

func mall(t *testing.T) *platform.CatalogFile {
	t.Helper()
	file, err := catalog.Load(mallPath)
	require.NoError(t, err)
	return file
}

// The golden holds one line an API or topic: what the platform needs to know of
// it.
func TestMallGolden(t *testing.T) {
	file := mall(t)
	var b strings.Builder
	for _, p := range file.Packages {
		b.WriteString("package " + p.Name + " " + p.Title + "\n")
		require.Equal(t, file.Source, p.Source)
	}
	for _, a := range file.APIs {
		line := []string{string(a.Provider), a.ID(), a.Method, a.Path, a.Package, a.Upstream, a.Title}
		if a.UserToken {
			line = append(line, "user-token")
		}
		if !a.Limits.IsZero() {
			limits, err := json.Marshal(a.Limits)
			require.NoError(t, err)
			line = append(line, string(limits))
		}
		b.WriteString(strings.Join(line, " | ") + "\n")
	}
	for _, topic := range file.Topics {
		line := []string{"topic", topic.Name, topic.Package, topic.Title}
		if topic.UserToken {
			line = append(line, "user-token")
		}
		b.WriteString(strings.Join(line, " | ") + "\n")
	}
	const golden = "testdata/mall.golden"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(golden, []byte(b.String()), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String())
}

func TestMallHasItsInterfaces(t *testing.T) {
	file := mall(t)
	require.Equal(t, "mall.openapi.yaml", file.Source)
	require.Len(t, file.Digest, 64)
	require.Len(t, file.APIs, 25)
	counts := map[string]int{}
	packages := map[string]bool{}
	for _, p := range file.Packages {
		packages[p.Name] = true
	}
	for _, a := range file.APIs {
		counts[string(a.Provider)+" "+a.Method]++
		require.True(t, packages[a.Package], "%s: package %s is not declared", a.Name, a.Package)
		require.Empty(t, a.Status, "%s: the stored status stays", a.Name)
		require.Equal(t, "1.0", a.Version)
		require.Equal(t, file.Source, a.Source)
		require.Equal(t, a.Name == "user.idcard.picture.get", a.UserToken, a.Name)
	}
	require.Equal(t, map[string]int{
		"platform GET": 7, "platform POST": 13, "merchant GET": 3, "merchant POST": 2,
	}, counts)
}

// Every answer and every request in the catalog must fit its own schema.
func TestMallExamplesFitTheirSchemas(t *testing.T) {
	file := mall(t)
	root := readYAML(t, mallPath)
	for _, a := range file.APIs {
		require.Equal(t, "application/json", a.Example.ContentType, a.Name)
		require.True(t, json.Valid(a.Example.Body), a.Name)
		require.True(t, json.Valid(a.Spec), a.Name)

		var spec map[string]any
		require.NoError(t, json.Unmarshal(a.Spec, &spec))
		require.NotEmpty(t, spec["description"], a.Name)
		checked := 0
		for status, r := range spec["responses"].(map[string]any) {
			content, _ := resolve(root, r)["content"].(map[string]any)
			for _, media := range content {
				media := media.(map[string]any)
				fits(t, root, a.Name+" "+status, media["schema"], media["example"])
				checked++
			}
		}
		require.GreaterOrEqual(t, checked, 2, "%s: an answer and a problem", a.Name)
		if a.Method == http.MethodPost {
			body := spec["requestBody"].(map[string]any)["content"].(map[string]any)["application/json"].(map[string]any)
			fits(t, root, a.Name+" request", body["schema"], body["example"])
		}
	}
}

// Every example message must fit the schema of its topic, as a validator reads it
// that knows nothing of the file.
func TestMallMessagesFitTheirSchemas(t *testing.T) {
	file := mall(t)
	require.Len(t, file.Topics, 5)
	packages := map[string]bool{}
	for _, p := range file.Packages {
		packages[p.Name] = true
	}
	for _, topic := range file.Topics {
		require.True(t, packages[topic.Package], topic.Name)
		require.NotEmpty(t, topic.Title, topic.Name)
		require.NotEmpty(t, topic.Description, topic.Name)
		schema := validator(t, topic.Schema)
		example, err := jsonschema.UnmarshalJSON(bytes.NewReader(topic.Example))
		require.NoError(t, err)
		require.NoError(t, schema.Validate(example), topic.Name)
		require.Error(t, schema.Validate(map[string]any{}), topic.Name)
	}
}

// libopenapi reads the same document without a complaint, and finds the same
// operations in it.
func TestMallReadsElsewhere(t *testing.T) {
	data, err := os.ReadFile(filepath.Clean(mallPath))
	require.NoError(t, err)
	doc, err := libopenapi.NewDocument(data)
	require.NoError(t, err)
	model, err := doc.BuildV3Model()
	require.NoError(t, err)

	found := map[string]string{}
	for path, item := range model.Model.Paths.PathItems.FromOldest() {
		for method, op := range item.GetOperations().FromOldest() {
			found[op.OperationId] = strings.ToUpper(method) + " " + path
		}
	}
	topics := 0
	for _, item := range model.Model.Webhooks.FromOldest() {
		if item.Extensions.GetOrZero("x-open-topic") != nil {
			topics++
			continue
		}
		for method, op := range item.GetOperations().FromOldest() {
			found[op.OperationId] = strings.ToUpper(method) + " "
		}
	}
	ours := map[string]string{}
	for _, a := range mall(t).APIs {
		ours[a.Name] = a.Method + " " + a.Path
	}
	require.Equal(t, found, ours)
	require.Len(t, mall(t).Topics, topics)
}
