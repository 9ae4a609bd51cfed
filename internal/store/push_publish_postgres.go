package store

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-openplatform/openplatform/pusher"
)

const (
	// takeKeys takes the keys that are free, in their order: so two callers
	// cannot wait for each other. It returns the places of those that it got.
	takeKeys = `WITH taken AS (
			INSERT INTO push_idempotency (environment, key, digest, message_at, message_id, at)
				SELECT k.*, ` + sqlNow + ` FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[]) AS k
			ON CONFLICT (environment, key) DO UPDATE SET digest = excluded.digest, message_at = excluded.message_at,
				message_id = excluded.message_id, at = excluded.at WHERE push_idempotency.at <= excluded.at - $6
			RETURNING environment, key)
		SELECT environment, key FROM taken`
	// ownersOfKeys finds the messages that keys belong to.
	ownersOfKeys = `SELECT i.environment, i.key, i.digest, i.message_at, i.message_id FROM unnest($1::text[], $2::text[]) AS k (environment, key)
		JOIN push_idempotency i ON i.environment = ANY (ARRAY[k.environment]) AND i.key = k.key`

	insertMessages = `INSERT INTO push_messages (at, id, environment, topic, user_id, order_key, time, data, idempotency)
		SELECT m.at, m.id, m.environment, m.topic, nullif(m.user_id, ''), nullif(m.order_key, ''), nullif(m.time, 0), m.data, nullif(m.idempotency, '')
		FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bytea[], $9::text[])
			AS m (at, id, environment, topic, user_id, order_key, time, data, idempotency)`
	// insertDeliveries numbers deliveries in their order and writes all that
	// there is of each.
	insertDeliveries = `WITH d AS MATERIALIZED (
			SELECT nextval('push_deliveries_id_seq') AS id, u.at, u.message_id, u.environment, u.topic, nullif(u.user_id, '') AS user_id,
				u.subscription, u.app, nullif(u.grant_id, '') AS grant_id, nullif(u.order_key, '') AS order_key, u.key_number, u.body
			FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::bigint[], $11::bytea[])
				AS u (at, message_id, environment, topic, user_id, subscription, app, grant_id, order_key, key_number, body)
		), record AS (
			INSERT INTO push_deliveries (at, id, message_at, message_id, subscription, app, environment, topic, user_id, grant_id, order_key,
					state, cause, attempts, payload_at, payload_id, last_status, last_class, fence)
				SELECT at, id, at, message_id, subscription, app, environment, topic, user_id, grant_id, order_key, 0, 0, 0, at, id, 0, '', 0 FROM d
		), payload AS (
			INSERT INTO push_payloads (at, id, key_number, body) SELECT at, id, key_number, body FROM d
		)
		INSERT INTO push_queue (id, at, subscription, app, message_at, message_id, topic, user_id, grant_id, order_key, payload_at, payload_id,
				due_at, fence, cause, owed, attempts, tries)
			SELECT id, at, subscription, app, at, message_id, topic, user_id, grant_id, order_key, at, id, (SELECT ` + sqlNow + `), 0, 0, 0, 0, 0 FROM d`
)

// publishPostgres saves the batches in one transaction: in one round trip, or in
// two where messages have ids of the publisher's.
func (s *Store) publishPostgres(ctx context.Context, batches []pusher.Batch) (results []pusher.BatchResult, err error) {
	var subscriptions []uint64
	err = s.withRoom(ctx, func() error {
		results, subscriptions, err = s.tryPublish(ctx, batches)
		return err
	}, func() (times []int64) {
		for _, batch := range batches {
			for i := range batch {
				times = append(times, batch[i].Message.ID.At)
			}
		}
		return times
	}, messageSeries, deliverySeries, payloadSeries)
	if err == nil {
		s.push.outbox.add(subscriptions)
	}
	return results, err
}

// tryPublish returns the subscriptions that got something and for which other
// nodes are yet to be woken.
func (s *Store) tryPublish(ctx context.Context, batches []pusher.Batch) ([]pusher.BatchResult, []uint64, error) {
	keys := newKeyRows(batches)
	if len(keys.keys) == 0 {
		results := judge(batches, nil)
		b := &pgx.Batch{}
		later := s.queuePublication(b, batches, results)
		return results, later, s.pipeline(ctx, b)
	}
	if err := s.watch.down(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := s.engine.bounded(ctx)
	defer cancel()
	results, later, err := s.publishKeys(ctx, batches, keys)
	if err != nil {
		err = s.engine.domainError(ctx, err)
	}
	s.noteFailure(err)
	return results, later, err
}

// publishKeys saves batches with ids of the publisher's. Where one of them fails
// by a conflict, all is undone, and done again without it.
func (s *Store) publishKeys(ctx context.Context, batches []pusher.Batch, keys *keyRows) ([]pusher.BatchResult, []uint64, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Release() // which ends it where a transaction was left open
	results := make([]pusher.BatchResult, len(batches))
	left := batches
	for {
		known, err := takeKeysOf(ctx, conn.Conn(), keys)
		if err != nil {
			return nil, nil, err
		}
		judged := judge(left, known)
		var good []pusher.Batch
		next := 0
		for i := range results {
			if results[i].Err != nil {
				continue
			}
			if results[i] = judged[next]; results[i].Err == nil {
				good = append(good, left[next])
			}
			next++
		}
		b := &pgx.Batch{}
		if len(good) == len(left) {
			later := s.queuePublication(b, left, judged)
			b.Queue(`COMMIT`)
			return results, later, conn.SendBatch(ctx, b).Close()
		}
		if _, err := conn.Exec(ctx, `ROLLBACK`); err != nil {
			return nil, nil, err
		}
		if len(good) == 0 {
			return results, nil, nil
		}
		left, keys = good, newKeyRows(good)
	}
}

// takeKeysOf begins a transaction and takes the keys that are free. It returns
// the messages that the others belong to.
func takeKeysOf(ctx context.Context, conn *pgx.Conn, keys *keyRows) (map[idempotencyKey]published, error) {
	known := make(map[idempotencyKey]published, len(keys.keys))
	taken := make(map[idempotencyKey]bool, len(keys.keys))
	b := planned()
	b.QueuedQueries = slices.Insert(b.QueuedQueries, 0, &pgx.QueuedQuery{SQL: `BEGIN`})
	b.Queue(takeKeys, keys.environments, keys.keys, keys.digests, keys.ats, keys.ids, keepIdempotency.Microseconds()).Query(func(rows pgx.Rows) error {
		var k idempotencyKey
		_, err := pgx.ForEachRow(rows, []any{&k.environment, &k.key}, func() error { taken[k] = true; return nil })
		return err
	})
	b.Queue(ownersOfKeys, keys.environments, keys.keys).Query(func(rows pgx.Rows) error {
		var k idempotencyKey
		var p published
		var digest []byte
		_, err := pgx.ForEachRow(rows, []any{&k.environment, &k.key, &digest, &p.id.At, &p.id.ID}, func() error {
			if !taken[k] {
				copy(p.digest[:], digest)
				known[k] = p
			}
			return nil
		})
		return err
	})
	return known, conn.SendBatch(ctx, b).Close()
}

// keyRows are the keys of batches, each once, in their order, with the message
// that has it first.
type keyRows struct {
	environments, keys []string
	digests            [][]byte
	ats, ids           []int64
}

func newKeyRows(batches []pusher.Batch) *keyRows {
	first := map[idempotencyKey]*pusher.Message{}
	for _, batch := range batches {
		for i := range batch {
			m := &batch[i].Message
			if m.Idempotency != "" && first[keyOf(m)] == nil {
				first[keyOf(m)] = m
			}
		}
	}
	rows := &keyRows{}
	for _, k := range slices.SortedFunc(maps.Keys(first), func(a, b idempotencyKey) int {
		return cmp.Or(cmp.Compare(a.environment, b.environment), cmp.Compare(a.key, b.key))
	}) {
		m := first[k]
		rows.environments, rows.keys = append(rows.environments, string(k.environment)), append(rows.keys, k.key)
		rows.digests, rows.ats, rows.ids = append(rows.digests, m.Digest[:]), append(rows.ats, m.ID.At), append(rows.ids, m.ID.ID)
	}
	return rows
}

// queuePublication queues what saves the messages that are to be saved.
func (s *Store) queuePublication(b *pgx.Batch, batches []pusher.Batch, results []pusher.BatchResult) (later []uint64) {
	var m messageRows
	var d deliveryRows
	_ = fresh(batches, results, func(p *pusher.Publication) error {
		m.add(&p.Message)
		for i := range p.Deliveries {
			d.add(&p.Message, &p.Deliveries[i])
		}
		return nil
	})
	if len(m.ats) > 0 {
		b.Queue(insertMessages, m.ats, m.ids, m.environments, m.topics, m.users, m.keys, m.times, m.data, m.idempotency)
	}
	if len(d.ats) == 0 {
		return nil
	}
	b.Queue(insertDeliveries, d.ats, d.messages, d.environments, d.topics, d.users, d.subscriptions, d.apps, d.grants, d.keys, d.keyNumbers, d.bodies)
	subscriptions := d.distinct()
	if s.push.outbox.open() {
		return subscriptions
	}
	b.Queue(notifyQuery, pushChannel, notifyPayload(subscriptions))
	return nil
}

// messageRows are messages by column.
type messageRows struct {
	ats, ids, times                                []int64
	environments, topics, users, keys, idempotency []string
	data                                           [][]byte
}

func (r *messageRows) add(m *pusher.Message) {
	r.ats, r.ids, r.times = append(r.ats, m.ID.At), append(r.ids, m.ID.ID), append(r.times, microsOrZero(m.Time))
	r.environments, r.topics, r.users = append(r.environments, string(m.Environment)), append(r.topics, m.Topic), append(r.users, m.User)
	r.keys, r.idempotency, r.data = append(r.keys, m.Key), append(r.idempotency, m.Idempotency), append(r.data, notNull(m.Data))
}

// deliveryRows are deliveries by column.
type deliveryRows struct {
	ats, messages, subscriptions, apps, keyNumbers []int64
	environments, topics, users, grants, keys      []string
	bodies                                         [][]byte
}

func (r *deliveryRows) add(m *pusher.Message, d *pusher.NewDelivery) {
	r.ats, r.messages = append(r.ats, m.ID.At), append(r.messages, m.ID.ID)
	r.subscriptions, r.apps = append(r.subscriptions, int64(d.Subscription)), append(r.apps, int64(d.App))
	r.environments, r.topics, r.users = append(r.environments, string(m.Environment)), append(r.topics, m.Topic), append(r.users, m.User)
	r.grants, r.keys = append(r.grants, d.Grant), append(r.keys, d.Key)
	r.keyNumbers, r.bodies = append(r.keyNumbers, int64(d.KeyNumber)), append(r.bodies, notNull(d.Body))
}

func (r *deliveryRows) distinct() []uint64 {
	seen := make(map[uint64]struct{})
	for _, n := range r.subscriptions {
		seen[uint64(n)] = struct{}{}
	}
	return slices.Collect(maps.Keys(seen))
}

// microsOrZero is t as the database keeps it; 0 where there is none.
func microsOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
