package store

import (
	"context"
	"database/sql"

	"github.com/caddy-openplatform/openplatform/pusher"
)

const (
	findIdempotency = `SELECT digest, message_at, message_id FROM push_idempotency WHERE environment = ? AND key = ? AND at > ?`
	putIdempotency  = `INSERT INTO push_idempotency (environment, key, digest, message_at, message_id, at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (environment, key) DO UPDATE SET digest = excluded.digest, message_at = excluded.message_at,
			message_id = excluded.message_id, at = excluded.at`
	numberDeliveries = `UPDATE push_numbers SET last = last + ? WHERE name = 'push_deliveries' RETURNING last`
	insertMessage    = `INSERT INTO push_messages (at, id, environment, topic, user_id, order_key, time, data, idempotency)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	insertDelivery = `INSERT INTO push_deliveries (at, id, message_at, message_id, subscription, app, environment, topic, user_id, grant_id,
			order_key, state, cause, attempts, payload_at, payload_id, last_status, last_class, fence)
		VALUES (?1, ?2, ?1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, 0, 0, ?1, ?2, 0, '', 0)`
	insertQueue = `INSERT INTO push_queue (id, at, subscription, app, message_at, message_id, topic, user_id, grant_id, order_key,
			payload_at, payload_id, due_at, fence, cause, owed, attempts, tries)
		VALUES (?2, ?1, ?3, ?4, ?1, ?5, ?6, ?7, ?8, ?9, ?1, ?2, ?10, 0, 0, 0, 0, 0)`
	insertPayload = `INSERT INTO push_payloads (at, id, key_number, body) VALUES (?, ?, ?, ?)`
)

// publishSQLite saves the batches in one transaction.
func (s *Store) publishSQLite(ctx context.Context, batches []pusher.Batch) ([]pusher.BatchResult, error) {
	var results []pusher.BatchResult
	err := s.hot(ctx, func(ctx context.Context, c *conn) error {
		now := s.now().UnixMicro()
		known, err := c.knownMessages(ctx, batches, now)
		if err != nil {
			return err
		}
		results = judge(batches, known)
		var deliveries int64
		_ = fresh(batches, results, func(p *pusher.Publication) error { deliveries += int64(len(p.Deliveries)); return nil })
		var last int64
		if err := c.one(ctx, []any{&last}, numberDeliveries, deliveries); err != nil {
			return err
		}
		next := last - deliveries
		return fresh(batches, results, func(p *pusher.Publication) error {
			if err := c.insertPublication(ctx, p, next, now); err != nil {
				return err
			}
			next += int64(len(p.Deliveries))
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

// knownMessages finds the messages that the keys of the batches belong to.
func (c *conn) knownMessages(ctx context.Context, batches []pusher.Batch, now int64) (map[idempotencyKey]published, error) {
	known := map[idempotencyKey]published{}
	for _, batch := range batches {
		for i := range batch {
			m := &batch[i].Message
			if m.Idempotency == "" {
				continue
			}
			err := c.each(ctx, func(rows *sql.Rows) error {
				var p published
				var digest []byte
				err := rows.Scan(&digest, &p.id.At, &p.id.ID)
				copy(p.digest[:], digest)
				known[keyOf(m)] = p
				return err
			}, findIdempotency, string(m.Environment), m.Idempotency, now-keepIdempotency.Microseconds())
			if err != nil {
				return nil, err
			}
		}
	}
	return known, nil
}

// insertPublication writes a message and its deliveries, which are numbered
// after last.
func (c *conn) insertPublication(ctx context.Context, p *pusher.Publication, last, now int64) error {
	m := &p.Message
	environment, user := string(m.Environment), orNull(m.User)
	if m.Idempotency != "" {
		if _, err := c.exec(ctx, putIdempotency, environment, m.Idempotency, m.Digest[:], m.ID.At, m.ID.ID, now); err != nil {
			return err
		}
	}
	_, err := c.exec(ctx, insertMessage, m.ID.At, m.ID.ID, environment, m.Topic, user, orNull(m.Key), micros(m.Time), notNull(m.Data), orNull(m.Idempotency))
	if err != nil {
		return err
	}
	for i := range p.Deliveries {
		d, id := &p.Deliveries[i], last+int64(i)+1
		sub, app, grant, key := int64(d.Subscription), int64(d.App), orNull(d.Grant), orNull(d.Key)
		if _, err := c.exec(ctx, insertDelivery, m.ID.At, id, m.ID.ID, sub, app, environment, m.Topic, user, grant, key); err != nil {
			return err
		}
		if _, err := c.exec(ctx, insertQueue, m.ID.At, id, sub, app, m.ID.ID, m.Topic, user, grant, key, now); err != nil {
			return err
		}
		if _, err := c.exec(ctx, insertPayload, m.ID.At, id, int64(d.KeyNumber), notNull(d.Body)); err != nil {
			return err
		}
	}
	return nil
}

// notNull is b, and never NULL.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
