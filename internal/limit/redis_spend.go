package limit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// maxWindows is how often one call is tried again because Redis's clock is in
// another day than thought: once, and once more at midnight.
const maxWindows = 3

// Spend implements Ledger.
func (r *Redis) Spend(ctx context.Context, now time.Time, s *Spend) (Result, error) {
	if err := validate(s.Checks); err != nil {
		return Result{}, fmt.Errorf("taking limits: %w", err)
	}
	// Redis remembers nonces for a bounded time. A call means the same
	// whether it answers or not.
	var live buckets
	if s.Nonce != nil {
		var err error
		if live, err = liveBuckets(now, s.Expiry); err != nil {
			return Result{}, fmt.Errorf("using a nonce: %w", err)
		}
	}
	if r.options.OnFailure == FailDeny && r.circuit.open.Load() {
		r.counters.fallback.Add(1)
		return Result{}, ErrDown // the nonce stays good for another try
	}
	if s.Nonce != nil {
		fresh, err := r.nonces.Use(ctx, now, s.App, s.Nonce, s.Expiry)
		if err != nil {
			return Result{}, fmt.Errorf("using a nonce: %w", err)
		}
		if !fresh {
			return Result{}, ErrUsed
		}
	}
	if s.Nonce == nil && len(s.Checks) == 0 {
		return Result{Allowed: true}, nil
	}
	if r.circuit.open.Load() {
		return r.alone(ctx, now, s, nil)
	}
	res, err := r.shared(ctx, now, s, &live)
	switch {
	case err == nil, errors.Is(err, ErrUsed), errors.Is(err, ErrFull):
		return res, err
	}
	switch r.failed(ctx, err, r.appTag(s.App)) {
	case failGone:
		if !errors.Is(err, errClosed) {
			return Result{}, fmt.Errorf("spending: %w", err)
		}
	case failFull:
		return Result{}, fmt.Errorf("spending: %w: %w", ErrFull, err)
	}
	return r.alone(ctx, now, s, err)
}

// alone decides without Redis. The nonce is this node's already.
func (r *Redis) alone(ctx context.Context, now time.Time, s *Spend, err error) (Result, error) {
	r.counters.fallback.Add(1)
	if r.options.OnFailure == FailDeny {
		if err == nil {
			return Result{}, ErrDown
		}
		return Result{}, fmt.Errorf("%w: %w", ErrDown, err)
	}
	if len(s.Checks) == 0 {
		return Result{Allowed: true}, nil
	}
	return r.fallback.take(ctx, now, s.Checks, r.nodes.known.Load())
}

// shared decides with Redis: by leases, by one script call, or by both.
func (r *Redis) shared(ctx context.Context, now time.Time, s *Spend, live *buckets) (Result, error) {
	var t tally
	var held tickets
	charges := charges{max: r.options.MaxNonces}
	var own [MaxChecks]Check
	n := 0
	for i := range s.Checks {
		check := &s.Checks[i]
		switch {
		case check.Rate.IsZero() && check.Quota.IsZero():
		case r.options.Accuracy == Leased || check.Key.Scope.spansApps():
			paid, ok, err := r.leased(ctx, now, check, &t)
			if err != nil {
				held.putBack()
				return Result{}, err
			}
			if ok {
				held.add(paid)
			} else {
				charges.refuse = true
			}
		default:
			own[n] = *check
			n++
		}
	}
	asks := s.Nonce != nil && !r.options.LocalNonces
	if !asks && (n == 0 || charges.refuse) {
		if charges.refuse {
			held.putBack()
		}
		return t.decided(!charges.refuse), nil
	}
	out := outcomes.Get().(*outcome)
	defer outcomes.Put(out)
	charges.checks = own[:n]
	if asks {
		member := nonceMember(s.App, s.Nonce)
		charges.nonce = member[:]
		charges.ttl = (live.ends[0]-now.Unix()+bucketMargin)*1000 + 1
	} else {
		live = new(buckets)
	}
	err := r.run(ctx, now, s.App, &charges, live, out)
	switch {
	case err != nil:
	case out.verdict == verdictUsed:
		err = ErrUsed
	case out.verdict == verdictFull:
		err = fmt.Errorf("using a nonce: %w", ErrFull)
	}
	if err != nil {
		held.putBack()
		return Result{}, err
	}
	out.tally(&t, charges.checks, &charges.windows)
	allowed := out.verdict == verdictAllowed
	if !allowed {
		held.putBack()
	}
	return t.decided(allowed), nil
}

var outcomes = sync.Pool{New: func() any { return new(outcome) }}

// tickets are what one call took from leases.
type tickets struct {
	list [MaxChecks]ticket
	n    int
}

func (t *tickets) add(paid ticket) {
	t.list[t.n] = paid
	t.n++
}

func (t *tickets) putBack() {
	for _, paid := range t.list[:t.n] {
		paid.putBack()
	}
}

// decided is the result of a call that was decided elsewhere. The tally comes
// to the same, but where numbers were rounded on their way.
func (t *tally) decided(allowed bool) Result {
	t.result.Allowed = allowed
	if !t.seen {
		return t.result
	}
	if allowed {
		t.result.RetryAfter = 0
	} else {
		t.result.Remaining, t.result.RetryAfter = 0, max(t.result.RetryAfter, 1)
	}
	return t.result
}

// run runs spend.lua, in the windows of Redis's own clock.
func (r *Redis) run(ctx context.Context, now time.Time, app uint64, ch *charges, live *buckets, out *outcome) error {
	if r.injected {
		ch.clock = clamp(now)
	}
	ahead := r.ahead.Load()
	for range maxWindows {
		ch.windows = r.calendar.at(clamp(now.Add(time.Duration(ahead))))
		c := newCommand(spendScript)
		var ends [maxKeys]int
		n := 0
		for i := range ch.checks {
			c.names = appendKey(c.names, r.options.Prefix, ch.checks[i].Key)
			ends[n] = len(c.names)
			n++
		}
		for _, end := range live.ends[:live.n] {
			c.names = appendNonceKey(c.names, r.options.Prefix, app, end)
			ends[n] = len(c.names)
			n++
		}
		c.packed = ch.append(c.packed)
		c.seal(ctx, ends[:n])
		r.counters.scripts.Add(1)
		reply, err := r.pipeline.do(ctx, c)
		if err != nil {
			return err
		}
		if err := out.parse(reply, len(ch.checks)); err != nil {
			return err
		}
		if out.verdict != verdictWindow {
			return nil
		}
		ahead = int64(out.now.Sub(now))
		r.ahead.Store(ahead)
	}
	return fmt.Errorf("%w: its clock is in no window", errReply)
}

// appTag begins all keys of an app.
func (r *Redis) appTag(app uint64) string { return fmt.Sprintf("%s{%d}", r.options.Prefix, app) }

// counterTag begins the keys that share a slot with a counter.
func (r *Redis) counterTag(k Key) string {
	key, _, _ := strings.Cut(string(appendKey(nil, r.options.Prefix, k)), "}")
	return key + "}"
}
