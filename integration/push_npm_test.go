package integration

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPushReadByNPM: the libraries from npm check and decrypt what is pushed.
func TestPushReadByNPM(t *testing.T) {
	p := startPushing(t, pushConfig("storage sqlite ./data/openplatform.db", ""))
	a := p.published(order(p.user, "1001"))
	m := p.inbox.awaitCount(1)[0]
	headers := map[string]string{}
	for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
		headers[name] = m.header.Get(name)
	}
	script := p.startScript(t, "message.mjs", settings{
		"signing": p.inbox.signing[0], "encryption": base64.StdEncoding.EncodeToString(p.inbox.encryption[0]),
		"body": string(m.body), "headers": headers,
	})
	var read struct {
		Event  event
		Header map[string]string
		Forged bool
	}
	script.next(&read)
	require.False(t, read.Forged)
	require.Equal(t, a.ID, read.Event.ID)
	require.Equal(t, p.app.Key, read.Event.AppKey)
	require.JSONEq(t, `{"order_id":"1001","status":"paid"}`, string(read.Event.Data))
	require.Equal(t, "A256KW", read.Header["alg"])
	require.Equal(t, "A256GCM", read.Header["enc"])
	require.Contains(t, read.Header["kid"], p.app.Key+".")
}
