// Package adapt_test holds the Caddyfile of every directive and option, and of
// every mistake that a user can make in them, against what the adapter says.
package adapt_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/stretchr/testify/require"

	_ "github.com/caddy-openplatform/openplatform"
)

var update = flag.Bool("update", false, "write what the adapter says into the golden files")

// separator stands between a Caddyfile and what is expected of it.
const separator = "----------\n"

// place is how an error names the file and the line.
var place = regexp.MustCompile(`Caddyfile:\d+`)

func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/*.caddyfiletest")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".caddyfiletest")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			input, want, found := strings.Cut(string(data), separator)
			require.True(t, found || *update, "%s has no separator", file)
			config, got := adapt(t, input)
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(input+separator+got+"\n"), 0o600))
			} else {
				require.Equal(t, strings.TrimSpace(want), got)
			}
			if strings.HasPrefix(name, "error_") {
				require.Nil(t, config, "this must be refused")
				require.Regexp(t, place, got)
				return
			}
			require.NotNil(t, config, got)
			requireModules(t, config)
		})
	}
}

// adapt gives the JSON, and how it or the error reads.
func adapt(t *testing.T, input string) (config []byte, text string) {
	t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return nil, err.Error()
	}
	var pretty bytes.Buffer
	require.NoError(t, json.Indent(&pretty, config, "", "\t"))
	return config, pretty.String()
}

// requireModules requires that Caddy knows every field of the configuration:
// it is read strictly, as `caddy validate` would.
func requireModules(t *testing.T, config []byte) {
	t.Helper()
	var c caddy.Config
	require.NoError(t, caddy.StrictUnmarshalJSON(config, &c))
	if raw := c.AppsRaw["open_platform"]; raw != nil {
		info, err := caddy.GetModule("open_platform")
		require.NoError(t, err)
		require.NoError(t, caddy.StrictUnmarshalJSON(raw, info.New()))
	}
}
