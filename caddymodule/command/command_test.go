package command

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"testing"

	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile" // the adapter "caddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi/adminapitest"
)

// result is what a command printed and its exit code.
type result struct {
	stdout, stderr string
	code           int
}

// ok requires success and returns standard output.
func (r result) ok(t *testing.T) string {
	t.Helper()
	require.Equal(t, 0, r.code, "%s%s", r.stdout, r.stderr)
	return r.stdout
}

// failed requires exit code 1 and one line of reason.
func (r result) failed(t *testing.T, says string) {
	t.Helper()
	r.refused(t, 1, says)
}

// usage requires exit code 2 and one line of reason.
func (r result) usage(t *testing.T, says string) {
	t.Helper()
	r.refused(t, 2, says)
}

func (r result) refused(t *testing.T, code int, says string) {
	t.Helper()
	require.Equal(t, code, r.code, "%s%s", r.stdout, r.stderr)
	require.Contains(t, r.stderr, says)
	require.Equal(t, 1, strings.Count(r.stderr, "\n"), "one line: %q", r.stderr)
	require.True(t, strings.HasPrefix(r.stderr, "Error: "), r.stderr)
}

// run runs "caddy open-platform args" as a script does: no terminal.
func run(t *testing.T, address string, args ...string) result {
	t.Helper()
	return runWith(t, address, "", false, args...)
}

func runWith(t *testing.T, address, stdin string, terminal bool, args ...string) result {
	t.Helper()
	c := newCLI()
	c.program, c.now, c.rand = "./caddy", adminapitest.Now, testRand()
	c.terminal = func() bool { return terminal }
	root := &cobra.Command{Use: "caddy", SilenceUsage: true}
	op := &cobra.Command{Use: "open-platform"}
	c.attach(op)
	root.AddCommand(op)
	var stdout, stderr bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	args = append([]string{"open-platform"}, args...)
	if address != "" {
		args = append(args, "--address", address)
	}
	root.SetArgs(args)
	r := result{}
	if err := root.ExecuteContext(t.Context()); err != nil {
		r.code = 1 // as caddycmd.Main does for any error but its own
		if v := reflect.Indirect(reflect.ValueOf(err)); v.Kind() == reflect.Struct && v.FieldByName("ExitCode").IsValid() {
			r.code = int(v.FieldByName("ExitCode").Int())
		}
	}
	r.stdout, r.stderr = stdout.String(), stderr.String()
	return r
}

// testNonce is the n-th nonce that run makes.
func testNonce(n int) string {
	b := make([]byte, 16*n)
	_, _ = io.ReadFull(testRand(), b)
	return hex.EncodeToString(b[16*(n-1):])
}

// admin starts an admin endpoint and gives its address.
func admin(t *testing.T) (*adminapitest.Server, string) {
	t.Helper()
	s := adminapitest.NewServer(t)
	return s, strings.TrimPrefix(s.URL, "http://")
}

func TestCommandsOnAnApp(t *testing.T) {
	t.Chdir(t.TempDir())
	s, addr := admin(t)
	writeFile(t, "mall.openapi.yaml", adminapitest.Catalog)
	run(t, addr, "apply", "-f", "mall.openapi.yaml").ok(t)
	run(t, addr, "plan", "put", "gold", "--title", "Gold", "--app", "100/1m burst 200, 10000/day", "--api", "product.list=20/s").ok(t)
	run(t, addr, "ip-group", "put", "office", "203.0.113.0/24", "2001:db8::7").ok(t)

	var app struct {
		ID, Secret, Environment string
		AppKey                  string `json:"app_key"`
		Number                  int
	}
	require.NoError(t, json.Unmarshal([]byte(run(t, addr, "app", "create", "--name", "演示店", "--plan", "gold", "--ip", "198.51.100.7", "--ip", "@office", "--package", "trade", "--json").ok(t)), &app))
	require.Regexp(t, `^sk_`, app.Secret)
	require.Equal(t, "sandbox", app.Environment)
	require.Equal(t, 1, app.Number)

	secrets := []string{app.Secret}
	issued := func(args ...string) {
		t.Helper()
		var out struct{ Secret string }
		require.NoError(t, json.Unmarshal([]byte(run(t, addr, append(args, "--json")...).ok(t)), &out))
		require.NotEmpty(t, out.Secret)
		secrets = append(secrets, out.Secret)
	}
	issued("app", "secret", "add", app.AppKey)
	issued("app", "secret", "add", app.AppKey, "--environment", "production")
	issued("app", "dialect", "allow", app.AppKey, "aop1688")
	run(t, addr, "app", "secret", "add", app.AppKey).failed(t, "revoke")
	run(t, addr, "app", "secret", "revoke", app.AppKey, "1", "--after", "24h").ok(t)
	openssl(t, "genpkey", "-algorithm", "ed25519", "-out", "key.pem")
	openssl(t, "pkey", "-in", "key.pem", "-pubout", "-out", "key.pub.pem")
	run(t, addr, "app", "key", "add", app.AppKey, "--file", "key.pub.pem", "--environment", "production").ok(t)
	run(t, addr, "app", "key", "add", app.AppKey, "--file", "key.pem").usage(t, "private key")
	run(t, addr, "app", "ip", "add", app.AppKey, "192.0.2.0/24", "--note", "机房二").ok(t)
	run(t, addr, "app", "ip", "remove", app.AppKey, "198.51.100.7").ok(t)
	run(t, addr, "app", "revoke", app.AppKey, "trade").ok(t)
	run(t, addr, "app", "grant", app.AppKey, "trade", "--until", "2028-01-01").ok(t)
	run(t, addr, "app", "suspend", app.ID).ok(t)

	shown := run(t, addr, "app", "show", app.AppKey).ok(t)
	require.Equal(t, strings.TrimLeft(`
app:      `+app.ID+`
app key:  `+app.AppKey+`
name:     演示店
kind:     merchant
mode:     web
status:   suspended
plan:     gold
created:  2027-01-31 08:00:00Z
changed:  2027-01-31 08:00:00Z

Credentials
NUMBER  ENVIRONMENT  DIALECT  KIND        CREATED               STATE
1       sandbox      op1      secret      2027-01-31 08:00:00Z  ends 2027-02-01 08:00:00Z
2       sandbox      op1      secret      2027-01-31 08:00:00Z  live
3       production   op1      secret      2027-01-31 08:00:00Z  live
4       sandbox      aop1688  secret      2027-01-31 08:00:00Z  live
5       production   op1      public_key  2027-01-31 08:00:00Z  live

IP whitelist
RULE          NOTE
@office       -
192.0.2.0/24  机房二

Packages
PACKAGE  FROM  UNTIL                 STATE
trade    -     2028-01-01 00:00:00Z  current

Dialects
DIALECT  METHOD
aop1688  hmac-sha1
`, "\n"), shown)

	run(t, addr, "app", "resume", app.ID).ok(t)
	run(t, addr, "app", "plan", app.ID, "default").ok(t)
	run(t, addr, "app", "dialect", "disallow", app.AppKey, "aop1688").ok(t)
	list := run(t, addr, "app", "list", "--kind", "merchant").ok(t)
	require.Regexp(t, `(?m)^ID +APP KEY +KIND +STATUS +PLAN +CREATED +NAME$`, list)
	require.Regexp(t, `(?m)^`+app.ID+` +`+app.AppKey+` +merchant +active +default +2027-01-31 08:00:00Z +演示店$`, list)

	audit := run(t, addr, "audit", "--limit", "50", "--json").ok(t)
	require.Contains(t, audit, `"cli:`)
	run(t, addr, "app", "delete", app.AppKey).ok(t)
	run(t, addr, "app", "show", app.AppKey).failed(t, "not found")
	for _, secret := range secrets {
		require.NotContains(t, audit, secret)
		require.NotContains(t, s.Logged(), secret, "secrets in URLs or errors are logged")
		require.NotContains(t, shown, secret)
	}
}

func TestCreateSaysThatTheSecretIsShownOnce(t *testing.T) {
	_, addr := admin(t)
	out := run(t, addr, "app", "create", "--name", "Demo").ok(t)
	require.Regexp(t, `(?m)^secret: +sk_\w+$`, out)
	require.Contains(t, out, "shown this once")
}

func TestCatalogCommands(t *testing.T) {
	t.Chdir(t.TempDir())
	_, addr := admin(t)
	writeFile(t, "conf/mall.openapi.yaml", adminapitest.Catalog)
	file := "conf/mall.openapi.yaml"

	diff := run(t, addr, "apply", "-f", file, "--dry-run").ok(t)
	require.Equal(t, "+ api product.list@1.0\n+ api trade.order.get@1.0\n+ package trade\n+ topic product.changed\n+ topic trade.order.created\n0 unchanged\n", sortedHead(diff))
	require.Equal(t, "API  METHOD  PATH  PACKAGE  STATUS  TITLE\n", run(t, addr, "api", "list").ok(t), "a dry run changes nothing")

	runWith(t, addr, "n\n", true, "apply", "-f", file).refusedAfterQuestion(t)
	require.Equal(t, "API  METHOD  PATH  PACKAGE  STATUS  TITLE\n", run(t, addr, "api", "list").ok(t), "no means no")
	out := runWith(t, addr, "y\n", true, "apply", "-f", file).ok(t)
	require.Contains(t, out, "applied: 5 added, 0 changed, 0 offline")
	require.Equal(t, strings.TrimLeft(`
API                  METHOD  PATH                   PACKAGE  STATUS  TITLE
product.list@1.0     GET     /v1/products           basic    online  商品列表
trade.order.get@1.0  GET     /v1/orders/{order_id}  trade    online  订单详情
`, "\n"), run(t, addr, "api", "list").ok(t))

	changed := strings.Replace(adminapitest.Catalog, "summary: 订单详情", "summary: 订单", 1)
	head, tail, _ := strings.Cut(changed, "  /v1/products")
	_, tail, _ = strings.Cut(tail, "  /v1/orders")
	changed = head + "  /v1/orders" + tail
	writeFile(t, file, changed)
	diff = run(t, addr, "apply", "-f", file, "--dry-run").ok(t)
	require.Contains(t, diff, "- api product.list@1.0 (offline)\n")
	require.Regexp(t, `(?m)^~ api trade\.order\.get@1\.0: .*title`, diff)
	run(t, addr, "apply", "-f", file, "--json").ok(t)

	require.Contains(t, run(t, addr, "api", "show", "trade.order.get").ok(t), `"id": "1001"`)
	require.Equal(t, "Error: API \"nope\": not found\n", run(t, addr, "api", "show", "nope").stderr)
	require.Equal(t, "Error: API \"trade.order.get@2\": not found\n", run(t, addr, "api", "show", "trade.order.get@2").stderr)
	require.Contains(t, run(t, addr, "api", "deprecate", "trade.order.get", "--sunset", "2027-06-30").ok(t), "2027-06-30 00:00:00Z")
	require.Contains(t, run(t, addr, "api", "offline", "trade.order.get@1.0").ok(t), "offline")
	require.Contains(t, run(t, addr, "api", "online", "trade.order.get@1.0").ok(t), "online")

	writeFile(t, "bad.yaml", strings.Replace(adminapitest.Catalog, "x-open-package: trade", "x-open-pkg: trade", 1))
	r := run(t, addr, "apply", "-f", "bad.yaml")
	require.Equal(t, 2, r.code)
	require.Regexp(t, `^bad\.yaml:\d+:\d+: /paths/~1v1~1orders~1\{order_id\}/get`, r.stderr)

	run(t, addr, "package", "put", "reports", "--title", "报表").ok(t)
	require.Regexp(t, `(?m)^reports +- +报表$`, run(t, addr, "package", "list").ok(t))
	require.Contains(t, run(t, addr, "package", "show", "reports").ok(t), "报表")
	run(t, addr, "package", "delete", "trade").failed(t, "trade")
	require.Equal(t, "deleted package reports\n", run(t, addr, "package", "delete", "reports").ok(t))
}

func (r result) refusedAfterQuestion(t *testing.T) {
	t.Helper()
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "[y/N]")
	require.Contains(t, r.stderr, "nothing was changed")
}

func TestPlanAndLimitCommands(t *testing.T) {
	_, addr := admin(t)
	run(t, addr, "plan", "put", "gold", "--title", "金牌", "--app", "100/1m burst 200, 10000/day", "--app-api", "20/s", "--api", "product.list=5/h").ok(t)
	require.Equal(t, strings.TrimLeft(`
plan:            gold
title:           金牌
app:             100/1m burst 200, 10000/day
app × API:       20/1s
app × merchant:  none
product.list:    5/1h
`, "\n"), run(t, addr, "plan", "show", "gold").ok(t))
	require.Regexp(t, `(?m)^gold +100/1m burst 200, 10000/day +20/1s +none +金牌$`, run(t, addr, "plan", "list").ok(t))
	run(t, addr, "plan", "delete", "gold").ok(t)

	require.Equal(t, "platform:  none\n", run(t, addr, "limits", "show").ok(t))
	require.Equal(t, "platform:  5000/1s, 9000000/month\n", run(t, addr, "limits", "set", "5000/s, 9000000/month").ok(t))
	require.Equal(t, "platform:  none\n", run(t, addr, "limits", "set", "none").ok(t))

	run(t, addr, "ip-group", "put", "office", "203.0.113.7", "2001:db8::/32").ok(t)
	require.Regexp(t, `(?m)^office +2 +203\.0\.113\.7 2001:db8::/32$`, run(t, addr, "ip-group", "list").ok(t))
	require.Equal(t, "group:      office\naddresses:  203.0.113.7 198.51.100.0/24\n",
		run(t, addr, "ip-group", "put", "office", "::ffff:203.0.113.7", "::ffff:198.51.100.0/120").ok(t))
	require.Equal(t, "group:      office\naddresses:  203.0.113.7 198.51.100.0/24\n", run(t, addr, "ip-group", "show", "office").ok(t))
	run(t, addr, "ip-group", "show", "nobody").failed(t, `ip group "nobody": not found`)
	run(t, addr, "ip-group", "delete", "office").ok(t)
}

func TestParseLimits(t *testing.T) {
	for _, text := range []string{"100/1m", "100/1m burst 200", "1/100ms", "7/day", "7/month", "100/1h30m, 7/day, 9/month", "1/1h"} {
		l, err := parseLimits("--app", text)
		require.NoError(t, err, text)
		require.Equal(t, text, formatLimits(l))
	}
	for _, text := range []string{"", "100", "x/1m", "0/1m", "-1/day", "100/soon", "100/1m burst", "100/1m burst x", "100/1m,100/1s", "1/day,2/day", "1/month,2/month", "100/1m,", "1/9999h", "99999999999999999999/day"} {
		_, err := parseLimits("--app", text)
		require.ErrorContains(t, err, "--app", text)
	}
}

func TestStatusAndRotation(t *testing.T) {
	s, addr := admin(t)
	s.Platform.Report = adminapi.StatusReport{Storage: "sqlite open.db", Apps: 3, APIs: 25, CachedApps: 1, NonceEntries: 10, NonceBytes: 400}
	require.Equal(t, strings.TrimLeft(`
storage:           sqlite open.db
storage state:     ok
apps:              3
APIs:              25
apps in memory:    1
nonces in memory:  10 (400 bytes)
limit counters:    0
`, "\n"), run(t, addr, "status").ok(t))
	s.Platform.Report.StorageError = "disk full"
	broken := run(t, addr, "status")
	require.Equal(t, 1, broken.code)
	require.Contains(t, broken.stdout, "apps:              not known\n")

	s.Platform.Rotate = func(_ context.Context, progress func(done, total int)) error {
		progress(3, 3)
		return nil
	}
	require.Equal(t, "rotated: 3 secrets are encrypted with the new key\n", run(t, addr, "master-key", "rotate").ok(t))
	s.Platform.Rotate = func(_ context.Context, progress func(done, total int)) error {
		progress(1, 3)
		return errors.New("disk full")
	}
	run(t, addr, "master-key", "rotate").failed(t, "disk full")
	require.Equal(t, 1, runWith(t, addr, "", true, "master-key", "rotate").code, "no answer is no")
}

func TestUsageErrors(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "bad.caddyfile", "{\n")
	_, addr := admin(t)
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"unknown flag":       {[]string{"app", "list", "--colour"}, "--colour"},
		"bad flag value":     {[]string{"app", "list", "--limit", "many"}, "--limit"},
		"unknown command":    {[]string{"aps"}, `did you mean "app"`},
		"unknown verb":       {[]string{"app", "explode"}, "explode"},
		"missing argument":   {[]string{"app", "plan", "ak_x"}, "PLAN is missing"},
		"extra argument":     {[]string{"status", "now"}, `unexpected argument "now"`},
		"empty argument":     {[]string{"app", "show", ""}, "empty"},
		"secret as argument": {[]string{"app", "show", signSecret}, "is a secret"},
		"missing name":       {[]string{"app", "create"}, "--name is missing"},
		"field of server":    {[]string{"app", "create", "--name", "x", "--environment", "moon"}, "sandbox or production"},
		"bad rule":           {[]string{"ip-group", "put", "office", "somewhere"}, "203.0.113.0/24"},
		"bad number":         {[]string{"app", "secret", "revoke", "ak_x", "first"}, "NUMBER"},
		"bad date":           {[]string{"audit", "--since", "yesterday"}, "2027-01-31"},
		"bad limits":         {[]string{"limits", "set", "lots"}, "100/1m burst 200"},
		"api without limits": {[]string{"plan", "put", "gold", "--api", "product.list"}, "NAME=LIMITS"},
		"no file":            {[]string{"apply"}, "-f is missing"},
		"API without a name": {[]string{"api", "show", "@1"}, `"@1" names no API; want NAME or NAME@VERSION`},
		"status of no API":   {[]string{"api", "offline", "@1"}, `"@1" names no API`},
		"absent file":        {[]string{"apply", "-f", "nope.yaml"}, "nope.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, addr, c.args...)
			r.usage(t, c.says)
			require.NotContains(t, r.stderr, signSecret)
		})
	}
	run(t, "", "status", "--config", "nope.json").usage(t, "--config")
	run(t, "", "status", "--config", "bad.caddyfile").usage(t, "bad.caddyfile")
	run(t, "", "status", "--adapter", "caddyfile").usage(t, "--config")
	run(t, "not an address:x:y", "status").usage(t, "admin address")
	run(t, "http://localhost:2", "status").usage(t, "it is a URL; want host:port or unix//path")
}

func TestFindsTheAdminEndpoint(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	s, addr := admin(t)
	s.Platform.Report.Storage = "sqlite open.db"
	writeFile(t, "server.json", `{"admin":{"listen":"`+addr+`"}}`)
	run(t, "", "status", "--config", "server.json").ok(t)
	writeFile(t, "Caddyfile.example", "{\n\tadmin "+addr+"\n}\n")
	run(t, "", "status", "-c", "Caddyfile.example").ok(t)
	writeFile(t, "Caddyfile", "{\n\tadmin "+addr+"\n}\n")
	run(t, "", "status").ok(t)

	stopped := httptest.NewServer(nil)
	stopped.Close()
	run(t, strings.TrimPrefix(stopped.URL, "http://"), "status").failed(t, `start it with "caddy run`)
	run(t, "unix/"+dir+"/none.sock|0220", "status").failed(t, "no such file")

	foreign := httptest.NewServer(nil)
	t.Cleanup(foreign.Close)
	run(t, strings.TrimPrefix(foreign.URL, "http://"), "status").failed(t, "is it a Caddy with the open platform?")
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	c := newCLI()
	root := &cobra.Command{Use: "open-platform"}
	c.attach(root)
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		require.Contains(t, cmd.Example, cmd.CommandPath(), cmd.CommandPath())
		if cmd.HasParent() { // Caddy gives the root its own
			require.NotEmpty(t, cmd.Short, cmd.CommandPath())
		}
		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(root)
	require.Contains(t, run(t, "", "app", "create", "--help").ok(t), "--package trade")
	require.Contains(t, run(t, "", "app").ok(t), "suspend")
	require.Contains(t, run(t, "", "app", "--help").ok(t), "caddy open-platform app list\n")
}

func TestEveryCommandIsInTheReference(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/cli.md")
	require.NoError(t, err)
	root := &cobra.Command{Use: "open-platform"}
	newCLI().attach(root)
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if !cmd.HasSubCommands() {
			name := strings.TrimPrefix(cmd.CommandPath(), "open-platform ")
			require.Regexp(t, "`"+regexp.QuoteMeta(name)+"[` ]", string(page), "docs/reference/cli.md does not say `%s`", name)
		}
		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(root)
}

// TestCaddyMain is the caddy binary when TestExitCodes runs it as a child.
func TestCaddyMain(_ *testing.T) {
	args, child := os.LookupEnv("OPEN_PLATFORM_TEST_ARGS")
	if !child {
		return
	}
	os.Args = append([]string{"caddy", "open-platform"}, strings.Fields(args)...)
	caddycmd.Main()
	os.Exit(0)
}

func TestExitCodes(t *testing.T) {
	_, addr := admin(t)
	for args, want := range map[string]int{
		"limits show --address " + addr:          0,
		"app show ak_nope --address " + addr:     1,
		"app create --address " + addr:           2,
		"app list --colour":                      2,
		"limits set lots":                        2,
		"explode":                                2,
		"status --address 127.0.0.1:1":           1,
		"app list --kind moon --address " + addr: 2,
	} {
		t.Run(args, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCaddyMain$")
			cmd.Env = append(os.Environ(), "OPEN_PLATFORM_TEST_ARGS="+args)
			cmd.Dir = t.TempDir()
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			if err != nil {
				require.ErrorAs(t, err, new(*exec.ExitError))
			}
			require.Equal(t, want, cmd.ProcessState.ExitCode(), "%s%s", stdout.String(), stderr.String())
			if want > 0 {
				require.Equal(t, 1, strings.Count(stderr.String(), "\n"), "one line: %q", stderr.String())
				require.Empty(t, stdout.String())
			}
		})
	}
}

// sortedHead sorts the change lines of a diff and keeps the last line.
func sortedHead(diff string) string {
	lines := strings.SplitAfter(diff, "\n")
	changes := lines[:len(lines)-2]
	for i := range changes {
		for j := i + 1; j < len(changes); j++ {
			if changes[j] < changes[i] {
				changes[i], changes[j] = changes[j], changes[i]
			}
		}
	}
	return strings.Join(lines, "")
}
