package store

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// run is what a piece of work does.
type run = func(context.Context, *conn) error

// groupTest is a store with a table for work to write to.
type groupTest struct{ *Store }

func newGroupTest(tb testing.TB) groupTest {
	tb.Helper()
	s := engines[0].empty(tb)
	_, err := s.writer.ExecContext(tb.Context(), `CREATE TABLE numbers (n INTEGER PRIMARY KEY) STRICT`)
	require.NoError(tb, err)
	return groupTest{s}
}

// numbers are those that are committed.
func (g groupTest) numbers(t require.TestingT) []int {
	all := []int{}
	rows, err := g.readers.Query(`SELECT n FROM numbers ORDER BY n`)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var n int
		require.NoError(t, rows.Scan(&n))
		all = append(all, n)
	}
	require.NoError(t, rows.Err())
	return all
}

// add writes numbers, one by one; one that is there is a conflict.
func add(numbers ...int) run {
	return func(ctx context.Context, c *conn) error {
		for _, n := range numbers {
			if _, err := c.exec(ctx, `INSERT INTO numbers (n) VALUES (?)`, n); err != nil {
				return err
			}
		}
		return nil
	}
}

// breaks makes the whole transaction fail.
func breaks(ctx context.Context, c *conn) error {
	_, err := c.exec(ctx, `INSERT INTO nowhere (n) VALUES (1)`)
	return err
}

// busy has the writer do something else until free is called. What is brought
// meanwhile waits.
func (g groupTest) busy(t require.TestingT) (free func()) {
	session, err := g.writer.Conn(context.Background())
	require.NoError(t, err)
	return func() { require.NoError(t, session.Close()) }
}

// bring calls do for each in a goroutine of its own, one after the other: the
// first is in the hands of the loop, and the others are in the queue. The writer
// must be busy.
func (g groupTest) bring(all *sync.WaitGroup, count int, do func(i int)) {
	waited := g.writer.Stats().WaitCount
	for i := range count {
		all.Go(func() { do(i) })
		for len(g.group.queue) != i || g.writer.Stats().WaitCount == waited {
			runtime.Gosched()
		}
	}
}

// Work that comes while the writer is busy shares one transaction, and is not
// acknowledged before that is committed.
func TestGroupSharesATransaction(t *testing.T) {
	g := newGroupTest(t)
	const count = 10
	var shared []*conn
	work := func(i int) run {
		return func(ctx context.Context, c *conn) error {
			if shared = append(shared, c); len(shared) == count {
				for range 1000 { // whoever has heard too early finds nothing
					runtime.Gosched()
				}
				require.Empty(t, g.numbers(t))
			}
			return add(i)(ctx, c)
		}
	}
	free := g.busy(t)
	var all sync.WaitGroup
	g.bring(&all, count, func(i int) {
		if err := g.group.do(t.Context(), false, work(i)); err != nil {
			t.Error(err)
		}
		if !slices.Contains(g.numbers(t), i) {
			t.Errorf("%d was acknowledged before it was committed", i)
		}
	})
	free()
	all.Wait()
	require.Len(t, shared, count)
	require.Len(t, slices.Compact(shared), 1)
}

// Each piece of work succeeds or fails by itself, whatever the others do: what
// was acknowledged is there, and of the rest there is nothing.
func TestGroupKeepsWorkApart(t *testing.T) {
	g := newGroupTest(t)
	rapid.Check(t, func(t *rapid.T) {
		_, err := g.writer.Exec(`DELETE FROM numbers`)
		require.NoError(t, err)
		type piece struct {
			numbers         []int
			broken, several bool
		}
		pieces := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) piece {
			p := piece{numbers: rapid.SliceOfN(rapid.IntRange(0, 9), 1, 3).Draw(t, "numbers"), broken: rapid.IntRange(0, 9).Draw(t, "broken") == 0}
			p.several = p.broken || len(p.numbers) > 1 || rapid.Bool().Draw(t, "several")
			return p
		}), 1, 12).Draw(t, "pieces")
		errs := make([]error, len(pieces))
		free := g.busy(t)
		var all sync.WaitGroup
		g.bring(&all, len(pieces), func(i int) {
			errs[i] = g.group.do(context.Background(), pieces[i].several, func(ctx context.Context, c *conn) error {
				if err := add(pieces[i].numbers...)(ctx, c); err != nil || !pieces[i].broken {
					return err
				}
				return breaks(ctx, c)
			})
		})
		free()
		all.Wait()

		want := map[int]bool{}
		for i, p := range pieces {
			conflict := false
			for j, n := range p.numbers {
				conflict = conflict || want[n] || slices.Contains(p.numbers[:j], n)
			}
			switch {
			case conflict:
				require.ErrorIs(t, errs[i], platform.ErrConflict)
			case p.broken:
				require.ErrorIs(t, errs[i], platform.ErrUnavailable)
			default:
				require.NoError(t, errs[i])
				for _, n := range p.numbers {
					want[n] = true
				}
			}
		}
		require.Len(t, g.numbers(t), len(want))
		for _, n := range g.numbers(t) {
			require.True(t, want[n])
		}
	})
}

// Who gives up is told so at once, and what has not begun is never done.
func TestGroupHonoursContexts(t *testing.T) {
	g := newGroupTest(t)
	gaveUp := errors.New("gave up")
	ctx, cancel := context.WithCancelCause(t.Context())
	free := g.busy(t)
	var all, told sync.WaitGroup
	told.Add(2)
	errs := make([]error, 3)
	g.bring(&all, 3, func(i int) {
		if i == 2 {
			errs[i] = g.group.do(t.Context(), false, add(i))
			return
		}
		errs[i] = g.group.do(ctx, false, add(i))
		told.Done()
	})
	cancel(gaveUp)
	require.ErrorIs(t, g.group.do(ctx, false, add(7)), gaveUp)
	told.Wait()
	free()
	all.Wait()
	require.NoError(t, errs[2])
	for _, err := range errs[:2] {
		require.ErrorIs(t, err, gaveUp)
		require.ErrorIs(t, err, platform.ErrUnavailable)
	}
	require.Equal(t, []int{2}, g.numbers(t))
}

// Work that is under way when somebody gives up goes on to its end, and takes
// nobody else's with it.
func TestGroupFinishesWhatHasBegun(t *testing.T) {
	g := newGroupTest(t)
	ctx, cancel := context.WithCancel(t.Context())
	free := g.busy(t)
	var all sync.WaitGroup
	errs := make([]error, 2)
	returned := make(chan struct{})
	g.bring(&all, 2, func(i int) {
		if i == 1 {
			errs[i] = g.group.do(t.Context(), false, add(i))
			return
		}
		errs[i] = g.group.do(ctx, false, func(inner context.Context, c *conn) error {
			cancel()
			<-returned
			return add(i)(inner, c)
		})
		close(returned)
	})
	free()
	all.Wait()
	require.ErrorIs(t, errs[0], context.Canceled)
	require.NoError(t, errs[1])
	require.Equal(t, []int{0, 1}, g.numbers(t))
}

// Closing the store ends what has begun in order, and refuses the rest.
func TestGroupCloses(t *testing.T) {
	database := engines[0].database(t)
	s, err := OpenSQLite(t.Context(), database, testKeyring(t, 1), Options{})
	require.NoError(t, err)
	_, err = s.writer.Exec(`CREATE TABLE numbers (n INTEGER PRIMARY KEY) STRICT`)
	require.NoError(t, err)
	g := groupTest{s}
	const count = 100
	errs := make([]error, count)
	var all sync.WaitGroup
	begun := make(chan struct{})
	for i := range count {
		all.Go(func() {
			errs[i] = g.group.do(t.Context(), false, func(ctx context.Context, c *conn) error {
				if i == 0 {
					close(begun)
				}
				return add(i)(ctx, c)
			})
		})
	}
	<-begun
	require.NoError(t, s.Close())
	all.Wait()
	require.ErrorIs(t, s.group.do(t.Context(), false, add(count)), errClosed)

	again := groupTest{openAt(t, database, testKeyring(t, 1))}
	numbers := again.numbers(t)
	for i, err := range errs {
		require.Equal(t, err == nil, slices.Contains(numbers, i), "%d: %v", i, err)
		if err != nil {
			require.ErrorIs(t, err, platform.ErrUnavailable)
		}
	}
}

// TestGroupWaitsForTheDisk for all work but that for which nobody does.
func TestGroupWaitsForTheDisk(t *testing.T) {
	g := newGroupTest(t)
	const full, normal = 2, 1
	level := func(into *int) run {
		return func(ctx context.Context, c *conn) error { return c.one(ctx, []any{into}, `PRAGMA synchronous`) }
	}
	soon := func(into *int) { require.NoError(t, g.group.doSoon(t.Context(), level(into))) }
	alone, first, joined, after := 0, 0, 0, 0
	soon(&alone)
	require.Equal(t, normal, alone)
	require.NoError(t, g.update(t.Context(), nil, func(tx *tx) error { return level(&after)(t.Context(), tx.conn) }))
	require.Equal(t, full, after)

	free := g.busy(t)
	var all sync.WaitGroup
	g.bring(&all, 2, func(i int) {
		if i == 0 {
			soon(&first)
		} else if err := g.group.do(t.Context(), false, level(&joined)); err != nil {
			t.Error(err)
		}
	})
	free()
	all.Wait()
	require.Equal(t, []int{full, full}, []int{first, joined}, "they share a transaction")
}
