package store

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-openplatform/openplatform/pusher"
)

const (
	// complete ends claims: deliveries that are over leave the queue, the others
	// and those with a manual push owed stay. A claim is over where the queue has
	// its fence or a later one. Rows of the queue are locked in the order of their
	// numbers: where some are to stay ($10), all are before any of them changes.
	// Then, for the trigger of those that leave, the subscriptions are whose keys
	// go on, and at last the claims, which are in the way of nobody else. All are
	// looked up by arrays of one: see postgresEngine.
	complete = `WITH clock AS MATERIALIZED (SELECT ` + sqlNow + ` AS now),
		done AS MATERIALIZED (
			SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::bigint[], $7::boolean[], $8::int[], $9::text[])
				WITH ORDINALITY AS c (at, id, subscription, fence, state, wait, tried, status, class, place)),
		locked AS MATERIALIZED (
			SELECT q.id FROM done d JOIN push_queue q ON q.id = ANY (ARRAY[d.id]) WHERE $10 AND q.fence < d.fence FOR UPDATE OF q),
		gone AS (
			DELETE FROM push_queue q USING done d
			WHERE (SELECT count(*) FROM locked) >= 0 AND q.id = ANY (ARRAY[d.id]) AND q.fence < d.fence AND d.state <> 0 AND q.owed = 0
			RETURNING d.*, d.state AS now, q.attempts + d.tried::int AS attempts, q.app, q.order_key),
		kept AS (
			UPDATE push_queue q SET fence = d.fence, due_at = CASE WHEN q.owed > 0 THEN c.now ELSE c.now + d.wait END,
				attempts = q.attempts + d.tried::int, tries = q.tries + d.tried::int,
				first_attempt = CASE WHEN d.tried THEN coalesce(q.first_attempt, d.fence) ELSE q.first_attempt END
			FROM done d, clock c WHERE q.id = ANY (ARRAY[d.id]) AND q.fence < d.fence AND d.place NOT IN (SELECT place FROM gone)
			RETURNING d.*, 0::smallint AS now, q.attempts, q.app, q.order_key),
		had AS MATERIALIZED (SELECT * FROM gone UNION ALL SELECT * FROM kept),
		ordered AS MATERIALIZED (
			SELECT s.number FROM (SELECT DISTINCT g.subscription FROM gone g WHERE g.order_key IS NOT NULL ORDER BY 1) g
			JOIN subscriptions s ON s.number = ANY (ARRAY[g.subscription]) FOR UPDATE OF s),
		ended AS (
			DELETE FROM push_claims c USING done d
			WHERE (SELECT count(*) FROM had) >= 0 AND c.subscription = ANY (ARRAY[d.subscription]) AND c.fence = d.fence AND c.id = d.id),
		failed AS (INSERT INTO push_failed (at, id, app) SELECT h.at, h.id, h.app FROM had h WHERE h.now = 3 ON CONFLICT DO NOTHING),
		record AS (
			UPDATE push_deliveries d SET state = h.now, attempts = h.attempts, fence = CASE WHEN h.now = 0 THEN 0 ELSE h.fence END,
				delivered_at = CASE WHEN h.state = 2 THEN coalesce(d.delivered_at, c.now) ELSE d.delivered_at END,
				last_status = CASE WHEN h.tried THEN h.status ELSE d.last_status END, last_class = CASE WHEN h.tried THEN h.class ELSE d.last_class END
			FROM had h, clock c WHERE d.at = h.at AND d.id = h.id AND d.at >= $11 AND d.at <= $12)
		SELECT h.place, (SELECT count(*) FROM ordered) FROM had h`

	insertAttempts = `INSERT INTO push_attempts (at, id, fence, number, cause, started, duration, address, status, class, error, response, node)
		SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[], $5::smallint[], $6::bigint[], $7::bigint[], $8::text[],
			$9::int[], $10::text[], $11::text[], $12::bytea[], $13::text[])`

	// mergeAttempts keeps what is known of an attempt: its end instead of its
	// loss, and the first of two that a caller tells of twice.
	mergeAttempts = insertAttempts + `
		ON CONFLICT (at, id, fence) DO UPDATE SET started = excluded.started, duration = excluded.duration, address = excluded.address,
			status = excluded.status, class = excluded.class, error = excluded.error, response = excluded.response, node = excluded.node
			WHERE push_attempts.class = 'lost'`

	replacePayloads = `UPDATE push_payloads p SET body = c.body, key_number = c.key_number
		FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bigint[]) AS c (at, id, body, key_number)
		JOIN push_deliveries d ON d.at = c.at AND d.id = c.id AND d.at >= $5 AND d.at <= $6
		WHERE p.at = d.payload_at AND p.id = d.payload_id`
)

// completePostgres completes in one round trip. To look for each attempt whether
// something is known of it costs as much as a third of what it takes to insert it,
// and nearly always nothing is: so that is done where it turns out to be needed, by
// doing everything again.
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
	run := func(recordAttempts string) error {
		had = make([]bool, len(done))
		b := planned()
		if len(bodies.ats) > 0 {
			b.Queue(replacePayloads, bodies.ats, bodies.ids, bodies.bodies, bodies.keyNumbers, slices.Min(bodies.ats), slices.Max(bodies.ats))
		}
		b.Queue(complete, rows.ats, rows.ids, rows.subscriptions, rows.fences, rows.states, rows.waits, rows.tried, rows.statuses, rows.classes,
			slices.Contains(rows.states, int16(pusher.Pending)), slices.Min(rows.ats), slices.Max(rows.ats)).Query(func(rows pgx.Rows) error {
			var place, subscriptions int64
			_, err := pgx.ForEachRow(rows, []any{&place, &subscriptions}, func() error { had[place-1] = true; return nil })
			return err
		})
		if len(attempts.ats) > 0 {
			attempts.queue(b, recordAttempts)
		}
		return s.pipeline(ctx, b)
	}
	err := s.withRoom(ctx, func() error {
		err := run(insertAttempts)
		if sqlState(err) == errDuplicate {
			err = run(mergeAttempts)
		}
		return err
	}, func() []int64 { return attempts.ats }, attemptSeries)
	return had, err
}

// completionRows are completions by column.
type completionRows struct {
	ats, ids, subscriptions, fences, waits []int64
	states                                 []int16
	tried                                  []bool
	statuses                               []int32
	classes                                []string
}

func (r *completionRows) add(d *pusher.Completion) {
	r.ats, r.ids = append(r.ats, d.ID.At), append(r.ids, d.ID.ID)
	r.subscriptions, r.fences = append(r.subscriptions, int64(d.Subscription)), append(r.fences, d.Fence)
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

func (r *attemptRows) queue(b *pgx.Batch, statement string) {
	b.Queue(statement, r.ats, r.ids, r.fences, r.numbers, r.causes, r.started, r.durations, r.addresses, r.statuses, r.classes, r.errors, r.responses, r.nodes)
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
