package store

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// named gives a message the publisher's id; data tells messages apart.
func (p *pushTest) named(id, data string, subscriptions ...uint64) pusher.Publication {
	m := p.message("", subscriptions...)
	m.Message.Idempotency = id
	copy(m.Message.Digest[:], data)
	return m
}

func TestPublish(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		subs := p.subscribe(2)
		m := p.message("k", subs...)
		none := p.message("") // nobody gets it: it is kept all the same
		p.publish(m, none)
		for _, want := range []pusher.Publication{m, none} {
			got, err := p.Original(p.Context(), want.Message.ID)
			require.NoError(p, err)
			want.Message.Digest = [32]byte{}
			require.Equal(p, &want.Message, got)
		}
		_, err := p.Original(p.Context(), pusher.MessageID{At: 1, ID: 1})
		require.ErrorIs(p, err, platform.ErrNotFound)
		require.Equal(p, 2, p.count(`SELECT count(*) FROM push_deliveries WHERE state = 0`))

		r := p.claim(endpoint(subs[0]), endpoint(subs[1]))
		require.Len(p, r.Work, 2)
		for i, w := range r.Work {
			require.Positive(p, w.Fence)
			require.Equal(p, pusher.Work{
				ID: pusher.DeliveryID{At: m.Message.ID.At, ID: w.ID.ID}, Subscription: subs[i], App: p.app.Number, Fence: w.Fence, Message: m.Message.ID,
				Topic: "trade.created", User: "u1", Key: "k", Attempt: 1, Tries: 1, Created: fromUnixMicro(m.Message.ID.At), Due: w.Due,
				Body: m.Deliveries[0].Body, KeyNumber: 3,
			}, w)
		}
		empty, err := p.Publish(p.Context(), nil)
		require.NoError(p, err)
		require.Empty(p, empty)
	})
}

// A publisher's id means one message for a day.
func TestIdempotency(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		publish := func(batches ...pusher.Batch) []pusher.BatchResult {
			p.Helper()
			r, err := p.Publish(p.Context(), batches)
			require.NoError(p, err)
			require.Len(p, r, len(batches))
			return r
		}
		fresh := func(m pusher.Publication) pusher.Receipt { return pusher.Receipt{ID: m.Message.ID, Deliveries: 1} }
		again := func(m pusher.Publication) pusher.Receipt { return pusher.Receipt{ID: m.Message.ID, Duplicate: true} }
		saved := func(r pusher.BatchResult, receipts ...pusher.Receipt) {
			p.Helper()
			require.Equal(p, pusher.BatchResult{Receipts: receipts}, r)
		}
		refused := func(r pusher.BatchResult, which ...int) {
			p.Helper()
			require.ErrorIs(p, r.Err, platform.ErrConflict)
			require.Equal(p, which, r.Conflicts)
			require.Empty(p, r.Receipts)
		}
		first := p.named("a", "1", sub)
		saved(publish(pusher.Batch{first})[0], fresh(first))
		saved(publish(pusher.Batch{p.named("a", "1", sub)})[0], again(first))
		refused(publish(pusher.Batch{p.named("a", "2", sub)})[0], 0)

		// Another environment's publishers have ids of their own.
		sandbox := p.named("a", "3", sub)
		sandbox.Message.Environment = platform.Sandbox
		saved(publish(pusher.Batch{sandbox})[0], fresh(sandbox))

		// All of a batch or nothing, and each batch by itself.
		b, c, d := p.named("b", "1", sub), p.named("c", "1", sub), p.message("", sub)
		r := publish(
			pusher.Batch{b, p.named("b", "1", sub), d},
			pusher.Batch{p.named("x", "1", sub), p.named("a", "2", sub)},
			pusher.Batch{p.named("y", "1", sub), p.named("y", "2", sub), p.named("a", "3", sub), p.named("a", "1", sub), p.named("y", "1", sub)},
			pusher.Batch{c, p.named("a", "1", sub), p.named("b", "1", sub)},
			pusher.Batch{p.named("b", "2", sub)},
		)
		saved(r[0], fresh(b), again(b), fresh(d))
		refused(r[1], 1)
		refused(r[2], 1, 2)
		saved(r[3], fresh(c), again(first), again(b))
		refused(r[4], 0)

		// What was refused took no id.
		x, y := p.named("x", "9", sub), p.named("y", "9", sub)
		r = publish(pusher.Batch{x, y})
		saved(r[0], fresh(x), fresh(y))
		require.Equal(p, 7, p.count(`SELECT count(*) FROM push_messages`))
		require.Equal(p, 7, p.count(`SELECT count(*) FROM push_queue`))

		// The id of a batch that fails goes to the next one that has it.
		z := p.named("z", "2", sub)
		r = publish(pusher.Batch{p.named("z", "1", sub), p.named("a", "2", sub)}, pusher.Batch{z})
		refused(r[0], 1)
		saved(r[1], fresh(z))
		saved(publish(pusher.Batch{p.named("z", "2", sub)})[0], again(z))

		// A day later it is another message.
		p.run(`UPDATE push_idempotency SET at = at - ? WHERE key = 'a'`, keepIdempotency.Microseconds()-1_000_000)
		saved(publish(pusher.Batch{p.named("a", "1", sub)})[0], again(first))
		p.clock.Add(1_000_000)
		p.run(`UPDATE push_idempotency SET at = at - 1000000 WHERE key = 'a'`)
		later := p.named("a", "2", sub)
		saved(publish(pusher.Batch{later})[0], fresh(later))
		saved(publish(pusher.Batch{p.named("a", "2", sub)})[0], again(later))
	})
}

// Of callers with the same ids, in any order, one publishes each.
func TestIdempotencyTogether(t *testing.T) {
	pushOn(t, func(p *pushTest) {
		sub := p.subscribe(1)[0]
		const callers, keys = 8, 5
		calls := make([]pusher.Batch, callers)
		for i := range calls {
			for k := range keys {
				key := k
				if i%2 == 1 {
					key = keys - 1 - k
				}
				calls[i] = append(calls[i], p.named(fmt.Sprint(key), "same", sub))
			}
		}
		var wg sync.WaitGroup
		results, errs := make([][]pusher.BatchResult, callers), make([]error, callers)
		for i := range callers {
			wg.Go(func() { results[i], errs[i] = p.Publish(p.Context(), calls[i:i+1]) })
		}
		wg.Wait()
		fresh := 0
		names := map[string]pusher.MessageID{}
		for i := range callers {
			require.NoError(p, errs[i])
			require.NoError(p, results[i][0].Err)
			for k, r := range results[i][0].Receipts {
				if !r.Duplicate {
					fresh++
				}
				name := calls[i][k].Message.Idempotency
				if first, ok := names[name]; ok {
					require.Equal(p, first, r.ID, "all are told of the same message")
				}
				names[name] = r.ID
			}
		}
		require.Equal(p, keys, fresh)
		require.Equal(p, keys, p.count(`SELECT count(*) FROM push_messages`))
	})
}

// What the database cannot keep is the fault of its own batch.
func TestPublishUnstorable(t *testing.T) {
	p := newPushTest(t, engines[1], postgresDatabase(t))
	sub := p.subscribe(1)[0]
	bad, good := p.message("", sub), p.message("", sub)
	bad.Message.User = "u\x00"
	r, err := p.Publish(p.Context(), []pusher.Batch{{good, bad}, {p.message("", sub)}})
	require.NoError(t, err)
	require.ErrorIs(t, r[0].Err, platform.ErrConflict)
	require.Empty(t, r[0].Conflicts)
	require.NoError(t, r[1].Err)
	require.Equal(t, 1, p.count(`SELECT count(*) FROM push_messages`))
}

// A day without a partition gets one.
func TestPublishMakesRoom(t *testing.T) {
	p := newPushTest(t, engines[1], postgresDatabase(t))
	sub := p.subscribe(1)[0]
	for _, id := range []string{"", "id"} {
		m := p.named(id, "", sub)
		m.Message.ID.At -= 400 * 24 * 3600 * 1_000_000
		if id != "" {
			m.Message.ID.At -= 24 * 3600 * 1_000_000
		}
		p.publish(m)
		// It is so old that a claim loads what is posted by a statement of its own.
		w := p.claim(endpoint(sub)).Work
		require.Equal(t, []string{string(m.Deliveries[0].Body)}, bodies(w))
		require.Equal(t, 3, w[0].KeyNumber)
		require.Equal(t, []bool{true}, p.complete(done(w[0], pusher.Delivered, 0)))
		require.Equal(t, pusher.Delivered, p.recorded(w[0].ID).State)
	}
}
