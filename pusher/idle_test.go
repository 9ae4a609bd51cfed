package pusher

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// pipe is a connection and what tells of its end.
func pipe(to target) (*connection, func() bool) {
	ours, theirs := net.Pipe()
	return newConnection(ours, &dialed{Conn: ours}, to), func() bool {
		_ = theirs.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := theirs.Read(make([]byte, 1))
		return errors.Is(err, io.EOF)
	}
}

func TestIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := target{hostPort: "a:443"}, target{hostPort: "b:443"}, target{hostPort: "c:443"}
		i := newIdleConnections(3, time.Now)
		first, firstEnded := pipe(a)
		second, secondEnded := pipe(b)
		third, thirdEnded := pipe(b)
		i.put(first)
		pass(idleTimeout / 2)
		i.put(second)
		i.put(third)
		require.Nil(t, i.take(c))
		require.Nil(t, i.take(target{hostPort: "b:443", plain: true}))
		require.Same(t, third, i.take(b), "the one that waited least")
		i.put(third)
		pass(idleTimeout/2 + time.Second)
		require.True(t, firstEnded(), "it waited for long")
		require.False(t, secondEnded())
		require.Nil(t, i.take(a))

		fourth, fourthEnded := pipe(c)
		fifth, fifthEnded := pipe(c)
		i.put(fourth)
		i.put(fifth)
		require.True(t, secondEnded(), "there are too many")
		require.False(t, thirdEnded())
		i.close()
		for _, ended := range []func() bool{thirdEnded, fourthEnded, fifthEnded} {
			require.True(t, ended())
		}
		late, lateEnded := pipe(c)
		i.put(late)
		require.True(t, lateEnded())
	})
}

// TestIdleConnectionsEndQuietly: an endpoint that reads nothing any more holds up
// nobody when the connection to it is closed.
func TestIdleConnectionsEndQuietly(t *testing.T) {
	certificates := httptest.NewTLSServer(nil)
	certificates.Close()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		done := make(chan error, 1)
		go func() {
			done <- tls.Server(theirs, &tls.Config{Certificates: certificates.TLS.Certificates, SessionTicketsDisabled: true}).Handshake()
		}()
		hostile := tls.Client(ours, &tls.Config{InsecureSkipVerify: true})
		require.NoError(t, hostile.Handshake())
		require.NoError(t, <-done)
		i := newIdleConnections(1, time.Now)
		i.put(newConnection(hostile, &dialed{Conn: ours}, target{hostPort: "hostile:443"}))
		began := time.Now()
		other, ended := pipe(target{hostPort: "other:443"})
		i.put(other)
		require.Zero(t, time.Since(began))
		i.close()
		require.True(t, ended())
	})
}

// closing is a connection that tells of its end.
type closing struct {
	net.Conn
	closed func()
}

func (c closing) Close() error { c.closed(); return nil }

// TestIdleConnectionsEndAside: others can take and put while one is closed.
func TestIdleConnectionsEndAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIdleConnections(2, time.Now)
		var ended atomic.Int64 // timers close some
		side := closing{closed: func() {
			ended.Add(1)
			require.True(t, i.mu.TryLock(), "the lock is free")
			i.mu.Unlock()
		}}
		put := func() { i.put(newConnection(side, &dialed{Conn: side}, target{hostPort: "a:443"})) }
		put()
		put()
		put()
		require.EqualValues(t, 1, ended.Load(), "there are too many")
		pass(2 * idleTimeout)
		require.EqualValues(t, 3, ended.Load(), "they waited for long")
		put()
		i.close()
		put()
		require.EqualValues(t, 5, ended.Load())
	})
}
