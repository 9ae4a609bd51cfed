package limit

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"198.51.100.7":            "198.51.100.0/24",
		"::ffff:198.51.100.7":     "198.51.100.0/24",
		"2001:db8:1:22ff::1":      "2001:db8:1:2200::/56",
		"2001:db8:1:2200:ffff::1": "2001:db8:1:2200::/56",
		"2001:db8:1:2300::1":      "2001:db8:1:2300::/56",
		"fe80::1%eth0":            "fe80::/56",
	} {
		require.Equal(t, netip.MustParsePrefix(want), Network(netip.MustParseAddr(address), 24), address)
	}
	require.Equal(t, netip.MustParsePrefix("198.51.100.7/32"), Network(netip.MustParseAddr("198.51.100.7"), 32))
	require.Zero(t, Network(netip.Addr{}, 24))
}
