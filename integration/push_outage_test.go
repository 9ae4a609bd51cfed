package integration

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

// TestPushDatabaseGoesAway takes the database away while messages are published
// and pushed. What was answered meanwhile cannot be recorded: it is recorded
// later, or comes again, and nothing that was acknowledged is lost.
func TestPushDatabaseGoesAway(t *testing.T) {
	server := testserver.NewPostgres(t)
	p := startPushing(t, pushConfig("storage postgres "+server.Database(t), "timeout 2s\nlease 7s\nschedule 1s 1s 1s 1s 1s 1s 1s 1s"))
	for _, o := range outages {
		t.Run(o.name, func(t *testing.T) {
			before := len(p.inbox.arrivals())
			s := p.publishingPatiently(o.name, 3)
			p.inbox.awaitCount(before + 60)
			g := p.inbox.shut()
			g.await(t, defaultConcurrency)
			mark := len(p.log.String())
			o.begins(server)
			p.inbox.answers(nil)
			g.release()
			p.waitHealth(adminapi.Degraded, "store")
			s.awaitRefusal(t)
			p.awaitLog(mark, "saving what became of deliveries")
			require.NoError(t, o.ends(server))
			p.waitHealth(adminapi.Ready)
			p.inbox.awaitCount(len(p.inbox.arrivals()) + 60)
			acknowledged := s.end(t)
			all := len(p.inbox.arrivals())
			duplicates := p.drained(acknowledged)
			t.Logf("%d messages, %d arrivals, %d of them twice so far", len(acknowledged), all, duplicates)
			// A round finds those of the rounds before too.
			require.LessOrEqual(t, duplicates, len(outages)*defaultConcurrency)
		})
	}
}

// TestPushDiskFull fills the disk below SQLite while messages are published and
// pushed: what cannot be kept is refused, and all goes on by itself once there
// is room.
func TestPushDiskFull(t *testing.T) {
	n := newNode(t)
	disk := n.smallDisk("store", 24)
	p := n.startPushing(pushConfig("storage sqlite ./store/openplatform.db", "timeout 2s\nlease 7s\nschedule 1s 1s 1s 1s 1s 1s 1s 1s"))
	s := p.publishingPatiently("full", 3)
	p.inbox.awaitCount(60)
	g := p.inbox.shut()
	g.await(t, defaultConcurrency)
	disk.fill()
	s.awaitRefusal(t)
	p.inbox.answers(nil)
	g.release()
	// Nothing that is there is out of reach.
	require.Contains(t, p.cli("app", "show", p.app.ID), p.app.Key)

	disk.empty()
	p.inbox.awaitCount(len(p.inbox.arrivals()) + 60)
	acknowledged := s.end(t)
	duplicates := p.drained(acknowledged)
	t.Logf("%d messages, %d arrived twice", len(acknowledged), duplicates)
	require.LessOrEqual(t, duplicates, defaultConcurrency)

	// The file is sound.
	p.stop()
	p.run()
	require.Equal(t, 1, p.published(order(p.user, "after")).Deliveries)
	require.Empty(t, p.deliveries("--state", "failed,suspended,cancelled"))
}
