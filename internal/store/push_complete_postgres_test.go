package store

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// postgresPush is a store in PostgreSQL with many deliveries, of which a node holds
// some.
func postgresPush(t *testing.T, many, room int) (*pushStore, []pusher.Work) {
	t.Helper()
	p := newPushStore(t, engines[1].empty(t), "a")
	sub := p.subs["a"]
	batch := make(pusher.Batch, many)
	for i := range batch {
		batch[i] = pusher.Publication{Message: p.message("a", testTime), Deliveries: []pusher.NewDelivery{{Subscription: sub.Number, App: sub.AppNumber, Body: make([]byte, 1500), KeyNumber: 1}}}
	}
	results, err := p.Publish(t.Context(), []pusher.Batch{batch})
	require.NoError(t, err)
	require.NoError(t, results[0].Err)
	r, err := p.Claim(t.Context(), pusher.Claim{Node: "node", Lease: time.Hour, Endpoints: []pusher.Endpoint{{Subscription: sub.Number, Room: room, Concurrency: many}}})
	require.NoError(t, err)
	require.Len(t, r.Work, room)
	return p, r.Work
}

// TestCompletionFindsRowsByNumber: also while few are under way, when to look at all
// of them for each one would seem to be cheap.
func TestCompletionFindsRowsByNumber(t *testing.T) {
	p, _ := postgresPush(t, 5000, 1)
	tx, err := p.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(t.Context())) }()
	for _, step := range []string{
		`ANALYZE push_queue`,
		`SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off`,
		//nolint:dupword // types
		`PREPARE completion (bigint[], bigint[], bigint[], smallint[], bigint[], boolean[], int[], text[], bigint, bigint) AS ` + complete,
	} {
		_, err := tx.Exec(t.Context(), step)
		require.NoError(t, err)
	}
	rows, err := tx.Query(t.Context(), `EXPLAIN EXECUTE completion ('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', 0, 1)`)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	plan := strings.Join(lines, "\n")
	require.Contains(t, plan, "Index Scan using push_queue_pkey")
	require.NotContains(t, plan, "push_queue_claimed")
	require.NotContains(t, plan, "push_queue_due")
}

// TestRecordsStayWhereTheyAre: what is completed together was accepted together most
// often. A record that moved to another page would have all its indexes written.
func TestRecordsStayWhereTheyAre(t *testing.T) {
	p, work := postgresPush(t, 500, 500)
	pages := func() []int64 {
		t.Helper()
		rows, err := p.pool.Query(t.Context(), `SELECT (ctid::text::point)[0]::bigint FROM push_deliveries ORDER BY id`)
		require.NoError(t, err)
		pages, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		require.NoError(t, err)
		return pages
	}
	before := pages()
	done := make([]pusher.Completion, len(work))
	for i, w := range work {
		done[i] = pusher.Completion{ID: w.ID, Subscription: w.Subscription, Fence: w.Fence, State: pusher.Delivered, Attempt: &pusher.Attempt{Number: 1, Started: testTime, Status: 200, Node: "node"}}
	}
	had, err := p.Complete(t.Context(), done)
	require.NoError(t, err)
	require.NotContains(t, had, false)
	require.Equal(t, before, pages())
}
