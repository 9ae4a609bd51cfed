package pusher

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPublicAddresses(t *testing.T) {
	for _, a := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "100.127.255.255", "127.0.0.1", "127.255.255.254",
		"168.63.129.16", "169.254.0.1", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.170", "192.0.2.1",
		"192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
		"240.0.0.1", "255.255.255.255",
		"::", "::1", "::7f00:1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "64:ff9b::a00:1", "64:ff9b::808:808",
		"64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1",
		"2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fdff::1", "fe80::1", "febf::1", "fec0::1",
		"ff02::1", "fe80::1%eth0", "2606:4700::1%1",
	} {
		require.False(t, public(netip.MustParseAddr(a)), a)
	}
	for _, a := range []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.0.0.1", "128.0.0.1", "169.253.255.255", "169.255.0.1",
		"172.15.255.255", "172.32.0.1", "192.0.1.1", "192.167.255.255", "192.169.0.1", "198.17.0.1", "198.20.0.1", "223.255.255.255",
		"2606:4700:4700::1111", "2a00:1450::1", "2400:cb00::1", "2003::1", "64:ff9c::1",
	} {
		require.True(t, public(netip.MustParseAddr(a)), a)
	}
	require.False(t, public(netip.Addr{}))
}

// testDialer dials with a resolver of the test's own.
func testDialer(allow []netip.Prefix, find lookup) *dialer {
	return &dialer{allow: allow, tls: &tls.Config{MinVersion: tls.VersionTLS12}, lookup: find}
}

// names resolves all names to the addresses.
func names(addresses ...string) lookup {
	return func(context.Context, string, string) ([]netip.Addr, error) {
		var out []netip.Addr
		for _, a := range addresses {
			out = append(out, netip.MustParseAddr(a))
		}
		return out, nil
	}
}

// listener counts the connections to a free port.
func listener(t *testing.T) (port string, accepted *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	accepted = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	_, port, err = net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port, accepted
}

func classOf(err error) ErrorClass {
	if e, ok := errors.AsType[*dialError](err); ok {
		return e.class
	}
	return ClassNone
}

func TestDialRefuses(t *testing.T) {
	port, accepted := listener(t)
	for name, c := range map[string]struct {
		allow []netip.Prefix
		find  lookup
		host  string
		plain bool
		want  ErrorClass
	}{
		"loopback literal":          {nil, nil, "127.0.0.1", false, ClassRefused},
		"loopback name":             {nil, names("127.0.0.1"), "shop.example.com", false, ClassRefused},
		"mapped literal":            {nil, nil, "::ffff:127.0.0.1", false, ClassRefused},
		"mapped by the name server": {nil, names("::ffff:127.0.0.1"), "shop.example.com", false, ClassRefused},
		"mapped is not allowed":     {loopback, nil, "::ffff:127.0.0.1", false, ClassRefused},
		"metadata":                  {nil, names("169.254.169.254"), "shop.example.com", false, ClassRefused},
		"all of many":               {nil, names("10.0.0.1", "fd00::1"), "shop.example.com", false, ClassRefused},
		"http to the public":        {loopback, names("93.184.216.34"), "shop.example.com", true, ClassRefused},
		"another range is allowed":  {[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, nil, "127.0.0.1", false, ClassRefused},
		"no address":                {nil, names(), "shop.example.com", false, ClassDNS},
		"no such name": {nil, func(context.Context, string, string) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
		}, "shop.example.com", false, ClassDNS},
		"name server fails": {nil, func(context.Context, string, string) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "server misbehaving", IsTemporary: true}
		}, "shop.example.com", false, ClassDNS},
	} {
		t.Run(name, func(t *testing.T) {
			d := testDialer(c.allow, c.find)
			conn, err := d.connection(t.Context(), target{net.JoinHostPort(c.host, port), c.plain})
			if err == nil {
				_ = conn.Close()
			}
			require.Error(t, err)
			require.Equal(t, c.want, classOf(err), "%v", err)
			require.Equal(t, name == "no such name", strings.Contains(err.Error(), "no such host"), "%v", err)
		})
	}
	require.Zero(t, accepted.Load(), "nothing was connected to")
}

// TestDialControl: also what reaches the system by another way is looked at.
func TestDialControl(t *testing.T) {
	port, accepted := listener(t)
	d := testDialer(nil, nil)
	_, err := d.dial(t.Context(), netip.MustParseAddrPort("127.0.0.1:"+port), false, 1)
	require.Equal(t, ClassRefused, classOf(err))
	require.Zero(t, accepted.Load())
}

// TestRebinding: a name whose address changes after it was looked at.
func TestRebinding(t *testing.T) {
	port, accepted := listener(t)
	var asked atomic.Int64
	d := testDialer(nil, func(context.Context, string, string) ([]netip.Addr, error) {
		if asked.Add(1) == 1 {
			return []netip.Addr{netip.MustParseAddr("10.255.255.1")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	})
	d.allow = []netip.Prefix{netip.MustParsePrefix("10.255.255.1/32")}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := d.connection(short, target{hostPort: net.JoinHostPort("shop.example.com", port)})
	require.Error(t, err)
	require.EqualValues(t, 1, asked.Load(), "the name is asked for once")
	_, err = d.connection(t.Context(), target{hostPort: net.JoinHostPort("shop.example.com", port)})
	require.Equal(t, ClassRefused, classOf(err))
	require.Zero(t, accepted.Load())
}

func TestDialTriesAddressesInOrder(t *testing.T) {
	port, accepted := listener(t)
	// 127.0.0.2 has nobody who listens; 10.0.0.1 is not allowed.
	d := testDialer(loopback, names("10.0.0.1", "127.0.0.2", "::ffff:127.0.0.1"))
	c, err := d.connection(t.Context(), target{net.JoinHostPort("shop.example.com", port), true})
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", c.address)
	require.NoError(t, c.Close())
	require.Eventually(t, func() bool { return accepted.Load() == 1 }, 5*time.Second, time.Millisecond)

	// Where one of them may be called, what is told is why that failed.
	for _, order := range [][]string{{"127.0.0.2", "10.0.0.1"}, {"10.0.0.1", "127.0.0.2"}} {
		_, err = testDialer(loopback, names(order...)).connection(t.Context(), target{net.JoinHostPort("shop.example.com", port), true})
		require.Equal(t, ClassConnect, classOf(err), "%v", order)
	}

	// Whoever has many addresses is not tried at all of them; each counts once.
	var many []string
	for range maxAddresses {
		many = append(many, fmt.Sprint("127.0.0.", len(many)+2))
	}
	_, err = testDialer(loopback, names(append(many, "127.0.0.1")...)).connection(t.Context(), target{net.JoinHostPort("shop.example.com", port), true})
	require.Equal(t, ClassConnect, classOf(err))
	twice := slices.Concat(many[1:], many[1:], []string{"127.0.0.1"})
	c, err = testDialer(loopback, names(twice...)).connection(t.Context(), target{net.JoinHostPort("shop.example.com", port), true})
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

func TestDialFromEgress(t *testing.T) {
	s := httptest.NewServer(nil)
	defer s.Close()
	d := testDialer(loopback, nil)
	d.egress = netip.MustParseAddr("127.0.0.9")
	c, err := d.connection(t.Context(), target{s.Listener.Addr().String(), true})
	require.NoError(t, err)
	require.Equal(t, "127.0.0.9", c.LocalAddr().(*net.TCPAddr).IP.String())
	require.NoError(t, c.Close())
	d.egress = netip.MustParseAddr("2606:4700::1")
	_, err = d.connection(t.Context(), target{s.Listener.Addr().String(), true})
	require.Equal(t, ClassConnect, classOf(err))
}
