package pusher

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// ErrNothingKept is wrapped by what Publish fails with before it saves anything.
// After other failures the messages may have been kept.
var ErrNothingKept = errors.New("publishing: nothing was kept")

// Publish accepts messages: all of them, or none and an error. A mistake in
// them is a *BatchError. It returns once they are durable, or after
// publishTimeout; after twice that where it led others when its time was nearly over. It sets ID and Digest of each message.
func (p *Pusher) Publish(ctx context.Context, messages []Message) ([]Receipt, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	if len(messages) > MaxBatch {
		return nil, &platform.FieldError{Field: "messages", Problem: fmt.Sprintf("there are %d", len(messages)), Want: fmt.Sprintf("at most %d", MaxBatch)}
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	found, err := p.check(ctx, messages)
	if err != nil {
		return nil, err
	}
	batch, err := p.fanOut(ctx, messages, found)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNothingKept, err)
	}
	result := p.joiner.publish(ctx, batch)
	if len(result.Conflicts) > 0 {
		return nil, conflicts(messages, result.Conflicts)
	}
	if result.Err != nil {
		return nil, result.Err
	}
	p.wakePublished(batch, result.Receipts)
	return result.Receipts, nil
}

// check finds all mistakes, and returns the topics of the messages.
func (p *Pusher) check(ctx context.Context, messages []Message) ([]*topic, error) {
	catalog, err := p.currentTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: loading the topics: %w", ErrNothingKept, err)
	}
	now := p.now()
	mistakes := make(map[int]error)
	found := make([]*topic, len(messages))
	type name struct {
		environment platform.Environment
		id          string
	}
	names := make(map[name]int)
	for i := range messages {
		m := &messages[i]
		found[i] = catalog.byName[m.Topic]
		mistake := m.Mistake
		if mistake == nil {
			mistake = checkMessage(m, found[i], now)
		}
		if mistake == nil && m.Check {
			if mistake, err = found[i].checkSchema(m.Data); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrNothingKept, err)
			}
		}
		if m.Idempotency != "" && mistake == nil {
			n := name{m.Environment, m.Idempotency}
			if first, taken := names[n]; taken {
				mistake = &platform.FieldError{Field: "id", Problem: fmt.Sprintf("message %d of the batch has the same", first), Want: "an id for each message"}
			}
			names[n] = i
		}
		if mistake != nil {
			mistakes[i] = mistake
		}
	}
	if len(mistakes) > 0 {
		return nil, &BatchError{Mistakes: mistakes}
	}
	return found, p.name(messages)
}

// conflicts says which ids were used before.
func conflicts(messages []Message, which []int) *BatchError {
	mistakes := make(map[int]error)
	for _, i := range which {
		mistakes[i] = fmt.Errorf("%w: %w", platform.ErrConflict, &platform.FieldError{
			Field: "id", Problem: fmt.Sprintf("%q belongs to another message", messages[i].Idempotency), Want: "an id for each message",
		})
	}
	return &BatchError{Mistakes: mistakes}
}

// name gives messages their IDs: the time, and a random number.
func (p *Pusher) name(messages []Message) error {
	at := p.now().UnixMicro()
	random := make([]byte, 8*len(messages))
	if _, err := io.ReadFull(p.random, random); err != nil {
		return fmt.Errorf("reading random bytes: %w", err)
	}
	for i := range messages {
		m := &messages[i]
		m.ID = MessageID{At: at, ID: int64(binary.BigEndian.Uint64(random[8*i:]) & math.MaxInt64)}
		m.Digest = digestOf(m)
	}
	return nil
}

// wakePublished looks for the deliveries that a batch has made.
func (p *Pusher) wakePublished(batch Batch, receipts []Receipt) {
	var subscriptions []uint64
	for i := range batch {
		if i < len(receipts) && receipts[i].Duplicate {
			continue
		}
		for _, d := range batch[i].Deliveries {
			subscriptions = append(subscriptions, d.Subscription)
		}
	}
	if len(subscriptions) > 0 {
		p.scheduler.wake(subscriptions...)
	}
}

// Error counts the mistakes, and tells the first of them.
func (e *BatchError) Error() string {
	first := math.MaxInt
	for i := range e.Mistakes {
		first = min(first, i)
	}
	if len(e.Mistakes) == 1 {
		return fmt.Sprintf("message %d cannot be published: %v", first, e.Mistakes[first])
	}
	return fmt.Sprintf("%d messages cannot be published; message %d: %v", len(e.Mistakes), first, e.Mistakes[first])
}

// Unwrap lists the mistakes.
func (e *BatchError) Unwrap() []error {
	out := make([]error, 0, len(e.Mistakes))
	for _, err := range e.Mistakes {
		out = append(out, err)
	}
	return out
}
