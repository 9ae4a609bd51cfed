//go:build linux

package testserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const postgresPrograms = "/usr/lib/postgresql/*/bin"

// Postgres is a PostgreSQL server.
type Postgres struct {
	// Host and Port are where it listens.
	Host string
	Port int

	dir       string
	process   *process
	databases atomic.Int64
}

// NewPostgres starts a server for a test, and ends it with the test.
func NewPostgres(t testing.TB) *Postgres {
	t.Helper()
	p, err := StartPostgres("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// StartPostgres makes a server that listens on the address. It must be closed.
func StartPostgres(host string) (*Postgres, error) {
	initdb, err := program("initdb", postgresPrograms)
	if err != nil {
		return nil, err
	}
	p := &Postgres{Host: host}
	if p.dir, err = folder("postgres"); err != nil {
		return nil, err
	}
	err = run(p.dir, initdb, "--pgdata="+p.data(), "--username=postgres", "--auth=trust",
		"--encoding=UTF8", "--no-locale", "--no-sync")
	if err == nil {
		err = p.configure()
	}
	if err == nil {
		err = onFreePort(func(port int) error { p.Port = port; return p.Start() })
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.dir))
	}
	return p, nil
}

// StartStandby makes a server that follows p and can be promoted. It must be
// closed.
func (p *Postgres) StartStandby() (*Postgres, error) {
	backup, err := program("pg_basebackup", postgresPrograms)
	if err != nil {
		return nil, err
	}
	s := &Postgres{Host: p.Host}
	if s.dir, err = folder("standby"); err != nil {
		return nil, err
	}
	err = run(s.dir, backup, "--host="+p.Host, "--port="+strconv.Itoa(p.Port), "--username=postgres",
		"--pgdata="+s.data(), "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
	if err == nil {
		err = onFreePort(func(port int) error { s.Port = port; return s.Start() })
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

// DSN is the address of a new, empty database.
func (p *Postgres) DSN(ctx context.Context) (string, error) {
	name := fmt.Sprintf("test%d", p.databases.Add(1))
	conn, err := pgx.Connect(ctx, p.URL("postgres"))
	if err != nil {
		return "", fmt.Errorf("making a database: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", fmt.Errorf("making a database: %w", err)
	}
	return p.URL(name), nil
}

// Database is DSN for a test.
func (p *Postgres) Database(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	dsn, err := p.DSN(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

// URL is the address of a database by its name.
func (p *Postgres) URL(database string) string {
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", p.Address(), database)
}

// Address is host and port.
func (p *Postgres) Address() string { return net.JoinHostPort(p.Host, strconv.Itoa(p.Port)) }

// Start starts the server again after it has ended, at its old address.
func (p *Postgres) Start() error {
	postgres, err := program("postgres", postgresPrograms)
	if err != nil {
		return err
	}
	p.process, err = launch(p.dir, postgres, "-D", p.data(), "-p", strconv.Itoa(p.Port), "-c", "listen_addresses="+p.Host)
	if err != nil {
		return err
	}
	return p.process.ready(p.ping)
}

// Stop ends the server in order, breaking off its connections.
func (p *Postgres) Stop() { p.process.end(syscall.SIGINT) }

// Kill ends the server as kill -9 does.
func (p *Postgres) Kill() { p.process.kill() }

// Pause stops the server where it is: its connections stay and nothing answers.
func (p *Postgres) Pause() { p.process.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (p *Postgres) Resume() { p.process.signal(syscall.SIGCONT) }

// Promote makes a standby the primary, and waits until it takes writes.
func (p *Postgres) Promote() error {
	ctl, err := program("pg_ctl", postgresPrograms)
	if err != nil {
		return err
	}
	return run(p.dir, ctl, "promote", "--wait", "--pgdata="+p.data())
}

// Close ends the server and removes its data.
func (p *Postgres) Close() error {
	p.Resume()
	p.process.kill()
	return os.RemoveAll(p.dir)
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *Postgres) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.URL("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// configure lets whoever reaches the server in as its owner, standbys too.
func (p *Postgres) configure() error {
	// What a test commits must survive a killed server, not a power cut.
	const settings = "fsync = off\nmax_connections = 200\nshared_buffers = 64MB\nunix_socket_directories = ''\n"
	const rules = "host all postgres 0.0.0.0/0 trust\nhost replication postgres 0.0.0.0/0 trust\n"
	for name, text := range map[string]string{"postgresql.auto.conf": settings, "pg_hba.conf": rules} {
		file := filepath.Join(p.data(), name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return fmt.Errorf("setting up PostgreSQL: %w", err)
		}
		if err := own(file); err != nil {
			return fmt.Errorf("setting up PostgreSQL: %w", err)
		}
	}
	return nil
}

// run runs a program to its end as the servers' user.
func run(dir, program string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // G204: one of the servers' own programs
	cmd.Dir, cmd.SysProcAttr = dir, unprivileged()
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("running %s: %w: %s", program, err, out)
	}
	return nil
}
