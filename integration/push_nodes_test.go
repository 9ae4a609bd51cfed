package integration

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

var leasesRescued = regexp.MustCompile(`(?m)^caddy_open_platform_push_leases_rescued_total (\S+)$`)

func (n *node) leasesRescued() int {
	n.t.Helper()
	_, data := n.api(http.MethodGet, "/metrics", nil)
	return number(n.t, leasesRescued, string(data))
}

// TestPushReloaded reloads the server with other settings of push while
// messages are published and pushed: none fails, none is lost, and no delivery
// is left to its lease.
func TestPushReloaded(t *testing.T) {
	onStores(t, func(t *testing.T, storage string) {
		configs := []string{
			pushConfig(storage, "timeout 6s\nschedule 2s 2s\nworkers 8"),
			pushConfig(storage, "timeout 5s\nlease 20s\nschedule 1s 1s\nworkers 64"),
		}
		p := startPushing(t, configs[1])
		s := p.publishing("reloaded", 3)
		for round := range reloads {
			p.inbox.awaitCount(len(p.inbox.arrivals()) + 10)
			status, said := p.reload(configs[round%2])
			require.Equal(t, http.StatusOK, status, said)
		}
		p.inbox.awaitCount(len(p.inbox.arrivals()) + 10)
		acknowledged := s.end(t)
		duplicates := p.drained(acknowledged)
		t.Logf("%d messages over %d reloads", len(acknowledged), reloads)
		require.Zero(t, duplicates, "requests that are under way end before the next configuration goes on")
		require.Zero(t, p.leasesRescued())
	})
}

// join starts another node over the database of the first.
func (p *pushing) join(config string) *node {
	p.t.Helper()
	n := newNode(p.t)
	n.words["upstream"], n.words["dead"] = p.word("upstream"), p.word("dead")
	n.write("shop.openapi.yaml", n.fill(topicCatalog))
	n.write("data/master.key", p.read("data/master.key"))
	n.configure(config)
	n.run()
	return n
}

// TestPushFromNodeThatOnlyPublishes: another node delivers at once what a node
// with "push off" accepts.
func TestPushFromNodeThatOnlyPublishes(t *testing.T) {
	config := pushConfig("storage postgres "+testserver.NewPostgres(t).Database(t), "node first")
	p := startPushing(t, config)
	publisher := p.join(strings.Replace(config, "push {", "push off {", 1))
	for i := range 10 {
		began := time.Now()
		require.Equal(t, 1, publisher.published(order(p.user, fmt.Sprint("off-", i))).Deliveries)
		got := p.inbox.awaitCount(i + 1)
		require.Less(t, time.Since(began), time.Second)
		d := p.awaitState(got[i].Delivery, "delivered")
		require.Equal(t, "first", d.AttemptLog[0].Node)
	}
}

// TestPushNodeKilled kills one of two nodes that deliver: what it had under way
// comes from the other one once the lease has ended.
func TestPushNodeKilled(t *testing.T) {
	storage := "storage postgres " + testserver.NewPostgres(t).Database(t)
	const settings = "timeout 1s\nlease 6s\nschedule 1s 1s 1s 1s 1s 1s\nnode "
	p := startPushing(t, pushConfig(storage, settings+"first"), "--concurrency", "500")
	other := p.join(pushConfig(storage, settings+"second"))
	g := p.inbox.shut()
	messages := map[string]string{}
	for i := range 40 {
		id := fmt.Sprint("node-", i)
		n := []*node{p.node, other}[i%2]
		messages[id] = n.published(order(p.user, id)).ID
	}
	g.await(t, 40)
	p.kill()
	killed := time.Now()
	g.release()
	p.inbox.answers(nil)
	p.node = other
	duplicates := p.drained(messages)
	t.Logf("all is delivered %v after the kill, %d arrived twice", time.Since(killed).Round(time.Millisecond), duplicates)

	lost := 0
	for _, d := range p.deliveries("--limit", "100") {
		require.Equal(t, "delivered", d.State)
		attempts := p.delivery(d.ID).AttemptLog
		for i, a := range attempts {
			if a.Class != "lost" {
				continue
			}
			lost++
			require.Equal(t, "first", a.Node)
			require.Less(t, i+1, len(attempts))
			require.Equal(t, "second", attempts[i+1].Node)
		}
	}
	require.NotZero(t, lost, "the killed node had deliveries under way")
	require.Equal(t, lost, other.leasesRescued())
}
