package store

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// pushChannel is notified of subscriptions that have work.
	pushChannel = "open_platform_push"
	// notifyEvery is how long a node gathers subscriptions before it notifies
	// again: each commit with a notification waits for the one before it, on the
	// whole server.
	notifyEvery = 10 * time.Millisecond
	// listenCheck is how often a quiet connection is asked whether it is there.
	listenCheck = 30 * time.Second
	// notifyMost is how long a notification may be; PostgreSQL takes 7999 bytes.
	notifyMost = 7900

	notifyQuery = `SELECT pg_notify($1, $2)`
)

// outbox gathers the subscriptions that other nodes are to be woken for. The
// connection that listens sends them, beside the transactions that publish; who
// does not listen notifies by each of them.
type outbox struct {
	mu        sync.Mutex
	listening bool
	waiting   map[uint64]struct{}
	poke      chan struct{}
}

// open tells whether somebody sends what is added.
func (o *outbox) open() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.listening
}

// start opens the outbox, and returns what is poked when there is something.
func (o *outbox) start() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.listening, o.waiting, o.poke = true, map[uint64]struct{}{}, make(chan struct{}, 1)
	return o.poke
}

func (o *outbox) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.listening = false
}

func (o *outbox) add(subscriptions []uint64) {
	if len(subscriptions) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.listening {
		return // it broke since: others find the work when they look by themselves
	}
	for _, n := range subscriptions {
		o.waiting[n] = struct{}{}
	}
	select {
	case o.poke <- struct{}{}:
	default:
	}
}

// take empties the outbox.
func (o *outbox) take() []uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken := slices.Collect(maps.Keys(o.waiting))
	clear(o.waiting)
	return taken
}

// notifyPayload lists the subscriptions; empty where they are too many, which
// means any.
func notifyPayload(subscriptions []uint64) string {
	var b strings.Builder
	for i, n := range subscriptions {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(n, 10))
		if b.Len() > notifyMost {
			return ""
		}
	}
	return b.String()
}

// parseNotification is the opposite of notifyPayload. What it cannot read means
// any.
func parseNotification(payload string) []uint64 {
	if payload == "" {
		return nil
	}
	parts := strings.Split(payload, ",")
	subscriptions := make([]uint64, len(parts))
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil {
			return nil
		}
		subscriptions[i] = n
	}
	return subscriptions
}

// notifyPush wakes other nodes for the subscriptions, once the transaction is
// committed. It does nothing on SQLite.
func (c *conn) notifyPush(ctx context.Context, subscriptions []uint64) error {
	if c.engine.rebind == nil || len(subscriptions) == 0 {
		return nil
	}
	_, err := c.exec(ctx, `SELECT pg_notify(?, ?)`, pushChannel, notifyPayload(subscriptions))
	return err
}

// Listen calls wake with the subscriptions for which other nodes published or
// resumed; none means any. It returns when ctx ends. On SQLite it just waits:
// there are no other nodes.
func (s *Store) Listen(ctx context.Context, wake func(subscriptions []uint64)) {
	if s.pool == nil {
		<-ctx.Done()
		return
	}
	retry := retryLeast
	for ctx.Err() == nil {
		if s.listenSession(ctx, wake) {
			retry = retryLeast
		}
		select {
		case <-ctx.Done():
		case <-time.After(jitter(retry/2, retry)):
		}
		retry = min(2*retry, retryMost)
	}
}

// listenSession listens over one connection until that fails; it tells whether
// it ever worked. Whatever was missed before is made up for by a wake for any.
func (s *Store) listenSession(ctx context.Context, wake func([]uint64)) (worked bool) {
	conn, err := s.dial(ctx)
	if err != nil {
		return false
	}
	defer closeConn(ctx, conn)
	listen := func(ctx context.Context) error { _, err := conn.Exec(ctx, `LISTEN `+pushChannel); return err }
	if ask(ctx, listen) != nil {
		return false
	}
	poke := s.push.outbox.start()
	defer s.push.outbox.stop()
	wake(nil)
	for {
		quiet, err := s.awaitPush(ctx, conn, poke, wake)
		if err != nil {
			return true
		}
		subscriptions := s.push.outbox.take()
		if len(subscriptions) == 0 && !quiet {
			continue
		}
		err = ask(ctx, func(ctx context.Context) (err error) {
			if len(subscriptions) == 0 {
				return conn.Ping(ctx)
			}
			_, err = conn.Exec(ctx, notifyQuery, pushChannel, notifyPayload(subscriptions))
			return err
		})
		if err != nil {
			return true
		}
	}
}

// awaitPush waits for a notification, for something to send, or until it has
// been quiet for long. It fails where the connection does.
func (s *Store) awaitPush(ctx context.Context, conn *pgx.Conn, poke <-chan struct{}, wake func([]uint64)) (quiet bool, err error) {
	wait, cancel := context.WithTimeout(ctx, listenCheck)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-time.After(notifyEvery):
		case <-wait.Done():
			return
		}
		select {
		case <-poke:
			cancel()
		case <-wait.Done():
		}
	}()
	n, err := conn.WaitForNotification(wait)
	if wait.Err() != nil { // not the connection's fault, and it stays open
		quiet, err = errors.Is(wait.Err(), context.DeadlineExceeded), ctx.Err()
	}
	cancel()
	<-done
	if n != nil && n.PID != conn.PgConn().PID() {
		wake(parseNotification(n.Payload))
	}
	return quiet, err
}
