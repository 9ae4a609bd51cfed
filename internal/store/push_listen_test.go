package store

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// listen listens in the background until the test ends.
func listen(t *testing.T, s *Store) <-chan []uint64 {
	t.Helper()
	woken, ended := make(chan []uint64, 100), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(ended)
		s.Listen(ctx, func(subscriptions []uint64) { woken <- subscriptions })
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return woken
}

func receive(t *testing.T, woken <-chan []uint64) []uint64 {
	t.Helper()
	select {
	case subscriptions := <-woken:
		return subscriptions
	case <-time.After(time.Minute):
		require.FailNow(t, "nobody woke it")
		return nil
	}
}

// A node hears of what the others publish, and not of its own.
func TestListen(t *testing.T) {
	dsn := postgresDatabase(t)
	p := newPushTest(t, engines[1], dsn)
	subs := p.subscribe(3)
	other := engines[1].at(t, dsn, testKeyring(t, 1))
	theirs := listen(t, other)
	require.Empty(t, receive(t, theirs), "something may have been missed before")

	// A node that does not listen tells in the transaction.
	p.publish(p.message("", subs[0], subs[1]))
	require.ElementsMatch(t, subs[:2], receive(t, theirs))

	ours := listen(t, p.Store)
	require.Empty(t, receive(t, ours))
	p.publish(p.message("", subs[2]))
	require.Equal(t, subs[2:], receive(t, theirs))
	require.NoError(t, p.transaction(t.Context(), p.readers, nil, func(c *conn) error { return c.notifyPush(t.Context(), subs[:1]) }))
	require.Equal(t, subs[:1], receive(t, theirs))
	require.Equal(t, subs[:1], receive(t, ours), "the first that it hears: not of its own message")

	// A connection that is lost is made again, and what was missed made up for.
	p.run(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN ` + pushChannel + `%' OR query LIKE '%pg_notify($1, $2)' AND pid <> pg_backend_pid()`)
	require.Empty(t, receive(t, theirs))
	require.Empty(t, receive(t, ours))
	p.publish(p.message("", subs[1]))
	require.Equal(t, subs[1:2], receive(t, theirs))
}

// On SQLite there is nobody to hear of.
func TestListenAlone(t *testing.T) {
	s := openTemp(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Listen(ctx, func([]uint64) { require.Fail(t, "nobody is there") })
}

func TestNotifyPayload(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		subscriptions := rapid.SliceOfN(rapid.Uint64(), 1, 2000).Draw(t, "subscriptions")
		payload := notifyPayload(subscriptions)
		require.Less(t, len(payload), 8000)
		if payload != "" {
			require.Equal(t, subscriptions, parseNotification(payload))
		} else {
			require.Greater(t, len(subscriptions), 300)
		}
	})
	require.Nil(t, parseNotification(""))
	require.Nil(t, parseNotification("1,x"))
	require.Empty(t, notifyPayload(make([]uint64, 8000)))
	require.Equal(t, "1,2", strings.TrimSpace(notifyPayload([]uint64{1, 2})))
}
