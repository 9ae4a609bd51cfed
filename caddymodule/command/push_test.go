package command

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// TestExampleIDs: who tries an ID of an example is told that there is no such
// message, not that it is no ID.
func TestExampleIDs(t *testing.T) {
	texts := map[string]string{}
	require.NoError(t, filepath.WalkDir("../../docs", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Clean(path))
		texts[path] = string(text)
		return err
	}))
	root := &cobra.Command{Use: "open-platform"}
	newCLI().attach(root)
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		texts[cmd.CommandPath()] = cmd.Long + cmd.Example + cmd.Flags().FlagUsages()
		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(root)
	found := 0
	for where, text := range texts {
		for _, id := range regexp.MustCompile(`\b(?:msg|dlv)_[0-9A-Za-z]+…?`).FindAllString(text, -1) {
			if strings.HasSuffix(id, "…") {
				continue // it is not there in full
			}
			_, noMessage := pusher.ParseMessageID(id)
			_, noDelivery := pusher.ParseDeliveryID(id)
			require.False(t, noMessage != nil && noDelivery != nil, "%s: %s is no ID", where, id)
			found++
		}
	}
	require.Greater(t, found, 10)
}

// TestNoID: what is no ID is the mistake of who wrote it.
func TestNoID(t *testing.T) {
	_, addr := admin(t)
	for _, args := range [][]string{
		{"delivery", "show", "foo"},
		{"delivery", "push", "dlv_" + strings.Repeat("v", 26)},
		{"delivery", "list", "--message", "foo"},
		{"message", "show", "dlv_0036cm8627ac00000000000008"},
	} {
		r := run(t, addr, args...)
		require.Equal(t, 2, r.code, "%s: %s%s", args, r.stdout, r.stderr)
		require.Contains(t, r.stderr, "is none; want", args)
	}
	run(t, addr, "delivery", "show", "dlv_0036cm8627ac00000000000008").failed(t, "not found")
}
