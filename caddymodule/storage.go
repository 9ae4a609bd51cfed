package caddymodule

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/store"
)

// The kinds of store.
const (
	engineSQLite   = "sqlite"
	enginePostgres = "postgres"
)

// defaultPath is the SQLite file unless the configuration names one.
var defaultPath = filepath.Join("data", "openplatform.db")

// Storage says where the data is.
type Storage struct {
	// Engine is the kind of store: "sqlite", for one node, or "postgres", for
	// any number of nodes. Default: sqlite.
	Engine string `json:"engine,omitempty"`

	// Path is the SQLite file. Placeholders are resolved when the
	// configuration loads. Default: ./data/openplatform.db.
	Path string `json:"path,omitempty"`

	// DSN is the PostgreSQL database, as a URL or as keyword/value pairs
	// (PostgreSQL manual, section 34.1.1); several hosts with
	// target_session_attrs=read-write follow a failover. Placeholders such as
	// {env.DATABASE_URL} are resolved when the configuration loads. Required
	// for postgres.
	DSN string `json:"dsn,omitempty"`

	// MaxConns is how many connections to PostgreSQL this node opens at the
	// most. Default: 16.
	MaxConns int `json:"max_conns,omitempty"`
}

// provision sets defaults and resolves placeholders.
func (s *Storage) provision(repl *caddy.Replacer) (err error) {
	if s.Engine == "" {
		s.Engine = engineSQLite
	}
	switch s.Engine {
	case engineSQLite:
		if s.DSN != "" || s.MaxConns != 0 {
			return fmt.Errorf("storage: dsn and max_conns belong to postgres; sqlite has a path")
		}
		if s.Path == "" {
			s.Path = defaultPath
		}
		path, err := repl.ReplaceOrErr(s.Path, true, true)
		if err != nil {
			return fmt.Errorf("storage path: %w", err)
		}
		if s.Path, err = filepath.Abs(path); err != nil {
			return fmt.Errorf("storage path: %w", err)
		}
	case enginePostgres:
		if s.Path != "" {
			return fmt.Errorf("storage: a path belongs to sqlite; postgres has a dsn")
		}
		if s.DSN, err = repl.ReplaceOrErr(s.DSN, true, true); err != nil {
			return fmt.Errorf("storage dsn: %w", err)
		}
		if err := store.ValidateDSN(s.DSN); err != nil {
			return fmt.Errorf("storage: %w", err)
		}
		if s.MaxConns < 0 {
			return fmt.Errorf("storage: max_conns must be 1 or more, not %d", s.MaxConns)
		}
	default:
		return fmt.Errorf("storage engine %q is not known; write sqlite or postgres", s.Engine)
	}
	return nil
}

// shared tells whether other nodes use the same store.
func (s *Storage) shared() bool { return s.Engine == enginePostgres }

// describe names the store without its password.
func (s *Storage) describe() string {
	if s.shared() {
		return enginePostgres + " " + store.DescribeDSN(s.DSN)
	}
	return engineSQLite + " " + s.Path
}

// Redis says how nodes share limits and nonces.
type Redis struct {
	// URL is where Redis is: redis://, or rediss:// for TLS. Placeholders such
	// as {env.REDIS_URL} are resolved when the configuration loads. Required.
	URL string `json:"url,omitempty"`

	// Accuracy is how rates and quotas of an app are counted. "exact" asks
	// Redis for each call. "leased" takes slices of a limit and spends them
	// from memory: hardly any load on Redis, and a burst may be over by the
	// slices that nodes hold, a tenth of the limit at the most. Limits that
	// span apps are always leased. Default: exact.
	Accuracy string `json:"accuracy,omitempty"`

	// Nonces is where used nonces are remembered: "shared", in Redis, so that
	// a call is accepted once on all nodes together; or "local", on each node
	// alone. Default: shared.
	Nonces string `json:"nonces,omitempty"`

	// Timeout is how long a call waits for Redis before it goes on without.
	// Default: 250ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// OnFailure is what happens while Redis does not answer. "share": each
	// node grants its share of every limit and remembers nonces alone. "deny":
	// calls are refused with store_unavailable. Default: share.
	OnFailure string `json:"on_failure,omitempty"`
}

// Values of the options of Redis.
const (
	accuracyLeased = "leased"
	noncesLocal    = "local"
	failureDeny    = "deny"
)

// All of them, the default first.
var (
	redisAccuracies = []string{"exact", accuracyLeased}
	redisNonces     = []string{"shared", noncesLocal}
	redisFailures   = []string{"share", failureDeny}
)

// provision sets defaults and resolves placeholders.
func (r *Redis) provision(repl *caddy.Replacer) (err error) {
	if r.URL, err = repl.ReplaceOrErr(r.URL, true, true); err != nil {
		return fmt.Errorf("redis url: %w", err)
	}
	if _, err := limit.ParseRedisURL(r.URL); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	for _, option := range []struct {
		name    string
		value   *string
		allowed []string
	}{
		{"accuracy", &r.Accuracy, redisAccuracies},
		{"nonces", &r.Nonces, redisNonces},
		{"on_failure", &r.OnFailure, redisFailures},
	} {
		if err := oneOf("redis: "+option.name, option.value, option.allowed); err != nil {
			return err
		}
	}
	switch {
	case r.Timeout < 0:
		return fmt.Errorf("redis: timeout must not be negative")
	case r.Timeout == 0:
		r.Timeout = caddy.Duration(defaultRedisTimeout)
	}
	return nil
}

const defaultRedisTimeout = 250 * time.Millisecond

// oneOf sets the default, which is the first one, or checks the value.
func oneOf(name string, value *string, allowed []string) error {
	if *value == "" {
		*value = allowed[0]
	}
	if slices.Contains(allowed, *value) {
		return nil
	}
	return fmt.Errorf("%s: %q is not known; write %s", name, *value, strings.Join(allowed, " or "))
}
