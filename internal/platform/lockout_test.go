package platform

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A customer with a /56 of IPv6 is one network, and keeps nobody else out.
func TestLockoutOneCustomer(t *testing.T) {
	var l lockout
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	guessAll := func(now time.Time) (looked int) {
		for i := range 256 {
			from := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: byte(i), 15: 1})
			if l.charge(newGuess("shop", from), now) == nil {
				looked++
			}
		}
		return looked
	}
	require.Equal(t, freeGuesses, guessAll(now))
	for range 1000 {
		now = now.Add(90 * time.Second)
		require.LessOrEqual(t, guessAll(now), 1)
		elsewhere := newGuess("shop", netip.MustParseAddr("198.51.100.7"))
		require.NoError(t, l.charge(elsewhere, now))
		l.forgive(elsewhere, now)
	}
}
