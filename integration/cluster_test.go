package integration

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

// cluster is several servers over one PostgreSQL and one Redis.
type cluster struct {
	t        *testing.T
	postgres *testserver.Postgres
	redis    *testserver.Redis
	nodes    []*node
	shop     *shop
}

// clusterSetup is what a cluster is made of. Zero fields take the defaults.
type clusterSetup struct {
	nodes int
	// host is where PostgreSQL and Redis listen; "" is loopback.
	host string
	// dsn and redis are lines of the global option; "" leads to servers of the
	// cluster's own. With redis "-" there is none.
	dsn, redis string
	// more are further lines of it.
	more string
	// masterKey is in hexadecimal; with "-" there is none in the configuration.
	masterKey string
}

const testMasterKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// start starts the servers and the nodes.
func (s clusterSetup) start(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t}
	if s.host == "" {
		s.host = "127.0.0.1"
	}
	if s.dsn == "" {
		var err error
		c.postgres, err = testserver.StartPostgres(s.host)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.postgres.Close() })
		s.dsn = c.postgres.Database(t)
	}
	if s.redis == "" {
		var err error
		c.redis, err = testserver.StartRedis(s.host)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.redis.Close() })
		s.redis = "redis " + c.redis.URL()
	}
	for range max(s.nodes, 1) {
		n := newNode(t)
		if c.shop == nil {
			c.shop = n.openShop()
		} else {
			n.words["upstream"] = c.nodes[0].word("upstream")
		}
		n.words["dead"] = "1"
		n.write("shop.openapi.yaml", n.fill(shopCatalog))
		n.configure(s.config())
		c.nodes = append(c.nodes, n)
		n.launch()
	}
	for _, n := range c.nodes {
		n.await()
	}
	return c
}

// config is the Caddyfile of a node.
func (s clusterSetup) config() string {
	if s.redis == "-" {
		s.redis = ""
	}
	key := s.masterKey
	if key == "" {
		key = testMasterKey
	}
	own := "storage postgres " + s.dsn + "\n\t\t" + s.redis + "\n\t\t" + s.more
	if key != "-" {
		own += "\n\t\tmaster_key " + key
	}
	return strings.Replace(globals(""), "storage sqlite ./data/openplatform.db", own, 1) + `http://127.0.0.1:%site% {
	handle /healthz {
		open_health
	}
	handle {
		open_gate sandbox
		reverse_proxy {http.open_platform.upstream}
	}
}
`
}

// base is the address of the node's site.
func (n *node) base() string {
	return "http://" + net.JoinHostPort(cmp.Or(n.host, "127.0.0.1"), n.word("site"))
}

// health asks the node how it is.
func (n *node) health() (adminapi.HealthReport, error) {
	var h adminapi.HealthReport
	status, data, err := n.ask(http.MethodGet, "/open_platform/health", nil)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(data, &h); err != nil {
		return h, err
	}
	if status != h.HTTPStatus() {
		return h, fmt.Errorf("%d for %s", status, data)
	}
	return h, nil
}

// waitHealth waits until the node says so of itself.
func (n *node) waitHealth(want string, down ...string) {
	n.t.Helper()
	eventually(n.t, "the node is "+want, func() error {
		h, err := n.health()
		if err != nil {
			return err
		}
		if h.Status != want || strings.Join(h.Down(), " ") != strings.Join(down, " ") {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
}

// balance starts a fourth server before the nodes.
func (c *cluster) balance() *node {
	c.t.Helper()
	lb := newNode(c.t)
	var upstreams []string
	for _, n := range c.nodes {
		upstreams = append(upstreams, "127.0.0.1:"+n.word("site"))
	}
	lb.configure(`{
	admin 127.0.0.1:%admin%
	persist_config off
	storage file_system ./data/caddy
}
http://127.0.0.1:%site% {
	bind 127.0.0.1
	reverse_proxy ` + strings.Join(upstreams, " ") + ` {
		lb_policy round_robin
		lb_try_duration 10s
		health_uri /healthz
		health_interval 250ms
		fail_duration 1s
	}
}
`)
	lb.launch()
	client := lb.plain()
	eventually(c.t, "the load balancer answers", func() error {
		resp, err := client.Get(lb.base() + "/healthz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", resp.Status)
		}
		return nil
	})
	return lb
}

// TestCluster: three nodes behind a load balancer are one platform, while they
// are killed and reloaded.
func TestCluster(t *testing.T) {
	c := clusterSetup{nodes: 3}.start(t)
	lb := c.balance()
	first := c.nodes[0]

	t.Run("a nonce is accepted once", func(t *testing.T) {
		a := first.newApp()
		for range 30 {
			once := call{url: lb.base() + "/v1/echo"}
			req := a.sign(t, once)
			var passed, reused atomic.Int64
			var tries sync.WaitGroup
			for i := range 9 {
				n := c.nodes[i%3]
				copied := req.Clone(t.Context())
				copied.Host = copied.URL.Host
				copied.URL.Host = "127.0.0.1:" + n.word("site")
				client := n.plain()
				tries.Go(func() {
					resp, err := client.Do(copied)
					if err != nil {
						return
					}
					switch got := whole(t, resp); {
					case got.StatusCode == http.StatusOK:
						passed.Add(1)
					case got.code() == "nonce_reused":
						reused.Add(1)
					}
				})
			}
			tries.Wait()
			require.EqualValues(t, 1, passed.Load())
			require.EqualValues(t, 8, reused.Load())
		}
	})

	t.Run("limits hold over kills and reloads", func(t *testing.T) {
		const quota = 600
		first.cli("plan", "put", "global", "--app", fmt.Sprint(quota, "/day"))
		a := first.newApp("--plan", "global")
		var passed, limited atomic.Int64
		stop := make(chan struct{})
		var load sync.WaitGroup
		for range 6 {
			client := lb.plain()
			load.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					resp, err := client.Do(a.sign(t, call{url: lb.base() + "/v1/echo"}))
					if err != nil {
						continue
					}
					switch got := whole(t, resp); {
					case got.StatusCode == http.StatusOK:
						passed.Add(1)
					case got.code() == "quota_exceeded":
						limited.Add(1)
					}
				}
			})
		}
		reach := func(what string, counter *atomic.Int64, n int64) {
			eventually(t, what, func() error {
				if got := counter.Load(); got < n {
					return fmt.Errorf("%d of %d", got, n)
				}
				return nil
			})
		}
		var acknowledged []string
		change := func(n *node) {
			var made app
			if n.post("/open_platform/apps", map[string]string{"name": "made meanwhile"}, &made) {
				acknowledged = append(acknowledged, made.ID)
			}
		}
		reach("calls pass", &passed, quota/6)
		change(c.nodes[2])
		c.nodes[2].kill()
		reach("calls pass without a node", &passed, quota/3)
		c.nodes[2].run()
		change(c.nodes[2])
		status, said := c.nodes[1].reload(c.nodes[1].read("Caddyfile"))
		require.Equal(t, http.StatusOK, status, said)
		change(c.nodes[1])
		c.nodes[0].kill()
		reach("the quota is used up", &limited, 200)
		c.nodes[0].run()
		close(stop)
		load.Wait()

		// A killed node takes the answers of calls that were charged with it.
		require.LessOrEqual(t, passed.Load(), int64(quota))
		require.GreaterOrEqual(t, passed.Load(), int64(quota-30))
		require.Len(t, acknowledged, 3)
		for _, n := range c.nodes {
			for _, id := range acknowledged {
				status, data := n.api(http.MethodGet, "/open_platform/apps/"+id, nil)
				require.Equal(t, http.StatusOK, status, "%s", data)
			}
			n.waitHealth(adminapi.Ready)
		}
	})
}

// TestFiveNodesStartTogether over a database that is empty.
func TestFiveNodesStartTogether(t *testing.T) {
	c := clusterSetup{nodes: 5}.start(t)
	a := c.nodes[4].newApp()
	for _, n := range c.nodes {
		send(t, n.plain(), a.sign(t, call{url: n.base() + "/v1/echo"})).passed(t)
	}
}

// TestKeysOfTheCluster: without master_key the first node makes a key, and a
// node that has another one is refused, in one line that says what to do.
func TestKeysOfTheCluster(t *testing.T) {
	c := clusterSetup{redis: "-", masterKey: "-"}.start(t)
	first := c.nodes[0]
	require.Contains(t, first.log.String(), "limits and nonces count on each node alone")
	a := first.newApp()
	_, stderr, code := first.try("master-key", "rotate", "--yes")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "master_key")

	second := newNode(t)
	second.words["dead"], second.words["upstream"] = "1", first.word("upstream")
	second.write("shop.openapi.yaml", second.fill(shopCatalog))
	second.configure(clusterSetup{dsn: c.dsn(t), redis: "-", masterKey: strings.Repeat("ab", 32)}.config())
	second.launch()
	require.NotZero(t, second.ended())
	require.Contains(t, second.log.String(), "the master key does not match this database")

	second.configure(clusterSetup{dsn: c.dsn(t), redis: "-", masterKey: "-"}.config())
	second.launch()
	require.NotZero(t, second.ended())
	require.Contains(t, second.log.String(), "copy the file data/master.key from the node that made it")
	require.NoFileExists(t, filepath.Join(second.dir, "data", "master.key"))

	second.write("data/master.key", first.read("data/master.key"))
	second.run()
	send(t, second.plain(), a.sign(t, call{url: second.base() + "/v1/echo"})).passed(t)
}

// dsn is the address of the database of the cluster.
func (c *cluster) dsn(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(c.nodes[0].read("Caddyfile")) {
		if dsn, ok := strings.CutPrefix(strings.TrimSpace(line), "storage postgres "); ok {
			return dsn
		}
	}
	require.FailNow(t, "the node has no database")
	return ""
}
