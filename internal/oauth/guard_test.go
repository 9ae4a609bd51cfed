package oauth

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A customer of IPv6 has one share, in whichever of its networks it sits.
func TestGuardCountsCustomers(t *testing.T) {
	g := NewGuard()
	now := time.Unix(1_700_000_000, 0)
	for i := range guessBurst {
		require.Zero(t, g.take(now, secretGuess("ak", netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: byte(i)}))))
	}
	require.Positive(t, g.take(now, secretGuess("ak", netip.MustParseAddr("2001:db8:0:ff::1"))))
	require.Zero(t, g.take(now, secretGuess("ak", netip.MustParseAddr("2001:db8:0:100::1"))))
	require.Zero(t, g.take(now, secretGuess("ak", netip.MustParseAddr("198.51.100.7"))))
	for range guessBurst {
		g.take(now, secretGuess("ak", netip.MustParseAddr("::ffff:198.51.100.8")))
	}
	require.Positive(t, g.take(now, secretGuess("ak", netip.MustParseAddr("198.51.100.8"))))
	require.Zero(t, g.take(now, secretGuess("ak", netip.MustParseAddr("::ffff:198.51.100.9"))))
}
