package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

func TestRebind(t *testing.T) {
	for query, want := range map[string]string{
		``:                                   ``,
		`SELECT ?, ? FROM t WHERE a = ?`:     `SELECT $1, $2 FROM t WHERE a = $3`,
		`SELECT '?' || ? || "a?" ESCAPE '\'`: `SELECT '?' || $1 || "a?" ESCAPE '\'`,
		`SELECT 'it''s ?', ?`:                `SELECT 'it''s ?', $1`,
	} {
		require.Equal(t, want, rebind(query))
	}
}

// No error that a wrong DSN causes shows its password, whatever is wrong.
func TestDSNErrorsHideThePassword(t *testing.T) {
	const secret = "pl4nted"
	for _, dsn := range []string{
		"", " ", "postgres://u:" + secret + "/x@127.0.0.1:1/db", "postgres://u:" + secret + "%zz@127.0.0.1:1/db",
		"postgres://u:" + secret + "@h:port/db", "postgres://u:" + secret + "@127.0.0.1:1/db?sslmode=perhaps", "postgres://u:" + secret + "@[h/db",
		"postgres://u:" + secret + "@127.0.0.1:1/db?pool_max_conns=many", "postgres://u:" + secret + "@127.0.0.1:1/db?connect_timeout=soon",
		"host=127.0.0.1 port=1 password=" + secret + " and more dbname=db", "host=127.0.0.1 port=1 password='" + secret, "host=127.0.0.1 port=1 password", secret,
		"host=127.0.0.1 port=1 port=x password=" + secret, "postgres:/u:" + secret + "@h", "mysql://u:" + secret + "@h",
	} {
		_, err := OpenPostgres(t.Context(), dsn, testKeyring(t, 1), Options{})
		require.ErrorContains(t, err, "want", dsn)
		require.NotContains(t, err.Error(), secret, dsn)
	}
	rapid.Check(t, func(t *rapid.T) {
		dsn := rapid.SampledFrom([]string{"postgres://u:%s@127.0.0.1:1/db", "host=127.0.0.1 port=1 password=%s", "password='%s' host=127.0.0.1 port=1"}).Draw(t, "form")
		noise := rapid.StringMatching(`[ -~]{0,6}`)
		dsn = fmt.Sprintf(dsn, noise.Draw(t, "before")+secret+noise.Draw(t, "after"))
		if config, err := poolConfig(dsn, 0); err != nil {
			require.NotContains(t, err.Error(), secret)
		} else {
			for name := range config.ConnConfig.RuntimeParams {
				require.NotContains(t, name, " ")
			}
		}
	})
	// The rest of a password that is not quoted looks like a setting.
	p, err := server()
	require.NoError(t, err)
	_, err = OpenPostgres(t.Context(), fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres sslmode=disable password=a %s=x", p.Host, p.Port, secret), testKeyring(t, 1), Options{})
	require.ErrorContains(t, err, "want")
	require.NotContains(t, err.Error(), secret)

	_, err = OpenPostgres(t.Context(), "postgres://u:"+secret+"@127.0.0.1:1/db", testKeyring(t, 1), Options{})
	require.ErrorIs(t, err, platform.ErrUnavailable)
	require.NotContains(t, err.Error(), secret)
}

func TestPostgresSettings(t *testing.T) {
	dsn := postgresDatabase(t)
	show := func(s *Store, name string) (value string) {
		require.NoError(t, s.readers.QueryRow(`SHOW `+name).Scan(&value))
		return value
	}
	s := engines[1].at(t, dsn, testKeyring(t, 1))
	for name, want := range map[string]string{
		"statement_timeout": "30s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "10s", "application_name": "open_platform",
	} {
		require.Equal(t, want, show(s, name), name)
	}
	require.EqualValues(t, 16, s.pool.Config().MaxConns)
	require.Equal(t, time.Hour, s.pool.Config().MaxConnLifetime)

	s = engines[1].with(t, dsn+"&statement_timeout=7s&application_name=mine&pool_max_conns=5&options=-c%20lock_timeout%3D3s", testKeyring(t, 1), Options{MaxConns: 9})
	for name, want := range map[string]string{"statement_timeout": "7s", "lock_timeout": "3s", "idle_in_transaction_session_timeout": "10s", "application_name": "mine"} {
		require.Equal(t, want, show(s, name), name)
	}
	require.EqualValues(t, 5, s.pool.Config().MaxConns)
	require.EqualValues(t, 9, engines[1].with(t, dsn, testKeyring(t, 1), Options{MaxConns: 9}).pool.Config().MaxConns)
}

// The database sorts text by its bytes, whatever it was made with.
func TestPostgresCollation(t *testing.T) {
	s := engines[1].empty(t)
	var columns int
	require.NoError(t, s.readers.QueryRow(`SELECT count(*) FROM information_schema.columns
		WHERE table_schema = 'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C' AND table_name <> 'goose_db_version'`).Scan(&columns))
	require.Zero(t, columns)
}

// A store with two hosts follows a failover, with connections that were open
// before it and without a restart.
func TestPostgresFailover(t *testing.T) {
	primary := testserver.NewPostgres(t)
	standby, err := primary.StartStandby()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Close()) })
	dsn := strings.Replace(primary.Database(t), primary.Address(), primary.Address()+","+standby.Address(), 1) + "&target_session_attrs=read-write"
	s := engines[1].at(t, dsn, testKeyring(t, 1))
	putApps(t, s, testApp("a"))
	requireReplicated(t, primary, standby)

	primary.Stop()
	_, err = s.App(t.Context(), "app_a")
	require.ErrorIs(t, err, platform.ErrUnavailable)
	require.NoError(t, standby.Promote())
	got, err := s.App(t.Context(), "app_a")
	require.NoError(t, err)
	require.Equal(t, "ak_a", got.Key)
	putApps(t, s, testApp("b"))
}

// A connection to a server that only reads now is not used again.
func TestReadOnlyServerIsLeft(t *testing.T) {
	s := engines[1].empty(t)
	var all []*pgxpool.Conn
	for range s.pool.Config().MaxConns { // whichever the pool gives
		conn, err := s.pool.Acquire(t.Context())
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), `SET default_transaction_read_only = on`)
		require.NoError(t, err)
		all = append(all, conn)
	}
	for _, conn := range all {
		conn.Release()
	}
	write := func() error {
		return s.Update(t.Context(), func(tx platform.Tx) error { return tx.PutPlan(t.Context(), &platform.Plan{Name: "gold"}) })
	}
	err := write()
	require.ErrorIs(t, err, platform.ErrUnavailable)
	require.ErrorContains(t, err, "25006")
	require.NoError(t, write())
}

// requireReplicated waits until the standby has all that the primary has.
func requireReplicated(tb testing.TB, primary, standby *testserver.Postgres) {
	tb.Helper()
	ask := func(p *testserver.Postgres, query string, args ...any) (answer string) {
		conn, err := pgx.Connect(tb.Context(), p.URL("postgres"))
		require.NoError(tb, err)
		defer closeConn(tb.Context(), conn)
		require.NoError(tb, conn.QueryRow(tb.Context(), query, args...).Scan(&answer))
		return answer
	}
	position := ask(primary, `SELECT pg_current_wal_lsn()::text`)
	require.Eventually(tb, func() bool {
		return ask(standby, `SELECT (pg_last_wal_replay_lsn() >= $1::text::pg_lsn)::text`, position) == "true"
	}, 30*time.Second, 20*time.Millisecond)
}

// Writers of several nodes read and write one after the other, and what they
// announce is in the order of their commits.
func TestWritersOfSeveralNodes(t *testing.T) {
	dsn := postgresDatabase(t)
	const nodes, rounds = 4, 25
	stores := make([]*Store, nodes)
	for i := range stores {
		stores[i] = engines[1].at(t, dsn, testKeyring(t, 1))
	}
	a := testApp("a")
	a.Dialects = nil
	putApps(t, stores[0], a)
	var wg sync.WaitGroup
	errs := make(chan error, nodes*rounds)
	for _, s := range stores {
		wg.Go(func() {
			for range rounds {
				errs <- s.Update(t.Context(), func(tx platform.Tx) error {
					a, err := tx.App(t.Context(), "app_a")
					if err != nil {
						return err
					}
					n := fmt.Sprintf("%03d", len(a.Dialects))
					a.Dialects = append(a.Dialects, platform.DialectGrant{Dialect: n})
					entry := platform.AuditEntry{At: testTime, Actor: "a", Action: n, Target: "t"}
					return errors.Join(tx.Announce(t.Context(), appChange(n)), tx.PutApp(t.Context(), a), tx.AppendAudit(t.Context(), &entry))
				})
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	got, err := stores[1].App(t.Context(), "app_a")
	require.NoError(t, err)
	require.Len(t, got.Dialects, nodes*rounds)
	told := watch(t, stores[2])
	entries, err := stores[3].Audit(t.Context(), platform.AuditFilter{Limit: 1000})
	require.NoError(t, err)
	for i := range nodes * rounds {
		require.Equal(t, fmt.Sprintf("app %03d", i), told.next(t))
		require.Equal(t, fmt.Sprintf("%03d", i), entries[len(entries)-1-i].Action)
	}
}
