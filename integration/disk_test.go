package integration

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// disk is a small file system of a node's own.
type disk struct {
	t    *testing.T
	path string // as this process reaches it
}

// smallDisk puts a file system of so many MiB into the node's folder, in memory.
// The node gets a mount namespace for it, so that nothing is mounted elsewhere;
// this process is outside, and reaches it by the process that keeps it.
func (n *node) smallDisk(folder string, size int) *disk {
	n.t.Helper()
	path := filepath.Join(n.dir, folder)
	require.NoError(n.t, os.MkdirAll(path, 0o700))
	enter, into := []string{"--mount"}, []string{"--mount"}
	if os.Getuid() != 0 { // whoever is not root may mount in a user namespace of their own
		enter, into = append(enter, "--map-root-user"), append(into, "--user", "--preserve-credentials")
	}
	keeper := exec.Command("unshare", append(enter, "sh", "-c", fmt.Sprintf(`mount -t tmpfs -o size=%dm,mode=0700 store "$0" && echo there && exec cat`, size), path)...)
	keeper.Stderr = n.log
	stdin, err := keeper.StdinPipe()
	require.NoError(n.t, err)
	stdout, err := keeper.StdoutPipe()
	require.NoError(n.t, err)
	require.NoError(n.t, keeper.Start())
	n.t.Cleanup(func() {
		n.stop()
		_ = stdin.Close()
		_ = keeper.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(n.t, err, "no file system could be mounted: %s", n.log.String())
	require.Equal(n.t, "there\n", line)
	pid := strconv.Itoa(keeper.Process.Pid)
	n.via = append(append([]string{"nsenter", "--target", pid}, into...), "sh", "-c", `cd "$0" && exec "$@"`, n.dir)
	return &disk{n.t, filepath.Join("/proc", pid, "root", path)}
}

func (d *disk) ballast() string { return filepath.Join(d.path, "ballast") }

// fill leaves no room.
func (d *disk) fill() {
	d.t.Helper()
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	require.NoError(d.t, err)
	_, err = io.Copy(f, zeros{})
	require.ErrorIs(d.t, err, syscall.ENOSPC)
	require.NoError(d.t, f.Close())
}

// empty gives the room back.
func (d *disk) empty() {
	d.t.Helper()
	require.NoError(d.t, os.Remove(d.ballast()))
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
