package store

import (
	"database/sql"
	"io/fs"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// TestClaimsOfBefore: what was under way when claims had no table of their own is
// so afterwards, for the same node with the same fence.
func TestClaimsOfBefore(t *testing.T) { onBoth(t, testClaimsOfBefore) }

func testClaimsOfBefore(t *testing.T, e engineTest) {
	database := e.database(t)
	driver, engine := "sqlite", sqliteEngine()
	if e.name == "postgres" {
		driver, engine = "pgx", postgresEngine()
	}
	db, err := sql.Open(driver, database)
	require.NoError(t, err)
	folder, err := fs.Sub(migrations, engine.folder)
	require.NoError(t, err)
	before, err := goose.NewProvider(engine.dialect, db, folder, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	require.NoError(t, err)
	_, err = before.UpTo(t.Context(), 6)
	require.NoError(t, err)
	for _, insert := range []string{
		`INSERT INTO push_queue (id, at, subscription, app, message_at, message_id, topic, payload_at, payload_id, state, due_at,
			claimed_at, lease_until, node, fence, cause, owed, attempts, tries) VALUES (1, 1, 7, 1, 1, 1, 't', 1, 1, 1, 5, 100, 900, 'a', 100, 0, 0, 0, 0)`,
		`INSERT INTO push_queue (id, at, subscription, app, message_at, message_id, topic, payload_at, payload_id, state, due_at,
			fence, cause, owed, attempts, tries) VALUES (2, 1, 7, 1, 1, 1, 't', 1, 2, 0, 5, 50, 0, 0, 1, 1)`,
	} {
		_, err := db.Exec(insert)
		require.NoError(t, err)
	}
	require.NoError(t, db.Close())

	s := e.at(t, database, testKeyring(t, 1))
	read := func(query string) (rows [][3]int64) {
		t.Helper()
		found, err := s.readers.Query(query)
		require.NoError(t, err)
		defer func() { require.NoError(t, found.Close()) }()
		for found.Next() {
			var r [3]int64
			require.NoError(t, found.Scan(&r[0], &r[1], &r[2]))
			rows = append(rows, r)
		}
		require.NoError(t, found.Err())
		return rows
	}
	require.Equal(t, [][3]int64{{1, 100, 900}}, read(`SELECT id, fence, lease_until FROM push_claims WHERE subscription = 7 AND node = 'a'`))
	require.Equal(t, [][3]int64{{1, 99, 0}, {2, 50, 1}}, read(`SELECT id, fence, attempts FROM push_queue ORDER BY id`))
	had, err := s.Complete(t.Context(), []pusher.Completion{{ID: pusher.DeliveryID{At: 1, ID: 1}, Subscription: 7, Fence: 100, State: pusher.Delivered}})
	require.NoError(t, err)
	require.Equal(t, []bool{true}, had)
	require.Empty(t, read(`SELECT id, fence, lease_until FROM push_claims`))
}
