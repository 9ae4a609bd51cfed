package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// lookahead is how many deliveries a claim of an ordered subscription looks at
// beyond those that it can take. Those among them that wait behind another one
// of their key are held back, so that no later claim meets them.
const (
	lookaheadRows = 256
	lookahead     = "256" // the same in SQL
)

// What a claim makes of a delivery q of the queue: a manual push that is owed
// begins the schedule anew.
const (
	claimedCause = `CASE WHEN q.owed > 0 THEN 1 ELSE q.cause END`
	claimedTries = `CASE WHEN q.owed > 0 THEN 0 ELSE q.tries END`
	claimedFirst = `CASE WHEN q.owed > 0 THEN NULL ELSE q.first_attempt END`
	// payOwed makes the queue say so, where one is owed.
	payOwed = `cause = 1, tries = 0, first_attempt = NULL, owed = owed - 1`
)

// Claim takes due deliveries of active subscriptions for the node. It waits for
// nobody, nor for the disk: whoever completes a delivery does. Where the machine
// fails between the two the delivery is pending again, at once and not only when
// the lease has ended, and it may arrive twice, as all that are under way then. The
// fence is the time of the claim, and more than the last one: that of a claim that
// was lost does not come again, while its node may go on.
func (s *Store) Claim(ctx context.Context, c pusher.Claim) (pusher.ClaimResult, error) {
	c.Endpoints = distinctEndpoints(c.Endpoints)
	if len(c.Endpoints) == 0 {
		return pusher.ClaimResult{}, nil
	}
	claim := s.claimPostgres
	if s.pool == nil {
		claim = s.claimSQLite
	}
	r, err := claim(ctx, c)
	if err != nil {
		return pusher.ClaimResult{}, fmt.Errorf("claiming deliveries: %w", err)
	}
	slices.SortFunc(r.Work, olderWork)
	return r, nil
}

// trying is how long before a claim that of the first attempt was.
func trying(first sql.NullInt64, fence int64) time.Duration {
	if !first.Valid {
		return 0
	}
	return time.Duration(fence-first.Int64) * time.Microsecond
}

// olderWork compares work by when it was due.
func olderWork(a, b pusher.Work) int {
	return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.ID.ID, b.ID.ID))
}

// distinctEndpoints leaves out what asks for a subscription again.
func distinctEndpoints(endpoints []pusher.Endpoint) []pusher.Endpoint {
	seen := make(map[uint64]bool, len(endpoints))
	distinct := make([]pusher.Endpoint, 0, len(endpoints))
	for _, e := range endpoints {
		if !seen[e.Subscription] {
			seen[e.Subscription] = true
			distinct = append(distinct, e)
		}
	}
	return distinct
}
