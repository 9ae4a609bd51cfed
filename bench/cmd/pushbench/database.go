package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

// serverTimeout bounds a question to PostgreSQL.
const serverTimeout = time.Minute

// database is a PostgreSQL server, with its main process.
type database struct {
	*testserver.Postgres
	pid int
}

// startDatabase starts PostgreSQL, as durable as in production.
func startDatabase(ctx context.Context) (*database, error) {
	p, err := testserver.StartPostgres("127.0.0.1") //nolint:contextcheck // a start has a bound of its own
	if err != nil {
		return nil, fmt.Errorf("starting PostgreSQL, which -engines sqlite does without: %w", err)
	}
	d := &database{Postgres: p}
	err = d.ask(ctx, p.URL("postgres"), func(ctx context.Context, conn *pgx.Conn) error {
		for _, statement := range []string{"ALTER SYSTEM SET fsync = on", "SELECT pg_reload_conf()"} {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return err
			}
		}
		for got := ""; got != "on"; { // the server reads its settings a moment later
			if err := conn.QueryRow(ctx, "SHOW fsync").Scan(&got); err != nil {
				return err
			}
		}
		var file string
		if err := conn.QueryRow(ctx, "SELECT pg_read_file('postmaster.pid')").Scan(&file); err != nil {
			return err
		}
		first, _, _ := strings.Cut(file, "\n")
		d.pid, err = strconv.Atoi(strings.TrimSpace(first))
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("setting up PostgreSQL: %w", err), p.Close())
	}
	return d, nil
}

// ask opens a connection for a few questions.
func (d *database) ask(ctx context.Context, dsn string, questions func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return questions(ctx, conn)
}

// settle has the server write to the disk what was changed before, so that it
// does not do so while something else is measured.
func (d *database) settle(ctx context.Context) error {
	err := d.ask(ctx, d.URL("postgres"), func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "CHECKPOINT")
		return err
	})
	if err != nil {
		return fmt.Errorf("having PostgreSQL write to its disk: %w", err)
	}
	return nil
}

// cpuTime is that of all processes of the server.
func (d *database) cpuTime() (time.Duration, error) { return familyTime(d.pid) }

// table is what PostgreSQL tells of a table, its partitions, indexes and TOAST
// included.
type table struct {
	name             string
	size, live, dead int64
	vacuumed         int64 // how often autovacuum did its work
}

// tables asks for those that have rows of messages.
func (d *database) tables(ctx context.Context, dsn string) (list []table, err error) {
	err = d.ask(ctx, dsn, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT coalesce(p.relname, s.relname) AS name, sum(pg_total_relation_size(s.relid))::bigint,
				sum(s.n_live_tup)::bigint, sum(s.n_dead_tup)::bigint, sum(s.autovacuum_count)::bigint
			FROM pg_stat_user_tables s LEFT JOIN pg_inherits i ON i.inhrelid = s.relid LEFT JOIN pg_class p ON p.oid = i.inhparent
			WHERE s.relname LIKE 'push%' GROUP BY 1 ORDER BY 2 DESC, 1`)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t table, err error) {
			return t, row.Scan(&t.name, &t.size, &t.live, &t.dead, &t.vacuumed)
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("asking PostgreSQL for its tables: %w", err)
	}
	return list, nil
}
