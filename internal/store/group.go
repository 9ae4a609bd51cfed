package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	// groupMost is how many pieces of work share a transaction, so that who
	// comes first does not wait for many.
	groupMost = 256
	// groupQueue is how many wait without holding up who brings the next.
	groupQueue = 1024
)

// group is SQLite's writer for small work that comes often, of any kind. A
// commit waits for the disk, and costs nearly the same for one row as for a
// hundred: so the work that came while one commit was under way is done in one
// transaction, and nobody waits for company.
//
// Each piece of work succeeds or fails by itself, and none is acknowledged
// before its commit. PostgreSQL needs no such thing: its sessions write side by
// side, and the server joins their commits.
type group struct {
	store *Store
	queue chan *work
	// open ends when the group is closed. loop is its one goroutine.
	open   context.Context //nolint:containedctx // the group's own life, not a call's
	finish context.CancelFunc
	loop   sync.WaitGroup
}

// work is a piece of it, and where its outcome goes.
type work struct {
	// run is called again where the work of another one broke the transaction.
	run func(context.Context, *conn) error
	// several says that run has more than one statement, so that what it did is
	// undone where it fails.
	several bool
	// soon says that nobody waits for the disk. What is written is there with the
	// next work for which somebody does.
	soon bool
	// claimed is set by who is first: the loop, which begins the work, or who
	// brought it and waits no longer. begun says that it was the loop.
	claimed atomic.Bool
	begun   bool
	err     error
	done    chan error
}

// errClosed is why work was not done that the store was closed before.
var errClosed = fmt.Errorf("%w: the store is closed", platform.ErrUnavailable)

// startGroup starts the loop. It must be closed.
func startGroup(s *Store) *group {
	g := &group{store: s, queue: make(chan *work, groupQueue)}
	g.open, g.finish = context.WithCancel(context.Background())
	g.loop.Go(g.serve)
	return g
}

// close ends the loop after the transaction that is under way. Work that has
// not begun fails.
func (g *group) close() {
	g.finish()
	g.loop.Wait()
}

// do waits until the work is committed, or has failed. Where ctx ends first, do
// returns: work that has not begun is then never done, and of other work the
// outcome is unknown, as of a commit that is broken off. So what run writes to
// must not be read after an error.
func (g *group) do(ctx context.Context, several bool, run func(context.Context, *conn) error) error {
	return g.bring(ctx, &work{run: run, several: several})
}

// doSoon is do for work of several statements that need not survive a power cut
// or a crash of the system. That of this process it survives.
func (g *group) doSoon(ctx context.Context, run func(context.Context, *conn) error) error {
	return g.bring(ctx, &work{run: run, several: true, soon: true})
}

func (g *group) bring(ctx context.Context, w *work) error {
	w.done = make(chan error, 1)
	select {
	case g.queue <- w:
	case <-g.open.Done():
		return errClosed
	case <-ctx.Done():
		return gaveUp(ctx)
	}
	select {
	case err := <-w.done:
		return err
	case <-g.open.Done():
		if w.claimed.Swap(true) {
			return <-w.done // the last transaction has it
		}
		return errClosed
	case <-ctx.Done():
		w.claimed.Store(true)
		return gaveUp(ctx)
	}
}

// gaveUp is the error of a caller who waits no longer.
func gaveUp(ctx context.Context) error {
	return fmt.Errorf("%w: waiting for the writer: %w", platform.ErrUnavailable, context.Cause(ctx))
}

// serve does the work as it comes.
func (g *group) serve() {
	for {
		select {
		case <-g.open.Done():
			return
		case w := <-g.queue:
			g.commit(w)
		}
	}
}

// commit waits for the connection as long as the group is open, does all work
// that has come until then in one transaction, and tells everybody. Where that
// broke, nothing of it has happened, and each piece gets a transaction of its
// own: none fails by the fault of another.
func (g *group) commit(first *work) {
	session, err := g.store.writer.Conn(g.open)
	if err != nil {
		first.done <- g.store.unavailable(g.open, "beginning a transaction", err)
		return
	}
	defer func() { _ = session.Close() }()
	batch := g.join(first)
	if !slices.ContainsFunc(batch, func(w *work) bool { return !w.soon }) {
		defer g.relax(session)()
	}
	whole := g.transaction(session, batch)
	for _, w := range batch {
		if !whole && len(batch) > 1 {
			g.transaction(session, []*work{w})
		}
		w.done <- w.err
	}
}

// relax has commits of the connection not wait for the disk, until restore is
// called. A connection that could not be made to wait again is given up: the next
// one does.
func (g *group) relax(session *sql.Conn) (restore func()) {
	ctx := context.WithoutCancel(g.open)
	set := func(level string) error {
		_, err := session.ExecContext(ctx, `PRAGMA synchronous = `+level)
		return err
	}
	_ = set(`NORMAL`) // otherwise they wait
	return func() {
		if set(`FULL`) != nil {
			_ = session.Raw(func(any) error { return driver.ErrBadConn })
		}
	}
}

// join adds what else is waiting.
func (g *group) join(first *work) []*work {
	batch := append(make([]*work, 0, min(len(g.queue)+1, groupMost)), first)
	for len(batch) < groupMost {
		select {
		case w := <-g.queue:
			batch = append(batch, w)
		default:
			return batch
		}
	}
	return batch
}

// errBroken undoes a transaction that the failure of one piece of work broke.
var errBroken = errors.New("the transaction is broken")

// transaction does what somebody still waits for, and notes what came of each
// piece. It returns false where one of them broke it: then nothing was done.
func (g *group) transaction(session *sql.Conn, batch []*work) bool {
	// What has begun goes on to its end, whoever gives up meanwhile.
	ctx := context.WithoutCancel(g.open)
	err := g.store.within(ctx, session, nil, func(c *conn) error {
		c.prepared, c.compiled = map[string]*sql.Stmt{}, g.store.writes
		for _, w := range batch {
			if !w.wanted() {
				continue
			}
			if w.err = w.try(ctx, c); errors.Is(w.err, platform.ErrUnavailable) {
				return errBroken
			}
		}
		return nil
	})
	if errors.Is(err, errBroken) {
		return false
	}
	if err != nil {
		for _, w := range batch {
			w.err = err
		}
	}
	return true
}

// wanted claims the work for the loop. It is false where nobody waits for it.
func (w *work) wanted() bool {
	if !w.begun {
		w.begun = !w.claimed.Swap(true)
	}
	return w.begun
}

// The statements by which work is undone alone.
const (
	beginWork = `SAVEPOINT work`
	undoWork  = `ROLLBACK TO work`
	endWork   = `RELEASE work`
)

// try runs the work. Of an error that the transaction survives, nothing is left
// in it: a single statement undoes itself.
func (w *work) try(ctx context.Context, c *conn) error {
	if !w.several {
		return w.run(ctx, c)
	}
	if _, err := c.exec(ctx, beginWork); err != nil {
		return err
	}
	failed := w.run(ctx, c)
	if errors.Is(failed, platform.ErrUnavailable) {
		return failed
	}
	if failed != nil {
		if _, err := c.exec(ctx, undoWork); err != nil {
			return err
		}
	}
	if _, err := c.exec(ctx, endWork); err != nil {
		return err
	}
	return failed
}
