package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// Complete records attempts and moves deliveries on, all of them in one
// transaction. It tells for each whether it still had the delivery; of one that
// it had lost the attempt is recorded all the same.
func (s *Store) Complete(ctx context.Context, done []pusher.Completion) ([]bool, error) {
	if len(done) == 0 {
		return nil, nil
	}
	// In the order of their numbers, as everybody locks them, and each once.
	order := make([]int, len(done))
	for i := range done {
		switch done[i].State {
		case pusher.Pending, pusher.Delivered, pusher.Failed, pusher.Cancelled, pusher.Acked:
		default:
			return nil, fmt.Errorf("completing delivery %d: %d is no state that it can end in", done[i].ID.ID, done[i].State)
		}
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(done[a].ID.ID, done[b].ID.ID), cmp.Compare(done[a].Fence, done[b].Fence))
	})
	order = slices.CompactFunc(order, func(a, b int) bool { return done[a].ID.ID == done[b].ID.ID && done[a].Fence == done[b].Fence })
	sorted := make([]pusher.Completion, len(order))
	for to, from := range order {
		sorted[to] = done[from]
		if a := done[from].Attempt; a != nil {
			clean := *a
			clean.Address, clean.Error, clean.Node = storableText(a.Address), storableText(a.Error), storableText(a.Node)
			clean.Class = pusher.ErrorClass(storableText(string(a.Class)))
			sorted[to].Attempt = &clean
		}
	}
	complete := s.completePostgres
	if s.pool == nil {
		complete = s.completeSQLite
	}
	had, err := complete(ctx, sorted)
	if err != nil {
		return nil, fmt.Errorf("completing deliveries: %w", err)
	}
	ours := make([]bool, len(done))
	for to, from := range order {
		ours[from] = had[to]
	}
	return ours, nil
}

// storableText is s without what some engine cannot keep: an attempt is recorded
// whatever its error says.
func storableText(s string) string {
	if storable(s) {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
