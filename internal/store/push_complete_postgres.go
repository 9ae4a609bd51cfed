package store

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-openplatform/openplatform/pusher"
)

const (
	// complete locks the rows in the order of their numbers, and then, for the
	// trigger of those that leave, the subscriptions whose keys go on. It asks for
	// state <> 0: with state = 1, and few rows under way when it is planned, all of
	// them would be read for each number, by the index that has these alone.
	complete = `WITH clock AS MATERIALIZED (SELECT ` + sqlNow + ` AS now),
		had AS MATERIALIZED (
			SELECT c.place, c.at, c.id, c.fence, q.subscription, q.order_key, q.app, c.tried, c.status, c.class, c.state = 2 AS delivered,
				q.attempts + CASE WHEN c.tried THEN 1 ELSE 0 END AS attempts, q.tries + CASE WHEN c.tried THEN 1 ELSE 0 END AS tries,
				CASE WHEN c.tried THEN coalesce(q.first_attempt, q.claimed_at) ELSE q.first_attempt END AS first_attempt,
				CASE WHEN q.owed > 0 THEN 0 ELSE c.state END AS state, CASE WHEN q.owed > 0 THEN 0 ELSE c.wait END AS wait
			FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::bigint[], $6::boolean[], $7::int[], $8::text[])
				WITH ORDINALITY AS c (at, id, fence, state, wait, tried, status, class, place)
			JOIN push_queue q ON q.id = c.id WHERE q.state <> 0 AND q.fence = c.fence FOR UPDATE OF q),
		ordered AS MATERIALIZED (
			SELECT s.number FROM (SELECT DISTINCT h.subscription FROM had h WHERE h.order_key IS NOT NULL AND h.state <> 0 ORDER BY 1) h
			JOIN subscriptions s ON s.number = h.subscription FOR UPDATE OF s),
		kept AS (
			UPDATE push_queue q SET state = 0, due_at = c.now + h.wait, attempts = h.attempts, tries = h.tries, first_attempt = h.first_attempt,
				claimed_at = NULL, lease_until = NULL, node = NULL
			FROM had h, clock c WHERE q.id = h.id AND h.state = 0),
		gone AS (DELETE FROM push_queue q USING had h WHERE q.id = h.id AND h.state <> 0),
		failed AS (INSERT INTO push_failed (at, id, app) SELECT h.at, h.id, h.app FROM had h WHERE h.state = 3 ON CONFLICT DO NOTHING),
		record AS (
			UPDATE push_deliveries d SET state = h.state, attempts = h.attempts, fence = CASE WHEN h.state = 0 THEN 0 ELSE h.fence END,
				delivered_at = CASE WHEN h.delivered THEN coalesce(d.delivered_at, c.now) ELSE d.delivered_at END,
				last_status = CASE WHEN h.tried THEN h.status ELSE d.last_status END, last_class = CASE WHEN h.tried THEN h.class ELSE d.last_class END
			FROM had h, clock c WHERE d.at = h.at AND d.id = h.id AND d.at >= $9 AND d.at <= $10)
		SELECT h.place, (SELECT count(*) FROM ordered) FROM had h`

	// insertAttempts keeps what is known of an attempt: its end instead of its
	// loss, and the first of two that a caller tells of twice.
	insertAttempts = `INSERT INTO push_attempts (at, id, fence, number, cause, started, duration, address, status, class, error, response, node)
		SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[], $5::smallint[], $6::bigint[], $7::bigint[], $8::text[],
			$9::int[], $10::text[], $11::text[], $12::bytea[], $13::text[])
		ON CONFLICT (at, id, fence) DO UPDATE SET started = excluded.started, duration = excluded.duration, address = excluded.address,
			status = excluded.status, class = excluded.class, error = excluded.error, response = excluded.response, node = excluded.node
			WHERE push_attempts.class = 'lost'`

	replacePayloads = `UPDATE push_payloads p SET body = c.body, key_number = c.key_number
		FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bigint[]) AS c (at, id, body, key_number)
		JOIN push_deliveries d ON d.at = c.at AND d.id = c.id AND d.at >= $5 AND d.at <= $6
		WHERE p.at = d.payload_at AND p.id = d.payload_id`
)

// completePostgres completes in one round trip.
func (s *Store) completePostgres(ctx context.Context, done []pusher.Completion) ([]bool, error) {
	var rows completionRows
	var attempts attemptRows
	var bodies bodyRows
	for i := range done {
		rows.add(&done[i])
		if done[i].Attempt != nil {
			attempts.add(done[i].ID, done[i].Fence, done[i].Attempt)
		}
		if done[i].Body != nil {
			bodies.add(&done[i])
		}
	}
	var had []bool
	err := s.withRoom(ctx, func() error {
		had = make([]bool, len(done))
		b := planned()
		if len(bodies.ats) > 0 {
			b.Queue(replacePayloads, bodies.ats, bodies.ids, bodies.bodies, bodies.keyNumbers, slices.Min(bodies.ats), slices.Max(bodies.ats))
		}
		b.Queue(complete, rows.ats, rows.ids, rows.fences, rows.states, rows.waits, rows.tried, rows.statuses, rows.classes,
			slices.Min(rows.ats), slices.Max(rows.ats)).Query(func(rows pgx.Rows) error {
			var place, subscriptions int64
			_, err := pgx.ForEachRow(rows, []any{&place, &subscriptions}, func() error { had[place-1] = true; return nil })
			return err
		})
		if len(attempts.ats) > 0 {
			attempts.queue(b)
		}
		return s.pipeline(ctx, b)
	}, func() []int64 { return attempts.ats }, attemptSeries)
	return had, err
}

// completionRows are completions by column.
type completionRows struct {
	ats, ids, fences, waits []int64
	states                  []int16
	tried                   []bool
	statuses                []int32
	classes                 []string
}

func (r *completionRows) add(d *pusher.Completion) {
	r.ats, r.ids, r.fences = append(r.ats, d.ID.At), append(r.ids, d.ID.ID), append(r.fences, d.Fence)
	r.states, r.waits, r.tried = append(r.states, int16(d.State)), append(r.waits, d.Wait.Microseconds()), append(r.tried, d.Attempt != nil)
	status, class := int32(0), ""
	if d.Attempt != nil {
		status, class = int32(d.Attempt.Status), string(d.Attempt.Class)
	}
	r.statuses, r.classes = append(r.statuses, status), append(r.classes, class)
}

// attemptRows are attempts by column.
type attemptRows struct {
	ats, ids, fences, started, durations []int64
	numbers, statuses                    []int32
	causes                               []int16
	addresses, classes, errors, nodes    []string
	responses                            [][]byte
}

func (r *attemptRows) add(id pusher.DeliveryID, fence int64, a *pusher.Attempt) {
	r.ats, r.ids, r.fences = append(r.ats, id.At), append(r.ids, id.ID), append(r.fences, fence)
	r.started, r.durations = append(r.started, a.Started.UnixMicro()), append(r.durations, a.Duration.Microseconds())
	r.numbers, r.statuses, r.causes = append(r.numbers, smallCount(a.Number)), append(r.statuses, smallCount(a.Status)), append(r.causes, int16(a.Cause))
	r.addresses, r.classes = append(r.addresses, a.Address), append(r.classes, string(a.Class))
	r.errors, r.nodes, r.responses = append(r.errors, a.Error), append(r.nodes, a.Node), append(r.responses, a.Response)
}

func (r *attemptRows) queue(b *pgx.Batch) {
	b.Queue(insertAttempts, r.ats, r.ids, r.fences, r.numbers, r.causes, r.started, r.durations, r.addresses, r.statuses, r.classes, r.errors, r.responses, r.nodes)
}

// bodyRows are what is posted from now on, by column.
type bodyRows struct {
	ats, ids, keyNumbers []int64
	bodies               [][]byte
}

func (r *bodyRows) add(d *pusher.Completion) {
	r.ats, r.ids = append(r.ats, d.ID.At), append(r.ids, d.ID.ID)
	r.bodies, r.keyNumbers = append(r.bodies, d.Body), append(r.keyNumbers, int64(d.KeyNumber))
}
