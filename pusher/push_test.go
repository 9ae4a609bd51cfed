package pusher

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func TestPublishAndDeliver(t *testing.T) {
	sink := newSink(t, nil)
	f := newFixture(t, Settings{}, testApp(1, platform.Subscription{URL: sink.URL + "/hook", Topics: []string{"item.changed"}}))
	run(t, f.Pusher)
	began := time.Now()
	receipts, err := f.Publish(t.Context(), []Message{testMessage(`{"id":7}`)})
	require.NoError(t, err)
	require.Len(t, receipts, 1)
	require.Equal(t, 1, receipts[0].Deliveries)

	r := sink.next(t)
	require.Less(t, r.at.Sub(began), time.Second)
	require.Equal(t, "/hook", r.path)
	id := receipts[0].ID.String()
	require.Equal(t, id, r.header.Get("webhook-id"))
	require.Equal(t, "application/json", r.header.Get("Content-Type"))
	require.Equal(t, "ak_1", r.header.Get("X-Open-App-Key"))
	require.Equal(t, "item.changed", r.header.Get("X-Open-Topic"))
	require.Equal(t, "1", r.header.Get("X-Open-Attempt"))
	require.Equal(t, "auto", r.header.Get("X-Open-Cause"))
	require.NotContains(t, r.header, "Idempotency-Key")
	_, err = ParseDeliveryID(r.header.Get("X-Open-Delivery"))
	require.NoError(t, err)

	webhook, err := standardwebhooks.NewWebhookRaw(testKey(2))
	require.NoError(t, err)
	require.NoError(t, webhook.Verify(r.body, r.header), "the standard's own library verifies it")

	plain, err := Decrypt(testKey(1), r.body)
	require.NoError(t, err)
	var event map[string]any
	require.NoError(t, json.Unmarshal(plain, &event))
	require.Equal(t, id, event["id"])
	require.Equal(t, "1.0", event["specversion"])
	require.Equal(t, "https://open.example.com", event["source"])
	require.Equal(t, "ak_1", event["appkey"])
	require.Equal(t, map[string]any{"id": 7.0}, event["data"])
	require.NotContains(t, event, "subject")

	eventually(t, func() bool { return f.Stats().Delivered == 1 }, "the delivery is saved")
	require.Equal(t, Delivered, f.store.state(1))
	attempts := f.store.tried(1)
	require.Len(t, attempts, 1)
	require.Equal(t, http.StatusOK, attempts[0].Status)
	require.Equal(t, "127.0.0.1", attempts[0].Address)
	require.Equal(t, "node-1", attempts[0].Node)
	require.Empty(t, f.problems)
}
