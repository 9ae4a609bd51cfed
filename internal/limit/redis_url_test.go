package limit

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseRedisURL(t *testing.T) {
	r, err := ParseRedisURL("redis://platform:se%40cret@10.0.0.5:6380/2?pool_size=7")
	require.NoError(t, err)
	require.Equal(t, "10.0.0.5:6380", r.single.Addr)
	require.Equal(t, []any{"platform", "se@cret", 2, 7}, []any{r.single.Username, r.single.Password, r.single.DB, r.single.PoolSize})
	require.Nil(t, r.single.TLSConfig)

	r, err = ParseRedisURL("rediss://:secret@redis.example.com")
	require.NoError(t, err)
	require.Equal(t, "redis.example.com:6379", r.single.Addr)
	require.Equal(t, "redis.example.com", r.single.TLSConfig.ServerName)

	r, err = ParseRedisURL("unix:///run/redis/redis.sock")
	require.NoError(t, err)
	require.Equal(t, "/run/redis/redis.sock", r.single.Addr)

	r, err = ParseRedisURL("redis://u:p@10.0.0.5:26379,10.0.0.6:26379,[::1]:26379/3?sentinel=mymaster&sentinel_password=q")
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.5:26379", "10.0.0.6:26379", "[::1]:26379"}, r.sentinel.SentinelAddrs)
	require.Equal(t, []any{"mymaster", "u", "p", "", "q", 3}, []any{
		r.sentinel.MasterName, r.sentinel.Username,
		r.sentinel.Password, r.sentinel.SentinelUsername, r.sentinel.SentinelPassword, r.sentinel.DB,
	})

	r, err = ParseRedisURL("rediss://u:p@10.0.0.5:6379,10.0.0.6:6379?cluster=true&addr=10.0.0.7:6379")
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.5:6379", "10.0.0.7:6379", "10.0.0.6:6379"}, r.cluster.Addrs)
	require.Equal(t, []any{"u", "p"}, []any{r.cluster.Username, r.cluster.Password})
	require.NotNil(t, r.cluster.TLSConfig)
}

func TestParseRedisURLErrors(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.pem")
	require.NoError(t, os.WriteFile(none, []byte("x"), 0o600))
	for address, want := range map[string]string{
		"":                                    "no known scheme; write redis://",
		"localhost:6379":                      "no known scheme; write redis://",
		"http://localhost":                    "no known scheme; write redis://",
		"redis://:hunter2@a:1,b:2":            "add ?sentinel=<master name> or ?cluster=true",
		"redis://:hunter2@a:1,b?cluster=true": "host1:6379,host2:6379",
		"redis://:hunter2@a/x":                "invalid database number",
		"redis://:hunter2@a/1/2":              "the database is no number",
		"redis://:hun%ter2@a":                 "%40",
		"redis://:hunter2/x@a:1":              "%2F",
		"redis://:hunter2#x@a:1":              "%23",
		"redis://:hunter2@a?pool=hunter2":     "unexpected option: pool",
		"redis://:hunter2@a?pool_size=many":   "invalid pool_size number",
		"redis://a?cluster=yes":               "write cluster=true",
		"redis://a?cluster=true&sentinel=m":   "exclude each other",
		"redis://a/3?cluster=true":            "only database 0",
		"redis://a?ca=/x":                     "write rediss://",
		"rediss://a?ca=/does/not/exist":       "reading the certificates of ca",
		"rediss://a?ca=" + none:               "holds no PEM certificate",
		"redis://:hunter2@a?%zz":              "?name=value",
	} {
		_, err := ParseRedisURL(address)
		require.ErrorContains(t, err, want, address)
		require.NotContains(t, err.Error(), "hunter2", address)
		require.NotContains(t, err.Error(), "ter2", address)
	}
}

func FuzzParseRedisURL(f *testing.F) {
	for _, s := range []string{
		"redis://platform:hunter2@a:1,b:2/3?sentinel=m&sentinel_password=x", "rediss://:hunter2@a?cluster=true&addr=x:1",
		"redis://u:hunter2/@[::1]:%20", "unix://u:hunter2@/x?db=y", "redis://:hunter2@a:hunter2/x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		r, err := ParseRedisURL(address)
		if err == nil {
			_ = r.client(1).Close()
			return
		}
		require.NotContains(t, err.Error(), "hunter2", address)
	})
}

func FuzzScriptReply(f *testing.F) {
	f.Add(string(appendDoubles(nil, 0, 1, 2, 3, 4, 5)), 1)
	f.Add(string(appendDoubles(nil, 2, 1, 2)), 3)
	f.Add("", 0)
	w := (&calendar{location: noon.Location()}).at(noon)
	f.Fuzz(func(t *testing.T, reply string, n int) {
		n = min(max(n, 0), MaxChecks)
		var o outcome
		if o.parse(reply, n) != nil {
			return
		}
		checks := make([]Check, n)
		for i := range checks {
			checks[i] = Check{Rate: Rate{Requests: 5, Period: 100}, Quota: Quota{Day: 1, Month: 1}}
		}
		var tl tally
		if o.verdict <= verdictRefused {
			o.tally(&tl, checks, &w)
			res := tl.decided(o.verdict == verdictAllowed)
			require.GreaterOrEqual(t, res.Remaining, int64(0))
			require.GreaterOrEqual(t, int64(res.RetryAfter), int64(0))
		}
	})
}
