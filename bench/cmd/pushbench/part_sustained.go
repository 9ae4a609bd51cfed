package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
)

const (
	// window is how many messages may be published and not yet delivered, so
	// that both go at one pace.
	window = 2000
	// sustainedBatch is how many messages a call publishes, sustainedCallers how
	// many do so at once.
	sustainedBatch   = 20
	sustainedCallers = 4
)

// sustained publishes and delivers at once for a while.
func (r *rig) sustained(ctx context.Context, engine string) (err error) {
	_, _ = fmt.Fprintf(r.progress, "sustained: in %s for %v\n", engine, r.sustain)
	w, err := r.newWorld(ctx, engine, manyEndpoints.targets(r.sink))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.store.Close()) }()
	sizeBefore, err := w.size(ctx)
	if err != nil {
		return err
	}
	room := make(chan struct{}, window)
	node, running, err := w.start(ctx, func(int64) { <-room })
	if err != nil {
		return err
	}
	defer node.stop()
	before, err := w.use()
	if err != nil {
		return err
	}
	var half use
	var atHalf int64
	halved := make(chan error, 1)
	timer := time.AfterFunc(r.sustain/2, func() {
		var err error
		atHalf = node.delivered.Load()
		half, err = w.use()
		halved <- err
	})
	defer timer.Stop()
	end := time.Now().Add(r.sustain)
	n, err := w.publishAll(running, node.Pusher, sustainedCallers, sustainedBatch, func() bool {
		if !time.Now().Before(end) {
			return false
		}
		for range sustainedBatch {
			select {
			case room <- struct{}{}:
			case <-running.Done():
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	delivered := node.delivered.Load()
	after, err := w.use()
	if err != nil {
		return err
	}
	if err := <-halved; err != nil {
		return err
	}
	if err := emptied(running, room); err != nil {
		return err
	}
	all := after.minus(before)
	printTable(r.out, fmt.Sprintf("sustained: in %s for %v", engine, r.sustain), "deliveries/s", []row{
		{"first half", []cost{half.minus(before).each(int(atHalf))}},
		{"second half", []cost{after.minus(half).each(int(delivered - atHalf))}},
		{"whole", []cost{all.each(int(delivered))}},
	})
	_, _ = fmt.Fprintf(r.out, "cores of this process: %.2f, of the database: %.2f\n", cores(all.own, all.wall), cores(all.database, all.wall))
	sizeAfter, err := w.size(ctx)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(r.out, "growth: %.1f MiB, %d bytes a message\n", mebibytes(sizeAfter-sizeBefore), (sizeAfter-sizeBefore)/int64(max(n, 1)))
	if w.database == nil {
		return nil
	}
	list, err := w.database.tables(ctx, w.dsn)
	if err != nil {
		return err
	}
	return printTables(r.out, list)
}

// emptied waits until all that was published is delivered and recorded: until
// the window can be filled without anybody who empties it.
func emptied(ctx context.Context, room chan struct{}) error {
	for range window {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// cores is how many of them were busy.
func cores(cpu, wall time.Duration) float64 { return cpu.Seconds() / max(wall.Seconds(), 1e-9) }

func mebibytes[N int64 | uint64](n N) float64 { return float64(n) / (1 << 20) }

// size is what messages take on the disk: the tables with their indexes, or the
// file of SQLite with its log.
func (w *world) size(ctx context.Context) (sum int64, err error) {
	if w.database == nil {
		for _, file := range []string{w.dsn, w.dsn + "-wal"} {
			info, err := os.Stat(file)
			if err != nil {
				return 0, fmt.Errorf("measuring the store: %w", err)
			}
			sum += info.Size()
		}
		return sum, nil
	}
	list, err := w.database.tables(ctx, w.dsn)
	for _, t := range list {
		sum += t.size
	}
	return sum, err
}

func printTables(out io.Writer, list []table) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprint(w, "table\t MiB\t live rows\t dead rows\t autovacuums\t\n")
	for _, t := range list {
		_, _ = fmt.Fprintf(w, "%s\t%.1f\t%d\t%d\t%d\t\n", t.name, mebibytes(t.size), t.live, t.dead, t.vacuumed)
	}
	return w.Flush()
}
