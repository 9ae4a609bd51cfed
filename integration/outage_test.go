package integration

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

const (
	// longestCall is what no call may exceed, whatever is down.
	longestCall = 5 * time.Second
	// atOnce is the most that a refusal may take once the node knows.
	atOnce = time.Second
)

// traffic is a stream of calls of one known app, all of which must pass.
type traffic struct {
	passed  atomic.Int64
	slowest atomic.Int64
	failed  chan string
	stop    chan struct{}
	callers sync.WaitGroup
}

// traffic starts calls that go on until they are ended.
func (n *node) traffic(a app) *traffic {
	n.t.Helper()
	tr := &traffic{failed: make(chan string, 16), stop: make(chan struct{})}
	for range 3 {
		client := n.plain()
		client.Timeout = longestCall
		tr.callers.Go(func() {
			for {
				select {
				case <-tr.stop:
					return
				default:
				}
				began := time.Now()
				resp, err := client.Do(a.sign(n.t, call{url: n.base() + "/v1/echo"}))
				if err != nil {
					tr.fail(err.Error())
					return
				}
				said, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					tr.fail(string(said))
					return
				}
				tr.passed.Add(1)
				for took := int64(time.Since(began)); ; {
					slowest := tr.slowest.Load()
					if took <= slowest || tr.slowest.CompareAndSwap(slowest, took) {
						break
					}
				}
			}
		})
	}
	return tr
}

func (tr *traffic) fail(why string) {
	select {
	case tr.failed <- why:
	default:
	}
}

// goesOn waits until some more calls have passed.
func (tr *traffic) goesOn(t *testing.T) {
	t.Helper()
	target := tr.passed.Load() + 20
	eventually(t, "calls go on", func() error {
		select {
		case why := <-tr.failed:
			require.FailNow(t, "a call failed", why)
		default:
		}
		if got := tr.passed.Load(); got < target {
			return fmt.Errorf("%d of %d", got, target)
		}
		return nil
	})
}

// end ends the calls. None may have failed.
func (tr *traffic) end(t *testing.T) {
	t.Helper()
	tr.goesOn(t)
	close(tr.stop)
	tr.callers.Wait()
	require.Empty(t, tr.failed)
	t.Logf("%d calls passed, the slowest in %v", tr.passed.Load(), time.Duration(tr.slowest.Load()).Round(time.Millisecond))
}

// toldOnce checks that the log tells of the outage in one line, and of its end
// in another.
func (n *node) toldOnce(server string, mark int) {
	n.t.Helper()
	for _, line := range []string{"a server does not answer", "a server answers again"} {
		eventually(n.t, line, func() error {
			if n.count(mark, line, server) == 0 {
				return fmt.Errorf("the log says nothing: %s", n.log.String()[mark:])
			}
			return nil
		})
		require.Equal(n.t, 1, n.count(mark, line, server), "%s", n.log.String()[mark:])
	}
}

// count counts the lines of the log behind mark that hold both texts.
func (n *node) count(mark int, text, server string) (lines int) {
	for line := range strings.Lines(n.log.String()[mark:]) {
		if strings.Contains(line, text) && strings.Contains(line, `"server":"`+server+`"`) {
			lines++
		}
	}
	return lines
}

// metricUp is the metric that tells whether the server answers.
func (n *node) metricUp(server string) string {
	n.t.Helper()
	_, data := n.api(http.MethodGet, "/metrics", nil)
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, `caddy_open_platform_dependency_up{dependency="`+server+`"} `); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// stoppable is a server that can be taken away.
type stoppable interface {
	Start() error
	Stop()
	Kill()
	Pause()
	Resume()
}

// outages are the ways in which a server can go away and come back.
var outages = []struct {
	name   string
	begins func(stoppable)
	ends   func(stoppable) error
}{
	{"stopped", stoppable.Stop, stoppable.Start},
	{"killed", stoppable.Kill, stoppable.Start},
	{"paused", stoppable.Pause, func(s stoppable) error { s.Resume(); return nil }},
}

// stranger is an app that no node has heard of.
func (n *node) stranger() app {
	return app{Key: "ak_00000000000000000001", Secret: "sk_unknown_unknown_unknown_unknown_00"}
}

// withoutStore checks what must hold while the database is away.
func (n *node) withoutStore(load *traffic) {
	n.t.Helper()
	n.waitHealth(adminapi.Degraded, "store")
	require.Equal(n.t, "0", n.metricUp("store"))
	load.goesOn(n.t)
	client := n.plain()
	for i := range 5 {
		began := time.Now()
		unknown := n.stranger()
		unknown.Key = fmt.Sprintf("ak_unheard_of_%020d", time.Now().UnixNano()+int64(i))
		send(n.t, client, unknown.sign(n.t, call{url: n.base() + "/v1/echo"})).refused(n.t, http.StatusServiceUnavailable, "store_unavailable")
		require.Less(n.t, time.Since(began), atOnce)
		began = time.Now()
		status, said := n.api(http.MethodPost, "/open_platform/apps", map[string]string{"name": "never made"})
		require.Equal(n.t, http.StatusServiceUnavailable, status, "%s", said)
		require.Less(n.t, time.Since(began), atOnce)
	}
}

// withStore checks that everything works again.
func (n *node) withStore() {
	n.t.Helper()
	n.waitHealth(adminapi.Ready)
	require.Equal(n.t, "1", n.metricUp("store"))
	status, said := n.api(http.MethodPost, "/open_platform/apps", map[string]string{"name": "made again"})
	require.Equal(n.t, http.StatusCreated, status, "%s", said)
	eventually(n.t, "an unknown app is unknown again", func() error {
		got := send(n.t, n.plain(), n.stranger().sign(n.t, call{url: n.base() + "/v1/echo"}))
		if got.code() != "app_unknown" {
			return fmt.Errorf("%s", got.body)
		}
		return nil
	})
}

// TestPostgresGoesAway: calls of known apps go on at full rate, what needs the
// database is refused at once, and all heals by itself.
func TestPostgresGoesAway(t *testing.T) {
	c := clusterSetup{}.start(t)
	n := c.nodes[0]
	a := n.newApp()
	for _, o := range outages {
		t.Run(o.name, func(t *testing.T) {
			load := n.traffic(a)
			load.goesOn(t)
			mark := len(n.log.String())
			o.begins(c.postgres)
			n.withoutStore(load)
			require.NoError(t, o.ends(c.postgres))
			n.withStore()
			load.end(t)
			n.toldOnce("store", mark)
		})
	}
}

// TestReloadWithoutPostgres: a configuration whose catalogs are applied already
// needs no database; another catalog is refused, and leaves running what runs.
func TestReloadWithoutPostgres(t *testing.T) {
	c := clusterSetup{redis: "-"}.start(t)
	n := c.nodes[0]
	a := n.newApp()
	echo := func() answer { return send(t, n.plain(), a.sign(t, call{url: n.base() + "/v1/echo"})).passed(t) }
	require.Empty(t, echo().Header.Get("X-Reloaded"))
	c.postgres.Stop()
	n.waitHealth(adminapi.Degraded, "store")
	reloaded := strings.Replace(n.read("Caddyfile"), "open_gate sandbox", "open_gate sandbox\n\t\theader X-Reloaded once", 1)
	status, said := n.reload(reloaded)
	require.Equal(t, http.StatusOK, status, said)
	require.Equal(t, "once", echo().Header.Get("X-Reloaded"))
	require.NotContains(t, n.log.String(), "catalog not applied\"")

	n.write("shop.openapi.yaml", strings.Replace(n.read("shop.openapi.yaml"), "x-open-name: shop.echo", "x-open-name: shop.echoed", 1))
	again := strings.Replace(reloaded, "X-Reloaded once", "X-Reloaded twice", 1)
	status, said = n.reload(again)
	require.Equal(t, http.StatusBadRequest, status, said)
	require.Contains(t, said, "checking catalogs")
	require.Equal(t, "once", echo().Header.Get("X-Reloaded"))

	require.NoError(t, c.postgres.Start())
	n.withStore()
	status, said = n.reload(again)
	require.Equal(t, http.StatusOK, status, said)
	require.Equal(t, "twice", echo().Header.Get("X-Reloaded"))
	eventually(t, "the catalog is in force", func() error {
		if list := n.cli("api", "list"); !strings.Contains(list, "shop.echoed") {
			return fmt.Errorf("%s", list)
		}
		return nil
	})

	// Nor is a file that another one has replaced since.
	file := n.read("shop.openapi.yaml")
	n.write("shop.openapi.yaml", strings.Replace(file, "shop.echoed", "shop.echo", 1))
	n.cli("apply", "-f", "shop.openapi.yaml", "--yes")
	n.write("shop.openapi.yaml", file)
	c.postgres.Stop()
	n.waitHealth(adminapi.Degraded, "store")
	status, said = n.reload(reloaded)
	require.Equal(t, http.StatusBadRequest, status, said)
}

// TestPostgresFailsOver to a standby at another address.
func TestPostgresFailsOver(t *testing.T) {
	primary := testserver.NewPostgres(t)
	dsn := primary.Database(t)
	standby, err := primary.StartStandby()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Close()) })
	both := strings.Replace(dsn, primary.Address(), primary.Address()+","+standby.Address(), 1) + "&target_session_attrs=read-write"
	c := clusterSetup{nodes: 2, dsn: both}.start(t)
	n := c.nodes[0]
	a := n.newApp()
	load := n.traffic(a)
	load.goesOn(t)
	primary.Kill()
	n.withoutStore(load)
	require.NoError(t, standby.Promote())
	n.withStore()
	load.end(t)
	made := n.newApp()
	c.nodes[1].waitHealth(adminapi.Ready)
	send(t, c.nodes[1].plain(), made.sign(t, call{url: c.nodes[1].base() + "/v1/echo"})).passed(t)
}

// TestRedisGoesAway: each node goes on with its share, and remembers nonces.
func TestRedisGoesAway(t *testing.T) {
	c := clusterSetup{}.start(t)
	n := c.nodes[0]
	n.cli("plan", "put", "default", "--app", "1000000/day")
	n.cli("plan", "put", "few", "--app", "3/1h")
	a := n.newApp()
	client := n.plain()
	for _, o := range outages {
		t.Run(o.name, func(t *testing.T) {
			few := n.newApp("--plan", "few")
			load := n.traffic(a)
			load.goesOn(t)
			before := call{url: n.base() + "/v1/echo", nonce: "spent-before-" + o.name + "-1", at: time.Now()}
			send(t, client, a.sign(t, before)).passed(t)
			mark := len(n.log.String())
			o.begins(c.redis)
			n.waitHealth(adminapi.Degraded, "redis")
			require.Equal(t, "0", n.metricUp("redis"))
			load.goesOn(t)
			send(t, client, a.sign(t, before)).refused(t, http.StatusUnauthorized, "nonce_reused")
			meanwhile := call{url: n.base() + "/v1/echo", nonce: "spent-meanwhile-" + o.name, at: time.Now()}
			send(t, client, a.sign(t, meanwhile)).passed(t)
			send(t, client, a.sign(t, meanwhile)).refused(t, http.StatusUnauthorized, "nonce_reused")
			for range 3 {
				send(t, client, few.sign(t, call{url: n.base() + "/v1/echo"})).passed(t)
			}
			send(t, client, few.sign(t, call{url: n.base() + "/v1/echo"})).refused(t, http.StatusTooManyRequests, "rate_limited")
			require.NoError(t, o.ends(c.redis))
			n.waitHealth(adminapi.Ready)
			require.Equal(t, "1", n.metricUp("redis"))
			send(t, client, a.sign(t, meanwhile)).refused(t, http.StatusUnauthorized, "nonce_reused")
			load.end(t)
			n.toldOnce("redis", mark)
		})
	}
}

// TestRedisFailsOver to a replica, as a sentinel has it.
func TestRedisFailsOver(t *testing.T) {
	master := testserver.NewRedis(t)
	testserver.NewRedis(t, "--replicaof", master.Host+" "+fmt.Sprint(master.Port))
	sentinel := testserver.NewSentinel(t, master)
	c := clusterSetup{redis: "redis redis://" + sentinel.Address() + "?master_name=platform"}.start(t)
	n := c.nodes[0]
	a := n.newApp()
	load := n.traffic(a)
	load.goesOn(t)
	n.waitHealth(adminapi.Ready)
	mark := len(n.log.String())
	master.Kill()
	n.toldOnce("redis", mark)
	n.waitHealth(adminapi.Ready)
	load.end(t)
}

// TestRedisGoesAwayAndCallsAreDenied, as the operator chose.
func TestRedisGoesAwayAndCallsAreDenied(t *testing.T) {
	c := clusterSetup{more: "on_redis_failure deny"}.start(t)
	n := c.nodes[0]
	a := n.newApp()
	client := n.plain()
	echo := func() answer { return send(t, client, a.sign(t, call{url: n.base() + "/v1/echo"})) }
	health := func() answer {
		resp, err := client.Get(n.base() + "/healthz")
		require.NoError(t, err)
		return whole(t, resp)
	}
	echo().passed(t)
	require.JSONEq(t, `{"status":"ready"}`, string(health().passed(t).body))
	c.redis.Stop()
	n.waitHealth(adminapi.NotReady, "redis")
	for range 5 {
		began := time.Now()
		got := echo()
		got.refused(t, http.StatusServiceUnavailable, "store_unavailable")
		require.NotEmpty(t, got.Header.Get("Retry-After"))
		require.Less(t, time.Since(began), atOnce)
	}
	got := health()
	require.Equal(t, http.StatusServiceUnavailable, got.StatusCode)
	require.JSONEq(t, `{"status":"not_ready","down":["redis"]}`, string(got.body))
	require.NoError(t, c.redis.Start())
	n.waitHealth(adminapi.Ready)
	echo().passed(t)
}

// TestStartWithoutRedis: a node starts, and finds Redis when it comes.
func TestStartWithoutRedis(t *testing.T) {
	redis := testserver.NewRedis(t)
	redis.Stop()
	c := clusterSetup{redis: "redis " + redis.URL()}.start(t)
	n := c.nodes[0]
	a := n.newApp()
	n.waitHealth(adminapi.Degraded, "redis")
	send(t, n.plain(), a.sign(t, call{url: n.base() + "/v1/echo"})).passed(t)
	require.NoError(t, redis.Start())
	n.waitHealth(adminapi.Ready)
	send(t, n.plain(), a.sign(t, call{url: n.base() + "/v1/echo"})).passed(t)
}
