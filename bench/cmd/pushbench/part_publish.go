package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// way is how messages are published.
type way struct {
	name           string
	callers, batch int
}

var ways = []way{{"single, 16 callers", 16, 1}, {"batches of 100, 4 callers", 4, 100}}

// publish measures how fast messages are accepted by a node that delivers
// nothing. Each makes one delivery, for one of 100 endpoints.
func (r *rig) publish(ctx context.Context, engine string) (err error) {
	_, _ = fmt.Fprintf(r.progress, "publish: in %s, %d runs of %v each\n", engine, r.runs, r.duration)
	w, err := r.newWorld(ctx, engine, manyEndpoints.targets(r.sink))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.store.Close()) }()
	p, err := w.newPusher(nil, nil)
	if err != nil {
		return err
	}
	rows := make([]row, len(ways))
	for range r.runs {
		for i, way := range ways {
			rows[i].name = way.name
			before, err := w.use()
			if err != nil {
				return err
			}
			end := time.Now().Add(r.duration)
			n, err := w.publishAll(ctx, p, way.callers, way.batch, func() bool { return time.Now().Before(end) })
			if err != nil {
				return err
			}
			after, err := w.use()
			if err != nil {
				return err
			}
			rows[i].runs = append(rows[i].runs, after.minus(before).each(n))
		}
	}
	printTable(r.out, "publish: in "+engine, "messages/s", rows)
	for _, row := range rows {
		line{"publish/s, " + row.name + " in " + engine, spreadOf(column(row.runs, rateOf)), 0}.print(r.out)
	}
	return nil
}
