package handlers_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// undelivered keeps a delivery for the app for each of the bodies, which wait, and
// returns their IDs. An empty one is made of the message.
func (w *world) undelivered(app *platform.App, bodies ...string) []string {
	w.t.Helper()
	ctx := w.t.Context()
	address := "https://erp.example.com/push"
	sub, _, err := w.service.CreateSubscription(ctx, "test", platform.NewSubscription{
		App: app.ID, SubscriptionSettings: platform.SubscriptionSettings{URL: &address, Topics: []string{"shop.news"}},
	})
	require.NoError(w.t, err)
	running, err := caddy.ActiveContext().App("open_platform")
	require.NoError(w.t, err)
	store := running.(*caddymodule.App).Messages().Store
	var ids []string
	for i, body := range bodies {
		m := pusher.Message{ID: pusher.MessageID{At: time.Now().UnixMicro(), ID: int64(i)}, Environment: platform.Sandbox, Topic: "shop.news", Data: []byte(`{}`)}
		results, err := store.Publish(ctx, []pusher.Batch{{{Message: m, Deliveries: []pusher.NewDelivery{
			{Subscription: sub.Number, App: app.Number, Body: []byte(body)},
		}}}})
		require.NoError(w.t, err)
		require.NoError(w.t, results[0].Err)
		records, err := store.Deliveries(ctx, pusher.Filter{Message: m.ID}, pusher.Cursor{}, 1)
		require.NoError(w.t, err)
		ids = append(ids, records[0].ID.String())
	}
	return ids
}

// TestPullWithoutMessage: a delivery that is lost keeps an app from no other one.
func TestPullWithoutMessage(t *testing.T) {
	w := setup{catalog: newsCatalog, upstream: "127.0.0.1:9", site: "open_sign sandbox\nopen_messages", options: `log calls {
		output file DIR/calls.log {
			roll_disabled
		}
		include http.handlers
	}`}.run(t)
	app, c := w.app(platform.Sandbox)
	ids := w.undelivered(app, `{"n":1}`, "", "", `{"n":4}`)
	damage(t, w, `DELETE FROM push_messages`)
	var pulled []string
	after := ""
	for pages := 1; ; pages++ {
		rec := w.do(c.request(t, http.MethodGet, "/v1/messages?limit=2"+after, ""))
		require.Equal(t, http.StatusOK, rec.Code, rec.Body)
		var page struct {
			Messages []struct{ Delivery string }
			Next     string
		}
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &page))
		for _, m := range page.Messages {
			pulled = append(pulled, m.Delivery)
		}
		if page.Next == "" {
			require.Equal(t, 3, pages)
			break
		}
		after = "&after=" + page.Next
	}
	require.Equal(t, []string{ids[0], ids[3]}, pulled)
	logged, err := os.ReadFile(filepath.Join(w.dir, "calls.log"))
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(logged), "its message is gone"), string(logged))
	require.Contains(t, string(logged), ids[1])
}

// TestAcknowledgeMistakes: what is JSON is not said to be none.
func TestAcknowledgeMistakes(t *testing.T) {
	w := newWorld(t, "127.0.0.1:9", "open_sign sandbox\nopen_messages")
	_, c := w.app(platform.Sandbox)
	for body, want := range map[string]string{
		`{`: "body: no valid JSON; ", `5`: "body: is a JSON number; ", `{"deliveries":5}`: "deliveries: is a JSON number; ",
		`{"deliveries":["foo"]}`: "deliveries.0: no delivery; ",
	} {
		detail := refused(t, w.do(c.request(t, http.MethodPost, "/v1/messages/ack", body)), http.StatusBadRequest, "request_malformed")
		require.Contains(t, detail, want, body)
	}
}
