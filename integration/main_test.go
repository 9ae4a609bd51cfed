// Package integration tests the whole binary: it builds ./cmd/caddy once, runs
// it with configurations as operators write them, and calls it over the
// network as apps do.
package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is the program under test.
var binary string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

// run builds the program and runs the tests. With INTEGRATION_RACE=1 the
// program is built with the race detector.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "open-platform-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "making a folder for the program:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "caddy")
	args := []string{"build", "-o", binary}
	if os.Getenv("INTEGRATION_RACE") == "1" {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "./cmd/caddy")...)
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building ./cmd/caddy: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
