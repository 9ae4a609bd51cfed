package pusher

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDialLeavesTime: an address of a name that does not answer leaves time for the
// next one.
func TestDialLeavesTime(t *testing.T) {
	port, _ := listener(t)
	dead, err := net.Listen("tcp", "127.0.0.2:"+port)
	require.NoError(t, err)
	defer dead.Close()
	raw, err := dead.(*net.TCPListener).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) })) // one waits, and nobody else is answered
	require.NoError(t, err)
	waits, err := net.Dial("tcp", dead.Addr().String())
	require.NoError(t, err)
	defer waits.Close()

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	to := target{net.JoinHostPort("shop.example.com", port), true}
	_, err = testDialer(loopback, names("127.0.0.2")).connection(ctx, to)
	require.Equal(t, ClassTimeout, classOf(err))
	ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	c, err := testDialer(loopback, names("127.0.0.2", "127.0.0.1")).connection(ctx, to)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", c.address)
	require.NoError(t, c.Close())
}
