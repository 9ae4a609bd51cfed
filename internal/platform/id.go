package platform

import (
	"fmt"
	"io"

	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// The prefixes tell what an identifier is for, also in a log or a leak.
const (
	idPrefix     = "app_"
	keyPrefix    = "ak_"
	secretPrefix = "sk_"
	userPrefix   = "usr_"
	grantPrefix  = "gr_"
	jobPrefix    = "job_"
	subPrefix    = "sub_"
)

const (
	lowerDigits  = "0123456789abcdefghijklmnopqrstuvwxyz"
	alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// newID returns prefix and 20 random characters (119 bits).
func newID(r io.Reader, prefix string) (string, error) {
	return randomString(r, prefix, alphanumeric, 20)
}

// NewUserID returns a fresh ID for a user.
func NewUserID(r io.Reader) (string, error) { return newID(r, userPrefix) }

// NewGrantID returns a fresh ID for a grant.
func NewGrantID(r io.Reader) (string, error) { return newID(r, grantPrefix) }

// NewJobID returns a fresh ID for a job that pushes messages again.
func NewJobID(r io.Reader) (string, error) { return newID(r, jobPrefix) }

// newSecret returns a fresh secret for the dialect. One of op1 has 64 random
// characters (381 bits) after its prefix; the SDKs of other platforms expect
// 40 plain ones (206 bits).
func newSecret(r io.Reader, dialect string) (string, error) {
	if dialect == signing.Op1 {
		return randomString(r, secretPrefix, alphanumeric, 64)
	}
	return randomString(r, "", lowerDigits, 40)
}

// randomString returns prefix and n characters of alphabet, each as likely as
// the others: bytes that would favour the first ones are thrown away.
func randomString(r io.Reader, prefix, alphabet string, n int) (string, error) {
	limit := 256 - 256%len(alphabet)
	out := append(make([]byte, 0, len(prefix)+n), prefix...)
	buf := make([]byte, n)
	for len(out) < len(prefix)+n {
		if _, err := io.ReadFull(r, buf); err != nil {
			return "", fmt.Errorf("reading random bytes: %w", err)
		}
		for _, b := range buf {
			if int(b) < limit && len(out) < len(prefix)+n {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(out), nil
}
