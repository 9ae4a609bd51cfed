package pusher

import (
	"context"
	"sync"
	"time"
)

const (
	// maxJoined bounds how many deliveries one call of the store saves for
	// different publishers.
	maxJoined = 2000
	// publishTimeout bounds a call of Publish, and what saves for all who joined.
	publishTimeout = 10 * time.Second
)

// joiner lets publishers that come at the same time share one transaction. Who
// comes while none runs leads: it publishes at once, alone. Who comes meanwhile
// waits; then the first of them leads, for all.
type joiner struct {
	save func(context.Context, []Batch) ([]BatchResult, error)

	mu      sync.Mutex
	leading bool
	waiting []*joined
}

// joined is a publisher that waits.
type joined struct {
	batch Batch
	// lead is closed when it is its turn to lead, done when it is served.
	lead, done chan struct{}
	result     BatchResult
}

// publish saves a batch. Where ctx ends first the batch may be saved all the same.
func (j *joiner) publish(ctx context.Context, b Batch) BatchResult {
	j.mu.Lock()
	if !j.leading {
		j.leading = true
		j.mu.Unlock()
		return j.serve(ctx, []*joined{{batch: b}})
	}
	me := &joined{batch: b, lead: make(chan struct{}), done: make(chan struct{})}
	j.waiting = append(j.waiting, me)
	j.mu.Unlock()
	select {
	case <-me.done:
		return me.result
	case <-me.lead:
		return j.serve(ctx, j.take(me))
	case <-ctx.Done():
	}
	return j.leave(ctx, me)
}

// leave takes a publisher out that waits no longer. Where its turn to lead has
// come at the same time it leads still: others wait for it.
func (j *joiner) leave(ctx context.Context, me *joined) BatchResult {
	j.mu.Lock()
	select {
	case <-me.lead:
		j.mu.Unlock()
		return j.serve(ctx, j.take(me))
	default:
	}
	for i, w := range j.waiting {
		if w == me {
			j.waiting = append(j.waiting[:i:i], j.waiting[i+1:]...)
			break
		}
	}
	j.mu.Unlock()
	return BatchResult{Err: ctx.Err()}
}

// take returns those that are served together, the leader first.
func (j *joiner) take(leader *joined) []*joined {
	j.mu.Lock()
	defer j.mu.Unlock()
	group, size := []*joined{leader}, weight(leader.batch)
	for len(j.waiting) > 0 && size+weight(j.waiting[0].batch) <= maxJoined {
		size += weight(j.waiting[0].batch)
		group = append(group, j.waiting[0])
		j.waiting = j.waiting[1:]
	}
	return group
}

func weight(b Batch) int {
	n := len(b)
	for i := range b {
		n += len(b[i].Deliveries)
	}
	return n
}

// serve saves the batches of a group and returns the first result. The group's
// fate does not hang from the leader's context.
func (j *joiner) serve(ctx context.Context, group []*joined) BatchResult {
	batches := make([]Batch, len(group))
	for i, g := range group {
		batches[i] = g.batch
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	results, err := j.save(ctx, batches)
	cancel()

	j.mu.Lock()
	if len(j.waiting) > 0 {
		close(j.waiting[0].lead)
		j.waiting = j.waiting[1:]
	} else {
		j.leading = false
	}
	j.mu.Unlock()
	for i, g := range group {
		if err != nil {
			g.result = BatchResult{Err: err}
		} else {
			g.result = results[i]
		}
		if g.done != nil {
			close(g.done)
		}
	}
	return group[0].result
}
