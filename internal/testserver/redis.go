//go:build linux

package testserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis is a Redis server, a sentinel, or a node of a cluster.
type Redis struct {
	// Host and Port are where it listens.
	Host string
	Port int

	dir     string
	args    []string
	process *process
}

// NewRedis starts a server for a test, and ends it with the test. The
// arguments are added to the server's own: "--maxmemory", "10mb".
func NewRedis(t testing.TB, args ...string) *Redis {
	t.Helper()
	r, err := StartRedis("127.0.0.1", args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// StartRedis makes a server that listens on the address and keeps nothing on
// disk unless the arguments say so. It must be closed.
func StartRedis(host string, args ...string) (*Redis, error) {
	r := &Redis{Host: host, args: args}
	var err error
	if r.dir, err = folder("redis"); err != nil {
		return nil, err
	}
	if err := onFreePort(func(port int) error { r.Port = port; return r.Start() }); err != nil {
		return nil, errors.Join(err, os.RemoveAll(r.dir))
	}
	return r, nil
}

// NewSentinel starts a sentinel that watches the master under the name
// "platform" and fails over when it does not answer for a second.
func NewSentinel(t testing.TB, master *Redis) *Redis {
	t.Helper()
	r := &Redis{Host: master.Host}
	var err error
	if r.dir, err = folder("sentinel"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	config := filepath.Join(r.dir, "sentinel.conf")
	rules := fmt.Sprintf("sentinel monitor platform %s %d 1\nsentinel down-after-milliseconds platform 1000\nsentinel failover-timeout platform 5000\n",
		master.Host, master.Port)
	if err := os.WriteFile(config, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := own(config); err != nil {
		t.Fatal(err)
	}
	r.args = []string{config, "--sentinel"}
	if err := onFreePort(func(port int) error { r.Port = port; return r.Start() }); err != nil {
		t.Fatal(err)
	}
	return r
}

// NewRedisCluster starts a cluster of three masters.
func NewRedisCluster(t testing.TB) []*Redis {
	t.Helper()
	nodes := make([]*Redis, 3)
	for i := range nodes {
		// The bus listens on a port of its own; the default, port+10000, need not exist.
		bus, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		nodes[i] = NewRedis(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "2000")
	}
	cli, err := program("redis-cli", "/usr/bin")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--cluster", "create"}
	for _, n := range nodes {
		args = append(args, n.Address())
	}
	if err := run(nodes[0].dir, cli, append(args, "--cluster-yes")...); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if err := n.process.ready(n.inCluster); err != nil {
			t.Fatal(err)
		}
	}
	return nodes
}

// URL is the server's address.
func (r *Redis) URL() string { return "redis://" + r.Address() }

// Address is host and port.
func (r *Redis) Address() string { return net.JoinHostPort(r.Host, strconv.Itoa(r.Port)) }

// Start starts the server again after it has ended, at its old address.
func (r *Redis) Start() error {
	server, err := program("redis-server", "/usr/bin")
	if err != nil {
		return err
	}
	args := r.args
	own := []string{"--port", strconv.Itoa(r.Port), "--bind", r.Host, "--dir", r.dir, "--protected-mode", "no"}
	if len(args) > 0 && !strings.HasPrefix(args[0], "--") {
		args = append(append([]string{args[0]}, own...), args[1:]...)
	} else {
		args = append(append(own, "--save", "", "--appendonly", "no"), args...)
	}
	if r.process, err = launch(r.dir, server, args...); err != nil {
		return err
	}
	return r.process.ready(r.ping)
}

// Stop ends the server in order.
func (r *Redis) Stop() { r.process.end(syscall.SIGTERM) }

// Kill ends the server as kill -9 does.
func (r *Redis) Kill() { r.process.kill() }

// Pause stops the server where it is: its connections stay and nothing answers.
func (r *Redis) Pause() { r.process.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (r *Redis) Resume() { r.process.signal(syscall.SIGCONT) }

// Close ends the server and removes its data.
func (r *Redis) Close() error {
	if r.process != nil {
		r.Resume()
		r.process.kill()
	}
	return os.RemoveAll(r.dir)
}

// Client connects to the server, for tests that look into it.
func (r *Redis) Client(t testing.TB) *redis.Client {
	t.Helper()
	c := r.client()
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (r *Redis) client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: r.Address(), DialTimeout: time.Second, ReadTimeout: time.Second, MaxRetries: -1})
}

func (r *Redis) ping() error {
	c := r.client()
	defer func() { _ = c.Close() }()
	err := c.Ping(context.Background()).Err()
	if err != nil && strings.HasPrefix(err.Error(), "NOAUTH") {
		return nil
	}
	return err
}

func (r *Redis) inCluster() error {
	c := r.client()
	defer func() { _ = c.Close() }()
	info, err := c.ClusterInfo(context.Background()).Result()
	if err != nil {
		return err
	}
	if !strings.Contains(info, "cluster_state:ok") {
		return errors.New("the cluster is not formed yet")
	}
	return nil
}
