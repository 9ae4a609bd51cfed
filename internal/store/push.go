package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// push is what the pusher's methods keep in memory.
type push struct {
	// looked tells how far claims have looked.
	looked looked
	// outbox has the subscriptions that other nodes are to be woken for.
	outbox outbox
}

// hot runs fn in a transaction of SQLite's writer, which it shares with others.
// It may be run again; after an error, what it wrote to must not be read.
func (s *Store) hot(ctx context.Context, fn func(context.Context, *conn) error) error {
	return s.group.do(ctx, true, fn)
}

// pipeline sends statements in one round trip. They are one transaction.
func (s *Store) pipeline(ctx context.Context, b *pgx.Batch) error {
	if err := s.watch.down(); err != nil {
		return err
	}
	ctx, cancel := s.engine.bounded(ctx)
	defer cancel()
	err := s.pool.SendBatch(ctx, b).Close()
	if err != nil {
		err = s.engine.domainError(ctx, err)
	}
	s.noteFailure(err)
	return err
}

// planned begins a batch whose statements are planned once and for all: by
// indexes, row by row. They touch few rows of tables of any size, with figures
// that are never up to date; and to plan anew costs more than to run them.
func planned() *pgx.Batch {
	b := &pgx.Batch{}
	b.Queue(`SELECT set_config('plan_cache_mode', 'force_generic_plan', true), set_config('jit', 'off', true),
		set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)`)
	return b
}

// sqlNow is the database's clock in Unix microseconds.
const sqlNow = `CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)`

const (
	// errNoRoom is the SQLSTATE of a row for which there is no partition.
	errNoRoom = "23514"
	// errDuplicate is the SQLSTATE of a row whose key is there already.
	errDuplicate = "23505"
)

// withRoom runs fn, and where a partition was missing makes those for the times
// and runs it again.
func (s *Store) withRoom(ctx context.Context, fn func() error, times func() []int64, tables ...series) error {
	err := fn()
	if sqlState(err) != errNoRoom {
		return err
	}
	err = s.update(ctx, nil, func(t *tx) error {
		for _, at := range times() {
			for _, table := range tables {
				s.rooms.Delete(table.partition(fromUnixMicro(at)).name) // what another node dropped
				if err := t.room(ctx, table, fromUnixMicro(at)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return fn()
}

// pushStatements are those of SQLite's writer that the pusher uses.
var pushStatements = []string{
	findIdempotency, putIdempotency, numberDeliveries, insertMessage, insertDelivery, insertQueue, insertPayload,
	endpointDue, holdBack, take,
	queuedRows, deleteQueue, requeue, endClaim, endClaims, recordTry, insertAttempt, findLost,
}
