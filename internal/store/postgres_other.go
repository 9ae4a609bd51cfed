//go:build !linux

package store

import "syscall"

// boundUnacknowledged does nothing where the system has no such bound; the
// deadlines of calls and the keep-alives remain.
func boundUnacknowledged(string, string, syscall.RawConn) error { return nil }
