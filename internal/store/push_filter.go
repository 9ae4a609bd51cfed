package store

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// deliveryState is the state of a delivery d as people see it. While it is in
// the queue, that and its subscription tell; what is left of a deleted
// subscription will never be attempted.
const deliveryState = `CASE WHEN q.id IS NULL THEN d.state WHEN s.number IS NULL THEN 5
	WHEN ` + underWay + ` THEN 1 WHEN s.status = 'active' THEN 0 ELSE 4 END`

// underWay holds for a delivery q of the queue that a node has. Those are few, and
// read once. After many claims PostgreSQL takes them for many: so many that it
// would read them anew for each delivery, but for the limit. Of more than that, the
// others are shown as pending.
const underWay = `q.id IN (SELECT id FROM push_claims LIMIT 50000)`

// stateJoins are what deliveryState looks at.
func (e *engine) stateJoins() string {
	return ` LEFT JOIN push_queue q ON ` + e.lookup("q.id", "d.id") + ` LEFT JOIN subscriptions s ON ` + e.lookup("s.number", "d.subscription")
}

// liveOfApp must hold for those of an app in push_queue x to be found by their index.
const liveOfApp = `x.app > 0`

// recordOfX joins the records to the rows x of push_queue or of push_failed.
func (e *engine) recordOfX() string {
	return ` JOIN push_deliveries d ON ` + e.lookup("d.at", "x.at") + ` AND d.id = x.id`
}

// listDefault is how many rows a list has whose limit is not positive.
const listDefault = 100

func listLimit(limit int) int {
	if limit <= 0 {
		return listDefault
	}
	return limit
}

// conditions is a WHERE clause.
type conditions struct {
	where []string
	args  []any
}

func (c *conditions) add(condition string, args ...any) {
	c.where, c.args = append(c.where, condition), append(c.args, args...)
}

// exists asks for each row whether there is such a row elsewhere. Without the offset
// PostgreSQL may begin with all that there is elsewhere.
func (c *conditions) exists(from string, where conditions) {
	c.add(`EXISTS (SELECT 1 FROM `+from+where.String()+` LIMIT 1 OFFSET 0)`, where.args...)
}

// and is both of them together.
func (c conditions) and(other conditions) conditions {
	return conditions{slices.Concat(c.where, other.where), slices.Concat(c.args, other.args)}
}

func (c conditions) String() string {
	if len(c.where) == 0 {
		return ""
	}
	return ` WHERE ` + strings.Join(c.where, " AND ")
}

// olderThan goes on with a list, newest first. The plain bound leaves whole
// partitions out.
func (c *conditions) olderThan(alias string, after pusher.Cursor) {
	if after != (pusher.Cursor{}) {
		c.add(alias+`.at <= ? AND (`+alias+`.at, `+alias+`.id) < (?, ?)`, after.At, after.At, after.ID)
	}
}

// newerThan goes on with a list, oldest first.
func (c *conditions) newerThan(alias string, after pusher.Cursor) {
	if after != (pusher.Cursor{}) {
		c.add(alias+`.at >= ? AND (`+alias+`.at, `+alias+`.id) > (?, ?)`, after.At, after.At, after.ID)
	}
}

// madeBetween bounds when it was made.
func (c *conditions) madeBetween(alias string, f pusher.Filter) {
	if !f.Since.IsZero() {
		c.add(alias+`.at >= ?`, f.Since.UnixMicro())
	}
	if !f.Until.IsZero() {
		c.add(alias+`.at < ?`, f.Until.UnixMicro())
	}
}

// about selects by what a message and its deliveries have in common.
func (c *conditions) about(alias string, f pusher.Filter) {
	if f.User != "" {
		c.add(alias+`.user_id = ?`, f.User)
	}
	if f.Topic != "" {
		c.add(alias+`.topic = ?`, f.Topic)
	}
	if f.Environment != "" {
		c.add(alias+`.environment = ?`, string(f.Environment))
	}
}

// impossible tells whether a filter asks for a text that no row can have.
func impossible(f pusher.Filter) bool {
	return !storable(f.Topic + f.User + string(f.Environment))
}

// selection is the deliveries that a filter selects.
type selection struct {
	engine *engine
	// from is where to read them: d is the record, and alias has the columns at
	// and id by which an index gives them in order. The few of one message are
	// found by that, and sorted.
	from, alias string
	few         bool
	// indexed is what the index does, rest is looked at row by row.
	indexed, rest conditions
}

// records is all deliveries.
func (e *engine) records() selection {
	return selection{engine: e, from: `push_deliveries d`, alias: "d"}
}

// selectDeliveries finds the shortest way to what the filter selects. Failed
// deliveries, and those of an app that live, are few among many that are over,
// and have tables of their own.
func (e *engine) selectDeliveries(f pusher.Filter) selection {
	s := e.records()
	states := statesOf(f)
	owned := f.App > 0 || f.Subscription > 0
	switch {
	case f.Message != (pusher.MessageID{}):
		s.few = true
		s.indexed.add(`d.message_at = ? AND d.message_id = ? AND d.at >= ?`, f.Message.At, f.Message.ID, f.Message.At)
	case slices.Equal(states, []pusher.State{pusher.Failed}):
		s.from, s.alias = `push_failed x`+e.recordOfX(), "x"
	case owned && len(states) > 0 && !slices.ContainsFunc(states, isFinal):
		s.from, s.alias = `push_queue x`+e.recordOfX(), "x"
		s.indexed.add(liveOfApp)
	}
	s.indexed.madeBetween(s.alias, f)
	switch {
	case f.App > 0:
		s.indexed.add(s.alias+`.app = ?`, int64(f.App))
	case owned:
		s.indexed.add(s.alias+`.app = (SELECT app FROM subscriptions WHERE number = ?)`, int64(f.Subscription))
	}
	if f.User != "" {
		if !owned && s.alias == "d" {
			s.indexed.add(`d.user_id = ?`, f.User)
		} else {
			s.rest.add(`d.user_id = ?`, f.User)
		}
	}
	if f.Subscription > 0 {
		s.rest.add(`d.subscription = ?`, int64(f.Subscription))
	}
	if f.Environment != "" {
		s.rest.add(`d.environment = ?`, string(f.Environment))
	}
	if f.Topic != "" {
		s.rest.add(`d.topic = ?`, f.Topic)
	}
	if len(states) > 0 {
		s.rest.add(deliveryState + ` IN (` + stateList(states) + `)`)
	}
	return s
}

// newest is a page of the records of a selection.
func (s selection) newest(after pusher.Cursor, limit int) (query string, args []any) {
	where := s.indexed.and(s.rest)
	where.olderThan(s.alias, after)
	return `SELECT ` + recordColumns + ` FROM ` + s.from + s.engine.recordJoins() + where.String() +
		` ORDER BY ` + s.time() + ` DESC, ` + s.alias + `.id DESC LIMIT ?`, append(where.args, listLimit(limit))
}

// queued joins the selection to the queue q.
func (s selection) queued() string {
	return `JOIN ` + s.from + ` ON ` + s.engine.lookup("q.id", "d.id") + ` LEFT JOIN subscriptions s ON ` + s.engine.lookup("s.number", "d.subscription")
}

// oldestFirst is the order of the index.
func (s selection) oldestFirst() string { return ` ORDER BY ` + s.time() + `, ` + s.alias + `.id` }

// time is what they are ordered by: for a few it is in no index, or PostgreSQL
// would read all there are in that order.
func (s selection) time() string {
	if s.few {
		return s.alias + `.at + 0`
	}
	return s.alias + `.at`
}

// selectMessages is the keys of the messages that a filter selects, newest
// first, as a subquery. Those of an app are found by its deliveries, of which
// the first have the time of their message.
func (e *engine) selectMessages(f pusher.Filter, after pusher.Cursor, limit int) (query string, args []any) {
	var where conditions
	where.madeBetween("m", f)
	where.olderThan("m", after)
	if f.Message != (pusher.MessageID{}) {
		where.add(`m.at = ? AND m.id = ?`, f.Message.At, f.Message.ID)
	}
	if f.App == 0 {
		where.about("m", f)
	}
	if states := statesOf(f); f.Subscription > 0 || len(states) > 0 {
		var some conditions
		some.add(`d.message_at = m.at AND d.message_id = m.id AND d.at >= m.at`)
		if f.App > 0 {
			some.add(`d.app = ?`, int64(f.App))
		}
		if f.Subscription > 0 {
			some.add(`d.subscription = ?`, int64(f.Subscription))
		}
		if len(states) > 0 {
			some.add(deliveryState + ` IN (` + stateList(states) + `)`)
		}
		where.exists(`push_deliveries d`+e.stateJoins(), some)
	}
	if f.App == 0 {
		return `SELECT m.at, m.id FROM push_messages m` + where.String() + ` ORDER BY m.at DESC, m.id DESC LIMIT ?`, append(where.args, listLimit(limit))
	}
	var owned conditions
	owned.add(`o.app = ? AND o.origin_id IS NULL`, int64(f.App))
	owned.madeBetween("o", f)
	owned.about("o", f)
	if after != (pusher.Cursor{}) {
		owned.add(`o.at <= ?`, after.At)
	}
	where.add(`m.at = o.message_at AND m.id = o.message_id`)
	owned.exists(`push_messages m`, where)
	return `SELECT o.message_at AS at, o.message_id AS id FROM push_deliveries o` + owned.String() + ` ORDER BY o.at DESC, o.message_id DESC LIMIT ?`,
		append(owned.args, listLimit(limit))
}

// statesOf is the states of a filter, each once.
func statesOf(f pusher.Filter) []pusher.State {
	return slices.Compact(slices.Sorted(slices.Values(f.States)))
}

func isFinal(s pusher.State) bool {
	return s != pusher.Pending && s != pusher.Delivering && s != pusher.Suspended
}

// stateList is states in SQL: there are few lists of them, and each is a
// statement of its own.
func stateList(states []pusher.State) string {
	text := make([]string, len(states))
	for i, s := range states {
		text[i] = fmt.Sprint(uint8(s))
	}
	return strings.Join(text, ", ")
}
