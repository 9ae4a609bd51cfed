package adminapi_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi/adminapitest"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// newShop is an endpoint with the catalog and an app, by its app key.
func newShop(t *testing.T) (testServer, string) {
	t.Helper()
	s := newTestServer(t)
	s.do(t, "POST", "/catalog?source=mall.openapi.yaml", adminapitest.Catalog)
	return s, s.do(t, "POST", "/apps", `{"name":"Shop","packages":["trade"]}`)["app_key"].(string)
}

func TestAdminTopics(t *testing.T) {
	s, _ := newShop(t)
	topics := s.do(t, "GET", "/topics?package=trade", "")["topics"].([]any)
	require.Len(t, topics, 1)
	for _, part := range []string{"schema", "example", "spec"} {
		require.NotContains(t, topics[0], part, "a list leaves the documentation out")
	}
	topic := s.do(t, "GET", "/topics/trade.order.created", "")
	require.Equal(t, map[string]any{"order_id": "1001"}, topic["example"])
	require.Contains(t, topic, "schema")
	require.Equal(t, true, topic["user_token"])
	require.Equal(t, "offline", s.do(t, "POST", "/topics/trade.order.created/offline", "")["status"])
	require.Equal(t, "deprecated", s.do(t, "POST", "/topics/trade.order.created/deprecate", "")["status"])
	require.Equal(t, "online", s.do(t, "POST", "/topics/trade.order.created/online", "")["status"])
	for path, want := range map[string]int{"/topics/nope": 404, "/topics?status=live": 400, "/topics?name=x": 400} {
		status, _, _ := s.ask(t, "GET", path, "")
		require.Equal(t, want, status, path)
	}
	status, _, _ := s.ask(t, "POST", "/topics/trade.order.created/gone", "")
	require.Equal(t, http.StatusNotFound, status)
}

func TestAdminSubscriptionLife(t *testing.T) {
	s, app := newShop(t)
	status, made, header := s.ask(t, "POST", "/subscriptions", fmt.Sprintf(`{"app":%q,"url":"https://erp.example.com/push","topics":["trade.order.created"],
		"filter":{"conditions":[{"pointer":"/order_id","op":"prefix","value":"1"}]},"ordered":true,"hold_for":"30m","concurrency":4,
		"rate":{"requests":10,"period":"1s"},"schedule":["5s","1m"],"asymmetric":true}`, app))
	require.Equal(t, http.StatusCreated, status, made)
	require.Equal(t, "no-store", header.Get("Cache-Control"))
	sub := made["subscription"].(map[string]any)
	id := sub["id"].(string)
	require.Equal(t, []any{"unverified", "sandbox", "encrypted", "30m0s"}, []any{sub["status"], sub["environment"], sub["format"], sub["hold_for"]})
	require.Equal(t, []any{"5s", "1m0s"}, sub["schedule"])
	keys := made["push_keys"].([]any)
	require.Len(t, keys, 3)
	secret := keys[0].(map[string]any)["secret"].(string)
	require.True(t, strings.HasPrefix(secret, "whsec_"))
	require.Equal(t, app+".2", keys[1].(map[string]any)["key_id"])
	require.NotContains(t, keys[2], "secret")

	// The URL is asked; what it says decides.
	s.Platform.Asked = func(*platform.Subscriber, *platform.Subscription) error { return errors.New("it answered 404") }
	status, out, _ := s.ask(t, "POST", "/subscriptions/"+id+"/verify", "")
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, out["error"], "it answered 404")
	s.Platform.Asked = func(app *platform.Subscriber, asked *platform.Subscription) error {
		require.Equal(t, id, asked.ID)
		require.Len(t, app.Keys, 3)
		return nil
	}
	require.Equal(t, "active", s.do(t, "POST", "/subscriptions/"+id+"/verify", "")["status"])
	require.Equal(t, "paused", s.do(t, "POST", "/subscriptions/"+id+"/pause", "")["status"])
	require.Equal(t, "active", s.do(t, "POST", "/subscriptions/"+id+"/resume", "")["status"])

	// What is left out stays; empty values take things away.
	changed := s.do(t, "PATCH", "/subscriptions/"+id, `{"rate":{},"schedule":[],"filter":{},"hold_for":"0s"}`)["subscription"].(map[string]any)
	for _, gone := range []string{"rate", "schedule", "filter", "hold_for"} {
		require.NotContains(t, changed, gone)
	}
	require.Equal(t, []any{"active", true, 4.0}, []any{changed["status"], changed["ordered"], changed["concurrency"]})
	changed = s.do(t, "PATCH", "/subscriptions/"+id, `{"url":"http://127.0.0.1:8000/","topics":["product.changed"]}`)["subscription"].(map[string]any)
	require.Equal(t, []any{"unverified", []any{"product.changed"}}, []any{changed["status"], changed["topics"]})
	require.Equal(t, changed, s.do(t, "GET", "/subscriptions/"+id, ""))

	s.do(t, "POST", "/subscriptions", fmt.Sprintf(`{"app":%q,"url":"https://erp.example.com/","topics":["trade.order.created"]}`, app))
	require.Len(t, s.do(t, "GET", "/subscriptions?app="+app, "")["subscriptions"], 2)
	require.Len(t, s.do(t, "GET", "/subscriptions?topic=product.changed&status=unverified&environment=sandbox", "")["subscriptions"], 1)
	require.NotEmpty(t, s.do(t, "GET", "/subscriptions?limit=1", "")["next"])
	status, _, _ = s.ask(t, "DELETE", "/subscriptions/"+id, "")
	require.Equal(t, http.StatusNoContent, status)
	status, _, _ = s.ask(t, "GET", "/subscriptions/"+id, "")
	require.Equal(t, http.StatusNotFound, status)

	audit := fmt.Sprint(s.do(t, "GET", "/audit?actor=cli:tester&limit=1000", ""))
	require.Contains(t, audit, "subscription.verify")
	require.NotContains(t, audit+s.Logged(), secret[6:])
}

func TestAdminPushKeys(t *testing.T) {
	s, app := newShop(t)
	path := "/apps/" + app + "/push-keys"
	status, key, header := s.ask(t, "POST", path, `{"kind":"encrypt","environment":"production"}`)
	require.Equal(t, http.StatusCreated, status)
	require.Equal(t, "no-store", header.Get("Cache-Control"))
	require.Regexp(t, `^whek_`, key["secret"])
	require.Regexp(t, `^whpk_`, s.do(t, "POST", path, `{"kind":"sign_ed25519"}`)["public_key"])
	list := s.do(t, "GET", path, "")["push_keys"].([]any)
	require.Len(t, list, 2)
	require.NotContains(t, fmt.Sprint(list), "whek_")
	require.Contains(t, fmt.Sprint(list), "whpk_")
	require.Equal(t, "2027-02-01T08:00:00Z", s.do(t, "DELETE", path+"/1?after=24h", "")["expires_at"])
	s.do(t, "POST", path, `{"kind":"encrypt","environment":"production"}`)
	status, _, _ = s.ask(t, "POST", path, `{"kind":"encrypt","environment":"production"}`)
	require.Equal(t, http.StatusConflict, status, "a third live one")
	status, _, _ = s.ask(t, "DELETE", path+"/9", "")
	require.Equal(t, http.StatusNotFound, status)
}

// A mistake is answered with 400 and the name of the field.
func TestAdminSubscriptionMistakes(t *testing.T) {
	s, app := newShop(t)
	body := func(more string) string {
		return fmt.Sprintf(`{"app":%q,"url":"https://erp.example.com/","topics":["trade.order.created"]%s}`, app, more)
	}
	for name, c := range map[string]struct{ method, path, body, field string }{
		"no app":     {"POST", "/subscriptions", `{}`, "app"},
		"no URL":     {"POST", "/subscriptions", fmt.Sprintf(`{"app":%q,"topics":["trade.order.created"]}`, app), "url"},
		"no topics":  {"POST", "/subscriptions", fmt.Sprintf(`{"app":%q,"url":"https://erp.example.com/"}`, app), "topics"},
		"hold_for":   {"POST", "/subscriptions", body(`,"hold_for":"soon"`), "hold_for"},
		"a number":   {"POST", "/subscriptions", body(`,"hold_for":5`), "hold_for"},
		"schedule":   {"POST", "/subscriptions", body(`,"schedule":["5s","often"]`), "schedule[1]"},
		"rate":       {"POST", "/subscriptions", body(`,"rate":{"requests":5,"period":"week"}`), "rate.period"},
		"condition":  {"POST", "/subscriptions", body(`,"filter":{"conditions":[{"pointer":"/a","op":"is"}]}`), "filter.conditions[0].op"},
		"unknown":    {"POST", "/subscriptions", body(`,"secret":"x"`), "secret"},
		"status":     {"GET", "/subscriptions?status=on", "", "status"},
		"limit":      {"GET", "/subscriptions?limit=x", "", "limit"},
		"kind":       {"POST", "/apps/" + app + "/push-keys", `{"kind":"rsa"}`, "kind"},
		"key number": {"DELETE", "/apps/" + app + "/push-keys/x", "", "number"},
		"after":      {"DELETE", "/apps/" + app + "/push-keys/1?after=x", "", "after"},
	} {
		status, out, _ := s.ask(t, c.method, c.path, c.body)
		require.Equal(t, http.StatusBadRequest, status, "%s: %v", name, out)
		require.Equal(t, c.field, out["field"], "%s: %v", name, out)
	}
	require.Empty(t, s.do(t, "GET", "/subscriptions", "")["subscriptions"])
}
