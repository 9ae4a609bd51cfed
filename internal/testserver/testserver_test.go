//go:build linux

package testserver

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestPostgres(t *testing.T) {
	ctx := context.Background()
	p := NewPostgres(t)
	dsn := p.Database(t)
	count := func(dsn string) (n int) {
		conn, err := pgx.Connect(ctx, dsn)
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close(ctx)) }()
		require.NoError(t, conn.QueryRow(ctx, "SELECT count(*) FROM pg_tables WHERE tablename = 'kept'").Scan(&n))
		return n
	}
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "CREATE TABLE kept (n int)")
	require.NoError(t, err)

	p.Kill()
	require.Error(t, conn.Ping(ctx))
	require.NoError(t, p.Start())
	require.Equal(t, 1, count(dsn))

	standby, err := p.StartStandby()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Close()) })
	p.Stop()
	require.NoError(t, standby.Promote())
	require.Equal(t, 1, count(standby.URL("test1")))
	require.NoError(t, p.Start())
	p.Pause()
	p.Resume()
	require.Equal(t, 1, count(dsn))
}

func TestRedis(t *testing.T) {
	ctx := context.Background()
	r := NewRedis(t)
	require.NoError(t, r.Client(t).Set(ctx, "a", "b", 0).Err())
	r.Kill()
	require.Error(t, r.Client(t).Ping(ctx).Err())
	require.NoError(t, r.Start())
	r.Pause()
	r.Resume()
	require.NoError(t, r.Client(t).Ping(ctx).Err())

	sentinel := NewSentinel(t, r)
	master, err := sentinel.Client(t).Do(ctx, "sentinel", "get-master-addr-by-name", "platform").StringSlice()
	require.NoError(t, err)
	require.Equal(t, r.Host, master[0])
}

func TestRedisCluster(t *testing.T) {
	nodes := NewRedisCluster(t)
	require.Len(t, nodes, 3)
}
