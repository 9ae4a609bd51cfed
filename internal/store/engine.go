package store

import (
	"context"
	"embed"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

// engine is what differs between databases. The SQL itself is plain: text and
// integers, `?` placeholders, ON CONFLICT and RETURNING.
type engine struct {
	dialect goose.Dialect
	// folder of the migrations.
	folder string
	// rebind turns `?` into the engine's placeholders; nil keeps them.
	rebind func(string) string
	// conflict tells whether err says that a row is there already, or that
	// another one refers to it or is missing.
	conflict func(error) bool
	// appByKey and appByID load an app by one statement, see appQuery.
	appByKey, appByID string
	// serial makes a transaction the only writer until it ends; empty where
	// there is no more than one anyway.
	serial string
	// again makes a transaction the only one that puts deliveries back into the
	// queue, until it ends; empty where serial is.
	again string
	// byIndex makes a transaction plan without figures: few rows of large tables,
	// each found by an index, and in its order. Empty where that is done anyway.
	byIndex string
	// lookup compares a column of an index with one of a row that is read before,
	// so that rows of the column's table are looked up one by one.
	lookup func(column, value string) string
	// anyOf compares a column of an index with the few values of a subquery, in
	// the same way.
	anyOf func(column, query string) string
	// lockRow ends a SELECT that keeps others from changing its row; empty where
	// a writer is alone anyway.
	lockRow string
	// among ends a comparison with the texts of a JSON array: one parameter, however
	// many there are.
	among string
	// backFence is the fence with which a delivery d comes back into the queue:
	// not before that of any claim it was in.
	backFence string
	// announce notes a change (kind, key, time) for other nodes; empty where
	// there are none.
	announce string
	// unhurried lifts the bounds of the session for one transaction; empty
	// where there are none.
	unhurried string
	// counter tells, for each table of counters, the last number that was
	// given, and how to set it.
	counter map[string]counter
	// patience bounds work whose context has no end; 0 does not.
	patience time.Duration
	// answering is a context that ends when the database is found not to answer;
	// nil where nobody finds out.
	answering func() context.Context
}

// counter is how an engine numbers the rows of a table.
type counter struct {
	last string
	set  []string
}

// bounded gives the work an end where the caller has set none: with patience, and
// at once when the database is found not to answer.
func (e *engine) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ends := ctx.Deadline(); ends || e.patience == 0 {
		return ctx, func() {}
	}
	ctx, cancel := context.WithTimeout(ctx, e.patience)
	if e.answering == nil {
		return ctx, cancel
	}
	ctx, end := context.WithCancelCause(ctx)
	answering := e.answering()
	stop := context.AfterFunc(answering, func() { end(context.Cause(answering)) })
	return ctx, func() {
		stop()
		cancel()
	}
}
