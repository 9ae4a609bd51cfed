package integration

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
)

// mostAhead is how many messages publishers are ahead of what has arrived, at the
// most: however fast a machine takes them, the rest arrives within a wait.
const mostAhead = 50_000

// inbox is an app's server that receives messages: it checks them by the
// library of Standard Webhooks and decrypts them by go-jose.
type inbox struct {
	*httptest.Server
	t *testing.T

	mu sync.Mutex
	// signing and encryption are the app's push keys.
	signing    []string
	encryption [][]byte
	// answer decides how a message is answered; nil answers 204.
	answer func(w http.ResponseWriter, m *arrived)
	got    []arrived
	// ahead has one for each message that publishers sent and that has not come.
	ahead chan struct{}
}

// arrived is a message as it came.
type arrived struct {
	ID, Topic, Delivery, Attempt, Cause string

	Event event

	header http.Header
	body   []byte // as it was sent
}

// event is what is inside of a message (CloudEvents 1.0).
type event struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Subject     string          `json:"subject"`
	Time        string          `json:"time"`
	AppKey      string          `json:"appkey"`
	Data        json.RawMessage `json:"data"`
}

// openInbox starts a server that knows no keys yet.
func openInbox(t *testing.T) *inbox {
	t.Helper()
	b := &inbox{t: t, ahead: make(chan struct{}, mostAhead)}
	b.Server = httptest.NewServer(http.HandlerFunc(b.receive))
	t.Cleanup(b.Close)
	return b
}

var pushKey = regexp.MustCompile(`\b(whsec|whek)_[A-Za-z0-9+/]{43}=`)

// learn takes the push keys out of what the platform printed.
func (b *inbox) learn(text string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range pushKey.FindAllString(text, -1) {
		if key[:5] == "whsec" {
			b.signing = append(b.signing, key)
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(key[len("whek_"):])
		require.NoError(b.t, err)
		b.encryption = append(b.encryption, raw)
	}
}

// answers sets how messages are answered.
func (b *inbox) answers(answer func(w http.ResponseWriter, m *arrived)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

// fails answers all messages with the status.
func (b *inbox) fails(status int) {
	b.answers(func(w http.ResponseWriter, _ *arrived) { w.WriteHeader(status) })
}

func (b *inbox) receive(w http.ResponseWriter, r *http.Request) {
	m, err := b.open(r)
	if err != nil {
		b.t.Errorf("a message that cannot be read: %v", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if m.Event.Type == "open.challenge" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(m.Event.Data)
		return
	}
	b.mu.Lock()
	b.got = append(b.got, *m)
	answer := b.answer
	b.mu.Unlock()
	select {
	case <-b.ahead:
	default:
	}
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	answer(w, m)
}

// open checks and decrypts a message with any of the keys.
func (b *inbox) open(r *http.Request) (*arrived, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	signing := b.signing
	b.mu.Unlock()
	err = fmt.Errorf("no key")
	for _, key := range signing {
		wh, err2 := standardwebhooks.NewWebhook(key)
		if err2 != nil {
			return nil, err2
		}
		if err = wh.Verify(body, r.Header); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	m := &arrived{
		ID: r.Header.Get("webhook-id"), Topic: r.Header.Get("X-Open-Topic"), Delivery: r.Header.Get("X-Open-Delivery"),
		Attempt: r.Header.Get("X-Open-Attempt"), Cause: r.Header.Get("X-Open-Cause"),
		header: r.Header, body: body,
	}
	var sealed struct {
		Encrypt string `json:"encrypt"`
	}
	if err := json.Unmarshal(body, &sealed); err != nil {
		return nil, err
	}
	plain, err := b.decrypt(sealed.Encrypt)
	if err != nil {
		return nil, fmt.Errorf("decrypting: %w", err)
	}
	if err := json.Unmarshal(plain, &m.Event); err != nil {
		return nil, err
	}
	if m.Event.ID != m.ID || m.Event.AppKey != r.Header.Get("X-Open-App-Key") {
		return nil, fmt.Errorf("the message inside is another one: %s %s", m.Event.ID, m.Event.AppKey)
	}
	return m, nil
}

// decrypt opens a JWE with any of the keys.
func (b *inbox) decrypt(sealed string) ([]byte, error) {
	jwe, err := jose.ParseEncryptedCompact(sealed, []jose.KeyAlgorithm{jose.A256KW}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	err = fmt.Errorf("no key")
	for _, key := range b.encryption {
		var plain []byte
		if plain, err = jwe.Decrypt(key); err == nil {
			return plain, nil
		}
	}
	return nil, err
}

// arrivals are the messages that came so far.
func (b *inbox) arrivals() []arrived {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]arrived(nil), b.got...)
}

// await waits until check has no more to complain of what has arrived.
func (b *inbox) await(what string, check func([]arrived) error) []arrived {
	b.t.Helper()
	eventually(b.t, what, func() error { return check(b.arrivals()) })
	return b.arrivals()
}

// awaitCount waits for so many messages.
func (b *inbox) awaitCount(n int) []arrived {
	b.t.Helper()
	return b.await(fmt.Sprintf("%d messages arrive", n), func(got []arrived) error {
		if len(got) < n {
			return fmt.Errorf("%d of %d messages arrived", len(got), n)
		}
		return nil
	})
}

// distinct are how many different messages there are among them.
func distinct(got []arrived) int {
	seen := map[string]bool{}
	for _, m := range got {
		seen[m.ID] = true
	}
	return len(seen)
}
