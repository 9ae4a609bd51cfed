package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// waitingQuery goes from one subscription of the index to the next, however many
// deliveries are between them.
const waitingQuery = `WITH RECURSIVE w (subscription) AS (
		SELECT min(subscription) FROM push_queue WHERE NOT held
		UNION ALL
		SELECT (SELECT min(q.subscription) FROM push_queue q WHERE NOT q.held AND q.subscription > w.subscription)
		FROM w WHERE w.subscription IS NOT NULL),
	p AS MATERIALIZED (
		SELECT w.subscription, (SELECT min(q.due_at) FROM push_queue q WHERE ` + queuePending + ` AND q.subscription = w.subscription) AS due FROM w)
	SELECT p.subscription, p.due FROM p
	WHERE p.due IS NOT NULL AND EXISTS (SELECT 1 FROM subscriptions s WHERE s.number = p.subscription)`

// queuePending holds for a delivery q of the queue that waits for its time alone.
const queuePending = `NOT q.held AND NOT ` + underWay

// Waiting lists the subscriptions with pending deliveries.
func (s *Store) Waiting(ctx context.Context) ([]pusher.Waiting, error) {
	var list []pusher.Waiting
	err := s.load(func(r *reader) error {
		return r.each(ctx, func(rows *sql.Rows) error {
			var w pusher.Waiting
			var due sql.NullInt64
			err := rows.Scan(&w.Subscription, &due)
			w.Due = fromMicros(due)
			list = append(list, w)
			return err
		}, waitingQuery)
	})
	if err != nil {
		return nil, fmt.Errorf("listing what waits: %w", err)
	}
	return list, nil
}
