package oauth

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
)

// How guessing is slowed down: after a burst of failures, one more each step.
const (
	// guessBurst is for one app from one address, or for the user codes of one
	// user; sweepBurst for everything from one address.
	guessBurst = 10
	sweepBurst = 100
	guessStep  = 10 * time.Second
	sweepStep  = time.Second
	// maxGuessers bounds the memory, in addresses with failures.
	maxGuessers = 100_000
)

// Guard slows down those who guess secrets. It counts failures alone, for each
// app and address, and for each address: so nobody can lock out an app by
// failing in its name from elsewhere. Servers of several issuers share one, or
// each further name would give further guesses.
type Guard struct {
	mu sync.Mutex
	// until is the theoretical arrival time of the generic cell rate algorithm,
	// in Unix ns.
	until map[guesser]int64
}

// guesser is an address, and the hash of what is guessed or 0 for all of it.
type guesser struct {
	of      uint64
	address netip.Addr
}

// WaitError means that too many attempts failed.
type WaitError struct {
	// RetryAfter is how long no attempt is looked at, the right one neither.
	RetryAfter time.Duration
}

// Error tells when to try again.
func (e *WaitError) Error() string {
	return fmt.Sprintf("too many failed attempts; try again in %v", e.RetryAfter.Round(time.Second))
}

// NewGuard makes a guard that knows of no failures.
func NewGuard() *Guard { return &Guard{until: make(map[guesser]int64)} }

// attempt is what one attempt counts for: a narrow account, and a wide one that
// is filled less easily.
type attempt struct{ narrow, wide guesser }

// network is the address that counts: of IPv6 a customer's network.
func network(address netip.Addr) netip.Addr {
	if address.Is6() {
		if prefix, err := address.Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return address
}

// secretGuess is a wrong secret of the app from the address.
func secretGuess(id string, address netip.Addr) attempt {
	address = network(address)
	return attempt{guesser{max(limit.Hash(id), 1), address}, guesser{0, address}}
}

// userCodeGuess is a wrong user code of a user, who is logged in, wherever it
// comes from.
func userCodeGuess(user string, address netip.Addr) attempt {
	return attempt{guesser{max(limit.Hash("user code\x00"+user), 1), netip.Addr{}}, guesser{0, network(address)}}
}

// deviceStart is no guess, but something that costs a row: a device that begins
// to wait.
func deviceStart(id string, address netip.Addr) attempt {
	address = network(address)
	return attempt{guesser{max(limit.Hash("device\x00"+id), 1), address}, guesser{max(limit.Hash("device"), 1), address}}
}

// wait is how long to wait until the next attempt; 0 for none.
func (g *Guard) wait(now time.Time, a attempt) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.left(now, a)
}

func (g *Guard) left(now time.Time, a attempt) time.Duration {
	return max(0,
		time.Duration(g.until[a.narrow]-now.UnixNano())-(guessBurst-1)*guessStep,
		time.Duration(g.until[a.wide]-now.UnixNano())-(sweepBurst-1)*sweepStep)
}

// charge counts an attempt.
func (g *Guard) charge(now time.Time, a attempt) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.add(now, a)
}

// take counts an attempt before it is looked at, so that no more than the burst
// are looked at side by side, unless it has to wait. One that was right is given
// back.
func (g *Guard) take(now time.Time, a attempt) (wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait := g.left(now, a); wait > 0 {
		return wait
	}
	g.add(now, a)
	return 0
}

func (g *Guard) add(now time.Time, a attempt) {
	if len(g.until) >= maxGuessers {
		g.shrink(now.UnixNano())
	}
	g.until[a.narrow] = max(g.until[a.narrow], now.UnixNano()) + int64(guessStep)
	g.until[a.wide] = max(g.until[a.wide], now.UnixNano()) + int64(sweepStep)
}

// giveBack takes back what take counted.
func (g *Guard) giveBack(a attempt) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for of, step := range map[guesser]time.Duration{a.narrow: guessStep, a.wide: sweepStep} {
		if until, ok := g.until[of]; ok { // else it was forgotten meanwhile
			g.until[of] = until - int64(step)
		}
	}
}

// shrink drops those at rest, and where that is not enough any half.
func (g *Guard) shrink(now int64) {
	for k, until := range g.until {
		if until <= now {
			delete(g.until, k)
		}
	}
	for k := range g.until {
		if len(g.until) <= maxGuessers/2 {
			return
		}
		delete(g.until, k)
	}
}
