package store

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const day = 24 * time.Hour

// daysSeries is a series by days, as messages and reports are.
var daysSeries = series{table: "test_days", keep: func(Retention) time.Duration { return 30 * day }}

func addDaysSeries(t *testing.T, s *Store) {
	t.Helper()
	table := `CREATE TABLE test_days (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL)`
	if s.pool != nil {
		table = `CREATE TABLE test_days (id BIGINT NOT NULL DEFAULT nextval('audit_id_seq'), at BIGINT NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)`
	}
	_, err := s.writer.Exec(table)
	require.NoError(t, err)
	s.series = append(slices.Clone(s.series), daysSeries)
}

// partitions lists the partitions of a table, and what was one.
func partitions(t *testing.T, s *Store, series series) (names []string) {
	t.Helper()
	rows, err := s.readers.Query(`SELECT relname FROM pg_class WHERE relkind = 'r' AND starts_with(relname, $1) ORDER BY relname`, series.prefix())
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		names = append(names, name)
	}
	require.NoError(t, rows.Err())
	return names
}

func TestPartitions(t *testing.T) {
	for _, c := range []struct {
		series            series
		at                string
		name, from, until string
	}{
		{auditSeries, "2026-12-31T23:59:59.999999Z", "audit_p20261201", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{auditSeries, "2028-03-01T07:00:00+08:00", "audit_p20280201", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
		{daysSeries, "2028-02-29T00:00:00Z", "test_days_p20280229", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"},
	} {
		at, err := time.Parse(time.RFC3339Nano, c.at)
		require.NoError(t, err)
		p := c.series.partition(at)
		require.Equal(t, c.name, p.name)
		require.Equal(t, c.from, p.from.Format(time.RFC3339))
		require.Equal(t, c.until, p.until.Format(time.RFC3339))
		back, ok := c.series.parse(p.name)
		require.True(t, ok)
		require.Equal(t, p, back)
	}
	for _, name := range []string{"audit_p", "audit_p2026", "audit_p20260502", "audit_p20261301", "audit_parts", "other_p20260501"} {
		_, ok := auditSeries.parse(name)
		require.False(t, ok, name)
	}
}

// TestYear runs a year of days: what is older than the retention goes, what is
// younger stays, and nothing grows.
func TestYear(t *testing.T) { onBoth(t, testYear) }

func testYear(t *testing.T, e engineTest) {
	now := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	s := e.with(t, e.database(t), testKeyring(t, 1), Options{Now: func() time.Time { return now }})
	addDaysSeries(t, s)
	const keepAudit, keepDays = 90 * day, 30 * day
	first := now
	oldest := func(table string) time.Time {
		var at int64
		require.NoError(t, s.readers.QueryRow(`SELECT min(at) FROM `+table).Scan(&at))
		return time.UnixMicro(at).UTC()
	}
	for range 365 {
		require.NoError(t, s.Maintain(t.Context(), now, Retention{Audit: keepAudit}))
		put(t, s, func(ctx context.Context, tx platform.Tx) error {
			return tx.AppendAudit(ctx, &platform.AuditEntry{At: now, Actor: "a", Action: "b", Target: now.Format(time.DateOnly)})
		})
		// The partitions of tomorrow are there already.
		for _, at := range []time.Time{now, now.Add(day)} {
			_, err := s.writer.Exec(s.engine.bind(`INSERT INTO test_days (at) VALUES (?)`), at.UnixMicro())
			require.NoError(t, err)
		}
		wide, narrow := now.Add(-keepAudit), now.Add(-keepDays)
		if s.pool != nil { // whole partitions
			wide, narrow = auditSeries.partition(wide).from, daysSeries.partition(narrow).from
			require.LessOrEqual(t, len(partitions(t, s, auditSeries)), 4+1+aheadWidths)
			require.LessOrEqual(t, len(partitions(t, s, daysSeries)), 30+1+aheadWidths)
		}
		require.False(t, oldest("audit").Before(wide))
		require.False(t, oldest("test_days").Before(narrow))
		now = now.Add(day)
	}
	entries, err := s.Audit(t.Context(), platform.AuditFilter{Limit: 1000})
	require.NoError(t, err)
	for i, at := 0, now.Add(-day); !at.Before(now.Add(-keepAudit)) && !at.Before(first); i, at = i+1, at.Add(-day) {
		require.Equal(t, at.Format(time.DateOnly), entries[i].Target, "nothing within the retention is lost")
	}
	// For ever is for ever.
	require.NoError(t, s.Maintain(t.Context(), now.Add(10*365*day), Retention{}))
	again, err := s.Audit(t.Context(), platform.AuditFilter{Limit: 1000})
	require.NoError(t, err)
	require.Equal(t, entries, again)
}

// Rows outside of a query's time are not looked at.
func TestAuditQueryIsPruned(t *testing.T) {
	s := engines[1].empty(t)
	at := time.Date(2027, 1, 15, 0, 0, 0, 0, time.UTC)
	for i := range 6 {
		put(t, s, func(ctx context.Context, tx platform.Tx) error {
			return tx.AppendAudit(ctx, &platform.AuditEntry{At: at.AddDate(0, i, 0), Actor: "a", Action: "b", Target: "t"})
		})
	}
	scanned := func(f platform.AuditFilter) []string {
		query, args := auditQuery(f)
		rows, err := s.readers.Query(`EXPLAIN `+s.engine.bind(query), args...)
		require.NoError(t, err)
		defer func() { require.NoError(t, rows.Close()) }()
		var plan string
		for rows.Next() {
			var line string
			require.NoError(t, rows.Scan(&line))
			plan += line + "\n"
		}
		require.NoError(t, rows.Err())
		names := regexp.MustCompile(` on (audit_p\d+)`).FindAllString(plan, -1)
		slices.Sort(names)
		return slices.Compact(names)
	}
	require.Greater(t, len(scanned(platform.AuditFilter{})), 5)
	require.Equal(t, []string{" on audit_p20270301"}, scanned(platform.AuditFilter{
		Since: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC), Until: time.Date(2027, 4, 1, 0, 0, 0, 0, time.UTC),
	}))
}

// A change that is undone leaves no partition that is only believed in.
func TestPartitionOfAnUndoneChange(t *testing.T) {
	s := engines[1].empty(t)
	entry := platform.AuditEntry{At: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), Actor: "a", Action: "b", Target: "t"}
	for range 2 {
		require.ErrorIs(t, s.Update(t.Context(), func(tx platform.Tx) error {
			require.NoError(t, tx.AppendAudit(t.Context(), &entry))
			require.NoError(t, tx.AppendAudit(t.Context(), &entry))
			return platform.ErrConflict
		}), platform.ErrConflict)
	}
	put(t, s, func(ctx context.Context, tx platform.Tx) error { return tx.AppendAudit(ctx, &entry) })
}

// Wherever a node died while it dropped a partition, the next one goes on.
func TestMaintainGoesOn(t *testing.T) {
	dsn := postgresDatabase(t)
	now := time.Date(2027, 6, 15, 0, 0, 0, 0, time.UTC)
	s := engines[1].with(t, dsn+"&lock_timeout=200ms", testKeyring(t, 1), Options{Now: func() time.Time { return now }})
	keep := Retention{Audit: 40 * day}
	for i := range 6 {
		put(t, s, func(ctx context.Context, tx platform.Tx) error {
			return tx.AppendAudit(ctx, &platform.AuditEntry{At: now.AddDate(0, -i, 0), Actor: "a", Action: "b", Target: fmt.Sprint(i)})
		})
	}
	// Detached, and not dropped; inside of the retention it is somebody else's.
	_, err := s.writer.Exec(`ALTER TABLE audit DETACH PARTITION audit_p20270101`)
	require.NoError(t, err)
	_, err = s.writer.Exec(`ALTER TABLE audit DETACH PARTITION audit_p20270701`)
	require.NoError(t, err)

	// A reader that takes its time is not disturbed, and the partition stays
	// half detached.
	reader, err := s.readers.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = reader.Rollback() }()
	var n int
	require.NoError(t, reader.QueryRow(`SELECT count(*) FROM audit`).Scan(&n))
	require.Equal(t, 5, n)
	err = s.Maintain(t.Context(), now, keep)
	require.ErrorIs(t, err, platform.ErrUnavailable)
	pending := 0
	require.NoError(t, s.readers.QueryRow(`SELECT count(*) FROM pg_inherits WHERE inhdetachpending`).Scan(&pending))
	require.Equal(t, 1, pending)
	require.NoError(t, reader.QueryRow(`SELECT count(*) FROM audit`).Scan(&n))
	putApps(t, s, testApp("others go on"))
	_, err = s.Audit(t.Context(), platform.AuditFilter{})
	require.NoError(t, err)
	require.NoError(t, reader.Rollback())

	require.NoError(t, s.Maintain(t.Context(), now, keep))
	require.Equal(t, []string{"audit_p20270501", "audit_p20270601", "audit_p20270701", "audit_p20270801"}, partitions(t, s, auditSeries))
	entries, err := s.Audit(t.Context(), platform.AuditFilter{})
	require.NoError(t, err)
	require.Len(t, entries, 2)
}

// One node maintains; the others do not wait for it.
func TestMaintainOnOneNode(t *testing.T) {
	dsn := postgresDatabase(t)
	now := time.Date(2027, 6, 15, 0, 0, 0, 0, time.UTC)
	o := Options{Now: func() time.Time { return now }}
	a, b := engines[1].with(t, dsn, testKeyring(t, 1), o), engines[1].with(t, dsn, testKeyring(t, 1), o)
	before := partitions(t, a, auditSeries)
	lock, err := a.alone(t.Context(), lockMaintain)
	require.NoError(t, err)
	require.NoError(t, b.Maintain(t.Context(), now.AddDate(1, 0, 0), Retention{Audit: day}))
	require.Equal(t, before, partitions(t, a, auditSeries))
	release(t.Context(), lock)
	require.NoError(t, b.Maintain(t.Context(), now.AddDate(1, 0, 0), Retention{Audit: day}))
	require.Len(t, partitions(t, a, auditSeries), 1+aheadWidths)
}

// Nodes that start together with a new key rotate one after the other.
func TestRotateOnOneNode(t *testing.T) {
	dsn := postgresDatabase(t)
	a, b := engines[1].at(t, dsn, testKeyring(t, 1)), engines[1].at(t, dsn, testKeyring(t, 1))
	importTest(t, a, 3)
	fresh, second := testKeyring(t, 2), make(chan error, 1)
	require.NoError(t, a.RotateKeys(t.Context(), "test", fresh, func(int, int) {
		go func() { second <- b.RotateKeys(t.Context(), "test", fresh, nil) }()
		require.Eventually(t, func() bool { return a.waitedFor(t.Context(), lockRotate) }, 10*time.Second, 5*time.Millisecond)
		require.Empty(t, second)
	}))
	require.NoError(t, <-second)
	requireSecret(t, a, "0000000")
	requireSecret(t, b, "0000000")
	engines[1].at(t, dsn, fresh)
}

// waitedFor tells whether somebody waits for an advisory lock of the database.
func (s *Store) waitedFor(ctx context.Context, lock int64) (waited bool) {
	err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`, lock).Scan(&waited)
	return err == nil && waited
}
