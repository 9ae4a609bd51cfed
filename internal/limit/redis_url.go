package limit

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// go-redis reports every lost connection and every missed sentinel on stderr,
// through a logger that the whole process shares. What an operator must know
// comes from RedisOptions.OnState, once for each change.
func init() { redis.SetLogger(&logging.VoidLogger{}) }

// RedisURL is a parsed address of Redis. It never prints its password.
type RedisURL struct {
	single   *redis.Options
	sentinel *redis.FailoverOptions
	cluster  *redis.ClusterOptions
}

// ParseRedisURL reads where Redis is. The forms are those of go-redis; further
// hosts may stand behind commas.
//
//	redis://127.0.0.1:6379                               a server
//	redis://platform:secret@10.0.0.5:6379/2              with an ACL user, database 2
//	rediss://:secret@redis.example.com:6380              with a password, over TLS
//	rediss://redis.example.com:6380?ca=/etc/redis/ca.pem the certificate of a private authority
//	unix:///run/redis/redis.sock                         a socket
//	redis://platform:secret@10.0.0.5:26379,10.0.0.6:26379/0?sentinel=mymaster
//	redis://platform:secret@10.0.0.5:6379,10.0.0.6:6379?cluster=true
//
// With sentinel, hosts are the sentinels' and user and password those of the
// servers behind; the sentinels' own are sentinel_username and
// sentinel_password. Further parameters of go-redis, such as pool_size, pass.
// Write %40 for an @ in a password, %2F for a slash.
func ParseRedisURL(address string) (*RedisURL, error) {
	first, others, query, err := splitHosts(address)
	if err != nil {
		return nil, err
	}
	master, cluster, ca := query.Get("sentinel"), query.Get("cluster"), query.Get("ca")
	query.Del("sentinel")
	query.Del("cluster")
	query.Del("ca")
	for _, host := range others {
		query.Add("addr", host)
	}
	if master == "" {
		master = query.Get("master_name")
	}
	r := new(RedisURL)
	var tlsConfig **tls.Config
	switch {
	case master != "" && cluster == "true":
		return nil, errors.New("redis: sentinel and cluster exclude each other; write one of them")
	case master != "":
		query.Set("master_name", master)
		behind := first.User
		first.User = nil
		if name := query.Get("sentinel_username"); name != "" || query.Has("sentinel_password") {
			first.User = url.UserPassword(name, query.Get("sentinel_password"))
		}
		query.Del("sentinel_username")
		query.Del("sentinel_password")
		first.RawQuery = query.Encode()
		if r.sentinel, err = redis.ParseFailoverURL(first.String()); err == nil && behind != nil {
			r.sentinel.Username = behind.Username()
			r.sentinel.Password, _ = behind.Password()
		}
		if err == nil {
			tlsConfig = &r.sentinel.TLSConfig
		}
	case cluster == "true":
		if first.Path != "" && first.Path != "/" && first.Path != "/0" {
			return nil, errors.New("redis: a cluster has only database 0; write no path")
		}
		first.RawQuery = query.Encode()
		if r.cluster, err = redis.ParseClusterURL(first.String()); err == nil {
			tlsConfig = &r.cluster.TLSConfig
		}
	case cluster != "" && cluster != "false":
		return nil, fmt.Errorf("redis: cluster=%q; write cluster=true", cluster)
	case len(others) > 0:
		return nil, errors.New("redis: several hosts; add ?sentinel=<master name> or ?cluster=true, or write one host")
	default:
		first.RawQuery = query.Encode()
		if r.single, err = redis.ParseURL(first.String()); err == nil {
			tlsConfig = &r.single.TLSConfig
		}
	}
	if err != nil {
		return nil, fmt.Errorf("redis: %s; write redis://user:password@host:6379/0", withoutURL(err))
	}
	if *tlsConfig != nil && r.single == nil {
		(*tlsConfig).ServerName = "" // each host goes by its own name
	}
	if ca != "" {
		if *tlsConfig == nil {
			return nil, errors.New("redis: ca is for TLS; write rediss:// instead of redis://")
		}
		if err := trust(*tlsConfig, ca); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// splitHosts takes the hosts behind the first from an address, which url.Parse
// would refuse.
func splitHosts(address string) (first *url.URL, others []string, query url.Values, err error) {
	const form = "write redis://user:password@host:6379/0, or rediss:// for TLS" //nolint:gosec // G101: an example
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok || scheme != "redis" && scheme != "rediss" && scheme != "unix" {
		return nil, nil, nil, errors.New("redis: the address has no known scheme; " + form)
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	at := strings.LastIndexByte(authority, '@') + 1
	hosts := strings.Split(authority[at:], ",")
	for _, host := range hosts[1:] {
		if _, _, err := net.SplitHostPort(host); err != nil {
			return nil, nil, nil, errors.New("redis: a host behind a comma has no port; write host1:6379,host2:6379")
		}
	}
	first, err = url.Parse(scheme + "://" + authority[:at] + hosts[0] + tail)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("redis: %s; %s, and %%40, %%2F, %%3F or %%23 for @, /, ? or # in a password", withoutURL(err), form)
	}
	if first.Fragment != "" {
		return nil, nil, nil, errors.New("redis: nothing may follow a #; write %23 for one in a password")
	}
	query, err = url.ParseQuery(first.RawQuery)
	if err != nil {
		return nil, nil, nil, errors.New("redis: what follows the ? cannot be read; write ?name=value&name=value")
	}
	return first, hosts[1:], query, nil
}

// withoutURL says what is wrong without showing the address, nor any part of
// it that url.Parse or go-redis quote: a password may be in it.
func withoutURL(err error) string {
	if e := new(url.Error); errors.As(err, &e) {
		err = e.Err
	}
	text := strings.TrimPrefix(err.Error(), "redis: ")
	if i := strings.IndexByte(text, '"'); i >= 0 {
		text = text[:i]
	}
	switch {
	case strings.HasPrefix(text, "unexpected option: "):
		return text // names, never values
	case strings.HasPrefix(text, "invalid URL path"):
		return "the database is no number"
	}
	if i := strings.IndexByte(text, ':'); i >= 0 {
		text = text[:i]
	}
	return strings.TrimSpace(text)
}

func trust(c *tls.Config, file string) error {
	pem, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("redis: reading the certificates of ca: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("redis: %s holds no PEM certificate", file)
	}
	return nil
}

// client connects when it is first used. It never sends a command again that
// may have been executed: a nonce would then seem used, a call cost two.
func (r *RedisURL) client(timeout time.Duration) redis.UniversalClient {
	quiet := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	switch {
	case r.sentinel != nil:
		o := *r.sentinel
		o.MaxRetries, o.Protocol, o.DisableIdentity, o.ContextTimeoutEnabled = -1, 2, true, true
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = timeout, timeout, timeout, timeout
		o.DialerRetries = 1
		return redis.NewFailoverClient(&o)
	case r.cluster != nil:
		o := *r.cluster
		o.MaxRetries, o.Protocol, o.DisableIdentity, o.ContextTimeoutEnabled = -1, 2, true, true
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = timeout, timeout, timeout, timeout
		o.DialerRetries, o.MaintNotificationsConfig = 1, quiet
		o.MinRetryBackoff, o.MaxRetryBackoff = time.Millisecond, timeout/8
		return redis.NewClusterClient(&o)
	}
	o := *r.single
	o.MaxRetries, o.Protocol, o.DisableIdentity, o.ContextTimeoutEnabled = -1, 2, true, true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = timeout, timeout, timeout, timeout
	o.DialerRetries, o.MaintNotificationsConfig = 1, quiet
	return redis.NewClient(&o)
}
