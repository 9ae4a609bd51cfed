package adminapi_test

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi/adminapitest"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// newDelivery is an endpoint with a delivery that waits, and the app that it is for.
func newDelivery(t *testing.T) (s testServer, app string, id string) {
	t.Helper()
	s, app = newShop(t)
	made := s.do(t, "POST", "/subscriptions", fmt.Sprintf(`{"app":%q,"url":"https://erp.example.com/push","topics":["trade.order.created"]}`, app))
	_, id = s.Platform.Publish(t, made["subscription"].(map[string]any)["id"].(string))
	return s, app, id
}

// TestAdminPushOfUser: a merchant is told by its ID or its login.
func TestAdminPushOfUser(t *testing.T) {
	s, app := newShop(t)
	s.do(t, "POST", "/subscriptions", fmt.Sprintf(`{"app":%q,"url":"https://erp.example.com/push","topics":["trade.order.created"]}`, app))
	user := s.do(t, "POST", "/users", `{"login":"shop@example.com","name":"Shop","password":"correct horse battery"}`)["id"].(string)
	_, err := s.Platform.Store().Publish(t.Context(), []pusher.Batch{{{Message: pusher.Message{
		ID: pusher.MessageID{At: adminapitest.Now().UnixMicro(), ID: 2}, Environment: platform.Sandbox, Topic: "trade.order.created", User: user, Data: []byte(`{}`),
	}}}})
	require.NoError(t, err)
	for _, ref := range []string{user, "Shop@example.com"} {
		require.Len(t, s.do(t, "GET", "/messages?topic=trade.order.created&user="+ref, "")["messages"], 1, ref)
		job := s.do(t, "POST", "/push/jobs", fmt.Sprintf(`{"cause":"repush","app":%q,"user":%q}`, app, ref))
		require.Equal(t, ref, job["filter"].(map[string]any)["user"])
	}
}

// TestAdminPushAudit: the audit log has what was done, and nothing that was refused.
func TestAdminPushAudit(t *testing.T) {
	s, app, id := newDelivery(t)
	job := s.do(t, "POST", "/push/jobs", fmt.Sprintf(`{"cause":"repush","app":%q}`, app))["id"].(string)
	for call, target := range map[string]string{
		"/push/jobs/" + job + "/cancel": job, "/deliveries/" + id + "/cancel": id,
	} {
		s.do(t, "POST", call, "")
		status, out, _ := s.ask(t, "POST", call, "")
		require.Equal(t, http.StatusConflict, status, out)
		entries := s.do(t, "GET", "/audit?target="+target, "")["entries"].([]any)
		actions := []string{}
		for _, e := range entries {
			actions = append(actions, e.(map[string]any)["action"].(string))
		}
		require.Equal(t, map[string][]string{job: {"push.cancel", "push.repush"}, id: {"delivery.cancel"}}[target], actions)
	}
	for _, verb := range []string{"pause", "resume"} {
		status, _, _ := s.ask(t, "POST", "/push/jobs/"+job+"/"+verb, "")
		require.Equal(t, http.StatusConflict, status)
		require.Empty(t, s.do(t, "GET", "/audit?action=push."+verb, "")["entries"])
	}
}

// TestAdminPushMistakes: what the user wrote wrongly is named as it was written.
func TestAdminPushMistakes(t *testing.T) {
	s := newTestServer(t)
	for call, field := range map[string]string{
		"GET /deliveries/foo":     "id",
		"GET /messages/foo":       "id",
		"POST /messages/foo/push": "id",
		"POST /deliveries/dlv_" + strings.Repeat("v", 26) + "/push":                     "id",
		"POST /deliveries/foo/cancel":                                                   "id",
		"GET /deliveries?message=foo":                                                   "message",
		"GET /deliveries?after=foo":                                                     "after",
		"GET /messages?after=foo":                                                       "after",
		"GET /deliveries?state=nope":                                                    "state",
		`POST /push/jobs {"cause":"manual","message":"foo"}`:                            "message",
		`POST /push/jobs {"cause":"manual","topic":"t","states":["nope"]}`:              "states",
		`POST /push/jobs {"cause":"repush","topic":"t","since":"2999-01-01T00:00:00Z"}`: "since",
		// Nobody pushes everything again by leaving something out.
		`POST /push/jobs {"cause":"auto","topic":"t"}`:                                                                 "cause",
		`POST /push/jobs {"cause":"manual","environment":"production","user":"u","states":["failed"]}`:                 "app",
		`POST /push/jobs {"cause":"repush","since":"2026-01-31T08:00:00Z"}`:                                            "app",
		`POST /push/jobs {"cause":"reset","since":"2026-01-31T08:00:00Z"}`:                                             "app",
		`POST /push/jobs {"cause":"reset","topic":"t","until":"2026-01-31T08:00:00Z"}`:                                 "since",
		`POST /push/jobs {"cause":"repush","topic":"t","states":["cancelled"]}`:                                        "states",
		`POST /push/jobs {"cause":"reset","topic":"t","states":["failed"],"since":"2026-01-31T08:00:00Z"}`:             "states",
		`POST /push/jobs {"cause":"repush","topic":"t","since":"2026-01-31T08:00:00Z","until":"2026-01-31T08:00:00Z"}`: "until",
		`POST /push/jobs {"cause":"manual","topic":"t","environment":"test"}`:                                          "environment",
		"GET /deliveries?since=2026-01-31T08:00:00Z&until=2026-01-31T07:00:00Z":                                        "until",
	} {
		method, rest, _ := strings.Cut(call, " ")
		path, body, _ := strings.Cut(rest, " ")
		status, out, _ := s.ask(t, method, path, body)
		require.Equal(t, http.StatusBadRequest, status, "%s: %v", call, out)
		require.Equal(t, field, out["field"], call)
	}
	// The highest IDs that there can be are none that is there.
	message, delivery := pusher.MessageID{At: math.MaxInt64, ID: math.MaxInt64}.String(), pusher.DeliveryID{At: math.MaxInt64, ID: math.MaxInt64}.String()
	for call, want := range map[string]int{
		"GET /messages/" + message:                 http.StatusNotFound,
		"POST /messages/" + message + "/push":      http.StatusNotFound,
		"GET /deliveries/" + delivery:              http.StatusNotFound,
		"POST /deliveries/" + delivery + "/push":   http.StatusNotFound,
		"POST /deliveries/" + delivery + "/cancel": http.StatusNotFound,
		"GET /deliveries?message=" + message:       http.StatusOK,
		"GET /deliveries?after=" + delivery:        http.StatusOK,
		"GET /messages?after=" + message:           http.StatusOK,
		"GET /messages?topic=nope":                 http.StatusNotFound,
		"GET /messages?user=nobody":                http.StatusOK,
		"GET /deliveries?topic=nope":               http.StatusNotFound,
		"GET /deliveries?user=nobody":              http.StatusOK,

		`POST /push/jobs {"cause":"repush","topic":"nope"}`:                              http.StatusNotFound,
		`POST /push/jobs {"cause":"manual","message":"` + message + `","user":"nobody"}`: http.StatusNotFound,
	} {
		method, rest, _ := strings.Cut(call, " ")
		path, body, _ := strings.Cut(rest, " ")
		status, out, _ := s.ask(t, method, path, body)
		require.Equal(t, want, status, "%s: %v", call, out)
	}
}

// TestPublishedText: a list finds what was published about somebody who is not there.
func TestPublishedText(t *testing.T) {
	s, app := newShop(t)
	s.do(t, "POST", "/subscriptions", fmt.Sprintf(`{"app":%q,"url":"https://erp.example.com/push","topics":["trade.order.created"]}`, app))
	_, err := s.Platform.Store().Publish(t.Context(), []pusher.Batch{{{Message: pusher.Message{
		ID: pusher.MessageID{At: adminapitest.Now().UnixMicro(), ID: 2}, Environment: platform.Sandbox, Topic: "trade.order.created", User: "merchant-42", Data: []byte(`{}`),
	}}}})
	require.NoError(t, err)
	require.Len(t, s.do(t, "GET", "/messages?user=merchant-42", "")["messages"], 1)
	require.Empty(t, s.do(t, "GET", "/messages?user=merchant-43", "")["messages"])
}
