package oauth

import (
	"net/netip"
	"sync"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
)

// How guessing is slowed down: after a burst of failures, one more each step.
const (
	// guessBurst is for one app from one address, sweepBurst for all apps from
	// one address.
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

// guesser is an address, and the hash of a client_id or 0 for all of them.
type guesser struct {
	app     uint64
	address netip.Addr
}

// NewGuard makes a guard that knows of no failures.
func NewGuard() *Guard { return &Guard{until: make(map[guesser]int64)} }

// guessers are the two accounts of an attempt. A customer's IPv6 network counts
// as one address.
func guessers(id string, address netip.Addr) (app, all guesser) {
	if address.Is6() {
		if network, err := address.Prefix(64); err == nil {
			address = network.Addr()
		}
	}
	return guesser{max(limit.Hash(id), 1), address}, guesser{0, address}
}

// wait is how long to wait until the next attempt; 0 for none.
func (g *Guard) wait(now time.Time, id string, address netip.Addr) time.Duration {
	app, all := guessers(id, address)
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(0,
		time.Duration(g.until[app]-now.UnixNano())-(guessBurst-1)*guessStep,
		time.Duration(g.until[all]-now.UnixNano())-(sweepBurst-1)*sweepStep)
}

// failed counts a failed attempt.
func (g *Guard) failed(now time.Time, id string, address netip.Addr) {
	app, all := guessers(id, address)
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.until) >= maxGuessers {
		g.shrink(now.UnixNano())
	}
	g.until[app] = max(g.until[app], now.UnixNano()) + int64(guessStep)
	g.until[all] = max(g.until[all], now.UnixNano()) + int64(sweepStep)
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
