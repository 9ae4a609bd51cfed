package store

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

// watched is what a watcher was told, in order: "app KEY", "catalog",
// "missed", "down", "up".
type watched chan string

// next is what it was told next.
func (w watched) next(t *testing.T) string {
	t.Helper()
	select {
	case told := <-w:
		return told
	case <-time.After(30 * time.Second):
		require.FailNow(t, "the watcher was told nothing")
		return ""
	}
}

// watch runs Watch until the test ends.
func watch(t *testing.T, s *Store) watched {
	t.Helper()
	told := make(watched, 100)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Watch(ctx, Watcher{
			Changed: func(c platform.Change) {
				if c.Kind == platform.ChangeCatalog {
					told <- "catalog"
				} else {
					told <- "app " + c.Key
				}
			},
			Missed: func() { told <- "missed" },
			Health: func(err error) {
				if err != nil {
					told <- "down"
				} else {
					told <- "up"
				}
			},
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return told
}

func announce(t *testing.T, s *Store, changes ...platform.Change) {
	t.Helper()
	for _, c := range changes {
		put(t, s, func(ctx context.Context, tx platform.Tx) error { return tx.Announce(ctx, c) })
	}
}

func appChange(key string) platform.Change {
	return platform.Change{Kind: platform.ChangeApp, Key: key}
}

var catalogChanged = platform.Change{Kind: platform.ChangeCatalog}

func TestWatchTellsOfAllNodes(t *testing.T) {
	dsn := postgresDatabase(t)
	a, b := engines[1].at(t, dsn, testKeyring(t, 1)), engines[1].at(t, dsn, testKeyring(t, 1))
	// What happens between opening and watching is not lost either.
	announce(t, b, appChange("early"))
	a.watch.trust = time.Hour // notifications alone
	told := watch(t, a)
	require.Equal(t, "app early", told.next(t))
	for i := range 20 {
		from := []*Store{a, b}[i%2]
		announce(t, from, appChange(fmt.Sprint(i)))
		require.Equal(t, fmt.Sprint("app ", i), told.next(t))
	}
	// A change that was undone never was.
	require.Error(t, b.Update(t.Context(), func(tx platform.Tx) error {
		require.NoError(t, tx.Announce(t.Context(), appChange("undone")))
		return platform.ErrConflict
	}))
	service := platform.NewService(platform.ServiceOptions{Store: b})
	app, _, err := service.CreateApp(t.Context(), "test", platform.NewApp{Name: "n"})
	require.NoError(t, err)
	require.Equal(t, "app "+app.Key, told.next(t))
	_, err = service.PutPackage(t.Context(), "test", platform.Package{Name: "trade"})
	require.NoError(t, err)
	require.Equal(t, "catalog", told.next(t))
	_, err = service.SuspendApp(t.Context(), "test", app.ID)
	require.NoError(t, err)
	require.Equal(t, "app "+app.Key, told.next(t))
	require.NoError(t, service.DeleteApp(t.Context(), "test", app.ID))
	require.Equal(t, "app "+app.Key, told.next(t))
}

// While a watcher loads the catalog, more changes of it come together.
func TestWatchCoalescesTheCatalog(t *testing.T) {
	dsn := postgresDatabase(t)
	a, b := engines[1].at(t, dsn, testKeyring(t, 1)), engines[1].at(t, dsn, testKeyring(t, 1))
	announce(t, b, catalogChanged, catalogChanged, appChange("x"), catalogChanged, catalogChanged, catalogChanged, appChange("y"), appChange("y"))
	told := watch(t, a)
	var got []string
	for range 5 {
		got = append(got, told.next(t))
	}
	require.Equal(t, []string{"catalog", "app x", "catalog", "app y", "app y"}, got)
}

// More changes than are read at once are all told of.
func TestWatchReadsOnAndOn(t *testing.T) {
	dsn := postgresDatabase(t)
	a, b := engines[1].at(t, dsn, testKeyring(t, 1)), engines[1].at(t, dsn, testKeyring(t, 1))
	const n = 2*changesBatch + 10
	put(t, b, func(ctx context.Context, tx platform.Tx) error {
		for i := range n {
			if err := tx.Announce(ctx, appChange(fmt.Sprint(i))); err != nil {
				return err
			}
		}
		return nil
	})
	told := watch(t, a)
	for i := range n {
		require.Equal(t, fmt.Sprint("app ", i), told.next(t))
	}
}

func TestWatchHealsALostNotification(t *testing.T) {
	s := engines[1].empty(t)
	told := watch(t, s)
	announce(t, s, appChange("first"))
	require.Equal(t, "app first", told.next(t))
	_, err := s.writer.Exec(`INSERT INTO changes (kind, key, at) VALUES (1, 'quiet', 5)`)
	require.NoError(t, err)
	require.Equal(t, "app quiet", told.next(t))
}

func TestWatchMissesWhatWasPruned(t *testing.T) {
	dsn := postgresDatabase(t)
	a, b := engines[1].at(t, dsn, testKeyring(t, 1)), engines[1].at(t, dsn, testKeyring(t, 1))
	announce(t, b, appChange("1"), appChange("2"), appChange("3"))
	require.NoError(t, b.Maintain(t.Context(), time.Now().Add(2*keepChanges), Retention{}))
	var left int
	require.NoError(t, b.readers.QueryRow(`SELECT count(*) FROM changes`).Scan(&left))
	require.Equal(t, 1, left, "the newest change stays")
	told := watch(t, a)
	require.Equal(t, "missed", told.next(t))
	announce(t, b, appChange("4"))
	require.Equal(t, "app 4", told.next(t))

	// Who is up to date misses nothing by it.
	require.NoError(t, b.Maintain(t.Context(), time.Now().Add(2*keepChanges), Retention{}))
	announce(t, b, appChange("5"))
	require.Equal(t, "app 5", told.next(t))
	// A log that is not the one that was read: restored, or failed over.
	_, err := b.writer.Exec(`DELETE FROM changes`)
	require.NoError(t, err)
	require.Equal(t, "missed", told.next(t))
	announce(t, b, appChange("6"))
	require.Equal(t, "app 6", told.next(t))
}

// A broken connection alone is no failure of the database.
func TestWatchReconnects(t *testing.T) {
	s := engines[1].empty(t)
	told := watch(t, s)
	announce(t, s, appChange("0"))
	require.Equal(t, "app 0", told.next(t))
	for i := range 5 {
		var ended int
		require.NoError(t, s.readers.QueryRow(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(&ended))
		require.NotZero(t, ended)
		var err error
		require.Eventually(t, func() bool { // the pool's connections were ended, too
			err = s.Update(t.Context(), func(tx platform.Tx) error { return tx.Announce(t.Context(), appChange(fmt.Sprint("after", i))) })
			return err == nil
		}, 30*time.Second, time.Millisecond)
		require.Equal(t, fmt.Sprint("app after", i), told.next(t))
	}
}

// However the database goes away: it is told of once, calls fail at once, and
// everything heals by itself.
func TestWatchOutages(t *testing.T) {
	p := testserver.NewPostgres(t)
	s := engines[1].at(t, p.Database(t), testKeyring(t, 1))
	putApps(t, s, testApp("a"))
	told := watch(t, s)
	for _, outage := range []struct {
		name       string
		begin, end func()
	}{
		{"stop", p.Stop, func() { require.NoError(t, p.Start()) }},
		{"kill", p.Kill, func() { require.NoError(t, p.Start()) }},
		{"pause", p.Pause, p.Resume},
	} {
		t.Run(outage.name, func(t *testing.T) {
			announce(t, s, appChange("before"))
			require.Equal(t, "app before", told.next(t))
			outage.begin()
			require.Equal(t, "down", told.next(t))
			for range 1000 { // each would wait for a timeout
				_, err := s.AppByKey(t.Context(), "ak_a")
				require.ErrorIs(t, err, platform.ErrUnavailable)
				require.ErrorContains(t, err, "the database does not answer")
			}
			_, err := s.Catalog(t.Context())
			require.ErrorContains(t, err, "the database does not answer")
			err = s.Update(t.Context(), func(platform.Tx) error { panic("never") })
			require.ErrorContains(t, err, "the database does not answer")
			require.ErrorIs(t, s.Maintain(t.Context(), time.Now(), Retention{}), platform.ErrUnavailable)
			outage.end()
			require.Equal(t, "up", told.next(t))
			requireSecret(t, s, "a")
			_, err = s.Catalog(t.Context())
			require.NoError(t, err)
			announce(t, s, appChange("after"))
			require.Equal(t, "app after", told.next(t))
		})
	}
}

// A call that fails makes Watch look before its time, and find out.
func TestWatchIsPokedByAFailure(t *testing.T) {
	p := testserver.NewPostgres(t)
	s := engines[1].at(t, p.Database(t), testKeyring(t, 1))
	told := watch(t, s)
	announce(t, s, appChange("x"))
	require.Equal(t, "app x", told.next(t))
	p.Pause()
	t.Cleanup(p.Resume)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := s.AppByKey(ctx, "ak_a")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, "down", told.next(t))
	p.Resume()
	require.Equal(t, "up", told.next(t))
}

// What was under way without a deadline ends as soon as the database is known not
// to answer, not when patience ends; after its return all goes on.
func TestWatchEndsWhatIsUnderWay(t *testing.T) {
	p := testserver.NewPostgres(t)
	s := engines[1].at(t, p.Database(t), testKeyring(t, 1))
	s.engine.patience = time.Hour
	putApps(t, s, testApp("a"))
	told := watch(t, s)
	announce(t, s, appChange("x"))
	require.Equal(t, "app x", told.next(t))
	p.Pause()
	t.Cleanup(p.Resume)
	ended := make(chan error)
	for _, call := range []func() error{
		func() error { _, err := s.App(t.Context(), "app_a"); return err },
		func() error { _, err := s.Catalog(t.Context()); return err },
		func() error { _, err := s.RedeemCode(t.Context(), hashOf("x"), time.Now()); return err },
		func() error { return s.Update(t.Context(), func(platform.Tx) error { return nil }) },
	} {
		go func() { ended <- call() }()
	}
	require.Equal(t, "down", told.next(t))
	for range 4 {
		select {
		case err := <-ended:
			require.ErrorIs(t, err, platform.ErrUnavailable)
		case <-time.After(30 * time.Second):
			require.Fail(t, "a call still waits")
		}
	}
	p.Resume()
	require.Equal(t, "up", told.next(t))
	requireSecret(t, s, "a")
}

func TestWatchFollowsAFailover(t *testing.T) {
	primary := testserver.NewPostgres(t)
	standby, err := primary.StartStandby()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Close()) })
	dsn := strings.Replace(primary.Database(t), primary.Address(), primary.Address()+","+standby.Address(), 1) + "&target_session_attrs=read-write"
	s := engines[1].at(t, dsn, testKeyring(t, 1))
	putApps(t, s, testApp("a"))
	told := watch(t, s)
	announce(t, s, appChange("old"))
	require.Equal(t, "app old", told.next(t))
	requireReplicated(t, primary, standby)
	primary.Pause() // it still takes connections, and answers nothing
	t.Cleanup(primary.Resume)
	require.Equal(t, "down", told.next(t))
	require.NoError(t, standby.Promote())
	require.Equal(t, "up", told.next(t))
	requireSecret(t, s, "a")
	announce(t, s, appChange("new"))
	require.Equal(t, "app new", told.next(t))
}

// After the watching ends nothing is cut short any more.
func TestWatchEnds(t *testing.T) {
	p := testserver.NewPostgres(t)
	s := engines[1].at(t, p.Database(t), testKeyring(t, 1))
	p.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	s.Watch(ctx, Watcher{Health: func(err error) {
		require.Error(t, err)
		require.Error(t, s.watch.down())
		cancel()
	}})
	require.NoError(t, s.watch.down())
	_, err := s.CountApps(t.Context())
	require.NotContains(t, err.Error(), "the database does not answer")

	sqlite := openTemp(t)
	sqlite.Watch(ctx, Watcher{}) // returns, as ctx has ended
	announce(t, sqlite, catalogChanged)
}

// A server that does not answer holds nobody for ever, whether he has set a
// deadline or not, and does not keep the store from being closed.
func TestPausedServerHoldsNobody(t *testing.T) {
	p := testserver.NewPostgres(t)
	s, err := OpenPostgres(t.Context(), p.Database(t), testKeyring(t, 1), Options{})
	require.NoError(t, err)
	s.engine.patience = 50 * time.Millisecond
	p.Pause()
	t.Cleanup(p.Resume)
	_, err = s.App(t.Context(), "app_a")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = s.Catalog(t.Context())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, s.Update(t.Context(), func(platform.Tx) error { return nil }), context.DeadlineExceeded)
	require.ErrorIs(t, s.Maintain(t.Context(), time.Now(), Retention{}), platform.ErrUnavailable)
	require.NoError(t, s.Close())
}
