package limit

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

// aclCommands is what the documentation tells an operator to grant.
const aclCommands = "+evalsha +eval +time +mget +set +get +pttl +pexpire +sadd +srem +scard +sismember " +
	"+zadd +zrem +zremrangebyscore +zcard +expire +config|get +hello +auth +select +ping"

var (
	sharedOnce  sync.Once
	sharedRedis *testserver.Redis
	errShared   error
	prefixes    atomic.Int64
)

func TestMain(m *testing.M) {
	code := m.Run()
	if sharedRedis != nil {
		_ = sharedRedis.Close()
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// server is the Redis server of all tests that do not break theirs.
func server(tb testing.TB) *testserver.Redis {
	tb.Helper()
	sharedOnce.Do(func() { sharedRedis, errShared = testserver.StartRedis("127.0.0.1") })
	require.NoError(tb, errShared)
	return sharedRedis
}

// prefix is a prefix that no other test uses.
func prefix() string { return fmt.Sprintf("t%d:", prefixes.Add(1)) }

// states are the changes that a ledger reports.
type states chan error

func (s states) next(tb testing.TB) error {
	tb.Helper()
	select {
	case err := <-s:
		return err
	case <-time.After(30 * time.Second):
		require.Fail(tb, "no change of state was reported")
		return nil
	}
}

// down waits until Redis is reported down, up until it answers again. A busy
// machine may see it go to and fro on the way.
func (s states) down(tb testing.TB) {
	tb.Helper()
	for s.next(tb) == nil {
		tb.Log("up")
	}
}

func (s states) up(tb testing.TB) {
	tb.Helper()
	for err := s.next(tb); err != nil; err = s.next(tb) {
		tb.Log("down:", err)
	}
}

// openRedis opens a ledger that reports its changes of state, each once.
func openRedis(tb testing.TB, url string, o RedisOptions) (*Redis, states) {
	tb.Helper()
	changes := make(states, 100)
	if o.Prefix == "" {
		o.Prefix = prefix()
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second // the machine may be busy
	}
	isDown := false
	o.OnState = func(err error) {
		if isDown == (err != nil) {
			tb.Error("the same state twice: ", err)
		}
		isDown = err != nil
		changes <- err
	}
	r, err := OpenRedis(url, o)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, r.Close()) })
	return r, changes
}

func spend(tb testing.TB, l Ledger, now time.Time, s Spend) (Result, error) {
	tb.Helper()
	return l.Spend(context.Background(), now, &s)
}

func perSecond(k Key, n int64) Check {
	return Check{Key: k, Rate: Rate{Requests: n, Period: time.Second}}
}
