package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// recordColumns are what scanRecord reads.
const recordColumns = `d.at, d.id, d.message_at, d.message_id, d.environment, d.topic, d.user_id, d.order_key, a.id, a.app_key, s.id, ` +
	deliveryState + `, coalesce(q.cause, d.cause), d.attempts, q.due_at, d.delivered_at, d.origin_at, d.origin_id, d.last_status, d.last_class`

func (e *engine) recordJoins() string {
	return e.stateJoins() + ` LEFT JOIN apps a ON ` + e.lookup("a.number", "d.app")
}

func scanRecord(rows *sql.Rows) (pusher.Record, error) {
	var r pusher.Record
	var user, key, app, appKey, subscription sql.NullString
	var due, delivered, originAt, originID sql.NullInt64
	err := rows.Scan(&r.ID.At, &r.ID.ID, &r.Message.At, &r.Message.ID, &r.Environment, &r.Topic, &user, &key, &app, &appKey, &subscription,
		&r.State, &r.Cause, &r.Attempts, &due, &delivered, &originAt, &originID, &r.LastStatus, &r.LastClass)
	r.User, r.Key, r.App, r.AppKey, r.Subscription = user.String, key.String, app.String, appKey.String, subscription.String
	r.Created, r.Due, r.DeliveredAt = time.UnixMicro(r.ID.At).UTC(), fromMicros(due), fromMicros(delivered)
	r.Origin = pusher.DeliveryID{At: originAt.Int64, ID: originID.Int64}
	return r, err
}

// look is view for lists that are read in the order of an index.
func (s *Store) look(ctx context.Context, fn func(*reader) error) error {
	return s.view(ctx, func(r *reader) error {
		if err := r.byIndex(ctx); err != nil {
			return err
		}
		return fn(r)
	})
}

// Deliveries lists deliveries, newest first.
func (s *Store) Deliveries(ctx context.Context, f pusher.Filter, after pusher.Cursor, limit int) ([]pusher.Record, error) {
	records := []pusher.Record{}
	if impossible(f) {
		return records, nil
	}
	query, args := s.engine.selectDeliveries(f).newest(after, limit)
	err := s.look(ctx, func(r *reader) error {
		return r.each(ctx, func(rows *sql.Rows) error {
			record, err := scanRecord(rows)
			records = append(records, record)
			return err
		}, query, args...)
	})
	return records, err
}

// Delivery loads a delivery.
func (s *Store) Delivery(ctx context.Context, id pusher.DeliveryID) (*pusher.Record, error) {
	var record *pusher.Record
	err := s.load(func(r *reader) error {
		return r.each(ctx, func(rows *sql.Rows) error {
			found, err := scanRecord(rows)
			record = &found
			return err
		}, `SELECT `+recordColumns+` FROM push_deliveries d`+s.engine.recordJoins()+` WHERE d.at = ? AND d.id = ?`, id.At, id.ID)
	})
	if err == nil && record == nil {
		err = unknownDelivery(platform.ErrNotFound)
	}
	return record, err
}

func unknownDelivery(err error) error { return named(err, "delivery") }

// Body is what is posted. A reset shares it with the delivery that it repeats.
func (s *Store) Body(ctx context.Context, id pusher.DeliveryID) (body []byte, keyNumber int, err error) {
	err = s.load(func(r *reader) error {
		return r.one(ctx, []any{&body, &keyNumber}, `SELECT p.body, p.key_number
			FROM push_deliveries d JOIN push_payloads p ON p.at = d.payload_at AND p.id = d.payload_id
			WHERE d.at = ? AND d.id = ?`, id.At, id.ID)
	})
	return body, keyNumber, unknownDelivery(err)
}

// Attempts lists the attempts of a delivery, the first one first.
func (s *Store) Attempts(ctx context.Context, id pusher.DeliveryID) ([]pusher.Attempt, error) {
	attempts := []pusher.Attempt{}
	known := false
	err := s.load(func(r *reader) error {
		return r.each(ctx, func(rows *sql.Rows) error {
			known = true
			var number, cause, started, duration, status sql.NullInt64
			var address, class, text, node sql.NullString
			var response []byte
			err := rows.Scan(&number, &cause, &started, &duration, &address, &status, &class, &text, &response, &node)
			if err == nil && number.Valid {
				attempts = append(attempts, pusher.Attempt{
					Number: int(number.Int64), Cause: pusher.Cause(cause.Int64),
					Started: fromMicros(started), Duration: time.Duration(duration.Int64) * time.Microsecond,
					Address: address.String, Status: int(status.Int64), Class: pusher.ErrorClass(class.String),
					Error: text.String, Response: response, Node: node.String,
				})
			}
			return err
		}, `SELECT t.number, t.cause, t.started, t.duration, t.address, t.status, t.class, t.error, t.response, t.node
			FROM push_deliveries d LEFT JOIN push_attempts t ON t.at = d.at AND t.id = d.id
			WHERE d.at = ? AND d.id = ? ORDER BY t.fence`, id.At, id.ID)
	})
	if err == nil && !known {
		err = unknownDelivery(platform.ErrNotFound)
	}
	return attempts, err
}

// Messages lists messages, newest first. A filter by app, subscription or
// state selects those with such a delivery.
func (s *Store) Messages(ctx context.Context, f pusher.Filter, after pusher.Cursor, limit int) ([]pusher.MessageRecord, error) {
	messages := []pusher.MessageRecord{}
	if impossible(f) {
		return messages, nil
	}
	page, args := s.engine.selectMessages(f, after, limit)
	err := s.look(ctx, func(r *reader) error {
		index := map[pusher.MessageID]int{}
		err := r.each(ctx, func(rows *sql.Rows) error {
			var m pusher.MessageRecord
			var user, key, idempotency sql.NullString
			var at sql.NullInt64
			err := rows.Scan(&m.ID.At, &m.ID.ID, &m.Environment, &m.Topic, &user, &key, &at, &m.Data, &idempotency)
			m.User, m.Key, m.Time, m.Idempotency = user.String, key.String, fromMicros(at), idempotency.String
			m.States = map[pusher.State]int{}
			index[m.ID] = len(messages)
			messages = append(messages, m)
			return err
		}, s.engine.messagesOf(page), args...)
		if err != nil || len(messages) == 0 {
			return err
		}
		// A delivery is never older than its message.
		oldest := messages[len(messages)-1].ID.At
		return r.each(ctx, func(rows *sql.Rows) error {
			var id pusher.MessageID
			var state pusher.State
			var n int
			err := rows.Scan(&id.At, &id.ID, &state, &n)
			messages[index[id]].States[state] = n
			return err
		}, s.engine.statesOfMessages(page), append(args, oldest)...)
	})
	return messages, err
}

// messagesOf reads the messages of a page of keys.
func (e *engine) messagesOf(page string) string {
	return `SELECT m.at, m.id, m.environment, m.topic, m.user_id, m.order_key, m.time, m.data, m.idempotency
		FROM (` + page + `) AS page JOIN push_messages m ON ` + e.lookup("m.at", "page.at") + ` AND m.id = page.id ORDER BY page.at DESC, page.id DESC`
}

// statesOfMessages counts the deliveries of the messages of a page of keys, none of
// them older than its last argument.
func (e *engine) statesOfMessages(page string) string {
	return `SELECT page.at, page.id, ` + deliveryState + `, count(*)
		FROM (` + page + `) AS page JOIN push_deliveries d ON ` + e.lookup("d.message_at", "page.at") + ` AND d.message_id = page.id AND d.at >= ?` + e.stateJoins() + `
		GROUP BY 1, 2, 3`
}

// MessageRecord loads a message with the states of its deliveries.
func (s *Store) MessageRecord(ctx context.Context, id pusher.MessageID) (*pusher.MessageRecord, error) {
	if id == (pusher.MessageID{}) {
		return nil, fmt.Errorf("message: %w", platform.ErrNotFound)
	}
	messages, err := s.Messages(ctx, pusher.Filter{Message: id}, pusher.Cursor{}, 1)
	if err == nil && len(messages) == 0 {
		err = fmt.Errorf("message: %w", platform.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return &messages[0], nil
}

const depthQuery = `SELECT w.part, s.status = 'active' AS active, CAST(sum(w.n) AS BIGINT), min(w.due) FROM (
		SELECT 0 AS part, q.subscription, count(*) AS n, min(q.due_at) AS due FROM push_queue q WHERE ` + queuePending + ` GROUP BY q.subscription
		UNION ALL SELECT 1, subscription, count(*), NULL FROM push_queue WHERE held GROUP BY subscription
		UNION ALL SELECT 2, subscription, count(*), NULL FROM push_claims GROUP BY subscription
	) AS w JOIN subscriptions s ON s.number = w.subscription GROUP BY w.part, active`

// Depth counts what waits: the indexes of the queue are read once. What is left
// of deleted subscriptions does not count.
func (s *Store) Depth(ctx context.Context) (pusher.Depth, error) {
	var d pusher.Depth
	err := s.load(func(r *reader) error {
		return r.each(ctx, func(rows *sql.Rows) error {
			var part int
			var active bool
			var n int64
			var due sql.NullInt64
			if err := rows.Scan(&part, &active, &n, &due); err != nil {
				return err
			}
			switch {
			case part == 2:
				d.Delivering += n
			case !active:
				d.Suspended += n
			default:
				d.Pending += n
				if part == 0 {
					d.Oldest = fromMicros(due)
				}
			}
			return nil
		}, depthQuery)
	})
	return d, err
}
