package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// changesChannel is notified of every committed change.
const changesChannel = "open_platform_changes"

// patience bounds work on PostgreSQL whose caller has set no deadline: a
// server that is paused answers nothing and breaks off nothing. Watch finds that
// out, and ends such work, sooner.
const patience = 60 * time.Second

// postgresEngine is PostgreSQL as pgx has it.
//
// Writers are serial on the whole platform, as SQLite's single writer is:
// services read, decide and write, and none of them may decide by a state that
// another one is changing. The lock is taken first and released by the commit,
// so audit entries and change numbers are in the order of commits, and READ
// COMMITTED is enough for a writer: nothing moves under it. Readers do not
// wait. One that needs several statements sees one state by REPEATABLE READ.
//
// PostgreSQL plans joins by figures that are never right for what comes in bursts
// and is soon gone, and keeps plans. Of a queue that was empty a while ago it expects
// nothing: it would read all of it, and compare each row with each of the other
// side. By an array, of one value too, it can look rows up and do nothing else.
func postgresEngine() *engine {
	return &engine{
		dialect:  goose.DialectPostgres,
		folder:   "migrations/postgres",
		appByKey: fmt.Sprintf(appQuery, "app_key", "BYTEA"),
		appByID:  fmt.Sprintf(appQuery, "id", "BYTEA"),
		rebind:   newRebinder(),
		conflict: isPostgresConflict,
		serial:   `SELECT pg_advisory_xact_lock(` + strconv.Itoa(lockWrite) + `)`,
		again:    `SELECT pg_advisory_xact_lock(` + strconv.Itoa(lockAgain) + `)`,
		byIndex: `SELECT set_config('jit', 'off', true), set_config('enable_seqscan', 'off', true),
			set_config('enable_bitmapscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
			set_config('enable_sort', 'off', true), set_config('max_parallel_workers_per_gather', '0', true)`,
		lookup:    func(column, value string) string { return column + ` = ANY (ARRAY[` + value + `])` },
		anyOf:     func(column, query string) string { return column + ` = ANY (ARRAY(` + query + `))` },
		lockRow:   ` FOR UPDATE`,
		among:     ` = ANY (ARRAY(SELECT json_array_elements_text(?::json)))`,
		backFence: `greatest(d.fence, ` + sqlNow + `)`,
		announce: `WITH change AS (INSERT INTO changes (kind, key, at) VALUES (?, ?, ?) RETURNING version)
			SELECT pg_notify('` + changesChannel + `', version::text) FROM change`,
		unhurried: `SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)`,
		counter: map[string]counter{
			"apps": postgresCounter("apps_number_seq"), "audit": postgresCounter("audit_id_seq"),
			"subscriptions": postgresCounter("subscriptions_number_seq"), "push_deliveries": postgresCounter("push_deliveries_id_seq"),
		},
		patience: patience,
	}
}

// postgresCounter is a sequence.
func postgresCounter(sequence string) counter {
	return counter{
		last: `SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ` + sequence,
		set:  []string{`SELECT setval('` + sequence + `', ?)`},
	}
}

// isPostgresConflict reads SQLSTATE: a taken key, a reference to what is not
// there or from what is, or a text that PostgreSQL cannot keep, which has a NUL
// or is no UTF-8 and so equals nothing that is kept.
func isPostgresConflict(err error) bool {
	switch sqlState(err) {
	case errDuplicate, "23503", "23001", "22021":
		return true
	}
	return false
}

// sqlState is the server's code for the error; empty where it is not its own.
func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// OpenPostgres connects to the database of a DSN (a postgres:// URL or
// name=value pairs) and brings its schema up to date; any number of nodes may
// do so together. It fails where the schema is newer than this program and
// where the keys are not the ones that the secrets were written with. No error
// shows the DSN's password.
//
// Several hosts, separated by commas, with target_session_attrs=read-write make
// the store follow a failover: connections to a server that has become
// read-only, or that is gone, are dropped, and new ones find the primary.
//
// A DSN may lead to pgbouncer in session mode. Transaction mode does not work:
// prepared statements, LISTEN and the locks of migrations, maintenance and key
// rotation belong to a session.
//
// Unless the DSN says otherwise: connect_timeout 3 s for each host,
// statement_timeout 30 s, lock_timeout 5 s, idle_in_transaction_session_timeout
// 10 s, application_name open_platform, pool_max_conn_lifetime 1 h and
// pool_max_conns as [Options.MaxConns].
func OpenPostgres(ctx context.Context, dsn string, keys *Keyring, o Options) (*Store, error) {
	config, err := poolConfig(dsn, o.MaxConns)
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	// One writer of this node at a time: the others would only wait for the
	// same lock, each with a connection that a reader could use.
	writer, readers := stdlib.OpenDBFromPool(pool), stdlib.OpenDBFromPool(pool)
	writer.SetMaxOpenConns(1)
	readers.SetMaxOpenConns(int(config.MaxConns) - 2)
	s := newStore(postgresEngine(), writer, readers, keys, o)
	s.pool, s.snapshot = pool, sql.LevelRepeatableRead
	s.watch = newWatchState()
	s.engine.answering = s.watch.answering
	return s.start(ctx, s.preparePostgres)
}

// preparePostgres does what must be done once, one node after the other.
func (s *Store) preparePostgres(ctx context.Context, keys *Keyring) error {
	ctx, cancel := context.WithTimeout(ctx, migratePatience)
	defer cancel()
	lock, err := s.inTurn(ctx, lockMigrate)
	if err != nil {
		return err
	}
	defer release(ctx, lock)
	if err := s.migrateOnce(ctx); err != nil {
		return err
	}
	if err := s.noteKeys(ctx, keys); err != nil {
		return err
	}
	if err := s.makeAhead(ctx, s.now()); err != nil {
		return err
	}
	return s.follow(ctx)
}

// noteFailure reacts to a failure of the database: connections to a server
// that only reads now, or that shuts down, must not be used again, and whoever
// watches looks at once.
func (s *Store) noteFailure(err error) {
	if s.pool == nil || !errors.Is(err, platform.ErrUnavailable) || errors.Is(err, context.Canceled) {
		return
	}
	switch state := sqlState(err); {
	case state == "25006", strings.HasPrefix(state, "57P"), strings.HasPrefix(state, "08"):
		s.pool.Reset()
	case state == "" && !errors.Is(err, context.DeadlineExceeded): // a connection broke
		s.pool.Reset()
	}
	s.watch.check()
}

// newRebinder turns `?` into $1, $2 … outside of quotes. The statements of
// this package are few, so each is kept.
func newRebinder() func(string) string {
	var done sync.Map
	return func(query string) string {
		if bound, ok := done.Load(query); ok {
			return bound.(string)
		}
		bound := rebind(query)
		done.Store(query, bound)
		return bound
	}
}

func rebind(query string) string {
	var b strings.Builder
	var quote byte
	n := 0
	for i := range len(query) {
		c := query[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '?':
			n++
			b.WriteString("$" + strconv.Itoa(n))
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
