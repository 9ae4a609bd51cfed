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
	// user; sweepBurst for everything from one address, and for its log-ins.
	guessBurst = 10
	sweepBurst = 100
	guessStep  = 10 * time.Second
	sweepStep  = time.Second
	// maxGuessers bounds the memory, in addresses that something counts for.
	maxGuessers = 100_000
)

// Guard slows down those who guess secrets, log in or begin devices. Of guesses it
// counts failures alone, for each app and address, and for each address: so nobody
// can lock out an app by failing in its name from elsewhere. Log-ins and devices
// count whether right or wrong. Servers of several issuers share one, or each
// further name would give further guesses.
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

// attempt is the accounts that one attempt counts on.
type attempt []account

// account is a guesser, and how many attempts at once, and how often one more, it
// has.
type account struct {
	guesser
	burst int64
	step  time.Duration
}

// narrow is an account for one thing, wide one that is filled less easily.
func narrow(of string, address netip.Addr) account {
	return account{guesser{max(limit.Hash(of), 1), address}, guessBurst, guessStep}
}

func wide(of string, address netip.Addr) account {
	return account{guesser{max(limit.Hash(of), 1), address}, sweepBurst, sweepStep}
}

// network is the address that counts: of IPv6 a customer's network.
func network(address netip.Addr) netip.Addr { return limit.Network(address, 32).Addr() }

// anyGuess is where all guesses from an address count.
func anyGuess(address netip.Addr) account {
	return account{guesser{0, address}, sweepBurst, sweepStep}
}

// secretGuess is a wrong secret of the app from the address.
func secretGuess(id string, address netip.Addr) attempt {
	address = network(address)
	return attempt{narrow(id, address), anyGuess(address)}
}

// userCodeGuess is a wrong user code of a user, who is logged in, wherever it
// comes from.
func userCodeGuess(user string, address netip.Addr) attempt {
	return attempt{narrow("user code\x00"+user, netip.Addr{}), anyGuess(network(address))}
}

// deviceStart is no guess, but something that costs a row: a device that begins
// to wait.
func deviceStart(id string, address netip.Addr) attempt {
	address = network(address)
	return attempt{narrow("device\x00"+id, address), wide("device", address)}
}

// LogIn counts an attempt to log in from the address, right or wrong: each costs
// a hash that is slow on purpose. The error is a *WaitError.
func (g *Guard) LogIn(now time.Time, address netip.Addr) error {
	if wait := g.take(now, attempt{wide("log in", network(address))}); wait > 0 {
		return &WaitError{wait}
	}
	return nil
}

// wait is how long to wait until the next attempt; 0 for none.
func (g *Guard) wait(now time.Time, a attempt) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.left(now, a)
}

func (g *Guard) left(now time.Time, a attempt) (wait time.Duration) {
	for _, of := range a {
		wait = max(wait, time.Duration(g.until[of.guesser]-now.UnixNano()-(of.burst-1)*int64(of.step)))
	}
	return wait
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
	for _, of := range a {
		g.until[of.guesser] = max(g.until[of.guesser], now.UnixNano()) + int64(of.step)
	}
}

// giveBack takes back what take counted.
func (g *Guard) giveBack(a attempt) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, of := range a {
		if until, ok := g.until[of.guesser]; ok { // else it was forgotten meanwhile
			g.until[of.guesser] = until - int64(of.step)
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
