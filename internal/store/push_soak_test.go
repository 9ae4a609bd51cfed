//go:build soak

package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// soakDeliveries is how many deliveries are pushed again.
const soakDeliveries = 1_000_000

// TestSoakMillionAgain streams a million failed deliveries into the queue, and
// then a million that are made anew, and tells how long that takes, and what
// depends on how much waits.
func TestSoakMillionAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, e engineTest) {
		p := newPushStore(t, e.empty(t), "a")
		ctx := t.Context()
		measure := func(what string, fn func()) {
			t.Helper()
			began := time.Now()
			fn()
			t.Logf("%s: %s: %v", e.name, what, time.Since(began).Round(time.Millisecond))
		}
		measure("a million failed deliveries, written as they are", func() { p.fillFailed(t, soakDeliveries) })
		for _, cause := range []pusher.Cause{pusher.Repush, pusher.Reset} {
			var longest time.Duration
			name := map[pusher.Cause]string{pusher.Repush: "repush", pusher.Reset: "reset"}[cause]
			measure(name+": counting them", func() { p.job(t, cause, pusher.Filter{App: p.app.Number}) })
			measure(name, func() {
				for {
					began := time.Now()
					job, _, err := p.StepJob(ctx, 1000)
					require.NoError(t, err)
					longest = max(longest, time.Since(began))
					if job == nil {
						break
					}
					if job.State == pusher.JobDone {
						require.EqualValues(t, soakDeliveries, job.Done)
					}
				}
			})
			t.Logf("%s: %s: longest step: %v", e.name, name, longest.Round(time.Millisecond))
			measure("depth, cold", func() { _, err := p.Depth(ctx); require.NoError(t, err) })
			measure("depth", func() { _, err := p.Depth(ctx); require.NoError(t, err) })
		}
		measure("a pull of 100", func() {
			parcels, err := p.Undelivered(ctx, p.app.Number, platform.Production, nil, pusher.Cursor{}, 100)
			require.NoError(t, err)
			require.Len(t, parcels, 100)
		})
		measure("the first page of what waits", func() {
			_, err := p.Deliveries(ctx, pusher.Filter{App: p.app.Number, States: []pusher.State{pusher.Pending}}, pusher.Cursor{}, 100)
			require.NoError(t, err)
		})
		measure("maintenance", func() { require.NoError(t, p.Maintain(ctx, time.Now(), Retention{Deliveries: 365 * day})) })
		put(t, p.Store, func(ctx context.Context, tx platform.Tx) error { return tx.DeleteSubscription(ctx, p.subs["a"].ID) })
		measure("ending two million orphans", func() { require.NoError(t, p.Maintain(ctx, time.Now(), Retention{})) })
		require.Zero(t, p.count(t, "push_queue"))
	})
}

// fillFailed writes failed deliveries of a day, without their attempts.
func (p *pushStore) fillFailed(t *testing.T, n int) {
	t.Helper()
	sub := p.subs["a"]
	record := `INSERT INTO push_deliveries (at, id, message_at, message_id, subscription, app, environment, topic, user_id,
			state, cause, attempts, payload_at, payload_id, last_status, last_class, fence)
		SELECT n.i * 1000 + %[1]d, n.i, n.i * 1000 + %[1]d, n.i, %[2]d, %[3]d, 'production', 'a', 'usr_a', 3, 0, 10, n.i * 1000 + %[1]d, n.i, 500, 'status', 10 FROM n`
	payload := `INSERT INTO push_payloads (at, id, key_number, body) SELECT n.i * 1000 + %[1]d, n.i, 1, %[4]s FROM n`
	failed := `INSERT INTO push_failed (at, id, app) SELECT n.i * 1000 + %[1]d, n.i, %[3]d FROM n`
	numbers, body, last := `WITH n (i) AS (SELECT generate_series(%[5]d, %[6]d)) `, `convert_to(repeat('x', 100), 'UTF8')`, `SELECT setval('push_deliveries_id_seq', %[6]d)`
	if p.pool == nil {
		numbers = `WITH RECURSIVE n (i) AS (SELECT %[5]d UNION ALL SELECT i + 1 FROM n WHERE i < %[6]d) `
		body, last = `zeroblob(100)`, `UPDATE push_numbers SET last = %[6]d WHERE name = 'push_deliveries'`
	}
	require.NoError(t, p.update(t.Context(), nil, func(t *tx) error {
		ctx := context.Background()
		for _, series := range []series{deliverySeries, payloadSeries} {
			if err := t.room(ctx, series, testTime); err != nil {
				return err
			}
		}
		return nil
	}))
	for from := 1; from <= n; from += 50_000 {
		for _, statement := range []string{numbers + record, numbers + payload, numbers + failed, last} {
			query := fmt.Sprintf(statement+` /* %[1]d %[2]d %[3]d %[4]s %[5]d %[6]d */`, testTime.UnixMicro(), sub.Number, p.app.Number, body, from, from+49_999)
			_, err := p.writer.ExecContext(t.Context(), query)
			require.NoError(t, err)
		}
	}
	if p.pool != nil {
		_, err := p.writer.ExecContext(t.Context(), `ANALYZE`)
		require.NoError(t, err)
	}
}
