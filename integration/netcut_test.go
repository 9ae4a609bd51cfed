package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

// TestNetworkIsCut: packets between the node and its servers vanish, and
// neither side is told.
func TestNetworkIsCut(t *testing.T) {
	postgres, redis := newRoute(t, 0), newRoute(t, 1)
	pg, err := testserver.StartPostgres(postgres.host())
	require.NoError(t, err)
	t.Cleanup(func() { _ = pg.Close() })
	rd, err := testserver.StartRedis(redis.host())
	require.NoError(t, err)
	t.Cleanup(func() { _ = rd.Close() })

	n := newNode(t)
	postgres.enter(n)
	n.words["upstream"], n.words["dead"] = "1", "1"
	n.write("shop.openapi.yaml", n.fill(shopCatalog))
	dsn := strings.Replace(pg.Database(t), pg.Address(), postgres.to(pg.Address()), 1)
	config := clusterSetup{dsn: dsn, redis: "redis redis://" + redis.to(rd.Address())}.config()
	config = strings.Replace(config, "reverse_proxy {http.open_platform.upstream}", "open_mock", 1)
	if n.host != "" {
		config = strings.NewReplacer("default_bind 127.0.0.1", "default_bind "+n.host, "admin 127.0.0.1:", "admin "+n.host+":",
			"http://127.0.0.1:%site%", "http://"+n.host+":%site%").Replace(config)
	}
	n.configure(config)
	n.run()
	a := n.newApp()

	t.Run("to the database", func(t *testing.T) {
		load := n.traffic(a)
		load.goesOn(t)
		mark := len(n.log.String())
		postgres.cut()
		n.withoutStore(load)
		postgres.mend()
		n.withStore()
		load.end(t)
		n.toldOnce("store", mark)
	})
	t.Run("to Redis", func(t *testing.T) {
		load := n.traffic(a)
		load.goesOn(t)
		mark := len(n.log.String())
		redis.cut()
		n.waitHealth(adminapi.Degraded, "redis")
		load.goesOn(t)
		redis.mend()
		n.waitHealth(adminapi.Ready)
		load.end(t)
		n.toldOnce("redis", mark)
		send(t, n.plain(), a.sign(t, call{url: n.base() + "/v1/echo"})).passed(t)
		status, said := n.api(http.MethodGet, "/open_platform/status", nil)
		require.Equal(t, http.StatusOK, status, "%s", said)
	})
}

// route is a way through the network that can be cut.
type route interface {
	// host is where the server at its end listens.
	host() string
	// to is the address by which the node reaches the server.
	to(server string) string
	// enter puts the node at the route's beginning.
	enter(n *node)
	cut()
	mend()
}

// newRoute makes a route: a link into a network namespace where this process
// may make one, else a relay.
func newRoute(t *testing.T, number int) route {
	t.Helper()
	if _, err := exec.LookPath("ip"); os.Getuid() == 0 && err == nil {
		return newNamespace(t, number)
	}
	return &relay{t: t}
}

// namespace is a network namespace with three links to this one: one for the
// test itself, and one to each server.
type namespace struct {
	t      *testing.T
	name   string
	number int
}

// newNamespace makes the link of that number, and with the first one the
// namespace. The numbers of networks come from the process, so that tests that
// run at the same time stay apart.
func newNamespace(t *testing.T, number int) *namespace {
	t.Helper()
	s := &namespace{t, fmt.Sprintf("cut%d", os.Getpid()), number}
	if number == 0 {
		s.ip("netns", "add", s.name)
		t.Cleanup(func() { s.ip("netns", "del", s.name) })
		s.ip("-n", s.name, "link", "set", "lo", "up")
		s.link(2)
	}
	s.link(number)
	return s
}

func (s *namespace) ip(args ...string) {
	s.t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	require.NoError(s.t, err, "ip %s: %s", strings.Join(args, " "), out)
}

// network is a pair of addresses for a link: ours and the namespace's.
func network(link int) (ours, theirs string) {
	pid := os.Getpid()
	prefix := fmt.Sprintf("10.%d.%d.", 128+pid>>8&127, pid&255)
	return fmt.Sprint(prefix, 4*link+1), fmt.Sprint(prefix, 4*link+2)
}

func (s *namespace) device(link int) string { return fmt.Sprintf("cut%d-%d", os.Getpid(), link) }

func (s *namespace) link(link int) {
	s.t.Helper()
	ours, theirs := network(link)
	s.ip("link", "add", s.device(link), "type", "veth", "peer", "name", "up"+fmt.Sprint(link), "netns", s.name)
	s.ip("addr", "add", ours+"/30", "dev", s.device(link))
	s.ip("link", "set", s.device(link), "up")
	s.ip("-n", s.name, "addr", "add", theirs+"/30", "dev", "up"+fmt.Sprint(link))
	s.ip("-n", s.name, "link", "set", "up"+fmt.Sprint(link), "up")
}

func (s *namespace) host() string            { ours, _ := network(s.number); return ours }
func (s *namespace) to(server string) string { return server }

func (s *namespace) enter(n *node) {
	_, n.host = network(2)
	n.via = []string{"ip", "netns", "exec", s.name}
}

func (s *namespace) cut()  { s.t.Helper(); s.ip("link", "set", s.device(s.number), "down") }
func (s *namespace) mend() { s.t.Helper(); s.ip("link", "set", s.device(s.number), "up") }

// relay passes bytes on between a node and a server until it is cut: then it
// keeps them, and accepts nothing.
type relay struct {
	t      *testing.T
	closed sync.Mutex // held while the route is cut
}

func (r *relay) host() string { return "127.0.0.1" }
func (r *relay) enter(*node)  {}
func (r *relay) cut()         { r.closed.Lock() }
func (r *relay) mend()        { r.closed.Unlock() }

func (r *relay) to(server string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go r.pass(conn, server)
		}
	}()
	return l.Addr().String()
}

// pass serves one connection.
func (r *relay) pass(node net.Conn, address string) {
	defer node.Close()
	r.open()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{node, server}, {server, node}} {
		both.Go(func() {
			_, _ = io.Copy(throttled{way[1], r}, way[0])
			_ = way[1].Close()
			_ = way[0].Close()
		})
	}
	both.Wait()
}

// open waits until the route is not cut.
func (r *relay) open() {
	r.closed.Lock()
	defer r.closed.Unlock()
}

// throttled writes only while the route is not cut.
type throttled struct {
	net.Conn
	relay *relay
}

func (g throttled) Write(p []byte) (int, error) {
	g.relay.open()
	return g.Conn.Write(p)
}
