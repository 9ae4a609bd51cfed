package pusher

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// dialError is a connection that was not made, and why.
type dialError struct {
	class ErrorClass
	err   error
}

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// dialer connects to endpoints. It resolves names itself, looks at each address
// and connects to that address, not to the name: what a name server says between
// the look and the connection changes nothing.
type dialer struct {
	allow  []netip.Prefix
	egress netip.Addr
	tls    *tls.Config
	// lookup resolves a name to addresses.
	lookup lookup
}

// maxAddresses is how many addresses of a name are tried.
const maxAddresses = 8

// dialed is a connection that remembers where it leads.
type dialed struct {
	net.Conn
	address string
}

// connection connects to a target: without TLS only where the operator allows it.
func (d *dialer) connection(ctx context.Context, to target) (*connection, error) {
	c, host, err := d.connect(ctx, to.hostPort, to.plain)
	if err != nil {
		return nil, err
	}
	if to.plain {
		return newConnection(c, c, to), nil
	}
	config := d.tls.Clone()
	config.ServerName = host
	t := tls.Client(c, config)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		if ctx.Err() != nil {
			return nil, &dialError{ClassTimeout, errors.New("the TLS handshake did not end in time")}
		}
		return nil, &dialError{ClassTLS, err}
	}
	return newConnection(t, c, to), nil
}

// connect resolves the host and tries its addresses in order.
func (d *dialer) connect(ctx context.Context, hostPort string, plain bool) (*dialed, string, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, "", &dialError{ClassProtocol, errors.New("the URL's host is not valid")}
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return nil, "", &dialError{ClassProtocol, errors.New("the URL's port is not valid")}
	}
	addresses, err := d.resolve(ctx, host)
	if err != nil {
		return nil, "", err
	}
	var failure error
	for i, a := range addresses {
		if err := d.check(a, plain); err != nil {
			if failure == nil {
				failure = &dialError{ClassRefused, err}
			}
			continue
		}
		c, err := d.dial(ctx, netip.AddrPortFrom(a, uint16(number)), plain, len(addresses)-i)
		if err == nil {
			return c, host, nil
		}
		failure = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, "", failure
}

func (d *dialer) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	found, err := d.lookup(ctx, "ip", host)
	switch {
	case ctx.Err() != nil:
		return nil, &dialError{ClassTimeout, errors.New("looking up the name did not end in time")}
	case err != nil:
		var e *net.DNSError
		if errors.As(err, &e) && e.IsNotFound {
			return nil, &dialError{ClassDNS, fmt.Errorf("%s: no such host", host)}
		}
		return nil, &dialError{ClassDNS, fmt.Errorf("%s: the name servers gave no answer", host)}
	}
	// Some resolvers give IPv4 addresses in the form of IPv6.
	addresses := make([]netip.Addr, 0, len(found))
	for _, a := range found {
		if a = a.Unmap(); !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	if len(addresses) == 0 {
		return nil, &dialError{ClassDNS, fmt.Errorf("%s has no address", host)}
	}
	return addresses[:min(len(addresses), maxAddresses)], nil
}

// check is the one rule about where callbacks may lead.
func (d *dialer) check(a netip.Addr, plain bool) error {
	switch {
	case allowed(d.allow, a):
		return nil
	case !public(a):
		return fmt.Errorf("%v is not a public address", a)
	case plain:
		return fmt.Errorf("%v may be called by https alone", a)
	}
	return nil
}

// dial connects to one address, and leaves time for the rest of them.
func (d *dialer) dial(ctx context.Context, to netip.AddrPort, plain bool, left int) (*dialed, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	// The system is about to connect to address: the last look.
	nd := net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return &dialError{ClassRefused, errors.New("the address cannot be checked")}
		}
		if err := d.check(at.Addr(), plain); err != nil {
			return &dialError{ClassRefused, err}
		}
		return nil
	}}
	if d.egress.IsValid() {
		if d.egress.Is4() != to.Addr().Is4() {
			return nil, &dialError{ClassConnect, fmt.Errorf("%v is not of the family of the address that requests come from", to.Addr())}
		}
		nd.LocalAddr = &net.TCPAddr{IP: d.egress.AsSlice(), Zone: d.egress.Zone()}
	}
	c, err := nd.DialContext(ctx, "tcp", to.String())
	if err == nil {
		return &dialed{c, to.Addr().String()}, nil
	}
	var refused *dialError
	switch {
	case errors.As(err, &refused):
		return nil, refused
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return nil, &dialError{ClassTimeout, fmt.Errorf("%v did not accept the connection in time", to)}
	}
	return nil, &dialError{ClassConnect, err}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
