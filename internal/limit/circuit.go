package limit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// firstProbe is how soon Redis is asked again after a failure: a single
	// slow command costs no more than that.
	firstProbe = 10 * time.Millisecond
	// probeEvery is the least time between later probes; up to as much again
	// is added at random.
	probeEvery = 150 * time.Millisecond
	// steady is how long Redis must have answered for the next failure to
	// count as a first one.
	steady = 10 * time.Second
	// maxHold bounds how long the circuit stays open at least when failures
	// follow each other.
	maxHold = 10 * time.Second
)

// circuit keeps calls from waiting for a Redis that does not answer. One
// failure opens it; a probe of what failed closes it.
type circuit struct {
	open  atomic.Bool
	trips chan trip
}

// trip is a failure, and the tag of the keys it happened to: in a cluster the
// other keys may be well.
type trip struct {
	err error
	tag string
}

func newCircuit() *circuit { return &circuit{trips: make(chan trip, 1)} }

// trip opens the circuit. It never blocks: guard takes the trip before it
// closes the circuit again.
func (c *circuit) trip(err error, tag string) {
	if c.open.CompareAndSwap(false, true) {
		c.trips <- trip{err, tag}
	}
}

// guard tells state of every change, and closes the circuit as soon as probe
// succeeds.
func (c *circuit) guard(ctx context.Context, probe func(ctx context.Context, tag string) error, state func(error)) {
	hold := firstProbe
	var closedAt time.Time
	for {
		var t trip
		select {
		case <-ctx.Done():
			return
		case t = <-c.trips:
		}
		state(t.err)
		if time.Since(closedAt) < steady {
			// It answers probes but not calls: do not go to and fro with it.
			hold = min(hold*4, maxHold)
		} else {
			hold = firstProbe
		}
		for wait := hold; ; wait = probeEvery + rand.N(probeEvery) { //nolint:gosec // G404: only spreads the probes
			if !sleep(ctx, wait) {
				return
			}
			if probe(ctx, t.tag) == nil {
				break
			}
		}
		closedAt = time.Now()
		c.open.Store(false)
		state(nil)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// failure is what an error from Redis means.
type failure uint8

const (
	failDown failure = iota // Redis cannot be used: the circuit opens
	failCall                // only this call could not be counted
	failFull                // no memory is left for it
	failGone                // the caller did not wait
)

func classify(ctx context.Context, err error) failure {
	var reply redis.Error
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return failGone
	case errors.As(err, &reply):
		text := reply.Error()
		switch {
		case strings.HasPrefix(text, "OOM "), strings.Contains(text, "-OOM "):
			return failFull
		case strings.HasPrefix(text, "WRONGTYPE"), strings.Contains(text, "-WRONGTYPE"):
			return failCall // somebody else's key is in the way
		}
	}
	return failDown
}

// describe is an error for an operator: what he sees once, when Redis goes down.
func describe(err error) error {
	if reply, ok := errors.AsType[redis.Error](err); ok {
		text := reply.Error()
		if strings.HasPrefix(text, "NOAUTH") || strings.HasPrefix(text, "WRONGPASS") ||
			strings.HasPrefix(text, "NOPERM") || strings.Contains(text, "-NOPERM") {
			return fmt.Errorf("redis refuses us: %s; check user and password in the address and the user's ACL", text)
		}
	}
	return fmt.Errorf("redis: %w", err)
}
