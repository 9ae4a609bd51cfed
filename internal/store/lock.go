package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// The keys of the advisory locks, which count in one database of PostgreSQL.
const (
	lockMigrate  = 7_020_001 // held while a node brings the schema up to date
	lockWrite    = 7_020_002 // held by the one transaction that writes
	lockRotate   = 7_020_003 // held while the master key rotates
	lockMaintain = 7_020_004 // held by the one node that maintains
	lockAgain    = 7_020_005 // held by the one transaction that puts deliveries back into the queue
)

// alone tries to be the only one on the platform who holds the lock. It
// belongs to the connection: who has it releases that, and whoever dies has
// lost it. A nil connection without an error: another one holds it.
func (s *Store) alone(ctx context.Context, lock int64) (*pgx.Conn, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	var held bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, lock).Scan(&held); err != nil {
		closeConn(ctx, conn)
		return nil, s.unavailable(ctx, "taking a lock", err)
	}
	if !held {
		closeConn(ctx, conn)
		return nil, nil //nolint:nilnil // see above
	}
	return conn, nil
}

// inTurn is alone that waits for whoever holds the lock, as long as ctx lasts.
func (s *Store) inTurn(ctx context.Context, lock int64) (*pgx.Conn, error) {
	config := s.pool.Config().ConnConfig
	config.AfterConnect = nil // the wait is not bounded by lock_timeout
	conn, err := s.connectWith(ctx, config)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, lock); err != nil {
		closeConn(ctx, conn)
		return nil, s.unavailable(ctx, "waiting for another node", err)
	}
	return conn, nil
}

// release gives a lock back, and ends its connection. Without the first the
// server would do so a moment later, and whoever comes next find it held.
func release(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`)
	closeConn(ctx, conn)
}

// connect makes a connection that is not the pool's.
func (s *Store) connect(ctx context.Context) (*pgx.Conn, error) {
	return s.connectWith(ctx, s.pool.Config().ConnConfig)
}

func (s *Store) connectWith(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	ctx, cancel := s.engine.bounded(ctx)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	switch {
	case sqlState(err) == "42704": // the server would quote what may be a part of the password
		return nil, errors.New("the PostgreSQL DSN has a setting that the server does not know; " + wantDSN)
	case err != nil:
		return nil, s.unavailable(ctx, "connecting", err)
	}
	return conn, nil
}

// closeConn ends a connection of its own, without waiting for a server that
// does not answer.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}
