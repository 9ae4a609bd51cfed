package limit

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

const (
	impatient = 500 * time.Millisecond // a Timeout that tests of failures wait out
	// margin is what a busy machine may add to a Timeout.
	margin = 3 * time.Second
)

// load calls from many goroutines until it is stopped. No call may take longer
// than the timeout and a margin, nor fail.
type load struct {
	stop  chan struct{}
	wg    sync.WaitGroup
	calls atomic.Int64
	errs  chan error
}

func startLoad(l Ledger) *load {
	g := &load{stop: make(chan struct{}), errs: make(chan error, 16)}
	for i := range 16 {
		g.wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-g.stop:
					return
				default:
				}
				if err := patient(l, uint64(i), n); err != nil {
					g.errs <- err
					return
				}
				g.calls.Add(1)
			}
		})
	}
	return g
}

func patient(l Ledger, app uint64, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), impatient+margin)
	defer cancel()
	now := time.Now()
	_, err := l.Spend(ctx, now, &Spend{
		App: app, Nonce: fmt.Append(nil, n), Expiry: now.Add(time.Minute),
		Checks: []Check{{Key: Key{Scope: ScopeApp, App: app}, Rate: Rate{Requests: 1000, Period: time.Second}, Quota: Quota{Day: 1 << 40}}},
	})
	return err
}

// more waits until calls have gone on.
func (g *load) more(tb testing.TB) {
	tb.Helper()
	goal := g.calls.Load() + 200
	require.Eventually(tb, func() bool { return g.calls.Load() > goal || len(g.errs) > 0 }, 30*time.Second, time.Millisecond)
}

func (g *load) end(tb testing.TB) {
	tb.Helper()
	close(g.stop)
	g.wg.Wait()
	close(g.errs)
	for err := range g.errs {
		require.NoError(tb, err)
	}
}

// While Redis is stopped, killed or paused, calls go on, none waits longer than
// the timeout, each outage is reported once, and it heals by itself.
func TestRedisOutages(t *testing.T) {
	s := testserver.NewRedis(t)
	r, changes := openRedis(t, s.URL(), RedisOptions{Timeout: impatient})
	g := startLoad(r)
	defer g.end(t)
	g.more(t)
	for _, outage := range []struct {
		name        string
		begin, heal func()
	}{
		{"stopped", s.Stop, func() { require.NoError(t, s.Start()) }},
		{"killed", s.Kill, func() { require.NoError(t, s.Start()) }},
		{"paused", s.Pause, s.Resume},
	} {
		outage.begin()
		changes.down(t)
		before := r.Stats().Fallback
		g.more(t)
		require.Greater(t, r.Stats().Fallback, before, outage.name)
		outage.heal()
		changes.up(t)
		before = r.Stats().Scripts
		g.more(t)
		require.Greater(t, r.Stats().Scripts, before, outage.name)
	}
}

// A server that is down at the start is no error, and neither is one that
// forgets everything it knew.
func TestRedisOpensWithoutAServer(t *testing.T) {
	s := testserver.NewRedis(t)
	s.Stop()
	r, changes := openRedis(t, s.URL(), RedisOptions{})
	require.Error(t, changes.next(t))
	require.NoError(t, patient(r, 1, 1))
	require.NoError(t, s.Start())
	require.NoError(t, changes.next(t))
	require.NoError(t, patient(r, 1, 2))

	c := s.Client(t)
	require.NoError(t, c.ScriptFlush(t.Context()).Err())
	require.NoError(t, patient(r, 1, 3))
	require.NoError(t, c.FlushAll(t.Context()).Err())
	require.NoError(t, patient(r, 1, 4))
	require.ErrorIs(t, patient(r, 1, 1), ErrUsed, "this node remembers what it has seen itself")
	require.Empty(t, changes)
}

func TestRedisDenies(t *testing.T) {
	s := testserver.NewRedis(t)
	r, changes := openRedis(t, s.URL(), RedisOptions{OnFailure: FailDeny})
	require.NoError(t, patient(r, 1, 1))
	s.Stop()
	require.ErrorIs(t, patient(r, 1, 2), ErrDown)
	require.Error(t, changes.next(t))
	require.ErrorIs(t, patient(r, 1, 3), ErrDown)
	require.NoError(t, s.Start())
	require.NoError(t, changes.next(t))
	require.NoError(t, patient(r, 1, 3), "its nonce is still good")
}

// A caller that goes away is no failure of Redis.
func TestRedisCallerGoesAway(t *testing.T) {
	s := testserver.NewRedis(t)
	r, changes := openRedis(t, s.URL(), RedisOptions{Timeout: time.Minute})
	s.Pause()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := r.Spend(ctx, time.Now(), &Spend{App: 1, Checks: []Check{perSecond(app1, 10)}})
			require.ErrorIs(t, err, context.Canceled)
		})
	}
	cancel()
	wg.Wait()
	s.Resume()
	require.NoError(t, patient(r, 1, 1))
	require.True(t, r.Stats().Up)
	require.Zero(t, r.Stats().Errors)
	require.Empty(t, changes)
}

// What a node allowed of a quota while Redis was down counts when it is back.
func TestRedisQuotaContinues(t *testing.T) {
	s := testserver.NewRedis(t, "--save", "3600 1") // it keeps its data over an orderly stop
	all := prefix()
	a, changes := openRedis(t, s.URL(), RedisOptions{Prefix: all})
	b, _ := openRedis(t, s.URL(), RedisOptions{Prefix: all})
	require.NoError(t, a.beat(t.Context())) // a knows of both nodes
	check := Check{Key: app1, Quota: Quota{Day: 20, Month: 30}}
	take := func(l Ledger) bool {
		res, err := spend(t, l, time.Now(), Spend{App: 1, Checks: []Check{check}})
		require.NoError(t, err)
		return res.Allowed
	}
	for range 5 {
		require.True(t, take(a))
	}
	s.Stop()
	n := 0
	for take(a) {
		n++
	}
	require.Equal(t, 10, n, "a's share")
	require.Error(t, changes.next(t))
	require.NoError(t, s.Start())
	require.NoError(t, changes.next(t))
	require.Eventually(t, func() bool { return b.Stats().Up }, 30*time.Second, time.Millisecond)
	n = 0
	for take(b) {
		n++
	}
	require.Equal(t, 5, n)
}

// A Redis without memory refuses new nonces and is not taken for down.
func TestRedisWithoutMemory(t *testing.T) {
	s := testserver.NewRedis(t)
	r, changes := openRedis(t, s.URL(), RedisOptions{})
	require.NoError(t, patient(r, 1, 1))
	c := s.Client(t)
	require.NoError(t, c.ConfigSet(t.Context(), "maxmemory", "1").Err())
	require.ErrorIs(t, patient(r, 1, 2), ErrFull)
	require.NoError(t, c.ConfigSet(t.Context(), "maxmemory", "0").Err())
	require.NoError(t, patient(r, 1, 3))
	require.Empty(t, changes)
}

func TestRedisWarnsOfEviction(t *testing.T) {
	s := testserver.NewRedis(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	warnings := make(states, 1)
	_, _ = openRedis(t, s.URL(), RedisOptions{OnWarning: func(err error) { warnings <- err }})
	require.ErrorContains(t, warnings.next(t), "allkeys-lru; set it to noeviction")
}

func addUser(tb testing.TB, s *testserver.Redis, nameAndCommands string) {
	tb.Helper()
	name, commands, _ := strings.Cut(nameAndCommands, " ")
	args := []any{"ACL", "SETUSER", name, "on", ">s3cret", "~op:*", "resetchannels", "-@all"}
	for rule := range strings.FieldsSeq(commands) {
		args = append(args, rule)
	}
	require.NoError(tb, s.Client(tb).Do(tb.Context(), args...).Err())
}

func TestRedisUsers(t *testing.T) {
	s := testserver.NewRedis(t)
	addUser(t, s, "platform "+aclCommands)
	addUser(t, s, "narrow +ping")
	at := func(user string) string { return "redis://" + user + "@" + s.Address() }
	r, changes := openRedis(t, at("platform:s3cret"), RedisOptions{Prefix: "op:"})
	require.NoError(t, patient(r, 1, 1))
	require.NoError(t, r.beat(t.Context()))
	require.True(t, r.Stats().Up)
	require.Empty(t, changes)

	_, changes = openRedis(t, at("platform:wr0ng"), RedisOptions{})
	err := changes.next(t)
	require.ErrorContains(t, err, "check user and password")
	require.NotContains(t, err.Error(), "wr0ng")

	_, changes = openRedis(t, at("narrow:s3cret"), RedisOptions{})
	require.ErrorContains(t, changes.next(t), "the user's ACL")
}

// A key of somebody else fails the calls of one app, not of all.
func TestRedisForeignKey(t *testing.T) {
	p := prefix()
	r, changes := openRedis(t, server(t).URL(), RedisOptions{Prefix: p})
	require.NoError(t, server(t).Client(t).LPush(t.Context(), p+"{1}:n:"+fmt.Sprint(bucketEnd(time.Now().Add(time.Minute).Unix())), "x").Err())
	require.NoError(t, patient(r, 1, 1), "this node's share")
	require.NoError(t, patient(r, 2, 1))
	require.True(t, r.Stats().Up)
	require.EqualValues(t, 1, r.Stats().Fallback)
	require.Empty(t, changes)
}

func TestRedisOverTLS(t *testing.T) {
	dir := t.TempDir()
	// The server runs as another user.
	require.NoError(t, os.Chmod(dir, 0o755))
	certificate := testserver.NewCertificate(t, "redis")
	ca, crt, private := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "crt.pem"), filepath.Join(dir, "key.pem")
	for path, data := range map[string][]byte{ca: certificate.Authority, crt: certificate.PEM, private: certificate.Key} {
		require.NoError(t, os.WriteFile(path, data, 0o644))
	}
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	testserver.NewRedis(t, "--tls-port", fmt.Sprint(port), "--tls-cert-file", crt, "--tls-key-file", private, "--tls-auth-clients", "no")

	address := fmt.Sprintf("rediss://127.0.0.1:%d", port)
	r, changes := openRedis(t, address+"?ca="+ca, RedisOptions{})
	require.NoError(t, patient(r, 1, 1))
	require.True(t, r.Stats().Up)
	require.Empty(t, changes)
	_, changes = openRedis(t, address, RedisOptions{})
	var unknown x509.UnknownAuthorityError
	require.ErrorAs(t, changes.next(t), &unknown)
}

func TestRedisCluster(t *testing.T) {
	masters := testserver.NewRedisCluster(t)
	for _, m := range masters {
		addUser(t, m, "platform "+aclCommands+" +cluster|slots")
	}
	all := "op:cluster:"
	url := fmt.Sprintf("redis://platform:s3cret@%s,%s?cluster=true", masters[0].Address(), masters[1].Address())
	var nodes []*Redis
	for range 2 {
		r, _ := openRedis(t, url, RedisOptions{Prefix: all})
		nodes = append(nodes, r)
	}
	now := time.Now()
	for app := range uint64(50) {
		for _, n := range nodes {
			res, err := spend(t, n, now, Spend{
				App: app, Nonce: []byte("n"), Expiry: now.Add(time.Minute),
				Checks: []Check{{Key: Key{Scope: ScopeApp, App: app}, Rate: Rate{Requests: 1, Period: time.Hour}, Quota: Quota{Day: 9}}},
			})
			if n == nodes[0] {
				require.NoError(t, err)
				require.True(t, res.Allowed)
			} else {
				require.ErrorIs(t, err, ErrUsed)
			}
		}
	}
	for _, n := range nodes {
		require.True(t, n.Stats().Up)
		require.Zero(t, n.Stats().Errors)
	}
}

func TestRedisClusterLosesAMaster(t *testing.T) {
	masters := testserver.NewRedisCluster(t)
	r, changes := openRedis(t, "redis://"+masters[0].Address()+"?cluster=true", RedisOptions{Timeout: impatient})
	g := startLoad(r)
	defer g.end(t)
	g.more(t)
	masters[1].Kill()
	changes.down(t)
	g.more(t)
	require.NoError(t, masters[1].Start())
	changes.up(t)
	g.more(t)
	require.Eventually(t, func() bool { return r.Stats().Up }, 30*time.Second, 10*time.Millisecond)
}

func TestRedisSentinelFailover(t *testing.T) {
	master := testserver.NewRedis(t)
	replica := testserver.NewRedis(t, "--replicaof", "127.0.0.1 "+fmt.Sprint(master.Port))
	sentinel := testserver.NewSentinel(t, master)
	require.Eventually(t, func() bool {
		found, err := sentinel.Client(t).Do(t.Context(), "SENTINEL", "replicas", "platform").Slice()
		return err == nil && len(found) == 1
	}, 30*time.Second, 50*time.Millisecond)

	r, changes := openRedis(t, "redis://"+sentinel.Address()+"?sentinel=platform", RedisOptions{Timeout: impatient})
	g := startLoad(r)
	defer g.end(t)
	g.more(t)
	master.Kill()
	changes.down(t)
	g.more(t)
	changes.up(t)
	g.more(t)
	require.Eventually(t, func() bool {
		n, err := replica.Client(t).DBSize(t.Context()).Result()
		return err == nil && n > 0 && r.Stats().Up
	}, 30*time.Second, 50*time.Millisecond)
}
