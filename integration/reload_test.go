package integration

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// reload has the server load the Caddyfile as if it had changed.
func (n *node) reload(caddyfile string) (int, string) {
	n.t.Helper()
	status, data := n.api(http.MethodPost, "/load", []byte(n.fill(caddyfile)))
	return status, string(data)
}

var (
	allowed    = regexp.MustCompile(`(?m)^caddy_open_platform_calls_total\{environment="sandbox",result="allowed"\} (\S+)$`)
	goroutines = regexp.MustCompile(`goroutine profile: total (\d+)`)
	remaining  = regexp.MustCompile(`"app-day";r=(\d+)`)
)

// number finds the number that pattern captures.
func number(t *testing.T, pattern *regexp.Regexp, text string) int {
	t.Helper()
	m := pattern.FindStringSubmatch(text)
	require.NotNil(t, m, "%s is not in %.2000s", pattern, text)
	f, err := strconv.ParseFloat(m[1], 64)
	require.NoError(t, err)
	return int(f)
}

func (n *node) allowedCalls() int {
	n.t.Helper()
	_, data := n.api(http.MethodGet, "/metrics", nil)
	return number(n.t, allowed, string(data))
}

func (n *node) goroutines() int {
	n.t.Helper()
	_, data := n.api(http.MethodGet, "/debug/pprof/goroutine?debug=1", nil)
	return number(n.t, goroutines, string(data))
}

// openFiles counts the server's descriptors of files with this name.
func (n *node) openFiles(name string) int {
	n.t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid)
	entries, err := os.ReadDir(dir)
	require.NoError(n.t, err)
	count := 0
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && filepath.Base(target) == name {
			count++
		}
	}
	return count
}

// insist sends a request until it is answered. Caddy opens a socket of its own
// for each configuration (SO_REUSEPORT), and the kernel drops the connections
// that still wait at the old one. Nobody has looked at their requests: sent
// once more, the same request must pass, its nonce unspent.
func insist(client *http.Client, req *http.Request) (*http.Response, error) {
	for try := 1; ; try++ {
		resp, err := client.Do(req)
		if err == nil || try == 5 {
			return resp, err
		}
		if req.GetBody != nil { // the try before may have read it
			if req.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// sendAgain is send for a server whose configuration changes.
func sendAgain(t *testing.T, client *http.Client, req *http.Request) answer {
	t.Helper()
	resp, err := insist(client, req)
	require.NoError(t, err)
	return whole(t, resp)
}

// maxStoreFiles is how many connections one open store has at most: a writer
// and four readers.
const maxStoreFiles = 5

// TestReloads forces reloads while calls go on: no call fails, and nothing
// that the server has in memory is lost or piles up.
func TestReloads(t *testing.T) {
	config := globals("") + gated("http://127.0.0.1:%site%", "sandbox", "")
	n, s := startShop(t, config)
	base, client := n.fill("http://127.0.0.1:%site%"), n.plain()
	a := n.newApp()
	n.cli("plan", "put", "default", "--app", "1000000/day")
	echo := func() answer { return sendAgain(t, client, a.sign(t, call{url: base + "/v1/echo"})).passed(t) }
	once := call{url: base + "/v1/echo", nonce: "before-the-reloads-1", at: time.Now()}
	sendAgain(t, client, a.sign(t, once)).passed(t)
	for range 3 { // warm up
		echo()
		status, said := n.reload(config)
		require.Equal(t, http.StatusOK, status, said)
	}
	client.CloseIdleConnections()
	before := n.goroutines()
	left := number(t, remaining, echo().Header.Get("Ratelimit"))

	var calls atomic.Int64
	stop := make(chan struct{})
	failures := make(chan string, 100)
	var load sync.WaitGroup
	for range 4 {
		own := n.plain()
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := insist(own, a.sign(t, call{url: base + "/v1/echo"}))
				if err != nil {
					failures <- err.Error()
					return
				}
				said, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					failures <- string(said)
					return
				}
				calls.Add(1)
			}
		})
	}
	counted := n.allowedCalls()
	for range reloads {
		status, said := n.reload(config)
		require.Equal(t, http.StatusOK, status, said)
		now := n.allowedCalls()
		require.GreaterOrEqual(t, now, counted, "counters never fall")
		counted = now
		require.LessOrEqual(t, n.openFiles("openplatform.db"), maxStoreFiles, "the store is opened once")
		target := calls.Load() + 4 // some calls between two reloads
		eventually(t, "calls go on", func() error {
			if calls.Load() < target && len(failures) == 0 {
				return fmt.Errorf("%d of %d", calls.Load(), target)
			}
			return nil
		})
	}
	close(stop)
	load.Wait()
	select {
	case failure := <-failures:
		require.FailNow(t, "a call failed", failure)
	default:
	}

	sendAgain(t, client, a.sign(t, once)).refused(t, http.StatusUnauthorized, "nonce_reused")
	require.Equal(t, left-int(calls.Load())-1, number(t, remaining, echo().Header.Get("Ratelimit")), "every call was charged once")
	// Of all calls but these: one with a fixed nonce, three to warm up, two more.
	require.Equal(t, int(calls.Load())+1+3+2, n.allowedCalls())
	client.CloseIdleConnections()
	s.Config.SetKeepAlivesEnabled(false) // lets go of the connections that idle at the shop
	eventually(t, "goroutines end", func() error {
		if now := n.goroutines(); now > before+10 {
			return fmt.Errorf("%d, and %d before", now, before)
		}
		return nil
	})
}

// TestCallOutlivesReload: a call that is under way when the configuration
// changes is served to its end.
func TestCallOutlivesReload(t *testing.T) {
	config := globals("") + gated("http://127.0.0.1:%site%", "sandbox", "")
	n, s := startShop(t, config)
	a := n.newApp()
	resp, err := n.plain().Do(a.sign(t, call{url: n.fill("http://127.0.0.1:%site%/v1/events")}))
	require.NoError(t, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	require.True(t, lines.Scan())
	require.Equal(t, "data: first", lines.Text())
	status, said := n.reload(config)
	require.Equal(t, http.StatusOK, status, said)
	sendAgain(t, n.plain(), a.sign(t, call{url: n.fill("http://127.0.0.1:%site%/v1/echo")})).passed(t)
	s.next(t)
	require.True(t, lines.Scan())
	require.True(t, lines.Scan(), "%v", lines.Err())
	require.Equal(t, "data: second", lines.Text())
}

// TestRefusedReloads: a configuration that cannot run leaves the one that runs
// and its store as they are.
func TestRefusedReloads(t *testing.T) {
	config := globals("") + gated("http://127.0.0.1:%site%", "sandbox", "")
	n, _ := startShop(t, config)
	base, client := n.fill("http://127.0.0.1:%site%"), n.plain()
	a := n.newApp()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	good := n.read("shop.openapi.yaml")
	changed := strings.Replace(good, "shop.gold", "shop.silver", 1)

	for name, c := range map[string]struct{ config, catalog, want string }{
		// Caddy starts apps in any order: those that were started before the
		// one that fails must have changed nothing.
		"a catalog that cannot be read": {config, strings.Replace(good, "x-open-name: shop.gold", "x-open-nam: shop.gold", 1), "shop.openapi.yaml:"},
		"a listener's port is taken":    {config + "http://" + taken.Addr().String() + " {\n\trespond taken\n}\n", changed, "address already in use"},
		"another module is refused":     {config + "http://127.0.0.1:%other% {\n\topen_gate {\n\t\tenvironment moon\n\t}\n}\n", changed, "moon"},
		"a master key is malformed":     {strings.Replace(config, "catalog ./", "master_key nonsense\n\tcatalog ./", 1), changed, "master_key"},
		"another store is broken":       {strings.Replace(config, "data/openplatform.db", "data/no-database.db", 1), changed, "no-database.db"},
	} {
		t.Run(name, func(t *testing.T) {
			n.write("data/no-database.db", "this is no database, but a text that is long enough to be looked at")
			_, apis := n.api(http.MethodGet, "/open_platform/apis", nil)
			_, audit := n.api(http.MethodGet, "/open_platform/audit", nil)
			n.write("shop.openapi.yaml", c.catalog)
			once := call{url: base + "/v1/echo", at: time.Now(), nonce: rand.Text()}
			sendAgain(t, client, a.sign(t, once)).passed(t)

			for range 5 {
				status, said := n.reload(c.config)
				require.Equal(t, http.StatusBadRequest, status, said)
				require.Contains(t, said, c.want)
			}

			sendAgain(t, client, a.sign(t, call{url: base + "/v1/echo"})).passed(t)
			sendAgain(t, client, a.sign(t, once)).refused(t, http.StatusUnauthorized, "nonce_reused")
			_, now := n.api(http.MethodGet, "/open_platform/apis", nil)
			require.Equal(t, string(apis), string(now))
			_, now = n.api(http.MethodGet, "/open_platform/audit", nil)
			require.Equal(t, string(audit), string(now))
			require.LessOrEqual(t, n.openFiles("openplatform.db"), maxStoreFiles)
			require.Zero(t, n.openFiles("no-database.db"))
			status, made := n.api(http.MethodPost, "/open_platform/apps", map[string]string{"name": name})
			require.Equal(t, http.StatusCreated, status, "%s", made)
		})
	}

	n.write("shop.openapi.yaml", changed)
	status, said := n.reload(config)
	require.Equal(t, http.StatusOK, status, said)
	_, apis := n.api(http.MethodGet, "/open_platform/apis", nil)
	require.Contains(t, string(apis), "shop.silver")
}
