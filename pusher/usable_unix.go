//go:build unix

package pusher

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// usable tells whether a connection that waited can be used again: nothing has come
// over it, neither its end nor an answer that nobody asked for.
func usable(c net.Conn) bool {
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
