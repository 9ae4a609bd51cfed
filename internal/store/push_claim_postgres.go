package store

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-openplatform/openplatform/pusher"
)

//nolint:dupword // NULL, NULL
const (
	// lockEndpoints locks the rows of active subscriptions until the claim is
	// committed, and leaves out those that another node has. It notes the places
	// of those that it got, and the time then, for the next statement, which must
	// be another one: it sees what was committed before these were locked, and
	// what it takes has a later time than any of that. So caps, and the order of
	// keys, hold over all nodes.
	lockEndpoints = `WITH held AS MATERIALIZED (
			SELECT a.place, s.number FROM unnest($1::bigint[]) WITH ORDINALITY AS a (number, place) JOIN subscriptions s ON s.number = a.number
			WHERE s.status = 'active' FOR UPDATE OF s SKIP LOCKED)
		SELECT CASE WHEN (SELECT count(*) FROM held) >= 0 THEN set_config('open_platform.claimed_at', (` + sqlNow + `)::text, true)::bigint END,
			string_to_array(set_config('open_platform.claim', coalesce((SELECT string_agg(place::text, ',') FROM held), ''), true), ',')::bigint[],
			CASE WHEN (SELECT count(*) FROM held) < cardinality($1::bigint[]) THEN ARRAY(
				SELECT s.number FROM unnest($1::bigint[]) AS a (number) JOIN subscriptions s ON s.number = a.number
				WHERE s.status = 'active' AND s.number NOT IN (SELECT number FROM held)) END`

	// notWaiting makes the transaction be committed without waiting for the disk.
	notWaiting = `SELECT set_config('synchronous_commit', 'off', true)`

	// claimDue takes what is due and not under way. It changes the queue only where
	// a manual push is owed, and where keys wait; of these it leaves out those that
	// others are changing: they are due again when that is done. Its time is one
	// before it saw what is due, so that whatever ends meanwhile and comes back has
	// a later fence. Of a subscription with something due that was not taken, a row
	// tells since when, and, in the place of the end of a grant, whether it could
	// be taken now.
	claimDue = `WITH clock AS MATERIALIZED (SELECT current_setting('open_platform.claimed_at')::bigint AS now),
		asked AS MATERIALIZED (
			SELECT e.*, c.oldest, c.ids, greatest(least(e.room, e.cap - c.n), 0) AS free,
				CASE WHEN e.ordered THEN array_remove(ARRAY(SELECT q.order_key FROM push_queue q WHERE q.id = ANY (c.ids)), NULL) END AS keys
			FROM (SELECT ($1::bigint[])[i] AS subscription, ($2::int[])[i] AS room, ($3::int[])[i] AS cap, ($4::boolean[])[i] AS ordered,
					($5::bigint[])[i] AS due, ($6::bigint[])[i] AS claimed
				FROM unnest(string_to_array(current_setting('open_platform.claim'), ',')::int[]) AS i) e
			CROSS JOIN LATERAL (
				SELECT count(*)::int AS n, min(c.fence) AS oldest, array_agg(c.id) AS ids
				FROM push_claims c WHERE c.subscription = e.subscription AND c.fence >= e.claimed) c),
		busy AS MATERIALIZED (SELECT unnest(ids) AS id FROM asked),
		found AS MATERIALIZED (
			SELECT q.*, a.free, a.ordered, a.oldest,
				a.ordered AND q.order_key IS NOT NULL AND EXISTS (
					SELECT 1 FROM push_queue o WHERE o.subscription = a.subscription AND o.order_key = q.order_key AND o.id < q.id) AS behind,
				NOT a.ordered OR q.order_key IS NULL OR q.order_key <> ALL (a.keys) AS free_key
			FROM asked a CROSS JOIN clock CROSS JOIN LATERAL (
				SELECT q.* FROM push_queue q
				WHERE q.subscription = a.subscription AND NOT q.held AND q.due_at >= a.due AND q.due_at <= clock.now AND q.id NOT IN (SELECT id FROM busy)
				ORDER BY q.due_at, q.id LIMIT a.free + CASE WHEN a.ordered AND a.free > 0 THEN ` + lookahead + ` ELSE 1 END) q),
		ranked AS MATERIALIZED (
			SELECT f.*, row_number() OVER (PARTITION BY f.subscription ORDER BY f.due_at, f.id) AS place
			FROM found f WHERE f.free_key AND NOT f.behind),
		paid AS (
			UPDATE push_queue q SET ` + payOwed + ` FROM (
				SELECT q.id FROM ranked r JOIN push_queue q ON q.id = ANY (ARRAY[r.id]) WHERE r.owed > 0 AND r.place <= r.free FOR UPDATE OF q SKIP LOCKED) o
			WHERE q.id = ANY (ARRAY[o.id]) RETURNING q.id),
		chosen AS MATERIALIZED (
			SELECT r.*, greatest(r.fence + 1, c.now) AS claim FROM ranked r CROSS JOIN clock c
			WHERE r.place <= r.free AND (r.owed = 0 OR r.id IN (SELECT id FROM paid))),
		taken AS (
			INSERT INTO push_claims (subscription, fence, id, lease_until, node)
				SELECT t.subscription, t.claim, t.id, c.now + $8, $7 FROM chosen t CROSS JOIN clock c),
		held AS (
			UPDATE push_queue q SET held = true FROM (
				SELECT q.id FROM found f JOIN push_queue q ON q.id = ANY (ARRAY[f.id]) WHERE f.behind FOR UPDATE OF q SKIP LOCKED) h
			WHERE q.id = ANY (ARRAY[h.id])),
		freed AS (
			UPDATE push_queue q SET held = false, due_at = c.now
			FROM clock c, (SELECT h.id FROM asked a CROSS JOIN LATERAL (
				SELECT h.id FROM push_queue h WHERE h.subscription = a.subscription AND h.held LIMIT ` + lookahead + ` FOR UPDATE SKIP LOCKED) h WHERE NOT a.ordered) h
			WHERE q.id = ANY (ARRAY[h.id]) RETURNING q.subscription, q.due_at)
		SELECT q.subscription, least(q.oldest, q.claim), q.id, q.at, q.app, q.claim, q.message_at, q.message_id, q.topic,
			coalesce(q.user_id, ''), coalesce(q.order_key, ''), q.attempts, ` + claimedTries + `, ` + claimedCause + `, ` + claimedFirst + `, q.due_at,
			q.payload_at, q.payload_id, p.key_number, p.body,
			q.grant_id IS NOT NULL AND NOT EXISTS (
				SELECT 1 FROM grants g WHERE g.id = q.grant_id AND ` + grantHolds + `(SELECT now FROM clock))
		FROM chosen q LEFT JOIN push_payloads p ON p.at = q.payload_at AND p.id = q.payload_id AND p.at >= $9
		UNION ALL
		SELECT m.subscription, 0, 0, 0, 0, 0, 0, 0, '', '', '', 0, 0, 0::smallint, NULL, min(m.due_at), 0, 0, NULL, NULL, bool_or(m.more) FROM (
			SELECT r.subscription, r.due_at, true AS more FROM ranked r WHERE r.place = r.free + 1
			UNION ALL SELECT f.subscription, f.due_at, true FROM found f WHERE f.free = 0
			UNION ALL SELECT r.subscription, r.due_at, false FROM ranked r WHERE r.place <= r.free AND r.id NOT IN (SELECT id FROM chosen)
			UNION ALL SELECT f.subscription, max(f.due_at), true FROM found f WHERE f.ordered GROUP BY f.subscription, f.free HAVING count(*) >= f.free + ` + lookahead + `
			UNION ALL SELECT f.subscription, f.due_at, false FROM found f WHERE NOT f.free_key AND NOT f.behind
			UNION ALL SELECT f.subscription, f.due_at, true FROM freed f) m GROUP BY m.subscription`

	// loadPayloads loads what is posted.
	loadPayloads = `SELECT p.at, p.id, p.key_number, p.body FROM unnest($1::bigint[], $2::bigint[]) AS w (at, id)
		JOIN push_payloads p ON p.at = w.at AND p.id = w.id AND p.at >= $3 AND p.at <= $4`
)

// youngPayload is the age up to which a claim loads payloads itself; older ones
// are loaded after it. What is posted is younger almost always, and a statement
// with a bound opens few of the partitions.
const youngPayload = 36 * time.Hour

// payloadRef is a payload that a claim did not load, and the work that it is for.
type payloadRef struct {
	at, id int64
	work   int
}

// claimPostgres claims in one round trip, or two where a payload is old.
func (s *Store) claimPostgres(ctx context.Context, c pusher.Claim) (r pusher.ClaimResult, err error) {
	ask, began := newEndpointRows(c.Endpoints), s.now()
	due, claimed := s.push.looked.bounds(c.Endpoints, began)
	found, oldest := map[uint64]look{}, map[uint64]int64{}
	var old []payloadRef
	b := planned()
	b.Queue(notWaiting)
	b.Queue(lockEndpoints, ask.subscriptions).QueryRow(func(row pgx.Row) error {
		var now int64
		var places, busy []int64
		if err := row.Scan(&now, &places, &busy); err != nil {
			return err
		}
		for _, i := range places {
			found[c.Endpoints[i-1].Subscription] = look{due: now - lateCommit.Microseconds(), claimed: claimed[i-1]}
		}
		for _, n := range busy {
			r.Busy = append(r.Busy, uint64(n))
		}
		return nil
	})
	b.Queue(claimDue, ask.subscriptions, ask.rooms, ask.caps, ask.ordered, due, claimed, c.Node, c.Lease.Microseconds(),
		s.now().Add(-youngPayload).UnixMicro()).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var w claimedRow
			if err := w.scan(rows); err != nil {
				return err
			}
			l := found[w.Subscription]
			if w.ID.ID == 0 {
				if l.due = min(l.due, w.due); w.Revoked {
					r.More = append(r.More, w.Subscription)
				}
			} else {
				if !w.loaded {
					old = append(old, payloadRef{w.payloadAt, w.payloadID, len(r.Work)})
				}
				r.Work = append(r.Work, w.Work)
				if first, ok := oldest[w.Subscription]; !ok || w.oldest < first {
					oldest[w.Subscription], l.claimed = w.oldest, w.oldest
				}
			}
			found[w.Subscription] = l
		}
		return rows.Err()
	})
	if err := s.pipeline(ctx, b); err != nil {
		return pusher.ClaimResult{}, err
	}
	s.push.looked.note(found, due, c.Endpoints, began, s.now().Sub(began))
	return r, s.loadOld(ctx, r.Work, old)
}

// endpointRows are endpoints by column.
type endpointRows struct {
	subscriptions []int64
	rooms, caps   []int32
	ordered       []bool
}

func newEndpointRows(endpoints []pusher.Endpoint) (r endpointRows) {
	for _, e := range endpoints {
		r.subscriptions, r.ordered = append(r.subscriptions, int64(e.Subscription)), append(r.ordered, e.Ordered)
		r.rooms, r.caps = append(r.rooms, smallCount(e.Room)), append(r.caps, smallCount(e.Concurrency))
	}
	return r
}

// smallCount is n within what a claim counts with.
func smallCount(n int) int32 { return int32(max(0, min(n, 1_000_000))) }

// claimedRow is a row of claimDue.
type claimedRow struct {
	pusher.Work
	oldest, due, payloadAt, payloadID int64
	loaded                            bool
}

func (w *claimedRow) scan(rows pgx.Rows) error {
	var first sql.NullInt64
	var key *int64
	err := rows.Scan(&w.Subscription, &w.oldest, &w.ID.ID, &w.ID.At, &w.App, &w.Fence, &w.Message.At, &w.Message.ID, &w.Topic, &w.User, &w.Key,
		&w.Attempt, &w.Tries, &w.Cause, &first, &w.due, &w.payloadAt, &w.payloadID, &key, &w.Body, &w.Revoked)
	if err != nil || w.ID.ID == 0 {
		return err
	}
	w.Attempt, w.Tries = w.Attempt+1, w.Tries+1
	w.Created, w.Due = fromUnixMicro(w.ID.At), fromUnixMicro(w.due)
	w.Trying = trying(first, w.Fence)
	if w.loaded = key != nil; w.loaded {
		w.KeyNumber = int(*key)
	}
	return nil
}

// loadOld loads the payloads that the claim left out. What is gone stays empty.
func (s *Store) loadOld(ctx context.Context, work []pusher.Work, old []payloadRef) error {
	if len(old) == 0 {
		return nil
	}
	ats, ids := make([]int64, len(old)), make([]int64, len(old))
	byID := make(map[[2]int64][]int, len(old))
	for i, p := range old {
		ats[i], ids[i] = p.at, p.id
		byID[[2]int64{p.at, p.id}] = append(byID[[2]int64{p.at, p.id}], p.work)
	}
	b := planned()
	b.Queue(loadPayloads, ats, ids, slices.Min(ats), slices.Max(ats)).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var at, id int64
			var key int
			var body []byte
			if err := rows.Scan(&at, &id, &key, &body); err != nil {
				return err
			}
			for _, i := range byID[[2]int64{at, id}] {
				work[i].Body, work[i].KeyNumber = body, key
			}
		}
		return rows.Err()
	})
	return s.pipeline(ctx, b)
}
