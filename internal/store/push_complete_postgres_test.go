package store

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
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
	//nolint:dupword // types
	plan := p.planned(t, `(bigint[], bigint[], bigint[], bigint[], smallint[], bigint[], boolean[], int[], text[], boolean, bigint, bigint) AS `+complete,
		`('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', true, 0, 1)`)
	require.Contains(t, plan, "Index Scan using push_queue_pkey")
	require.Contains(t, plan, "Index Scan using push_claims_pkey")
	require.NotContains(t, plan, "push_queue_due")
}

// TestClaimFindsRows: what is due by its endpoint, and of what is under way the keys by
// number. It is looked at once whether something is under way, not for each that is due.
func TestClaimFindsRows(t *testing.T) {
	p, _ := postgresPush(t, 5000, 1)
	//nolint:dupword // types
	plan := p.planned(t, `(bigint[], int[], int[], boolean[], bigint[], bigint[], text, bigint, bigint) AS `+claimDue,
		`('{}', '{}', '{}', '{}', '{}', '{}', '', 1, 1)`)
	require.Regexp(t, `Index Scan using push_queue_due on push_queue \w+ .*\n.*Index Cond: \(\(subscription = .*due_at >= .*due_at <= .*\n.*Filter: \(NOT \(hashed SubPlan`, plan)
	require.Regexp(t, `Scan .*push_claims_pkey.*\n.*Index Cond: .*subscription = .*fence >=`, plan)
	require.Regexp(t, `Scan .*push_queue_pkey.*\n.*Index Cond: \(id = ANY`, plan)
}

// TestRowsAreFoundByNumber: also by plans that were made when there was nothing. They
// are kept until somebody looks at the tables anew, a minute after a burst began.
func TestRowsAreFoundByNumber(t *testing.T) {
	p := newPushStore(t, engines[1].empty(t), "a")
	_, err := p.pool.Exec(t.Context(), `VACUUM ANALYZE`)
	require.NoError(t, err)
	//nolint:dupword // types
	for name, statement := range map[string]struct{ text, arguments string }{
		"complete": {
			`(bigint[], bigint[], bigint[], bigint[], smallint[], bigint[], boolean[], int[], text[], boolean, bigint, bigint) AS ` + complete,
			`('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', true, 0, 1)`,
		},
		"claim": {
			`(bigint[], int[], int[], boolean[], bigint[], bigint[], text, bigint, bigint) AS ` + claimDue,
			`('{}', '{}', '{}', '{}', '{}', '{}', '', 1, 1)`,
		},
		"rescue": {`(bigint) AS ` + rescueLost, `(100)`},
		"owners": {`(text[], text[]) AS ` + ownersOfKeys, `('{}', '{}')`},
	} {
		t.Run(name, func(t *testing.T) {
			plan := p.planned(t, statement.text, statement.arguments)
			found := regexp.MustCompile(`Scan using (\w+) on push_(?:queue|claims|idempotency) .*\n +(.*)`).FindAllStringSubmatch(plan, -1)
			require.NotEmpty(t, found)
			for _, scan := range found {
				condition := map[string]string{
					"push_queue_pkey":       `Index Cond: \(id = `,
					"push_queue_due":        `Index Cond: \(+subscription = `,
					"push_queue_held":       `Index Cond: \(+subscription = `,
					"push_queue_order":      `Index Cond: \(+subscription = `,
					"push_claims_pkey":      `Index Cond: \(+subscription = |Filter: \(lease_until `,
					"push_idempotency_pkey": `Index Cond: \(+environment = .* AND \(key = `,
				}[scan[1]]
				require.NotEmpty(t, condition, plan)
				require.Regexp(t, condition, scan[2], plan)
			}
		})
	}
}

// planned is how the server does a statement that it has planned for good.
func (p *pushStore) planned(t *testing.T, statement, arguments string) string {
	t.Helper()
	tx, err := p.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(t.Context())) }()
	for _, step := range []string{
		`ANALYZE push_queue`, `SELECT set_config('open_platform.claim', '', true), set_config('open_platform.claimed_at', '1', true)`,
		`SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off`,
		`PREPARE statement ` + statement,
	} {
		_, err := tx.Exec(t.Context(), step)
		require.NoError(t, err)
	}
	rows, err := tx.Query(t.Context(), `EXPLAIN EXECUTE statement `+arguments)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `DEALLOCATE statement`)
	require.NoError(t, err)
	return strings.Join(lines, "\n")
}

// TestPushWhileCompleting: somebody pushes a delivery by hand while its completion
// waits for the row. It is completed, and attempted again.
func TestPushWhileCompleting(t *testing.T) {
	for _, state := range []pusher.State{pusher.Delivered, pusher.Failed, pusher.Pending} {
		t.Run(state.String(), func(t *testing.T) {
			p := newPushTest(t, engines[1], postgresDatabase(t))
			sub := p.subscribe(1)[0]
			p.publish(p.message("", sub), p.message("", sub))
			work := p.claim(endpoint(sub)).Work
			other, err := p.pool.Begin(t.Context())
			require.NoError(t, err)
			_, err = other.Exec(t.Context(), `UPDATE push_queue SET owed = owed + 1 WHERE id = $1`, work[1].ID.ID)
			require.NoError(t, err)
			had := make(chan []bool, 1)
			go func() {
				ours, err := p.Complete(t.Context(), []pusher.Completion{done(work[0], pusher.Delivered, 0), done(work[1], state, time.Hour)})
				assert.NoError(t, err)
				had <- ours
			}()
			require.Eventually(t, func() bool { return p.count(`SELECT count(*) FROM pg_locks WHERE NOT granted`) > 0 }, time.Minute, time.Millisecond)
			require.NoError(t, other.Commit(t.Context()))
			require.Equal(t, []bool{true, true}, <-had)
			require.Equal(t, pusher.Pending, p.recorded(work[1].ID).State)
			again := p.claim(endpoint(sub)).Work
			require.Len(t, again, 1)
			require.Equal(t, pusher.Manual, again[0].Cause)
			require.Equal(t, 2, again[0].Attempt)
			require.Equal(t, []bool{true}, p.complete(done(again[0], pusher.Delivered, 0)))
			require.Zero(t, p.count(`SELECT count(*) FROM push_queue`))
		})
	}
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
