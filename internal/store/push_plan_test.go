package store

import (
	"database/sql"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// plan is how the database does a query, were its tables large.
func (p *pushStore) plan(t *testing.T, query string, args ...any) string {
	t.Helper()
	explain, columns := `EXPLAIN QUERY PLAN `, 4
	if p.pool != nil {
		explain, columns = `EXPLAIN `, 1
	}
	tx, err := p.readers.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback()) }()
	if p.pool != nil {
		_, err = tx.ExecContext(t.Context(), p.engine.byIndex)
		require.NoError(t, err)
	}
	rows, err := tx.QueryContext(t.Context(), explain+p.engine.bind(query), args...)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	var text strings.Builder
	for rows.Next() {
		line, dest := "", make([]any, columns)
		for i := range dest {
			dest[i] = new(any)
		}
		dest[columns-1] = &line
		require.NoError(t, rows.Scan(dest...))
		text.WriteString(line + "\n")
	}
	require.NoError(t, rows.Err())
	return text.String()
}

// Every list reads an index in its order, and of PostgreSQL's partitions those
// of its time alone.
func TestPushPlans(t *testing.T) { onBoth(t, testPushPlans) }

func testPushPlans(t *testing.T, e engineTest) {
	p := newPushStore(t, e.empty(t), "a")
	for i := range 8 {
		p.publish(t, "a", testTime.Add(time.Duration(i)*day))
		p.deliver(t, "a", pusher.Failed)
	}
	since, until := testTime.Add(3*day-time.Hour), testTime.Add(4*day)
	after := pusher.Cursor{At: testTime.Add(4 * day).UnixMicro(), ID: 5}
	sub, app := p.subs["a"].Number, p.app.Number
	failed, live := []pusher.State{pusher.Failed}, []pusher.State{pusher.Pending, pusher.Suspended}
	for name, c := range map[string]struct {
		filter pusher.Filter
		index  string // that PostgreSQL uses, or SQLite
	}{
		"all":          {pusher.Filter{}, "_pkey|autoindex_push_deliveries"},
		"app":          {pusher.Filter{App: app, Topic: "a"}, "app_at_id_idx|push_deliveries_app"},
		"subscription": {pusher.Filter{Subscription: sub}, "app_at_id_idx|push_deliveries_app"},
		"user":         {pusher.Filter{User: "usr_a"}, "user_id_at_id_idx|push_deliveries_user"},
		"failed":       {pusher.Filter{States: failed}, "push_failed_pkey|autoindex_push_failed"},
		"app's failed": {pusher.Filter{States: failed, App: app}, "push_failed_app"},
		"app's live":   {pusher.Filter{States: live, App: app}, "push_queue_pull"},
		"live":         {pusher.Filter{States: live, Subscription: sub}, "push_queue_pull"},
	} {
		f := c.filter
		f.Since, f.Until = since, until
		query, args := p.engine.selectDeliveries(f).newest(after, 10)
		requireIndexed(t, p, name, c.index, p.plan(t, query, args...), true)
		if e.name == "postgres" && !strings.Contains(query, " x JOIN ") {
			require.Equal(t, []string{"push_deliveries_p20260509", "push_deliveries_p20260510"}, partitionsOf(p.plan(t, query, args...), "push_deliveries"), name)
		}
	}
	for name, c := range map[string]struct {
		filter pusher.Filter
		index  string
	}{
		"all":   {pusher.Filter{}, "_pkey|autoindex_push_messages"},
		"user":  {pusher.Filter{User: "usr_a"}, "(user_id_at_idx,_pkey)|push_messages_user"},
		"topic": {pusher.Filter{Topic: "a"}, "(topic_at_idx,_pkey)|push_messages_topic"},
		"app":   {pusher.Filter{App: app, States: failed}, "app_at_id_idx|push_deliveries_app"},
	} {
		f := c.filter
		f.Since, f.Until = since, until
		query, args := p.engine.selectMessages(f, after, 10)
		plan := p.plan(t, query, args...)
		requireIndexed(t, p, name, c.index, plan, false)
		if e.name == "postgres" {
			require.Equal(t, []string{"push_messages_p20260509", "push_messages_p20260510"}, partitionsOf(plan, "push_messages"), name)
		}
	}
	// So does each step of a job.
	for name, c := range map[string]struct {
		job   savedJob
		index string
	}{
		"repush":     {savedJob{Job: pusher.Job{Cause: pusher.Repush}}, "push_failed_pkey|autoindex_push_failed"},
		"app's":      {savedJob{Job: pusher.Job{Cause: pusher.Repush, Filter: pusher.Filter{App: app, Topic: "a"}}}, "push_failed_app"},
		"reset":      {savedJob{Job: pusher.Job{Cause: pusher.Reset}}, "_pkey|autoindex_push_deliveries"},
		"app's all":  {savedJob{Job: pusher.Job{Cause: pusher.Manual, Filter: pusher.Filter{App: app}}}, "app_at_id_idx|push_deliveries_app"},
		"app's live": {savedJob{Job: pusher.Job{Cause: pusher.Manual, Filter: pusher.Filter{App: app, States: live}}}, "push_queue_pull"},
	} {
		sel := p.jobSelection(&c.job)
		sel.indexed.newerThan(sel.alias, after)
		requireIndexed(t, p, name, c.index, p.plan(t, `SELECT `+sel.alias+`.at FROM `+sel.from+sel.indexed.String()+sel.oldestFirst()+` LIMIT 1 OFFSET ?`,
			append(slices.Clone(sel.indexed.args), 999)...), true)
		sel.indexed.add(sel.alias+`.at <= ? AND (`+sel.alias+`.at, `+sel.alias+`.id) <= (?, ?)`, after.At, after.At, after.ID)
		where := sel.indexed.and(sel.rest)
		requireIndexed(t, p, name, c.index, p.plan(t, `SELECT `+queueValues+` FROM `+sel.from+p.engine.stateJoins()+where.String()+sel.oldestFirst(), where.args...), true)
	}
	// Whoever subscribes to nothing is not looked at.
	for name, query := range map[string]string{"apps": subscribersQuery, "app_packages": subscriberPackages} {
		require.NotRegexp(t, `(?m)^SCAN `+name+`|Seq Scan on `+name, p.plan(t, query+subscribing), name)
	}
	query, args := p.engine.selectDeliveries(pusher.Filter{Message: pusher.MessageID{At: testTime.Add(5 * day).UnixMicro(), ID: 6}}).newest(pusher.Cursor{}, 10)
	requireIndexed(t, p, "message", "message_at_message_id_idx|push_deliveries_message", p.plan(t, query, args...), false)
	// One delivery is looked for where it is.
	plan := p.plan(t, `SELECT `+recordColumns+` FROM push_deliveries d`+p.engine.recordJoins()+` WHERE d.at = ? AND d.id = ?`, after.At, after.ID)
	requireIndexed(t, p, "delivery", "_pkey|autoindex_push_deliveries", plan, false)
	if e.name == "postgres" {
		require.Equal(t, []string{"push_deliveries_p20260510"}, partitionsOf(plan, "push_deliveries"))
	}
	_, err := p.Undelivered(t.Context(), app, platform.Production, nil, after, 10)
	require.NoError(t, err)
}

// TestUnderWayIsReadOnce: what is under way, however much there seems to be of it.
func TestUnderWayIsReadOnce(t *testing.T) {
	p := newPushStore(t, engines[1].empty(t), "a")
	for _, statement := range []string{
		`INSERT INTO push_claims (id, fence, subscription, lease_until, node) SELECT n, 1, 1, 1, 'node' FROM generate_series(1, 300000) AS n`, `ANALYZE push_claims`,
	} {
		_, err := p.pool.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	query, args := p.engine.selectDeliveries(pusher.Filter{States: []pusher.State{pusher.Delivering}}).newest(pusher.Cursor{}, 10)
	for name, plan := range map[string]string{"list": p.plan(t, query, args...), "waiting": p.plan(t, waitingQuery), "depth": p.plan(t, depthQuery)} {
		require.Contains(t, plan, "hashed SubPlan", name)
		require.NotRegexp(t, `(NOT|WHEN) \(SubPlan`, plan, name)
	}
}

func requireIndexed(t *testing.T, p *pushStore, name, index, plan string, inOrder bool) {
	t.Helper()
	pg, lite, both := strings.Cut(index, "|")
	if p.pool == nil && both {
		pg = lite
	}
	require.Regexp(t, strings.ReplaceAll(pg, ",", "|"), plan, name)
	require.NotContains(t, plan, "Seq Scan", name)
	require.NotRegexp(t, `(?m)^SCAN (d|m|x)$`, plan, name)
	if inOrder {
		require.NotContains(t, plan, "Sort", name)
		require.NotContains(t, plan, "TEMP B-TREE", name)
	}
}

func partitionsOf(plan, table string) []string {
	names := regexp.MustCompile(table+`_p\d{8}\b`).FindAllString(plan, -1)
	slices.Sort(names)
	return slices.Compact(names)
}
