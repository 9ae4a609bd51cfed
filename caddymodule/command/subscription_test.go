package command

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi/adminapitest"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// shop is an admin endpoint with the catalog and an app, by its app key.
func shop(t *testing.T) (s *adminapitest.Server, addr, app string) {
	t.Helper()
	t.Chdir(t.TempDir())
	s, addr = admin(t)
	writeFile(t, "mall.openapi.yaml", adminapitest.Catalog)
	run(t, addr, "apply", "-f", "mall.openapi.yaml").ok(t)
	var made struct {
		AppKey string `json:"app_key"`
	}
	require.NoError(t, json.Unmarshal([]byte(run(t, addr, "app", "create", "--name", "Shop", "--package", "trade", "--json").ok(t)), &made))
	return s, addr, made.AppKey
}

func TestTopicCommands(t *testing.T) {
	_, addr, _ := shop(t)
	require.Equal(t, strings.TrimLeft(`
TOPIC                PACKAGE  STATUS  REACHES     TITLE
product.changed      basic    online  all         商品变更
trade.order.created  trade    online  authorized  订单创建
`, "\n"), run(t, addr, "topic", "list").ok(t))
	require.NotContains(t, run(t, addr, "topic", "list", "--package", "basic").ok(t), "trade.order.created")
	shown := run(t, addr, "topic", "show", "trade.order.created").ok(t)
	for _, part := range []string{"An order was made.", "that the merchant has authorized", "Schema of data:\n{\n  \"$schema\"", "Example of data:\n{\n  \"order_id\": \"1001\"\n}\n"} {
		require.Contains(t, shown, part)
	}
	require.Regexp(t, `(?m)^status: +offline$`, run(t, addr, "topic", "offline", "trade.order.created").ok(t))
	require.Contains(t, run(t, addr, "topic", "online", "trade.order.created", "--json").ok(t), `"status": "online"`)
	run(t, addr, "topic", "show", "nope").failed(t, `topic "nope": not found`)
	run(t, addr, "topic", "list", "--status", "live").usage(t, "status")
	run(t, addr, "topic", "show").usage(t, "NAME is missing")
}

func TestSubscriptionCommands(t *testing.T) {
	s, addr, app := shop(t)
	r := run(t, addr, "subscription", "create", "--app", app, "--url", "https://erp.example.com/push", "--topic", "trade.order.created",
		"--where", "/order_id prefix 10", "--where", "/amount ge 1.5", "--where", `/kind in ["a", "b"]`, "--where", "/name eq two words",
		"--ordered", "--hold-for", "30m", "--concurrency", "4", "--rate", "10/s burst 20", "--schedule", "5s,1m", "--asymmetric")
	out := r.ok(t)
	require.Contains(t, r.stderr, "once the URL is verified")
	for _, line := range []string{
		`status: +unverified`, `hold for: +30m`, `concurrency: +4`, `rate: +10/1s burst 20`, `schedule: +5s 1m`, `format: +encrypted`, `signatures: +HMAC and Ed25519`,
		`/order_id +prefix +"10"`, `/amount +ge +1\.5`, `/kind +in +\["a","b"\]`, `/name +eq +"two words"`,
		`secret: +whsec_\S{44}`, `secret: +whek_\S{44}`, `key id: +` + app + `\.2`, `public key: +whpk_\S{44}`,
	} {
		require.Regexp(t, `(?m)^`+line+`$`, out)
	}
	id := regexp.MustCompile(`sub_[0-9A-Za-z]{20}`).FindString(out)

	s.Platform.Asked = func(*platform.Subscriber, *platform.Subscription) error { return errors.New("it answered 404") }
	run(t, addr, "subscription", "verify", id).failed(t, "it answered 404")
	s.Platform.Asked = nil
	require.Regexp(t, `(?m)^status: +active$`, run(t, addr, "subscription", "verify", id).ok(t))
	require.Regexp(t, `(?m)^status: +paused$`, run(t, addr, "subscription", "pause", id).ok(t))
	require.Regexp(t, `(?m)^status: +active$`, run(t, addr, "subscription", "resume", id).ok(t))

	// Flags that are not given change nothing.
	var changed adminapi.SubscriptionWithKeys
	update := func(args ...string) platform.Subscription {
		t.Helper()
		changed = adminapi.SubscriptionWithKeys{}
		require.NoError(t, json.Unmarshal([]byte(run(t, addr, append([]string{"subscription", "update", id, "--json"}, args...)...).ok(t)), &changed))
		return changed.Subscription
	}
	run(t, addr, "subscription", "update", id).usage(t, "nothing to change: give at least one of the flags that --help lists, such as --url")
	before := update("--concurrency", "4")
	require.Len(t, before.Filter.Conditions, 4)
	require.Equal(t, platform.SubscriptionActive, before.Status)
	sub := update("--rate", "none", "--schedule", "none", "--hold-for", "0s", "--concurrency", "0", "--ordered=false", "--asymmetric=false", "--no-filter")
	want := before
	want.Rate, want.Schedule, want.HoldFor, want.Concurrency, want.Ordered, want.Asymmetric, want.Filter = sub.Rate, nil, 0, 0, false, false, platform.MessageFilter{}
	require.Equal(t, want, sub)
	require.Zero(t, sub.Rate)
	sub = update("--url", "https://erp.example.com/push2", "--topic", "product.changed", "--format", "plain")
	require.Equal(t, []any{platform.Unverified, []string{"product.changed"}, platform.PlainFormat}, []any{sub.Status, sub.Topics, sub.Format})

	list := run(t, addr, "subscription", "list", "--app", app, "--topic", "product.changed", "--status", "unverified").ok(t)
	require.Contains(t, list, id)
	require.Contains(t, list, "https://erp.example.com/push2")
	require.NotContains(t, run(t, addr, "subscription", "list", "--environment", "production").ok(t), id)
	require.Contains(t, run(t, addr, "subscription", "show", id, "--json").ok(t), `"status": "unverified"`)
	runWith(t, addr, "n\n", true, "subscription", "delete", id).refusedAfterQuestion(t)
	require.Contains(t, run(t, addr, "subscription", "delete", id).ok(t), "deleted subscription "+id)
	run(t, addr, "subscription", "show", id).failed(t, "not found")
}

func TestSubscriptionUsage(t *testing.T) {
	_, addr, app := shop(t)
	create := func(args ...string) result {
		return run(t, addr, append([]string{"subscription", "create", "--app", app, "--url", "https://erp.example.com/", "--topic", "trade.order.created"}, args...)...)
	}
	run(t, addr, "subscription", "create").usage(t, "--app is missing")
	run(t, addr, "subscription", "create", "--app", app).usage(t, "--url is missing")
	run(t, addr, "subscription", "create", "--app", app, "--url", "https://erp.example.com/").usage(t, "--topic is missing")
	run(t, addr, "subscription", "create", "--app", app, "--url", "http://erp.example.com/", "--topic", "trade.order.created").usage(t, "url: is not https")
	run(t, addr, "subscription", "create", "--app", app, "--url", "https://erp.example.com/", "--topic", "nope.nope").usage(t, `topics: there is no topic "nope.nope"`)
	create("--where", "/a").usage(t, "--where")
	create("--where", "/a like x").usage(t, "filter.conditions[0].op")
	create("--rate", "often").usage(t, `--rate: "often" is no rate; want 100/s, "100/1m burst 200", or none`)
	create("--rate", "100/day").usage(t, "has a quota")
	create("--schedule", "5s,often").usage(t, "schedule[1]")
	create("--hold-for", "x").usage(t, "hold-for")
	create("--user", "nobody").usage(t, "filter.users[0]")
	create("--environment", "moon").usage(t, "environment")
	run(t, addr, "subscription", "update", "sub_x", "--no-filter", "--user", "a").usage(t, "--no-filter")
	run(t, addr, "subscription", "pause").usage(t, "ID is missing")
	run(t, addr, "subscription", "list", "--status", "on").usage(t, "status")
	require.Equal(t, 1, strings.Count(run(t, addr, "subscription", "list").ok(t), "\n"), "nothing was made")
	create().ok(t)
	create().failed(t, "the app has the topic trade.order.created")
}

func TestPushKeyCommands(t *testing.T) {
	s, addr, app := shop(t)
	out := run(t, addr, "app", "push-key", "add", app, "--kind", "sign").ok(t)
	secret := regexp.MustCompile(`whsec_\S+`).FindString(out)
	require.NotEmpty(t, secret, out)
	require.Contains(t, out, "shown this once")
	require.NotContains(t, run(t, addr, "app", "push-key", "add", app, "--kind", "sign_ed25519", "--environment", "production").ok(t), "shown this once")
	list := run(t, addr, "app", "push-key", "list", app).ok(t)
	require.Regexp(t, `(?m)^1 +sandbox +sign +2027-01-31 08:00:00Z +live +-$`, list)
	require.Regexp(t, `(?m)^2 +production +sign_ed25519 +2027-01-31 08:00:00Z +live +whpk_\S+$`, list)
	require.Regexp(t, `(?m)^state: +until 2027-02-01 08:00:00Z$`, run(t, addr, "app", "push-key", "revoke", app, "1", "--after", "24h").ok(t))
	require.Regexp(t, `(?m)^state: +ended 2027-01-31 08:00:00Z$`, run(t, addr, "app", "push-key", "revoke", app, "2").ok(t))
	run(t, addr, "app", "push-key", "revoke", app, "2").failed(t, "ended at")
	run(t, addr, "app", "push-key", "revoke", app, "one").usage(t, "NUMBER")
	run(t, addr, "app", "push-key", "add", app).usage(t, "--kind is missing")
	run(t, addr, "app", "push-key", "add", app, "--kind", "rsa").usage(t, "kind")
	run(t, addr, "app", "push-key", "list", secret).usage(t, "is a secret")
	require.NotContains(t, list+run(t, addr, "audit", "--json").ok(t)+s.Logged(), secret[6:])
}
