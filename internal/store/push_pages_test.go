package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// TestListsReadLittle: a page of what is old among much that was delivered since
// costs what a page of the newest does, whatever PostgreSQL takes for likely.
func TestListsReadLittle(t *testing.T) {
	p := newPushStore(t, engines[1].empty(t), "a")
	p.fillMonth(t, 60_000)
	app := p.app.Number
	live, failed := []pusher.State{pusher.Pending, pusher.Suspended}, []pusher.State{pusher.Failed}
	type query struct {
		text string
		args []any
	}
	list := func(f pusher.Filter) query {
		text, args := p.engine.selectDeliveries(f).newest(pusher.Cursor{}, 100)
		return query{text, args}
	}
	pull := func(table string) query {
		var rest conditions
		rest.add(`d.environment = ?`, string(platform.Production))
		p.onlyGranted(&rest)
		text, args := p.engine.selectParcels(table, app, rest, pusher.Cursor{}, 100)
		return query{text, args}
	}
	step := func(j pusher.Job) query {
		sel := p.jobSelection(&savedJob{Job: j, endID: 60_000})
		return query{`SELECT ` + sel.alias + `.at FROM ` + sel.from + sel.indexed.String() + sel.oldestFirst() + ` LIMIT 1 OFFSET 99`, sel.indexed.args}
	}
	stepped := func(j pusher.Job) query {
		sel := p.jobSelection(&savedJob{Job: j, endID: 60_000})
		sel.indexed.madeBetween(sel.alias, pusher.Filter{Since: testTime, Until: testTime.Add(time.Hour)})
		where := sel.indexed.and(sel.rest)
		return query{`SELECT ` + queueValues + ` FROM ` + sel.from + p.engine.stateJoins() + where.String() + sel.oldestFirst(), where.args}
	}
	messages := func(f pusher.Filter) query {
		text, args := p.engine.selectMessages(f, pusher.Cursor{}, 100)
		return query{text, args}
	}
	for _, figures := range []string{"", "ANALYZE"} {
		for name, q := range map[string]query{
			"live":             list(pusher.Filter{App: app, States: live}),
			"failed":           list(pusher.Filter{States: failed}),
			"app's failed":     list(pusher.Filter{App: app, States: failed}),
			"messages":         messages(pusher.Filter{States: []pusher.State{pusher.Delivered}}),
			"app's messages":   messages(pusher.Filter{App: app, States: []pusher.State{pusher.Delivered}}),
			"pulled, live":     pull("push_queue"),
			"pulled, failed":   pull("push_failed"),
			"step":             step(pusher.Job{Cause: pusher.Repush}),
			"step of an app":   step(pusher.Job{Cause: pusher.Repush, Filter: pusher.Filter{App: app}}),
			"step of the live": step(pusher.Job{Cause: pusher.Manual, Filter: pusher.Filter{App: app, States: live}}),
			"pushed":           stepped(pusher.Job{Cause: pusher.Repush}),
			"pushed of an app": stepped(pusher.Job{Cause: pusher.Repush, Filter: pusher.Filter{App: app}}),
		} {
			t.Run(name+" "+figures, func(t *testing.T) {
				if figures != "" {
					_, err := p.pool.Exec(t.Context(), figures)
					require.NoError(t, err)
				}
				rows, pages := p.pagesOf(t, q.text, q.args...)
				require.Positive(t, rows)
				require.Less(t, pages, 4000)
			})
		}
	}
}

// fillMonth writes n deliveries of a month and their messages: of the oldest a third
// has failed, some more wait, and all since have arrived.
func (p *pushStore) fillMonth(t *testing.T, n int) {
	t.Helper()
	require.NoError(t, p.update(t.Context(), nil, func(tx *tx) error {
		for i := range 30 {
			for _, series := range []series{messageSeries, deliverySeries, payloadSeries} {
				if err := tx.room(t.Context(), series, testTime.Add(time.Duration(i)*day)); err != nil {
					return err
				}
			}
		}
		return nil
	}))
	from := fmt.Sprintf(` FROM (SELECT i AS id, %d + i * %d AS at, CASE WHEN i <= %d THEN 3 WHEN i <= %d THEN 0 ELSE 2 END AS state FROM generate_series(1::bigint, %d) AS i) n`,
		testTime.UnixMicro(), 29*day.Microseconds()/int64(n), n/3, n/3+n/30, n)
	for _, statement := range []string{
		`INSERT INTO push_messages (at, id, environment, topic, data) SELECT at, id, 'production', 'a', '{}'` + from,
		fmt.Sprintf(`INSERT INTO push_deliveries (at, id, message_at, message_id, subscription, app, environment, topic,
			state, cause, attempts, payload_at, payload_id, last_status, last_class, fence)
			SELECT at, id, at, id, %d, %d, 'production', 'a', state, 0, 1, at, id, 0, '', 0`, p.subs["a"].Number, p.app.Number) + from,
		`INSERT INTO push_payloads (at, id, key_number, body) SELECT at, id, 1, 'x'` + from,
		fmt.Sprintf(`INSERT INTO push_failed (at, id, app) SELECT at, id, %d`, p.app.Number) + from + ` WHERE state = 3`,
		fmt.Sprintf(`INSERT INTO push_queue (id, at, subscription, app, message_at, message_id, topic, payload_at, payload_id, due_at, fence, cause, owed, attempts, tries)
			SELECT id, at, %d, %d, at, id, 'a', at, id, at, 0, 0, 0, 0, 0`, p.subs["a"].Number, p.app.Number) + from + ` WHERE state = 0`,
	} {
		_, err := p.pool.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
}

// pagesOf is how many rows a list has, and how many pages of 8 KiB it looks at.
func (p *pushStore) pagesOf(t *testing.T, query string, args ...any) (rows, pages int) {
	t.Helper()
	var explained []struct {
		Plan struct {
			Rows int `json:"Actual Rows"`
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	var text []byte
	require.NoError(t, p.look(t.Context(), func(r *reader) error {
		return r.each(t.Context(), func(rows *sql.Rows) error { return rows.Scan(&text) }, `EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) `+query, args...)
	}))
	require.NoError(t, json.Unmarshal(text, &explained))
	plan := explained[0].Plan
	return plan.Rows, plan.Hit + plan.Read
}
