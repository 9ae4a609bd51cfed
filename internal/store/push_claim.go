package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// lookahead is how many deliveries a claim of an ordered subscription looks at
// beyond those that it can take. Those among them that wait behind another one
// of their key are held back, so that no later claim meets them.
const (
	lookaheadRows = 256
	lookahead     = "256" // the same in SQL
)

// Claim takes due deliveries of active subscriptions for the node. It waits for
// nobody.
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
	slices.SortFunc(r.Work, func(a, b pusher.Work) int {
		return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.ID.ID, b.ID.ID))
	})
	return r, nil
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
