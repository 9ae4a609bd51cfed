package store

import (
	"context"
	"errors"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What a DSN that says nothing else gets.
const (
	connectTimeout = 3 * time.Second
	connLifetime   = time.Hour
	lifetimeJitter = 10 * time.Minute
	pingTimeout    = time.Second
	// deadPeer is how long sent bytes may stay unacknowledged before the
	// connection counts as cut (TCP_USER_TIMEOUT, where the system has it).
	deadPeer = 10 * time.Second
	// minConns is what one node needs: a writer, a reader, maintenance.
	minConns = 4
	// defaultMaxConns is explained at [Options.MaxConns].
	defaultMaxConns = 16
)

// sessionSettings are set on every new connection, by a statement and not when
// it connects: pgbouncer refuses settings that it does not know at that time.
var sessionSettings = []struct{ name, value string }{
	{"statement_timeout", "30s"},
	{"idle_in_transaction_session_timeout", "10s"},
	{"lock_timeout", "5s"},
}

const wantDSN = `want postgres://user:password@host:5432/database, with the special characters of the password percent-encoded, ` +
	`or host=… port=… user=… password='…' dbname=…; more hosts by commas, with target_session_attrs=read-write`

// A setting's name; what is none comes from a password that is not quoted.
var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$`)

// poolConfig reads the DSN. Its errors show nothing of it: what cannot be
// parsed cannot be masked with certainty either.
func poolConfig(dsn string, maxConns int) (*pgxpool.Config, error) {
	if strings.TrimSpace(dsn) == "" {
		return nil, errors.New("the PostgreSQL DSN is empty; " + wantDSN)
	}
	raw, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the PostgreSQL DSN cannot be read: " + dsnProblem(err) + "; " + wantDSN)
	}
	for name := range raw.RuntimeParams {
		if !settingName.MatchString(name) {
			return nil, errors.New("the PostgreSQL DSN has a setting whose name is none: a password with spaces or quotes must be quoted; " + wantDSN)
		}
	}
	c, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the PostgreSQL DSN cannot be read: a pool_… setting is not valid; want pool_max_conns=16, pool_max_conn_lifetime=1h")
	}
	said := func(setting string) bool { _, ok := raw.RuntimeParams[setting]; return ok }
	if !said("pool_max_conns") {
		c.MaxConns = defaultMaxConns
		if maxConns > 0 {
			c.MaxConns = int32(min(maxConns, 10_000))
		}
	}
	c.MaxConns = max(c.MaxConns, minConns)
	if !said("pool_max_conn_lifetime") {
		c.MaxConnLifetime = connLifetime
	}
	if !said("pool_max_conn_lifetime_jitter") {
		c.MaxConnLifetimeJitter = lifetimeJitter
	}
	c.PingTimeout = pingTimeout
	cc := c.ConnConfig
	if !said("application_name") {
		cc.RuntimeParams["application_name"] = "open_platform"
	}
	if cc.ConnectTimeout == 0 {
		cc.ConnectTimeout = connectTimeout
	}
	dialer := net.Dialer{
		Timeout:         cc.ConnectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
		Control:         boundUnacknowledged,
	}
	cc.DialFunc = dialer.DialContext
	cc.AfterConnect = applySettings(cc.RuntimeParams)
	return c, nil
}

// applySettings sets the session's limits that the DSN does not.
func applySettings(said map[string]string) pgconn.AfterConnectFunc {
	var sets []string
	for _, s := range sessionSettings {
		if _, ok := said[s.name]; !ok && !strings.Contains(said["options"], s.name) {
			sets = append(sets, "SET "+s.name+" = '"+s.value+"'")
		}
	}
	if len(sets) == 0 {
		return nil
	}
	query := strings.Join(sets, "; ")
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		return conn.Exec(ctx, query).Close()
	}
}

// dsnProblem is the part of a parser's error that cannot hold a secret.
func dsnProblem(err error) string {
	for _, setting := range []string{
		"sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "target_session_attrs", "channel_binding", "port", "service", "passfile",
	} {
		if parsed := new(pgconn.ParseConfigError); errors.As(err, &parsed) &&
			strings.Contains(strings.TrimPrefix(err.Error(), "cannot parse `"+parsed.ConnString), "invalid "+setting) {
			return setting + " is not valid"
		}
	}
	return "it is no URL and no list of name=value"
}
