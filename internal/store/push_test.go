package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// pushTest is a store with an app that subscribed.
type pushTest struct {
	*testing.T
	*Store
	app *platform.App
	// clock is the store's on SQLite. PostgreSQL goes by its own.
	clock *atomic.Int64
	seen  int64
}

// pushOn runs a test on a store of each engine.
func pushOn(t *testing.T, test func(*pushTest)) {
	t.Helper()
	onBoth(t, func(t *testing.T, e engineTest) { test(newPushTest(t, e, e.database(t))) })
}

func newPushTest(t *testing.T, e engineTest, database string) *pushTest {
	t.Helper()
	p := &pushTest{T: t, clock: &atomic.Int64{}}
	p.clock.Store(time.Now().UnixMicro())
	p.Store = e.with(t, database, testKeyring(t, 1), Options{Now: func() time.Time { return time.UnixMicro(p.clock.Load()) }})
	p.app = testApp("push")
	putApps(t, p.Store, p.app)
	return p
}

// subscribe makes n subscriptions and returns their numbers.
func (p *pushTest) subscribe(n int) []uint64 {
	p.Helper()
	numbers := make([]uint64, n)
	put(p, p.Store, func(ctx context.Context, tx platform.Tx) error {
		for i := range numbers {
			p.seen++
			sub := &platform.Subscription{
				ID: fmt.Sprintf("sub_%05d", p.seen), App: p.app.ID, AppNumber: p.app.Number, Environment: platform.Production,
				URL: "https://example.com/", Topics: []string{fmt.Sprint("topic", p.seen)}, Format: platform.EncryptedFormat, Status: platform.SubscriptionActive,
				CreatedAt: testTime, UpdatedAt: testTime,
			}
			if err := tx.PutSubscription(ctx, sub); err != nil {
				return err
			}
			numbers[i] = sub.Number
		}
		return nil
	})
	return numbers
}

// user saves the merchant u1.
func (p *pushTest) user(status platform.UserStatus) {
	p.Helper()
	user := &platform.User{ID: "u1", Login: "u1", Status: status, CreatedAt: testTime, UpdatedAt: testTime}
	put(p, p.Store, func(ctx context.Context, tx platform.Tx) error { return tx.PutUser(ctx, user) })
}

// grant saves an authorization of the app by u1.
func (p *pushTest) grant(id string, environment platform.Environment, expires time.Time) {
	p.Helper()
	p.run(`INSERT INTO grants (id, user_id, app, environment, scopes, created_at, expires_at) VALUES (?, 'u1', ?, ?, '["trade"]', 1, ?)`,
		id, int64(p.app.Number), string(environment), expires.UnixMicro())
}

// message is a message with a delivery for each of the subscriptions.
func (p *pushTest) message(key string, subscriptions ...uint64) pusher.Publication {
	p.seen++
	m := pusher.Message{
		ID: pusher.MessageID{At: p.now().UnixMicro(), ID: p.seen}, Environment: platform.Production, Topic: "trade.created", User: "u1", Key: key,
		Time: testTime, Data: []byte(`{"n":1}`),
	}
	m.Digest = sha256.Sum256(m.Data)
	pub := pusher.Publication{Message: m}
	for _, n := range subscriptions {
		pub.Deliveries = append(pub.Deliveries, pusher.NewDelivery{
			Subscription: n, App: p.app.Number, Key: key, Body: fmt.Appendf(nil, "body %d", p.seen), KeyNumber: 3,
		})
	}
	return pub
}

// publish publishes each of the messages by a batch of its own.
func (p *pushTest) publish(messages ...pusher.Publication) {
	p.Helper()
	batches := make([]pusher.Batch, len(messages))
	for i := range messages {
		batches[i] = pusher.Batch{messages[i]}
	}
	results, err := p.Publish(p.Context(), batches)
	require.NoError(p, err)
	for i, r := range results {
		require.NoError(p, r.Err)
		require.Equal(p, []pusher.Receipt{{ID: messages[i].Message.ID, Deliveries: len(messages[i].Deliveries)}}, r.Receipts)
	}
}

// endpoint asks for much.
func endpoint(subscription uint64) pusher.Endpoint {
	return pusher.Endpoint{Subscription: subscription, Room: 100, Concurrency: 100}
}

func ordered(subscription uint64) pusher.Endpoint {
	e := endpoint(subscription)
	e.Ordered = true
	return e
}

func (p *pushTest) claim(endpoints ...pusher.Endpoint) pusher.ClaimResult {
	p.Helper()
	r, err := p.Claim(p.Context(), pusher.Claim{Node: "n1", Lease: time.Minute, Endpoints: endpoints})
	require.NoError(p, err)
	slices.Sort(r.More)
	slices.Sort(r.Busy)
	slices.SortFunc(r.Work, func(a, b pusher.Work) int { return cmp.Compare(a.ID.ID, b.ID.ID) })
	return r
}

// done completes work with a state and an attempt.
func done(w pusher.Work, state pusher.State, wait time.Duration) pusher.Completion {
	class := pusher.ClassStatus
	status := 500
	if state == pusher.Delivered {
		class, status = pusher.ClassNone, 204
	}
	return pusher.Completion{
		ID: w.ID, Subscription: w.Subscription, Fence: w.Fence, State: state, Wait: wait, Ordered: w.Key != "",
		Attempt: &pusher.Attempt{
			Number: w.Attempt, Cause: w.Cause, Started: testTime, Duration: time.Millisecond, Address: "192.0.2.1:443",
			Status: status, Class: class, Error: "e", Response: []byte("answer"), Node: "n1",
		},
	}
}

func (p *pushTest) complete(completions ...pusher.Completion) []bool {
	p.Helper()
	had, err := p.Complete(p.Context(), completions)
	require.NoError(p, err)
	return had
}

// count counts rows.
func (p *pushTest) count(query string, args ...any) (n int) {
	p.Helper()
	require.NoError(p, p.readers.QueryRow(p.engine.bind(query), args...).Scan(&n))
	return n
}

// sqlClock is the clock that deliveries are due by.
func (p *pushTest) sqlClock() string {
	if p.pool != nil {
		return sqlNow
	}
	return fmt.Sprint(p.clock.Load())
}

// run runs a statement.
func (p *pushTest) run(query string, args ...any) {
	p.Helper()
	_, err := p.writer.Exec(p.engine.bind(query), args...)
	require.NoError(p, err)
}

// expire ends all leases.
func (p *pushTest) expire() { p.run(`UPDATE push_claims SET lease_until = 1`) }

// dueNow makes all pending deliveries due.
func (p *pushTest) dueNow() {
	p.run(`UPDATE push_queue SET due_at = ` + p.sqlClock() + ` WHERE id NOT IN (SELECT id FROM push_claims)`)
}

// owe asks for an attempt more, as somebody who pushes by hand does.
func (p *pushTest) owe(id pusher.DeliveryID) {
	p.run(`UPDATE push_queue SET owed = owed + 1, due_at = `+p.sqlClock()+` WHERE id = ?`, id.ID)
}

// putBack puts a delivery that left the queue into it again.
func (p *pushTest) putBack(id pusher.DeliveryID, cause pusher.Cause) {
	p.run(`INSERT INTO push_queue (id, at, subscription, app, message_at, message_id, topic, user_id, grant_id, order_key, payload_at, payload_id,
			due_at, fence, cause, owed, attempts, tries)
		SELECT id, at, subscription, app, message_at, message_id, topic, user_id, grant_id, order_key, payload_at, payload_id,
			`+p.sqlClock()+`, fence, `+fmt.Sprint(int(cause))+`, 0, attempts, 0 FROM push_deliveries WHERE at = ? AND id = ?`, id.At, id.ID)
	p.run(`UPDATE push_deliveries SET state = 0 WHERE at = ? AND id = ?`, id.At, id.ID)
}

// recorded is what the record says of a delivery.
type recorded struct {
	State     pusher.State
	Attempts  int
	Delivered bool
	Status    int
	Class     pusher.ErrorClass
	Fence     int64
}

func (p *pushTest) recorded(id pusher.DeliveryID) (r recorded) {
	p.Helper()
	require.NoError(p, p.readers.QueryRow(p.engine.bind(`SELECT state, attempts, delivered_at IS NOT NULL, last_status, last_class, fence
		FROM push_deliveries WHERE at = ? AND id = ?`), id.At, id.ID).Scan(&r.State, &r.Attempts, &r.Delivered, &r.Status, &r.Class, &r.Fence))
	return r
}

// ids are the numbers of work.
func ids(work []pusher.Work) (numbers []int64) {
	for _, w := range work {
		numbers = append(numbers, w.ID.ID)
	}
	return numbers
}

// bodies are what is posted.
func bodies(work []pusher.Work) (all []string) {
	for _, w := range work {
		all = append(all, string(w.Body))
	}
	return all
}
