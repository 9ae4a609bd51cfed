package command

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/pusher"
)

// pushKeys matches push keys in whatever text they stand.
var pushKeys = regexp.MustCompile(`\b(whsec|whek)_([A-Za-z0-9+/]{43}=)`)

// receiver takes pushed messages as an app would, and shows them.
type receiver struct {
	signing, encryption [][]byte
	// answer is the status that messages are answered with.
	answer int
	now    func() time.Time
	show   func(*received)
}

// received is a pushed message.
type received struct {
	Topic    string          `json:"topic"`
	Delivery string          `json:"delivery"`
	Attempt  string          `json:"attempt"`
	Cause    string          `json:"cause"`
	Event    json.RawMessage `json:"event"`

	id string
}

func (c *cli) pushListen() *cobra.Command {
	var file, address string
	var answer int
	cmd := c.verb("listen", "Receives messages as an app does: checks, decrypts and shows them, and answers challenges", `  caddy open-platform subscription create --app ak_7Yq2m0VtB1cD3eF4gH5i --url http://127.0.0.1:8184/ --topic trade.order.created --json > push-keys.json
  caddy open-platform push listen --keys push-keys.json
  caddy open-platform push listen --keys push-keys.json --answer 503 --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			if answer < 200 || answer > 599 {
				return usagef("--answer: %d is no status; want 200 to 599", answer)
			}
			r := &receiver{answer: answer, now: c.now, show: func(m *received) { c.showReceived(cmd, m) }}
			if err := r.readKeys(file); err != nil {
				return err
			}
			var listen net.ListenConfig
			l, err := listen.Listen(ctx, "tcp", address)
			if err != nil {
				return usagef("--listen: %v", err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "Waiting for messages at http://%s/ (Ctrl-C ends it)\n", l.Addr())
			return serve(ctx, l, r)
		})
	cmd.Flags().StringVar(&file, "keys", "", "file with the app's push keys, as subscription create --json prints them (required)")
	cmd.Flags().StringVar(&address, "listen", "127.0.0.1:8184", "address to listen at")
	cmd.Flags().IntVar(&answer, "answer", http.StatusOK, "status to answer messages with, to see retries")
	return cmd
}

// serve answers until ctx ends.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	stopped := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stopped()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("receiving messages: %w", err)
	}
	return nil
}

// readKeys finds the push keys in a file.
func (r *receiver) readKeys(file string) error {
	if file == "" {
		return usagef("--keys is missing: a file with what subscription create --json printed")
	}
	text, err := readInput("--keys", file, 1<<20)
	if err != nil {
		return err
	}
	for _, match := range pushKeys.FindAllSubmatch(text, -1) {
		key, err := base64.StdEncoding.DecodeString(string(match[2]))
		switch {
		case err != nil:
		case string(match[1]) == "whsec":
			r.signing = append(r.signing, key)
		default:
			r.encryption = append(r.encryption, key)
		}
	}
	if len(r.signing) == 0 || len(r.encryption) == 0 {
		return usagef("--keys: %s has no whsec_… and whek_…; they are shown once, by subscription create and app push-key add", file)
	}
	return nil
}

// ServeHTTP takes one message.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 1<<20))
	if err != nil {
		http.Error(w, "the message is too long", http.StatusRequestEntityTooLarge)
		return
	}
	m, err := r.open(req.Header, body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		r.show(&received{id: req.Header.Get("webhook-id"), Topic: "refused: " + err.Error()})
		return
	}
	var event struct {
		Type string `json:"type"`
		Data struct {
			Challenge string `json:"challenge"`
		} `json:"data"`
	}
	if json.Unmarshal(m.Event, &event) == nil && event.Type == "open.challenge" {
		m.Topic = event.Type
		r.show(m)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(event.Data)
		return
	}
	w.WriteHeader(r.answer)
	r.show(m)
}

// open checks the signature of a message and decrypts it.
func (r *receiver) open(h http.Header, body []byte) (*received, error) {
	if err := r.verify(h, body); err != nil {
		return nil, err
	}
	m := &received{
		id: h.Get("webhook-id"), Topic: h.Get("X-Open-Topic"), Delivery: h.Get("X-Open-Delivery"),
		Attempt: h.Get("X-Open-Attempt"), Cause: h.Get("X-Open-Cause"), Event: body,
	}
	if strings.HasPrefix(h.Get("Content-Type"), "application/cloudevents+json") {
		return m, nil
	}
	var err error
	for _, key := range r.encryption {
		if m.Event, err = pusher.Decrypt(key, body); err == nil {
			return m, nil
		}
	}
	return nil, fmt.Errorf("decrypting the body: %w", err)
}

// tolerance is how far a timestamp may lie off, as Standard Webhooks has it.
const tolerance = 5 * time.Minute

// verify checks the signature as Standard Webhooks says.
func (r *receiver) verify(h http.Header, body []byte) error {
	id, timestamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || r.now().Sub(time.Unix(seconds, 0)).Abs() > tolerance {
		return errors.New("webhook-timestamp is missing or more than five minutes off")
	}
	for _, key := range r.signing {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.", id, timestamp)
		mac.Write(body)
		want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		for got := range strings.FieldsSeq(h.Get("webhook-signature")) {
			if subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1 {
				return nil
			}
		}
	}
	return errors.New("no signature matches")
}

// showReceived prints a message.
func (c *cli) showReceived(cmd *cobra.Command, m *received) {
	if c.json && m.Event != nil {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetEscapeHTML(false)
		_ = enc.Encode(m)
		return
	}
	fmt.Fprintln(cmd.OutOrStdout(), printable(strings.Join([]string{date(c.now()), m.id, m.Topic, m.Cause, m.Attempt, string(m.Event)}, "  ")))
}
