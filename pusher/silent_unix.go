//go:build unix

package pusher

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"
)

// silent tells whether nothing has come over a connection that waits: neither its
// end, nor an answer that nobody asked for. It may not be used again if something has.
func silent(c net.Conn) bool {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if d, ok := c.(*dialed); ok {
		c = d.Conn
	}
	s, ok := c.(syscall.Conn)
	if !ok || c.SetDeadline(time.Time{}) != nil {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	nothing := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, err := syscall.Read(int(fd), b[:])
		nothing = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && nothing
}
