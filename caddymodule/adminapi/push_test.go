package adminapi_test

import (
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// TestAdminPushMistakes: what the user wrote wrongly is named as it was written.
func TestAdminPushMistakes(t *testing.T) {
	s := newTestServer(t)
	for call, field := range map[string]string{
		"GET /deliveries/foo":     "id",
		"GET /messages/foo":       "id",
		"POST /messages/foo/push": "id",
		"POST /deliveries/dlv_" + strings.Repeat("v", 26) + "/push":        "id",
		"POST /deliveries/foo/cancel":                                      "id",
		"GET /deliveries?message=foo":                                      "message",
		"GET /deliveries?after=foo":                                        "after",
		"GET /messages?after=foo":                                          "after",
		"GET /deliveries?state=nope":                                       "state",
		`POST /push/jobs {"cause":"manual","message":"foo"}`:               "message",
		`POST /push/jobs {"cause":"manual","topic":"t","states":["nope"]}`: "states",
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
	} {
		method, path, _ := strings.Cut(call, " ")
		status, out, _ := s.ask(t, method, path, "")
		require.Equal(t, want, status, "%s: %v", call, out)
	}
}
