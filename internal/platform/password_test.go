package platform

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/caddy-openplatform/openplatform/internal/limit"
)

// A known answer of the reference implementation.
func TestPasswordOfTheReference(t *testing.T) {
	hash := NewSecret([]byte("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$ZVrRXqxlLcWfcXCnMyv0m4Rpvh/bnCi7"))
	right, err := newHasher().matches(t.Context(), hash, "password")
	require.NoError(t, err)
	require.True(t, right)
}

func TestPasswordRoundTrip(t *testing.T) {
	h := newHasher()
	hash, err := h.hash(t.Context(), rand.Reader, "correct horse battery")
	require.NoError(t, err)
	other, err := h.hash(t.Context(), rand.Reader, "correct horse battery")
	require.NoError(t, err)
	require.NotEqual(t, hash.Reveal(), other.Reveal(), "each has its own salt")
	for password, want := range map[string]bool{"correct horse battery": true, "Correct horse battery": false, "": false} {
		got, err := h.matches(t.Context(), hash, password)
		require.NoError(t, err)
		require.Equal(t, want, got, password)
	}
	none, err := h.matches(t.Context(), Secret{}, "correct horse battery")
	require.NoError(t, err)
	require.False(t, none)
}

// A stored hash that is broken, or asks for more than a machine has, is an
// error that shows nothing of it.
func TestBrokenHashes(t *testing.T) {
	const salt, key = "c29tZXNhbHRzb21lc2FsdA", "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI"
	for _, s := range []string{
		"x", "$", "$$$$$", "$argon2i$v=19$m=8,t=1,p=1$" + salt + "$" + key, "$argon2id$v=16$m=8,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=4294967295,t=1,p=1$" + salt + "$" + key, "$argon2id$v=19$m=8,t=0,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=8,t=1,p=0$" + salt + "$" + key, "$argon2id$v=19$m=8,t=1,p=256$" + salt + "$" + key,
		"$argon2id$v=19$m=8,t=1,p=1$" + salt + "$", "$argon2id$v=19$m=8,t=1,p=1$!$" + key, "$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + key + "$",
	} {
		_, err := newHasher().matches(t.Context(), NewSecret([]byte(s)), "password")
		require.EqualError(t, err, "the stored password is no argon2id hash in PHC format: set the password anew", s)
	}
	_, err := parsePHC("$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + key)
	require.NoError(t, err)
}

func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err == nil {
			require.LessOrEqual(t, p.memory, uint32(maxArgonMemory))
			require.NotZero(t, p.time)
			require.NotZero(t, p.lanes)
		}
	})
}

// Only so many passwords are hashed at a time, and the gate keeps processors.
func TestHashingIsBounded(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	require.Equal(t, 4, cap(newHasher().slots))
	runtime.GOMAXPROCS(1)
	require.Equal(t, 1, cap(newHasher().slots))

	h := hasher{make(chan struct{}, 1), time.Hour}
	require.NoError(t, h.enter(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.matches(ctx, Secret{}, "password")
	require.ErrorIs(t, err, ErrUnavailable)
	_, err = h.hash(ctx, rand.Reader, "password")
	require.ErrorIs(t, err, ErrUnavailable)
	<-h.slots
	_, err = h.matches(t.Context(), Secret{}, "password")
	require.NoError(t, err)
	require.Empty(t, h.slots, "each gives its turn back")

	// Nobody stands in line for long.
	h.patience = time.Millisecond
	require.NoError(t, h.enter(t.Context()))
	_, err = h.matches(t.Context(), Secret{}, "password")
	require.ErrorIs(t, err, ErrUnavailable)
}

// However many logins are guessed, and from wherever, the memory is bounded.
func TestLockoutIsBounded(t *testing.T) {
	var l lockout
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range maxGuessed + 1000 {
		require.NoError(t, refusedBy(l.charge(guess{login: fmt.Sprint("login", i)}, now)))
		require.LessOrEqual(t, len(l.guessed), maxGuessed)
		require.LessOrEqual(t, len(l.all), maxGuessed)
	}
	// Those who may try again make room first.
	cell := func(n int64, at time.Time) (c limit.Cell) {
		c.Charge(rateOfAll, n, at)
		return c
	}
	l = lockout{guessed: map[guess]guesses{}, all: map[string]limit.Cell{}}
	for i := range maxGuessed {
		login := fmt.Sprint("old", i)
		l.guessed[guess{login: login}] = guesses{1, now.Add(-time.Hour)}
		l.all[login] = cell(1, now.Add(-time.Hour))
	}
	l.guessed[guess{login: "old0"}], l.all["old0"] = guesses{9, now}, cell(9, now)
	require.NoError(t, refusedBy(l.charge(guess{login: "new"}, now)))
	require.Len(t, l.guessed, 2)
	require.Len(t, l.all, 2)
}

// No order of guesses gets more of them in than the waits allow, from one network
// and from all together, and a right one in between changes nothing of that.
func TestLockoutNeverLetsMoreIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l lockout
		now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
		begin, passed, inAll := now, map[byte]int{}, 0
		networks := rapid.ByteRange(1, 30).Draw(t, "networks")
		for range rapid.IntRange(1, 200).Draw(t, "guesses") {
			now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "pause")) * time.Second)
			from := rapid.ByteRange(1, networks).Draw(t, "from")
			if refusedBy(l.charge(newGuess("a", netip.AddrFrom4([4]byte{203, 0, from, 9})), now)) == nil {
				passed[from]++
				inAll++
			}
			owner := newGuess("a", netip.AddrFrom4([4]byte{198, 51, 100, 7}))
			if rapid.Bool().Draw(t, "owner") && refusedBy(l.charge(owner, now)) == nil {
				l.forgive(owner, now)
			}
		}
		most := freeGuesses + 1
		for wait, spent := firstWait, time.Duration(0); spent+wait <= now.Sub(begin); most++ {
			spent += wait
			wait = min(2*wait, longestWait)
		}
		for _, n := range passed {
			require.LessOrEqual(t, n, most)
		}
		require.LessOrEqual(t, inAll, int(rateOfAll.Burst)+int(now.Sub(begin)/(rateOfAll.Period/10)))
	})
}
