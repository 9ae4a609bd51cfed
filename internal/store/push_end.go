package store

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// idBatch is how many deliveries one statement names.
const idBatch = 256

// queuedDelivery is a delivery in the queue, or just taken out of it.
type queuedDelivery struct {
	id           pusher.DeliveryID
	subscription uint64
	fence        int64
}

// endLive takes the deliveries out of the queue that are in it and meet the
// condition, which may name the queue q and the record d, and ends them in a
// state. Who has one under way finds its fence stale.
func (c *conn) endLive(ctx context.Context, ids []pusher.DeliveryID, state pusher.State, condition string, args ...any) ([]queuedDelivery, error) {
	var all []queuedDelivery
	for some := range slices.Chunk(sortedIDs(ids), idBatch) {
		list, named := idList(some)
		ended, err := c.lockQueue(ctx, list, `JOIN ids ON ids.at = q.at AND `+c.engine.lookup("q.id", "ids.id")+`
			JOIN push_deliveries d ON `+c.engine.lookup("d.at", "q.at")+` AND d.id = q.id WHERE `+condition, append(named, args...)...)
		if err != nil {
			return nil, err
		}
		all = append(all, ended...)
	}
	// Claims are locked after all rows of the queue, as everybody does.
	for some := range slices.Chunk(all, idBatch) {
		if err := c.leaveQueue(ctx, some, state); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// leaveQueue takes deliveries out of the queue that the transaction has locked,
// and writes how they ended. Who has one under way records the attempt all the
// same: it counts.
func (c *conn) leaveQueue(ctx context.Context, ended []queuedDelivery, state pusher.State) error {
	if len(ended) == 0 {
		return nil
	}
	fences, err := c.leaveClaims(ctx, ended)
	if err != nil {
		return err
	}
	list, named := idList(idsOfQueued(ended))
	if _, err := c.exec(ctx, list+`DELETE FROM push_queue WHERE `+c.engine.anyOf("id", "SELECT id FROM ids"), named...); err != nil {
		return err
	}
	n := listLength(len(ended))
	args := make([]any, 0, 4*n+1)
	for i := range n {
		e := ended[min(i, len(ended)-1)]
		fence, underWay := fences[e.id.ID]
		tried := 0
		if underWay {
			tried = 1
		}
		args = append(args, e.id.At, e.id.ID, max(e.fence, fence), tried)
	}
	_, err = c.exec(ctx, `WITH ended (at, id, fence, tried) AS (VALUES (`+bigints(4)+`)`+strings.Repeat(`, (?, ?, ?, ?)`, n-1)+`)
		UPDATE push_deliveries SET state = ?, fence = ended.fence, attempts = attempts + CAST(ended.tried AS INT) FROM ended
		WHERE push_deliveries.at = ended.at AND push_deliveries.id = ended.id`, append(args, uint8(state))...)
	return err
}

// leaveClaims ends the claims of deliveries, and returns the fences of these.
func (c *conn) leaveClaims(ctx context.Context, ended []queuedDelivery) (map[int64]int64, error) {
	fences := map[int64]int64{}
	list, named := idList(idsOfQueued(ended))
	err := c.each(ctx, func(rows *sql.Rows) error {
		var id, fence int64
		err := rows.Scan(&id, &fence)
		fences[id] = max(fences[id], fence)
		return err
	}, list+`DELETE FROM push_claims WHERE id IN (SELECT id FROM ids)
		AND subscription IN (SELECT q.subscription FROM ids JOIN push_queue q ON `+c.engine.lookup("q.id", "ids.id")+`) RETURNING id, fence`, named...)
	return fences, err
}

func idsOfQueued(list []queuedDelivery) []pusher.DeliveryID {
	ids := make([]pusher.DeliveryID, len(list))
	for i, q := range list {
		ids[i] = q.id
	}
	return ids
}

// sortedIDs is the ids, each once, in the order in which rows are locked.
func sortedIDs(ids []pusher.DeliveryID) []pusher.DeliveryID {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b pusher.DeliveryID) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.At, b.At)) })
	return slices.Compact(ids)
}

// listLength is how many rows a list of n in a statement has: one of few numbers,
// since each is a statement of its own. What is missing repeats the last row.
func listLength(n int) int {
	length := 1
	for length < n {
		length *= 4
	}
	return length
}

// idList begins a statement that names deliveries: ids (at, id).
func idList(ids []pusher.DeliveryID) (with string, args []any) {
	n := listLength(len(ids))
	args = make([]any, 0, 2*n)
	for i := range n {
		id := ids[min(i, len(ids)-1)]
		args = append(args, id.At, id.ID)
	}
	list := `VALUES (` + bigints(2) + `)` + strings.Repeat(`, (?, ?)`, n-1)
	return `WITH ids (at, id) AS (SELECT DISTINCT * FROM (` + list + `) AS list) `, args
}

// bigints is n placeholders whose type PostgreSQL must be told.
func bigints(n int) string {
	return `CAST(? AS BIGINT)` + strings.Repeat(`, CAST(? AS BIGINT)`, n-1)
}
