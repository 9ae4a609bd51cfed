package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// Undelivered lists deliveries of an app that neither arrived nor were
// acknowledged or cancelled, and whose grants hold, oldest first: those that live
// and those that failed. Both are found by an index in the order of the list,
// however much waits and has been delivered.
func (s *Store) Undelivered(ctx context.Context, app uint64, e platform.Environment, topics []string, after pusher.Cursor, limit int) ([]pusher.Parcel, error) {
	limit = listLimit(limit)
	parcels := []pusher.Parcel{}
	topics = slices.DeleteFunc(slices.Clone(topics), func(topic string) bool { return !storable(topic) })
	if !storable(string(e)) || len(topics) == 0 && topics != nil {
		return parcels, nil
	}
	var rest conditions
	rest.add(`d.environment = ?`, string(e))
	if len(topics) > 0 {
		list, _ := json.Marshal(topics) // strings cannot fail
		rest.add(`d.topic`+s.engine.among, string(list))
	}
	s.onlyGranted(&rest)
	err := s.look(ctx, func(r *reader) error {
		for _, table := range []string{"push_queue", "push_failed"} {
			query, args := s.engine.selectParcels(table, app, rest, after, limit)
			if err := r.parcels(ctx, &parcels, query, args); err != nil {
				return err
			}
		}
		return nil
	})
	slices.SortFunc(parcels, func(a, b pusher.Parcel) int {
		return cmp.Or(cmp.Compare(a.ID.At, b.ID.At), cmp.Compare(a.ID.ID, b.ID.ID))
	})
	return parcels[:min(limit, len(parcels))], err
}

// selectParcels is the next deliveries of an app in push_queue or in push_failed.
func (e *engine) selectParcels(table string, app uint64, rest conditions, after pusher.Cursor, limit int) (query string, args []any) {
	var where conditions
	where.add(liveOfApp+` AND x.app = ?`, int64(app))
	where.newerThan("x", after)
	where = where.and(rest)
	return `SELECT x.at, x.id, d.message_at, d.message_id, d.topic, p.body, p.key_number FROM ` + table + ` x` + e.recordOfX() + `
		JOIN subscriptions s ON ` + e.lookup("s.number", "d.subscription") + ` JOIN push_payloads p ON ` + e.lookup("p.at", "d.payload_at") + ` AND p.id = d.payload_id` +
		where.String() + ` ORDER BY x.at, x.id LIMIT ?`, append(where.args, limit)
}

func (r *reader) parcels(ctx context.Context, parcels *[]pusher.Parcel, query string, args []any) error {
	return r.each(ctx, func(rows *sql.Rows) error {
		var p pusher.Parcel
		err := rows.Scan(&p.ID.At, &p.ID.ID, &p.Message.At, &p.Message.ID, &p.Topic, &p.Body, &p.KeyNumber)
		p.Created = time.UnixMicro(p.ID.At).UTC()
		*parcels = append(*parcels, p)
		return err
	}, query, args...)
}

// Acknowledge ends deliveries of an app in an environment that it pulled, whether
// they live or have failed, and returns how many. One that is under way meanwhile
// is completed in vain.
func (s *Store) Acknowledge(ctx context.Context, app uint64, e platform.Environment, ids []pusher.DeliveryID) (int, error) {
	total := 0
	for some := range slices.Chunk(sortedIDs(ids), idBatch) {
		n := 0
		err := s.pushing(ctx, func(c *conn) ([]uint64, error) {
			ended, err := c.endLive(ctx, some, pusher.Acked, `d.app = ? AND d.environment = ?`, int64(app), string(e))
			if err != nil {
				return nil, err
			}
			failed, err := c.acknowledgeFailed(ctx, app, e, some)
			if err != nil {
				return nil, err
			}
			n = len(ended) + failed
			return subscriptionsOf(ended), nil
		})
		if err != nil {
			return total, fmt.Errorf("acknowledging deliveries: %w", err)
		}
		total += n
	}
	return total, nil
}

// acknowledgeFailed ends those that have failed. One that was pushed again is
// none of them.
func (c *conn) acknowledgeFailed(ctx context.Context, app uint64, e platform.Environment, ids []pusher.DeliveryID) (int, error) {
	list, args := idList(ids)
	var failed []pusher.DeliveryID
	lock := ""
	if c.engine.lockRow != "" {
		lock = c.engine.lockRow + ` OF d`
	}
	err := c.each(ctx, func(rows *sql.Rows) error {
		var id pusher.DeliveryID
		err := rows.Scan(&id.At, &id.ID)
		failed = append(failed, id)
		return err
	}, list+c.engine.ownAmong()+lock, append(args, int64(app), string(e), uint8(pusher.Failed))...)
	if err != nil || len(failed) == 0 {
		return 0, err
	}
	list, args = idList(failed)
	_, err = c.exec(ctx, list+`UPDATE push_deliveries SET state = ? WHERE `+c.engine.anyOf("at", "SELECT at FROM ids")+` AND (at, id) IN (SELECT at, id FROM ids)`, append(args, uint8(pusher.Acked))...)
	if err != nil {
		return 0, err
	}
	return len(failed), c.forgetFailed(ctx, failed)
}

// ownAmong is which of the deliveries in ids are an app's in an environment and
// of a state. The app is asked in a way that no index answers: PostgreSQL might
// begin with all that the app has.
func (e *engine) ownAmong() string {
	return `SELECT d.at, d.id FROM ids JOIN push_deliveries d ON ` + e.lookup("d.at", "ids.at") + ` AND d.id = ids.id
		WHERE d.app + 0 = ? AND d.environment = ? AND d.state = ? ORDER BY d.at + 0, d.id`
}

// forgetFailed drops those from the list of failed deliveries that are not
// failed any more.
func (c *conn) forgetFailed(ctx context.Context, ids []pusher.DeliveryID) error {
	for some := range slices.Chunk(ids, idBatch) {
		list, args := idList(some)
		_, err := c.exec(ctx, list+`DELETE FROM push_failed WHERE `+c.engine.anyOf("at", "SELECT at FROM ids")+` AND (at, id) IN (SELECT d.at, d.id
			FROM ids JOIN push_deliveries d ON d.at = ids.at AND d.id = ids.id WHERE d.state <> ?)`, append(args, uint8(pusher.Failed))...)
		if err != nil {
			return err
		}
	}
	return nil
}

// subscriptionsOf lists where others of the same key may go on.
func subscriptionsOf(ended []queuedDelivery) []uint64 {
	numbers := make([]uint64, len(ended))
	for i, e := range ended {
		numbers[i] = e.subscription
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}
