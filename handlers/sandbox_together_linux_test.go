package handlers_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSandboxMerchantTogether: of nodes that start together one makes the
// merchant, and for the others that is no failure. A pipe that is full holds the
// start between its look for merchants and its own.
func TestSandboxMerchantTogether(t *testing.T) {
	s := setup{upstream: business(t), site: "open_gate sandbox\n open_mock"}
	w := s.run(t)
	path := filepath.Join(w.dir, "merchant.json")
	require.NoError(t, syscall.Mkfifo(path, 0o400))
	require.NoError(t, os.Chmod(path, 0o640))
	pipe, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	require.NoError(t, err)
	defer pipe.Close()
	require.NoError(t, pipe.SetWriteDeadline(time.Now().Add(time.Second)))
	for err == nil {
		_, err = pipe.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)

	s.global = "sandbox_merchant DIR/merchant.json"
	s.options = "log failures {\n output file DIR/failures.log\n level ERROR\n}"
	service, loaded := w.service, make(chan error, 1)
	go func() { loaded <- w.load(s) }()
	require.Eventually(t, func() bool {
		info, err := os.Stat(path)
		return err == nil && info.Mode().Perm() == 0o600 // opened
	}, 10*time.Second, time.Millisecond)
	_, err = service.CreateUser(t.Context(), "another node", "demo", "Demo shop", "password of the other")
	require.NoError(t, err)
	_, err = pipe.Read(make([]byte, 1<<20)) // room for the credentials
	require.NoError(t, err)
	require.NoError(t, <-loaded)
	require.NoFileExists(t, path)
	failures, err := os.ReadFile(filepath.Join(w.dir, "failures.log"))
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	require.NotContains(t, string(failures), "sandbox merchant")
	_, err = w.service.CheckPassword(t.Context(), netip.Addr{}, "demo", "password of the other")
	require.NoError(t, err)
}
