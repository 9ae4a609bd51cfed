package limit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrUsed means that a nonce was used before.
var ErrUsed = errors.New("nonce was used before")

// Spend is what one call costs.
type Spend struct {
	// App is the app's number, in whose name the nonce counts.
	App uint64
	// Nonce is what may be used once; nil when there is nothing to use.
	Nonce []byte
	// Expiry is until when the nonce is remembered.
	Expiry time.Time
	// Checks are the limits that apply: at most MaxChecks, their keys distinct.
	Checks []Check
}

// Ledger keeps account of what calls spend.
type Ledger interface {
	// Spend uses the nonce, then checks all limits, and then charges all of
	// them or none: a call that is refused by a limit costs nothing but its
	// nonce. The error is ErrUsed for a nonce that was used before and ErrFull
	// where one more cannot be remembered; any other means that the call could
	// not be checked.
	Spend(ctx context.Context, now time.Time, s *Spend) (Result, error)
}

// Local is the Ledger of a single node, in memory.
type Local struct {
	Limits *Memory
	Nonces *MemoryNonces
}

// Spend implements Ledger.
func (l *Local) Spend(ctx context.Context, now time.Time, s *Spend) (Result, error) {
	if s.Nonce != nil {
		fresh, err := l.Nonces.Use(ctx, now, s.App, s.Nonce, s.Expiry)
		if err != nil {
			return Result{}, fmt.Errorf("using a nonce: %w", err)
		}
		if !fresh {
			return Result{}, ErrUsed
		}
	}
	if len(s.Checks) == 0 {
		return Result{Allowed: true}, nil
	}
	return l.Limits.Take(ctx, now, s.Checks)
}

// Interface guard
var _ Ledger = (*Local)(nil)
