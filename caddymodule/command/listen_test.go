package command

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

// pushed is a message as the platform pushes it, made by other code than ours.
func pushed(t *testing.T, signing, encryption []byte, at time.Time, event string) *http.Request {
	t.Helper()
	e, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.A256KW, Key: encryption}, nil)
	require.NoError(t, err)
	jwe, err := e.Encrypt([]byte(event))
	require.NoError(t, err)
	compact, err := jwe.CompactSerialize()
	require.NoError(t, err)
	body := `{"encrypt":"` + compact + `"}`
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
	mac := hmac.New(sha256.New, signing)
	fmt.Fprintf(mac, "msg_1.%d.%s", at.Unix(), body)
	r.Header.Set("webhook-id", "msg_1")
	r.Header.Set("webhook-timestamp", fmt.Sprint(at.Unix()))
	r.Header.Set("webhook-signature", "v1,AAAA v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	r.Header.Set("X-Open-Topic", "trade.order.created")
	return r
}

func TestListen(t *testing.T) {
	now := time.Date(2027, 1, 31, 8, 0, 0, 0, time.UTC)
	signing, encryption, other := []byte(strings.Repeat("s", 32)), []byte(strings.Repeat("e", 32)), []byte(strings.Repeat("o", 32))
	file := filepath.Join(t.TempDir(), "keys.json")
	text := fmt.Sprintf(`{"keys":[{"secret":"whsec_%s"},{"secret":"whek_%s"}]}`, base64.StdEncoding.EncodeToString(signing), base64.StdEncoding.EncodeToString(encryption))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))

	for name, test := range map[string]struct {
		request *http.Request
		status  int
		body    string
	}{
		"message":              {pushed(t, signing, encryption, now, `{"type":"trade.order.created","data":{"id":1}}`), 202, ""},
		"challenge":            {pushed(t, signing, encryption, now, `{"type":"open.challenge","data":{"challenge":"abc"}}`), 200, `{"challenge":"abc"}`},
		"another signing key":  {pushed(t, other, encryption, now, `{}`), 400, "no signature matches"},
		"another key":          {pushed(t, signing, other, now, `{}`), 400, "decrypting"},
		"old":                  {pushed(t, signing, encryption, now.Add(-6*time.Minute), `{}`), 400, "five minutes"},
		"without a signature":  {httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("{}")), 400, "webhook-timestamp"},
		"longer than anything": {httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(strings.Repeat("x", 2<<20))), 413, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			var shown *received
			r := &receiver{answer: http.StatusAccepted, now: func() time.Time { return now }, show: func(m *received) { shown = m }}
			require.NoError(t, r.readKeys(file))
			w := httptest.NewRecorder()
			r.ServeHTTP(w, test.request)
			require.Equal(t, test.status, w.Code)
			require.Contains(t, w.Body.String(), test.body)
			if test.status < 300 {
				require.Contains(t, string(shown.Event), `"type"`)
			}
		})
	}
}

func TestListenWithoutKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, os.WriteFile(file, []byte(`{}`), 0o600))
	require.ErrorContains(t, new(receiver).readKeys(file), "whsec_")
	require.ErrorContains(t, new(receiver).readKeys(""), "--keys is missing")
}
