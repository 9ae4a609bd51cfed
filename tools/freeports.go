//go:build ignore

// Freeports prints a line for each of the ports given as PORT=PURPOSE that is
// taken. It asks by listening, which works on every system, and finds a running
// Caddy too, whose listeners would let a second Caddy share their port.
package main

import (
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	for _, arg := range os.Args[1:] {
		port, purpose, _ := strings.Cut(arg, "=")
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err == nil {
			err = l.Close()
		}
		if err != nil {
			fmt.Printf("Port %s (%s) is taken.\n", port, purpose)
		}
	}
}
