// Package docs_test keeps the documentation true: every example of a Caddyfile
// adapts, every JSON example parses, every link inside the project leads
// somewhere, and every error code is explained.
package docs_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/stretchr/testify/require"

	_ "github.com/caddy-openplatform/openplatform"
	"github.com/caddy-openplatform/openplatform/internal/catalog"
	"github.com/caddy-openplatform/openplatform/internal/gate"
)

const root = ".."

// pages are all Markdown files of the project.
func pages(t *testing.T) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "data" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			found = append(found, path)
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, len(found), 10)
	return found
}

var fence = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

// examples calls fn with every fenced block of a language.
func examples(t *testing.T, language string, fn func(t *testing.T, text string)) {
	t.Helper()
	n := 0
	for _, page := range pages(t) {
		data, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range fence.FindAllStringSubmatchIndex(string(data), -1) {
			if string(data[m[2]:m[3]]) != language {
				continue
			}
			n++
			line := 1 + strings.Count(string(data[:m[0]]), "\n")
			t.Run(fmt.Sprintf("%s:%d", strings.TrimPrefix(page, root+"/"), line), func(t *testing.T) {
				fn(t, string(data[m[4]:m[5]]))
			})
		}
	}
	require.Positive(t, n, "no example in %s", language)
}

// TestCaddyfiles adapts every example, whole or as the part that it shows: of
// a site, of a route with an environment, of the global options, or of the
// global option open_platform.
func TestCaddyfiles(t *testing.T) {
	examples(t, "caddyfile", func(t *testing.T, text string) {
		frames := []string{
			"%s", ":80 {\n%s\n}", "{\n%s\n}", "{\nopen_platform {\n%s\n}\n}",
			":80 {\nopen_gate production {\n%s\n}\n}", ":80 {\nopen_sign {\n%s\n}\n}",
			":80 {\nreverse_proxy localhost:1 {\n%s\n}\n}", ":80 {\nlog {\n%s\n}\n}",
		}
		var problems []string
		for _, frame := range frames {
			_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(fmt.Appendf(nil, frame, text), nil)
			if err == nil {
				return
			}
			problems = append(problems, err.Error())
		}
		t.Fatalf("does not adapt:\n%s\n%s", text, strings.Join(problems, "\n"))
	})
}

func TestJSON(t *testing.T) {
	examples(t, "json", func(t *testing.T, text string) {
		require.True(t, json.Valid([]byte(text)), text)
	})
}

func TestCatalogs(t *testing.T) {
	examples(t, "yaml", func(t *testing.T, text string) {
		if strings.Contains(text, "openapi:") {
			_, err := catalog.Parse("example.yaml", []byte(text))
			require.NoError(t, err)
		}
	})
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinks follows every link that stays inside the project, down to the
// heading.
func TestLinks(t *testing.T) {
	for _, page := range pages(t) {
		data, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(string(data), ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			file, heading, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			info, err := os.Stat(target)
			require.NoError(t, err, "%s links to %s", page, m[1])
			if info.IsDir() || heading == "" {
				continue
			}
			text, err := os.ReadFile(target)
			require.NoError(t, err)
			require.Contains(t, anchors(string(text)), heading, "%s links to %s", page, m[1])
		}
	}
}

var (
	headings = regexp.MustCompile(`(?m)^#+ (.*)$`)
	explicit = regexp.MustCompile(`<a (?:id|name)="([^"]+)">`)
	unwanted = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors are the fragments that a page offers, as GitHub makes them.
func anchors(text string) []string {
	var found []string
	for _, m := range headings.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		found = append(found, strings.ReplaceAll(unwanted.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	for _, m := range explicit.FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

// TestErrorDictionary holds the page of error codes against the codes: none is
// missing, none is made up, and each refusal's link leads to its place.
func TestErrorDictionary(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("reference", "errors.md"))
	require.NoError(t, err)
	explained := anchors(string(data))
	for _, code := range gate.Codes {
		require.Contains(t, explained, code.Name)
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| \[.%s.\]\(#%[1]s\) \| %d \| (.+) \|$`, code.Name, code.Status)).FindStringSubmatch(string(data))
		require.NotNil(t, row, "%s has no row in the table, or another status", code.Name)
		require.Contains(t, string(data), fmt.Sprintf("## %s\n\nStatus %d, stage %s.\n", code.Name, code.Status, row[1]))
	}
	isCode := func(s string) bool {
		return slices.ContainsFunc(gate.Codes, func(c *gate.Code) bool { return c.Name == s })
	}
	for _, a := range explained {
		if strings.Contains(a, "_") {
			require.True(t, isCode(a), "%s is explained and does not exist", a)
		}
	}
}
