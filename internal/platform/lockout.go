package platform

import (
	"errors"
	"fmt"
	"sync"
	"time"
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
	// maxGuessed bounds the memory: about 10 MB.
	maxGuessed = 50_000
)

// lockout slows the guessing of passwords down. It counts in the memory of each
// node: a guess then costs no write, logins that nobody has are treated as the
// others, and a guesser who spreads over nodes gains a factor that the doubling
// of the wait takes back. Who wants to push a login out of the memory must guess
// fifty thousand others, and each guess costs a hash: that takes longer than the
// longest wait.
type lockout struct {
	mu      sync.Mutex
	guessed map[string]guesses
}

// guesses are those for one login since the right password came last.
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

// charge counts a guess before it is looked at, so that many at once do not
// slip through, or refuses it. A right one is taken back by forgive.
func (l *lockout) charge(login string, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.guessed[login]
	if now.Sub(g.last) > forgetAfter {
		g = guesses{}
	}
	if left := g.last.Add(g.wait()).Sub(now); g.count >= freeGuesses && left > 0 {
		return &LockedError{RetryAfter: left}
	}
	if l.guessed == nil {
		l.guessed = map[string]guesses{}
	}
	if g.count == 0 && len(l.guessed) >= maxGuessed {
		l.makeRoom(now)
	}
	l.guessed[login] = guesses{g.count + 1, now}
	return nil
}

// forgive forgets the guesses for a login whose password was right or is new.
func (l *lockout) forgive(login string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.guessed, login)
}

// makeRoom forgets logins that may be tried at once anyway, else any one.
func (l *lockout) makeRoom(now time.Time) {
	for login, g := range l.guessed {
		if now.Sub(g.last) > longestWait {
			delete(l.guessed, login)
		}
	}
	for login := range l.guessed {
		if len(l.guessed) < maxGuessed {
			return
		}
		delete(l.guessed, login)
	}
}
