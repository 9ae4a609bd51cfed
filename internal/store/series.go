package store

import (
	"context"
	"fmt"
	"time"
)

// width is how much time one partition holds.
type width uint8

const (
	byDay width = iota
	byMonth
)

// series is a table whose rows come with time and go with age: it has the
// columns id and at. In PostgreSQL it is partitioned by RANGE (at), without a
// default partition, which would keep others from being detached without a
// stop of the table.
type series struct {
	table string
	width width
	// keep is for how long rows stay; 0 is for ever.
	keep func(Retention) time.Duration
	// with are the storage parameters of its partitions, which do not take them
	// over from the table.
	with string
	// key orders the rows by age; empty is "at, id".
	key string
	// ready is what must be done before rows go that are older than the time;
	// false says that they cannot go yet. Nil does nothing.
	ready func(*Store, context.Context, time.Time) (bool, error)
}

// auditSeries is the log of changes.
var auditSeries = series{table: "audit", width: byMonth, keep: func(r Retention) time.Duration { return r.Audit }, key: "id"}

// The series of the pusher. A delivery's payload stays as long as its record. The
// pages of records are filled to less than a half: those that were accepted together
// are completed together, and where each finds room on its page no index hears of it.
var (
	messageSeries  = series{table: "push_messages", keep: func(r Retention) time.Duration { return r.Messages }}
	deliverySeries = series{
		table: "push_deliveries", with: "fillfactor = 45",
		keep: func(r Retention) time.Duration { return r.Deliveries }, ready: (*Store).endOlder,
	}
	payloadSeries = series{
		table: "push_payloads",
		keep:  func(r Retention) time.Duration { return r.Deliveries }, ready: (*Store).freePayloads,
	}
	attemptSeries = series{table: "push_attempts", keep: func(r Retention) time.Duration { return r.Attempts }}
)

// allSeries are all of them, in the order in which old rows go: payloads after
// the deliveries that refer to them.
var allSeries = []series{auditSeries, messageSeries, deliverySeries, payloadSeries, attemptSeries}

// aheadWidths is how many partitions are made before their time comes.
const aheadWidths = 2

// partition is a table that holds the rows from one time until another one.
type partition struct {
	name        string
	from, until time.Time
}

// partition is the one for rows of that time.
func (s series) partition(at time.Time) partition {
	year, month, day := at.UTC().Date()
	if s.width == byMonth {
		day = 1
	}
	from := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	until := from.AddDate(0, 0, 1)
	if s.width == byMonth {
		until = from.AddDate(0, 1, 0)
	}
	return partition{s.prefix() + from.Format("20060102"), from, until}
}

func (s series) prefix() string { return s.table + "_p" }

// parse finds out what the partition of a name holds.
func (s series) parse(name string) (partition, bool) {
	from, err := time.Parse(s.prefix()+"20060102", name)
	return s.partition(from), err == nil && s.partition(from).name == name
}

func (s series) parameters() string {
	if s.with == "" {
		return ""
	}
	return ` WITH (` + s.with + `)`
}

// room makes the partition for rows of that time, unless it is there. Other
// transactions go on meanwhile: attaching a table stops nobody.
func (t *tx) room(ctx context.Context, s series, at time.Time) error {
	if t.store.pool == nil {
		return nil
	}
	p := s.partition(at)
	if _, known := t.store.rooms.Load(p.name); known {
		return nil
	}
	var there bool
	err := t.one(ctx, []any{&there}, `SELECT EXISTS (SELECT 1 FROM pg_inherits WHERE inhparent = CAST(CAST(? AS TEXT) AS REGCLASS) AND inhrelid = to_regclass(?))`,
		s.table, p.name)
	switch {
	case err != nil:
		return err
	case there && !t.madeRoom: // what this transaction made may still be undone
		t.store.rooms.Store(p.name, nil)
	case !there:
		t.madeRoom = true
		for _, statement := range []string{
			// What is there already was detached and not dropped yet.
			`CREATE TABLE IF NOT EXISTS ` + p.name + ` (LIKE ` + s.table + ` INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)` + s.parameters(),
			fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)`, s.table, p.name, p.from.UnixMicro(), p.until.UnixMicro()),
		} {
			if _, err := t.exec(ctx, statement); err != nil {
				return fmt.Errorf("making the partition %s: %w", p.name, err)
			}
		}
	}
	return nil
}

// makeAhead makes the partitions for now and for the time to come.
func (s *Store) makeAhead(ctx context.Context, now time.Time) error {
	if s.pool == nil {
		return nil
	}
	return s.update(ctx, nil, func(t *tx) error {
		for _, series := range s.series {
			at := now
			for range aheadWidths + 1 {
				if err := t.room(ctx, series, at); err != nil {
					return err
				}
				at = series.partition(at).until
			}
		}
		return nil
	})
}
