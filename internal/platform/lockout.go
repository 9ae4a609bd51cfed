package platform

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
)

// ErrLogin means that login and password do not belong together. It does not
// tell whether there is such a login.
var ErrLogin = errors.New("wrong login or password")

// LockedError means that too many wrong passwords came for a login. It is the
// same for a login that nobody has.
type LockedError struct {
	// RetryAfter is how long no password is looked at, the right one neither.
	RetryAfter time.Duration
}

// Error tells when to try again.
func (e *LockedError) Error() string {
	return fmt.Sprintf("too many wrong passwords; try again in %v", e.RetryAfter.Round(time.Second))
}

const (
	// freeGuesses is how many wrong passwords go by without a wait.
	freeGuesses = 5
	// firstWait is the wait after the next one; each one more doubles it, up to
	// longestWait.
	firstWait   = time.Second
	longestWait = 15 * time.Minute
	// forgetAfter is when a login without further guesses is as new.
	forgetAfter = 24 * time.Hour
	// maxGuessed bounds the memory: about 20 MB.
	maxGuessed = 50_000
)

// rateOfAll is how many go by from all networks together. That is what ten networks
// can use up and one cannot, so one alone keeps nobody else out; who has ten, such
// as a /48 of IPv6, can.
var rateOfAll = limit.Rate{Requests: 10, Period: longestWait, Burst: 10 * freeGuesses}

// lockout slows the guessing of passwords down: strictly for each login and
// network, so that who guesses keeps out those alone who are as near, and more
// widely for a login from everywhere. It counts in the memory of each node: a
// guess then costs no write, logins that nobody has are treated as the others,
// and a guesser who spreads over nodes gains a factor that the doubling of the
// wait takes back. Who wants to push a login out of the memory must guess fifty
// thousand others, and each guess costs a hash: that takes longer than the longest
// wait.
type lockout struct {
	mu      sync.Mutex
	guessed map[guess]guesses
	// all is, for each login, the guesses from everywhere.
	all map[string]limit.Cell
}

// guess is what a password is tried for, and the network that it comes from.
type guess struct {
	login   string
	network netip.Prefix
}

// newGuess finds the network: of IPv4 256 addresses, of IPv6 a customer's.
func newGuess(login string, from netip.Addr) guess { return guess{login, limit.Network(from, 24)} }

// guesses are those since the right password came last.
type guesses struct {
	count int
	last  time.Time
}

// wait is how long after the last guess the next one may come.
func (g guesses) wait() time.Duration {
	if g.count < freeGuesses {
		return 0
	}
	return min(firstWait<<min(g.count-freeGuesses, 20), longestWait)
}

// charged is a guess that counts, when it came, and when the one before it did.
type charged struct {
	guess
	at, before time.Time
}

// charge counts a guess before it is looked at, so that many at once do not
// slip through, or refuses it. A right one is taken back by forgive, one that was
// not looked at by giveBack.
func (l *lockout) charge(of guess, now time.Time) (charged, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.guessed[of]
	if now.Sub(g.last) > forgetAfter {
		g = guesses{}
	}
	all := l.all[of.login]
	_, left := all.Free(rateOfAll, now)
	if g.count >= freeGuesses {
		left = max(left, g.last.Add(g.wait()).Sub(now))
	}
	if left > 0 {
		return charged{}, &LockedError{RetryAfter: left}
	}
	if l.guessed == nil {
		l.guessed, l.all = map[guess]guesses{}, map[string]limit.Cell{}
	}
	makeRoom(l.guessed, of, func(g guesses) bool { return now.Sub(g.last) > longestWait })
	makeRoom(l.all, of.login, func(all limit.Cell) bool {
		free, _ := all.Free(rateOfAll, now)
		return free == rateOfAll.Burst
	})
	all.Charge(rateOfAll, 1, now)
	l.guessed[of], l.all[of.login] = guesses{g.count + 1, now}, all
	return charged{of, now, g.last}, nil
}

// giveBack takes back what charge counted for a guess that was not looked at, and
// the wait that it began, unless another one came meanwhile.
func (l *lockout) giveBack(c charged, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.guessed[c.guess]; g.count > 1 {
		if g.last.Equal(c.at) {
			g.last = c.before
		}
		l.guessed[c.guess] = guesses{g.count - 1, g.last}
	} else {
		delete(l.guessed, c.guess)
	}
	l.giveBackOfAll(c.login, now)
}

// forgive forgets the guesses from the network that the right password came
// from. Those from elsewhere go on counting, or each log-in would let a guesser
// begin anew.
func (l *lockout) forgive(of guess, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.guessed, of)
	l.giveBackOfAll(of.login, now)
}

func (l *lockout) giveBackOfAll(login string, now time.Time) {
	if all, ok := l.all[login]; ok {
		all.Charge(rateOfAll, -1, now)
		l.all[login] = all
	}
}

// forget forgets all guesses for a login whose password is new.
func (l *lockout) forget(login string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, login)
	maps.DeleteFunc(l.guessed, func(of guess, _ guesses) bool { return of.login == login })
}

// makeRoom bounds a map before key comes in: it forgets what may be tried at once
// anyway, else any.
func makeRoom[K comparable, V any](m map[K]V, key K, atRest func(V) bool) {
	if _, in := m[key]; in || len(m) < maxGuessed {
		return
	}
	maps.DeleteFunc(m, func(_ K, v V) bool { return atRest(v) })
	for k := range m {
		if len(m) < maxGuessed {
			return
		}
		delete(m, k)
	}
}
