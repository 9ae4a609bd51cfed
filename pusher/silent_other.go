//go:build !unix

package pusher

import "net"

// silent would tell whether a connection that waits is open still. Where it is not
// known, the request shows it.
func silent(net.Conn) bool { return true }
