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
			if refusedBy(l.charge(newGuess("shop", from), now)) == nil {
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
		require.NoError(t, refusedBy(l.charge(elsewhere, now)))
		l.forgive(elsewhere, now)
	}
}

// A guess that was not looked at leaves the wait as it was.
func TestLockoutGiveBack(t *testing.T) {
	var l lockout
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	of := newGuess("shop", netip.MustParseAddr("198.51.100.7"))
	first, err := l.charge(of, now)
	require.NoError(t, err)
	l.giveBack(first, now)
	require.Empty(t, l.guessed)

	for range freeGuesses {
		require.NoError(t, refusedBy(l.charge(of, now)))
	}
	for range 5 { // each waits as told
		var locked *LockedError
		require.ErrorAs(t, refusedBy(l.charge(of, now)), &locked)
		now = now.Add(locked.RetryAfter)
		require.NoError(t, refusedBy(l.charge(of, now)))
	}
	now = now.Add(32 * time.Second)
	for range 3 {
		unseen, err := l.charge(of, now)
		require.NoError(t, err)
		now = now.Add(2 * time.Second)
		l.giveBack(unseen, now)
	}
	// One that came while another was looked at counts on.
	unseen, err := l.charge(of, now)
	require.NoError(t, err)
	now = now.Add(64 * time.Second)
	require.NoError(t, refusedBy(l.charge(of, now)))
	l.giveBack(unseen, now)
	var locked *LockedError
	require.ErrorAs(t, refusedBy(l.charge(of, now)), &locked)
	require.Equal(t, 64*time.Second, locked.RetryAfter)
}

// refusedBy is why charge refused a guess.
func refusedBy(_ charged, err error) error { return err }
