package pusher

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	messagePrefix  = "msg_"
	deliveryPrefix = "dlv_"
	// idDigits is the length of 16 bytes in base32.
	idDigits = 26
)

// idEncoding is base32hex (RFC 4648 section 7) in lower case: texts sort as the
// numbers do.
var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// String is "msg_" and 26 characters; it sorts by time.
func (id MessageID) String() string { return formatID(messagePrefix, id.At, id.ID) }

// String is "dlv_" and 26 characters; it sorts by time.
func (id DeliveryID) String() string { return formatID(deliveryPrefix, id.At, id.ID) }

// ParseMessageID reads what MessageID.String writes; anything else is a
// *platform.FieldError of the field id.
func ParseMessageID(s string) (MessageID, error) {
	at, id, ok := parseID(messagePrefix, s)
	if !ok {
		return MessageID{}, noID(messagePrefix, s)
	}
	return MessageID{at, id}, nil
}

// ParseDeliveryID reads what DeliveryID.String writes; anything else is a
// *platform.FieldError of the field id.
func ParseDeliveryID(s string) (DeliveryID, error) {
	at, id, ok := parseID(deliveryPrefix, s)
	if !ok {
		return DeliveryID{}, noID(deliveryPrefix, s)
	}
	return DeliveryID{at, id}, nil
}

func noID(prefix, s string) error {
	return &platform.FieldError{Field: "id", Problem: fmt.Sprintf("%.40q is none", s), Want: fmt.Sprintf("%s and %d characters of 0-9 and a-v, copied from a list", prefix, idDigits)}
}

func formatID(prefix string, at, id int64) string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(at))
	binary.BigEndian.PutUint64(raw[8:], uint64(id))
	out := make([]byte, len(prefix)+idDigits)
	copy(out, prefix)
	idEncoding.Encode(out[len(prefix):], raw[:])
	return string(out)
}

// parseID accepts the one text that formatID writes for a pair of numbers, none
// of them negative.
func parseID(prefix, s string) (at, id int64, ok bool) {
	if len(s) != len(prefix)+idDigits || s[:len(prefix)] != prefix {
		return 0, 0, false
	}
	var raw [idDigits]byte
	if n, err := idEncoding.Decode(raw[:], []byte(s[len(prefix):])); err != nil || n != 16 {
		return 0, 0, false
	}
	at, id = int64(binary.BigEndian.Uint64(raw[:8])), int64(binary.BigEndian.Uint64(raw[8:16]))
	return at, id, at >= 0 && id >= 0 && formatID(prefix, at, id) == s
}
