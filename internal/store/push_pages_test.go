package store

import (
	"cmp"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
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
		offset := 99
		if sel.few {
			offset = 0
		}
		return query{`SELECT ` + sel.alias + `.at FROM ` + sel.from + sel.indexed.String() + sel.oldestFirst() + ` LIMIT 1 OFFSET ?`, append(slices.Clone(sel.indexed.args), offset)}
	}
	stepped := func(j pusher.Job) query {
		sel := p.jobSelection(&savedJob{Job: j, endID: 60_000})
		sel.indexed.madeBetween(sel.alias, pusher.Filter{Since: testTime, Until: testTime.Add(time.Hour)})
		where := sel.indexed.and(sel.rest)
		return query{`SELECT ` + queueValues + ` FROM ` + sel.from + p.engine.stateJoins() + where.String() + sel.oldestFirst(), where.args}
	}
	messages := func(f pusher.Filter) query {
		page, args := p.engine.selectMessages(f, pusher.Cursor{}, 100)
		return query{p.engine.messagesOf(page), args}
	}
	states := func(f pusher.Filter) query {
		page, args := p.engine.selectMessages(f, pusher.Cursor{}, 100)
		return query{p.engine.statesOfMessages(page), append(args, testTime.UnixMicro()+59_900*monthStep(60_000))}
	}
	ids := make([]pusher.DeliveryID, 100)
	for i := range ids {
		n := int64(50 * (i + 1))
		ids[i] = pusher.DeliveryID{At: testTime.UnixMicro() + n*monthStep(60_000), ID: n}
	}
	acknowledged, args := idList(ids)
	one := pusher.Filter{Message: pusher.MessageID(ids[0])}
	// Those of a message are few, and those of a rare user far apart.
	most := map[string]int{"of a message": 400, "of a message and app": 400, "step of a message": 400, "pushed of a message": 400, "user's of an app": 10_000}
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

			"messages' states":     states(pusher.Filter{}),
			"user's of an app":     messages(pusher.Filter{App: app, User: "usr_1"}),
			"of a message":         list(one),
			"of a message and app": list(pusher.Filter{Message: one.Message, App: app, States: failed}),
			"step of a message":    step(pusher.Job{Cause: pusher.Manual, Filter: one}),
			"pushed of a message":  stepped(pusher.Job{Cause: pusher.Manual, Filter: one}),
			"acknowledged":         {acknowledged + p.engine.ownAmong(), append(args, int64(app), "production", pusher.Failed)},
		} {
			t.Run(name+" "+figures, func(t *testing.T) {
				if figures != "" {
					_, err := p.pool.Exec(t.Context(), figures)
					require.NoError(t, err)
				}
				rows, pages, vain := p.cost(t, q.text, q.args...)
				require.Positive(t, rows)
				require.Less(t, pages, cmp.Or(most[name], 4000))
				require.Less(t, vain, 20_000)
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
		testTime.UnixMicro(), monthStep(n), n/3, n/3+n/30, n)
	for _, statement := range []string{
		`INSERT INTO push_messages (at, id, environment, topic, user_id, data) SELECT at, id, 'production', 'a', 'usr_' || id % 100, '{}'` + from,
		fmt.Sprintf(`INSERT INTO push_deliveries (at, id, message_at, message_id, subscription, app, environment, topic, user_id,
			state, cause, attempts, payload_at, payload_id, last_status, last_class, fence)
			SELECT at, id, at, id, %d, %d, 'production', 'a', 'usr_' || id %% 100, state, 0, 1, at, id, 0, '', 0`, p.subs["a"].Number, p.app.Number) + from,
		`INSERT INTO push_payloads (at, id, key_number, body) SELECT at, id, 1, 'x'` + from,
		fmt.Sprintf(`INSERT INTO push_failed (at, id, app) SELECT at, id, %d`, p.app.Number) + from + ` WHERE state = 3`,
		fmt.Sprintf(`INSERT INTO push_queue (id, at, subscription, app, message_at, message_id, topic, payload_at, payload_id, due_at, fence, cause, owed, attempts, tries)
			SELECT id, at, %d, %d, at, id, 'a', at, id, at, 0, 0, 0, 0, 0`, p.subs["a"].Number, p.app.Number) + from + ` WHERE state = 0`,
	} {
		_, err := p.pool.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
}

// monthStep is how far apart, in microseconds, the n deliveries of a month are.
func monthStep(n int) int64 { return 29 * day.Microseconds() / int64(n) }

// cost is how many rows a list has, how many pages of 8 KiB it looks at, and how
// many rows it joins or reads in vain.
func (p *pushStore) cost(t *testing.T, query string, args ...any) (rows, pages, vain int) {
	t.Helper()
	var explained []struct{ Plan planNode }
	var text []byte
	require.NoError(t, p.look(t.Context(), func(r *reader) error {
		return r.each(t.Context(), func(rows *sql.Rows) error { return rows.Scan(&text) }, `EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) `+query, args...)
	}))
	require.NoError(t, json.Unmarshal(text, &explained))
	plan := explained[0].Plan
	return plan.Rows, plan.Hit + plan.Read, plan.vain()
}

// planNode is a step of a plan that was run, with those that it takes rows from.
type planNode struct {
	Rows     int `json:"Actual Rows"`
	Loops    int `json:"Actual Loops"`
	Hit      int `json:"Shared Hit Blocks"`
	Read     int `json:"Shared Read Blocks"`
	Joined   int `json:"Rows Removed by Join Filter"`
	Filtered int `json:"Rows Removed by Filter"`
	Plans    []planNode
}

func (n *planNode) vain() int {
	total := n.Loops * (n.Joined + n.Filtered)
	for i := range n.Plans {
		total += n.Plans[i].vain()
	}
	return total
}
