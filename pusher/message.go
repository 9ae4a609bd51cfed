package pusher

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	// maxText bounds user, key and id of a message, in bytes.
	maxText = 256
	// maxAhead is how far a message's time may lie in the future: clocks differ.
	maxAhead = 24 * time.Hour
	// MaxBatch is the largest number of messages of one call of Publish.
	MaxBatch = 1000
)

// checkMessage finds the mistake in a message; t is its topic, nil where there is
// none of that name.
func checkMessage(m *Message, t *topic, now time.Time) error {
	if _, err := platform.ParseEnvironment(string(m.Environment)); err != nil {
		return err
	}
	switch {
	case m.Topic == "":
		return &platform.FieldError{Field: "topic", Problem: "missing", Want: "a topic of the catalog"}
	case t == nil:
		return &platform.FieldError{Field: "topic", Problem: fmt.Sprintf("there is no topic %.100q", m.Topic), Want: "a topic of the catalog"}
	case t.Status != platform.Online && t.Status != platform.Deprecated:
		return &platform.FieldError{Field: "topic", Problem: fmt.Sprintf("topic %s is %s", t.Name, t.Status), Want: "a topic that is online"}
	case t.UserToken && m.User == "":
		return &platform.FieldError{Field: "user", Problem: "it is missing: messages of topic " + t.Name + " concern a merchant", Want: "the merchant's ID"}
	case !t.UserToken && m.User != "":
		return &platform.FieldError{Field: "user", Problem: "messages of topic " + t.Name + " concern no merchant", Want: "no user"}
	}
	for _, f := range [...]struct{ name, value string }{{"user", m.User}, {"key", m.Key}, {"id", m.Idempotency}} {
		if err := checkText(f.name, f.value); err != nil {
			return err
		}
	}
	return checkContent(m, now)
}

func checkContent(m *Message, now time.Time) error {
	switch {
	case len(m.Data) == 0:
		return &platform.FieldError{Field: "data", Problem: "it is missing", Want: "JSON"}
	case len(m.Data) > maxData:
		return &platform.FieldError{Field: "data", Problem: fmt.Sprintf("it has %d bytes", len(m.Data)), Want: fmt.Sprintf("at most %d", maxData)}
	case !utf8.Valid(m.Data) || !json.Valid(m.Data):
		return &platform.FieldError{Field: "data", Problem: "it is no JSON in UTF-8", Want: "JSON (RFC 8259)"}
	case m.Time.IsZero():
		return nil
	case m.Time.Year() < 1970 || m.Time.After(now.Add(maxAhead)):
		return BadTime(m.Time)
	}
	return nil
}

// BadTime is the mistake of a message that happened at such a time. Who reads
// messages needs it for the zero time, which in a Message stands for none.
func BadTime(t time.Time) error {
	return &platform.FieldError{Field: "time", Problem: "it is " + t.UTC().Format(time.RFC3339), Want: "when it happened, from 1970 on and at most 24 hours ahead"}
}

func checkText(field, s string) error {
	if len(s) > maxText {
		return &platform.FieldError{Field: field, Problem: fmt.Sprintf("it has %d bytes", len(s)), Want: fmt.Sprintf("at most %d", maxText)}
	}
	if !utf8.ValidString(s) {
		return &platform.FieldError{Field: field, Problem: "it is not UTF-8", Want: "text in UTF-8"}
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return &platform.FieldError{Field: field, Problem: "it has control characters", Want: "text without them"}
		}
	}
	return nil
}

// digestOf is the SHA-256 of what makes two messages with one id the same.
func digestOf(m *Message) [32]byte {
	h := sha256.New()
	var n [8]byte
	write := func(b []byte) {
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	var at []byte
	if !m.Time.IsZero() {
		at = m.Time.UTC().AppendFormat(nil, time.RFC3339Nano)
	}
	for _, b := range [...][]byte{[]byte(m.Environment), []byte(m.Topic), []byte(m.User), []byte(m.Key), at, m.Data} {
		write(b)
	}
	return [32]byte(h.Sum(nil))
}
