package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

// serverTimeout bounds a question to PostgreSQL or Redis, but for the filling.
const serverTimeout = 10 * time.Second

// redisServers is how many Redis there are: one for each variant of a part, so
// that what one gateway does there later, such as giving leases back, is not
// counted as another one's.
const redisServers = 4

// servers are what several gateways share.
type servers struct {
	postgres *testserver.Postgres
	redis    []*redisServer
}

// redisServer is a Redis and a connection to ask it.
type redisServer struct {
	*testserver.Redis
	client *redis.Client
}

// startServers starts them all, on loopback and in folders of their own. They
// must be stopped.
func startServers() (s *servers, err error) {
	s = new(servers)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("starting servers for the parts redis, nodes, oauth and postgres, which -only can leave out: %w", err), s.stop())
		}
	}()
	for range redisServers {
		r, err := testserver.StartRedis("127.0.0.1")
		if err != nil {
			return s, err
		}
		client := redis.NewClient(&redis.Options{Addr: r.Address(), DialTimeout: serverTimeout, ReadTimeout: serverTimeout})
		s.redis = append(s.redis, &redisServer{r, client})
	}
	s.postgres, err = testserver.StartPostgres("127.0.0.1")
	return s, err
}

// stop ends them and removes their data.
func (s *servers) stop() (err error) {
	for _, r := range s.redis {
		err = errors.Join(err, r.client.Close(), r.Close())
	}
	if s.postgres != nil {
		err = errors.Join(err, s.postgres.Close())
	}
	return err
}

// setFsync has PostgreSQL wait for the disk with each commit, or not.
func (s *servers) setFsync(ctx context.Context, on bool) error {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	want := map[bool]string{true: "on", false: "off"}[on]
	conn, err := pgx.Connect(ctx, s.postgres.URL("postgres"))
	if err != nil {
		return fmt.Errorf("setting fsync of PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range []string{"ALTER SYSTEM SET fsync = " + want, "SELECT pg_reload_conf()"} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("setting fsync of PostgreSQL: %w", err)
		}
	}
	for got := ""; got != want; { // the server reads its settings a moment later
		if err := conn.QueryRow(ctx, "SHOW fsync").Scan(&got); err != nil {
			return fmt.Errorf("setting fsync of PostgreSQL: %w", err)
		}
	}
	return nil
}

// url is the address of one of the server's databases. Each part has its own.
func (r *redisServer) url(database int) string { return r.URL() + "/" + strconv.Itoa(database) }

// redisUse is what Redis has done so far.
type redisUse struct {
	scripts float64       // runs of scripts, which are all that a call asks for
	reads   float64       // reads from connections: pipelined commands come in one
	cpu     time.Duration // user and system time of the server's process
}

// use asks Redis. Asking costs it one read and no script.
func (r *redisServer) use(ctx context.Context) (redisUse, error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	text, err := r.client.Info(ctx, "stats", "cpu", "commandstats").Result()
	if err != nil {
		return redisUse{}, fmt.Errorf("asking Redis what it did: %w", err)
	}
	return parseRedisInfo(text)
}

// parseRedisInfo reads the answer to INFO stats cpu commandstats. Redis lists a
// command once it was used.
func parseRedisInfo(text string) (redisUse, error) {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	var use redisUse
	var user, system float64
	for _, f := range []struct {
		name string
		to   *float64
	}{{"total_reads_processed", &use.reads}, {"used_cpu_user", &user}, {"used_cpu_sys", &system}} {
		value, err := strconv.ParseFloat(fields[f.name], 64)
		if err != nil {
			return redisUse{}, fmt.Errorf("asking Redis what it did: %s: %q; want a number (Redis 7 or newer)", f.name, fields[f.name])
		}
		*f.to = value
	}
	use.cpu = time.Duration((user + system) * float64(time.Second))
	for _, name := range []string{"cmdstat_evalsha", "cmdstat_eval"} {
		counts, used := fields[name]
		if !used {
			continue
		}
		calls, _, _ := strings.Cut(strings.TrimPrefix(counts, "calls="), ",")
		value, err := strconv.ParseFloat(calls, 64)
		if err != nil {
			return redisUse{}, fmt.Errorf("asking Redis what it did: %s: %q; want calls=, a number", name, counts)
		}
		use.scripts += value
	}
	return use, nil
}

// redisCost is what a request costs Redis.
type redisCost struct {
	scripts, reads float64
	cpu            time.Duration
}

// since is the cost of each of the requests made since the use before, less
// the one read that asking was.
func (u redisUse) since(before redisUse, requests uint64) redisCost {
	n := float64(requests)
	return redisCost{
		scripts: (u.scripts - before.scripts) / n, reads: (u.reads - before.reads - 1) / n,
		cpu: time.Duration(float64(u.cpu-before.cpu) / n),
	}
}
