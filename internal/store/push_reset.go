package store

import (
	"context"
	"database/sql"
	"slices"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// pushAnew makes a delivery for each of the selected ones, in the same order:
// of the same message, with the same payload, which it refers to.
func (s *Store) pushAnew(ctx context.Context, c *conn, sel selection, now int64) ([]queuedDelivery, error) {
	where := sel.indexed.and(sel.rest)
	where.add(`s.number IS NOT NULL`)
	number, first := `nextval('push_deliveries_id_seq')`, int64(0)
	var args []any
	if s.pool == nil {
		if err := c.one(ctx, []any{&first}, `SELECT last FROM push_numbers WHERE name = 'push_deliveries'`); err != nil {
			return nil, err
		}
		number, args = `? + row_number() OVER (ORDER BY o.at, o.id)`, []any{first}
	}
	var made []queuedDelivery
	err := c.each(ctx, func(rows *sql.Rows) error {
		var e queuedDelivery
		err := rows.Scan(&e.id.At, &e.id.ID, &e.subscription)
		made = append(made, e)
		return err
	}, `INSERT INTO push_deliveries (id, at, message_at, message_id, subscription, app, environment, topic, user_id, grant_id, order_key,
			state, cause, attempts, origin_at, origin_id, payload_at, payload_id, last_status, last_class, fence)
		SELECT `+number+`, CAST(? AS BIGINT), o.message_at, o.message_id, o.subscription, o.app, o.environment, o.topic, o.user_id, o.grant_id, o.order_key,
			0, CAST(? AS INT), 0, o.at, o.id, o.payload_at, o.payload_id, 0, '', 0
		FROM (SELECT d.* FROM `+sel.from+c.engine.stateJoins()+where.String()+sel.oldestFirst()+`) AS o
		WHERE true RETURNING at, id, subscription`, slices.Concat(args, []any{now, uint8(pusher.Reset)}, where.args)...)
	if err != nil || len(made) == 0 {
		return nil, err
	}
	if s.pool == nil {
		if _, err := c.exec(ctx, `UPDATE push_numbers SET last = ? WHERE name = 'push_deliveries'`, first+int64(len(made))); err != nil {
			return nil, err
		}
	}
	for some := range slices.Chunk(sortedIDs(idsOfQueued(made)), idBatch) {
		list, args := idList(some)
		_, err := c.exec(ctx, list+`INSERT INTO push_queue (`+queueColumns+`)
			SELECT `+queueValues+`, d.at, 0, d.cause, 0, 0, 0 FROM ids JOIN push_deliveries d ON d.at = ids.at AND d.id = ids.id`, args...)
		if err != nil {
			return nil, err
		}
	}
	return made, nil
}
