package integration

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestIntegratorsGuide runs what the guide shows under "Signing from scratch",
// a GET and a POST signed by openssl, as an integrator would paste it.
func TestIntegratorsGuide(t *testing.T) {
	guide, err := os.ReadFile("../docs/guides/integrator.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(guide), "\n## Signing from scratch\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(section, -1)
	require.Len(t, blocks, 2, "a GET and a POST")

	n := example(t)
	n.run()
	eventually(t, "the sandbox app is there", func() error {
		_, err := os.Stat(n.dir + "/data/sandbox-app.json")
		return err
	})
	script := strings.ReplaceAll("set -eu\n"+blocks[0][1]+"echo\n"+blocks[1][1], "localhost:8443", n.fill("localhost:%sandbox%"))
	for _, shell := range []string{"sh", "bash"} {
		cmd := exec.CommandContext(t.Context(), shell, "-c", script)
		cmd.Dir = n.dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), `"items"`, "the GET's answer")
		require.Contains(t, string(out), `"activated"`, "the POST's answer")
		require.NotContains(t, string(out), `"code"`)
	}
}
