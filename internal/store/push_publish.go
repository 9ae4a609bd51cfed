package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// keepIdempotency is for how long a publisher's id means the same message.
const keepIdempotency = 24 * time.Hour

// Publish saves batches; each succeeds or fails by itself. It returns once they
// are durable, and wakes other nodes.
func (s *Store) Publish(ctx context.Context, batches []pusher.Batch) ([]pusher.BatchResult, error) {
	if len(batches) == 0 {
		return nil, nil
	}
	save := s.publishPostgres
	if s.pool == nil {
		save = s.publishSQLite
	}
	results, err := save(ctx, batches)
	switch {
	case !errors.Is(err, platform.ErrConflict):
	case len(batches) == 1: // something that the database cannot keep
		return []pusher.BatchResult{{Err: fmt.Errorf("publishing: %w", err)}}, nil
	default: // of one of them; the others are not to blame
		results = make([]pusher.BatchResult, 0, len(batches))
		for i := range batches {
			one, err := s.Publish(ctx, batches[i:i+1])
			if err != nil {
				one = []pusher.BatchResult{{Err: err}}
			}
			results = append(results, one...)
		}
		return results, nil
	}
	if err != nil {
		return nil, fmt.Errorf("publishing: %w", err)
	}
	return results, nil
}

// idempotencyKey is what a publisher calls a message.
type idempotencyKey struct {
	environment platform.Environment
	key         string
}

// published is the message that a key belongs to.
type published struct {
	digest [32]byte
	id     pusher.MessageID
}

func keyOf(m *pusher.Message) idempotencyKey { return idempotencyKey{m.Environment, m.Idempotency} }

// judge tells what is to become of each batch: which messages are there already,
// by the keys that are known and those of batches before it, and which batch has
// a key that belongs to another message. It adds the keys of what is to be saved.
func judge(batches []pusher.Batch, known map[idempotencyKey]published) []pusher.BatchResult {
	results := make([]pusher.BatchResult, len(batches))
	for i, batch := range batches {
		results[i] = judgeBatch(batch, known)
	}
	return results
}

func judgeBatch(batch pusher.Batch, known map[idempotencyKey]published) pusher.BatchResult {
	r := pusher.BatchResult{Receipts: make([]pusher.Receipt, len(batch))}
	var added []idempotencyKey
	var conflicts []int
	for i := range batch {
		m := &batch[i].Message
		r.Receipts[i] = pusher.Receipt{ID: m.ID, Deliveries: len(batch[i].Deliveries)}
		if m.Idempotency == "" {
			continue
		}
		key := keyOf(m)
		first, there := known[key]
		switch {
		case !there:
			known[key] = published{m.Digest, m.ID}
			added = append(added, key)
		case first.digest == m.Digest:
			r.Receipts[i] = pusher.Receipt{ID: first.id, Duplicate: true}
		default:
			conflicts = append(conflicts, i)
		}
	}
	if len(conflicts) == 0 {
		return r
	}
	for _, key := range added {
		delete(known, key)
	}
	return pusher.BatchResult{Err: fmt.Errorf("ids belong to other messages: %w", platform.ErrConflict), Conflicts: conflicts}
}

// fresh gives all messages that are to be saved to fn.
func fresh(batches []pusher.Batch, results []pusher.BatchResult, fn func(*pusher.Publication) error) error {
	for i, r := range results {
		if r.Err != nil {
			continue
		}
		for j := range r.Receipts {
			if r.Receipts[j].Duplicate {
				continue
			}
			if err := fn(&batches[i][j]); err != nil {
				return err
			}
		}
	}
	return nil
}
