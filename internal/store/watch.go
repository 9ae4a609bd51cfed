package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	// pollEvery is how often Watch looks without being notified, at the least.
	pollEvery = 2 * time.Second
	// pollTimeout bounds each question of Watch, and each host that it tries
	// to reach.
	pollTimeout = time.Second
	// checkEvery keeps many failing calls from making Watch ask all the time.
	checkEvery = 100 * time.Millisecond
	// retryLeast to retryMost is the wait between two tries to reconnect.
	retryLeast = 100 * time.Millisecond
	retryMost  = time.Second
	// changesBatch is how many changes are read at once.
	changesBatch = 1000
)

// Watcher is what Watch calls, one at a time, in its own goroutine. Nil fields
// are not called. Calls may take their time: what happens meanwhile waits.
type Watcher struct {
	// Changed tells of each committed change of any node, this one's own too,
	// in the order of commits. Of catalog changes in a row it tells once.
	Changed func(platform.Change)
	// Missed tells that changes may have been missed: drop all caches and load
	// the catalog.
	Missed func()
	// Health tells that the database does not answer, and why; nil: that it
	// answers again, and that what was missed has been told of.
	Health func(err error)
}

// watchState is what Watch knows and the rest of the store goes by.
type watchState struct {
	// last is the newest change that was told of. Only Watch uses it once the
	// store is open.
	last position
	// failure is set while Watch knows that the database does not answer.
	failure atomic.Pointer[error]
	// era lasts until the database does not answer; then there is a new one.
	era atomic.Pointer[era]
	// poke asks Watch to look at once.
	poke chan struct{}
	// trust is how long Watch trusts in being notified, at the most.
	trust time.Duration
}

// position is a place in the log of changes. The time tells a row from another
// one of the same number, as there may be after a failover that lost some.
type position struct{ version, at int64 }

// era is a time in which the database may answer: work without a deadline ends with
// it.
type era struct {
	ctx context.Context
	end context.CancelCauseFunc
}

func newWatchState() *watchState {
	w := &watchState{poke: make(chan struct{}, 1), trust: pollEvery}
	w.begin()
	return w
}

func (w *watchState) begin() {
	ctx, end := context.WithCancelCause(context.Background())
	w.era.Store(&era{ctx, end})
}

// answering is the context of the era.
func (w *watchState) answering() context.Context { return w.era.Load().ctx }

// fell notes that the database does not answer, and ends what waits for it. It
// tells whether that is news.
func (w *watchState) fell(err error) bool {
	news := w.failure.Swap(&err) == nil
	w.era.Load().end(fmt.Errorf("the database does not answer: %w", err))
	return news
}

// rose notes that the database answers again, and tells whether that is news. The
// new era comes first, or calls would be let through into the old one.
func (w *watchState) rose() bool {
	if w.failure.Load() == nil {
		return false
	}
	w.begin()
	w.failure.Store(nil)
	return true
}

// down is why the database is known not to answer; nil where it may. Only
// Watch finds out, so without one nothing is cut short.
func (w *watchState) down() error {
	if w == nil {
		return nil
	}
	if err := w.failure.Load(); err != nil {
		return fmt.Errorf("%w: the database does not answer: %w", platform.ErrUnavailable, *err)
	}
	return nil
}

// check makes Watch look at the database now.
func (w *watchState) check() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// follow remembers where the log of changes is now. Whoever loads something
// from here on has it at least as new, and Watch tells of all that comes later.
func (s *Store) follow(ctx context.Context) error {
	err := s.readers.QueryRowContext(ctx, newestChange).Scan(&s.watch.last.version, &s.watch.last.at)
	if err != nil {
		return s.unavailable(ctx, "reading the log of changes", err)
	}
	return nil
}

// newestChange is 0, 0 where somebody has emptied the table.
const newestChange = `SELECT version, at FROM changes UNION ALL SELECT 0, 0 ORDER BY version DESC LIMIT 1`

// Watch follows what all nodes change, and whether the database answers, until
// ctx ends; only then it returns. Call it once, in a goroutine of its own, and
// end it before the store is closed.
// While it knows that the database is down, other calls to the store fail at
// once with ErrUnavailable. On SQLite it just waits: one process owns the file.
//
// A notification of PostgreSQL only wakes it up: what changed is read from the
// log of changes, from the row that was read last. It looks there every 2 s
// without being notified, and at once when another call to the database fails.
func (s *Store) Watch(ctx context.Context, w Watcher) {
	if s.pool == nil {
		<-ctx.Done()
		return
	}
	defer s.watch.rose()
	retry := retryLeast
	for again := true; ctx.Err() == nil; {
		worked, err := s.watchSession(ctx, w)
		if ctx.Err() != nil {
			return
		}
		if worked {
			again, retry = true, retryLeast
		}
		// A connection that was broken off says little: the next one tells.
		if again && !errors.Is(err, context.DeadlineExceeded) {
			again = false
			continue
		}
		again = false
		if s.watch.fell(err) {
			s.pool.Reset()
			if w.Health != nil {
				w.Health(err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(jitter(retry/2, retry)):
		}
		retry = min(2*retry, retryMost)
	}
}

// watchSession follows over one connection until that fails; worked tells
// whether it ever answered.
func (s *Store) watchSession(ctx context.Context, w Watcher) (worked bool, err error) {
	conn, err := s.dial(ctx)
	if err != nil {
		return false, err
	}
	defer closeConn(ctx, conn)
	if err := ask(ctx, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `LISTEN `+changesChannel)
		return err
	}); err != nil {
		return false, err
	}
	for {
		if err := s.tell(ctx, conn, w); err != nil {
			return worked, err
		}
		worked = true
		if err := s.awaitChange(ctx, conn); err != nil {
			return worked, err
		}
	}
}

// dial makes a connection to listen on. It gives up soon: there is a next try.
func (s *Store) dial(ctx context.Context) (*pgx.Conn, error) {
	config := s.pool.Config().ConnConfig
	config.ConnectTimeout = min(config.ConnectTimeout, pollTimeout)
	patience := 2 * pollTimeout // the names to look up, and the first host
	for range config.Fallbacks {
		patience += pollTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return pgx.ConnectConfig(ctx, config)
}

// ask bounds a question to the database.
func ask(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	return fn(ctx)
}

// awaitChange waits for a notification, a failed call or the time to look
// anyway. It fails where the connection does.
func (s *Store) awaitChange(ctx context.Context, conn *pgx.Conn) error {
	wait, cancel := context.WithTimeout(ctx, jitter(s.watch.trust/2, s.watch.trust))
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-time.After(checkEvery):
		case <-wait.Done():
			return
		}
		select {
		case <-s.watch.poke:
			cancel()
		case <-wait.Done():
		}
	}()
	_, err := conn.WaitForNotification(wait)
	if wait.Err() != nil { // not the connection's fault, and it stays open
		err = ctx.Err()
	}
	cancel()
	<-done
	return err
}

// tell reads what is new and calls the watcher.
func (s *Store) tell(ctx context.Context, conn *pgx.Conn, w Watcher) error {
	for {
		var changes []platform.Change
		var missed bool
		next := s.watch.last
		err := ask(ctx, func(ctx context.Context) (err error) {
			changes, next, missed, err = readChanges(ctx, conn, s.watch.last)
			return err
		})
		if err != nil {
			return err
		}
		// The watcher loads what it is told of, so the way must be free first.
		recovered := s.watch.rose()
		s.watch.last = next
		if missed && w.Missed != nil {
			w.Missed()
		}
		for i, c := range changes {
			again := i > 0 && c.Kind == platform.ChangeCatalog && changes[i-1].Kind == platform.ChangeCatalog
			if !again && w.Changed != nil {
				w.Changed(c)
			}
		}
		if recovered && w.Health != nil {
			w.Health(nil)
		}
		if len(changes) < changesBatch-1 {
			return nil
		}
	}
}

// readChanges reads the changes after last. The row of last itself comes
// first: the newest row is never deleted and older ones go first, so while it
// is there nothing after it is gone. Where it is not, changes were missed.
func readChanges(ctx context.Context, conn *pgx.Conn, last position) (changes []platform.Change, next position, missed bool, err error) {
	rows, err := conn.Query(ctx, `SELECT version, at, kind, key FROM changes WHERE version >= $1 ORDER BY version LIMIT $2`, last.version, changesBatch)
	if err != nil {
		return nil, last, false, err
	}
	defer rows.Close()
	next = last
	found := last == position{}
	for rows.Next() {
		var at position
		var kind int64
		var c platform.Change
		if err := rows.Scan(&at.version, &at.at, &kind, &c.Key); err != nil {
			return nil, last, false, err
		}
		if at == last {
			found = true
			continue
		}
		c.Kind = platform.ChangeKind(kind)
		changes, next = append(changes, c), at
	}
	if err := rows.Err(); err != nil || found {
		return changes, next, false, err
	}
	err = conn.QueryRow(ctx, newestChange).Scan(&next.version, &next.at)
	return nil, next, true, err
}

// jitter is a time between both, so that nodes do not ask all at once.
func jitter(least, most time.Duration) time.Duration {
	return least + rand.N(most-least+1) //nolint:gosec // G404: no secret
}
