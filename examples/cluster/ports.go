//go:build ignore

// Ports prints NAME=PORT for each argument of that form: the port that is asked
// for where it is free, else a free one. Port 0 asks for any free port. It asks
// by listening, which works on every system, and finds a running Caddy too,
// whose listeners would let a second Caddy share their port.
package main

import (
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	for _, arg := range os.Args[1:] {
		name, port, _ := strings.Cut(arg, "=")
		// All stay open until the end, so that none is given twice.
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			fmt.Fprintf(os.Stderr, "Port %s (%s) is not free; taking another one.\n", port, name)
			l, err = net.Listen("tcp", "127.0.0.1:0")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "finding a free port:", err)
			os.Exit(1)
		}
		fmt.Printf("%s=%d\n", name, l.Addr().(*net.TCPAddr).Port)
	}
}
