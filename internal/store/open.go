// Package store keeps the domain in a SQL database: SQLite for one process,
// PostgreSQL for any number of them. It fills [platform.Store]. Secrets are encrypted at rest with the keys of a
// [Keyring]; nothing else about them is decided here.
package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Options are a store's settings. Zero fields take the defaults.
type Options struct {
	// Readers is the largest number of connections that read a SQLite file;
	// 0 means 4.
	Readers int
	// MaxConns is the largest number of connections to PostgreSQL, unless the
	// DSN has pool_max_conns; 0 means 16, 4 is the least. A node asks the
	// database only for apps that it does not have at hand, each in a fraction
	// of a millisecond, so 16 serve thousands of loads a second. A server takes
	// 100 connections by default: six nodes of 16; more need max_connections or
	// pgbouncer. One more connection follows the changes.
	MaxConns int
	// Rand is where nonces come from; nil means crypto/rand.
	Rand io.Reader
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// OnChange is called after a revocation that the store made by itself, such
	// as that of a replayed code, is committed: what the service changes it says
	// itself. Nil means nobody listens.
	OnChange func(platform.Change)
}

func (o Options) readers() int {
	if o.Readers > 0 {
		return o.Readers
	}
	return 4
}

// Store keeps the domain. It is safe for concurrent use: writers queue for one
// connection, readers see the last commit and wait for nobody.
type Store struct {
	engine  *engine
	writer  *sql.DB
	readers *sql.DB
	// snapshot is the isolation in which several statements see one state.
	snapshot sql.IsolationLevel
	rand     io.Reader
	now      func() time.Time
	onChange func(platform.Change)
	keys     atomic.Pointer[Keyring]
	// loads are the statements of SQLite that are worth keeping compiled; pgx
	// keeps all of them by itself.
	loads map[string]*sql.Stmt
	// writes are those of SQLite's writer, and group is where they join; nil on
	// PostgreSQL.
	writes map[string]*sql.Stmt
	group  *group
	// rotating is held while the master key rotates.
	rotating sync.Mutex
	series   []series
	// rooms are the partitions that are known to be there.
	rooms sync.Map
	push  push

	// pool has the connections of both, and watch follows the database; both
	// are nil on SQLite.
	pool  *pgxpool.Pool
	watch *watchState
}

var _ platform.Store = (*Store)(nil)

// newStore takes over both pools.
func newStore(e *engine, writer, readers *sql.DB, keys *Keyring, o Options) *Store {
	s := &Store{engine: e, writer: writer, readers: readers, rand: o.Rand, now: o.Now, onChange: o.OnChange, series: allSeries}
	if s.rand == nil {
		s.rand = rand.Reader
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.onChange == nil {
		s.onChange = func(platform.Change) {}
	}
	s.keys.Store(keys)
	return s
}

// start prepares the database, and closes the store where that fails.
func (s *Store) start(ctx context.Context, prepare func(context.Context, *Keyring) error) (*Store, error) {
	if err := prepare(ctx, s.keys.Load()); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store: %w", err), s.Close())
	}
	return s, nil
}

// closeTimeout is how long Close waits for a server to take leave.
const closeTimeout = 2 * time.Second

// Close ends all connections, after the writes that are under way.
func (s *Store) Close() error {
	if s.group != nil {
		s.group.close()
	}
	err := errors.Join(s.readers.Close(), s.writer.Close())
	if s.pool != nil {
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			s.pool.Close()
		}()
		select {
		case <-closed:
		case <-time.After(closeTimeout): // a server that does not answer; the pool gives up later
		}
	}
	return err
}
