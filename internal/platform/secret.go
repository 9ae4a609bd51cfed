package platform

import "fmt"

// masked is what a secret looks like wherever it is printed.
const masked = "[secret]"

// Secret is a value that must never be printed: every way of formatting or
// marshalling it yields a mask. Reveal gives the bytes.
type Secret struct{ value []byte }

// NewSecret wraps b, which the caller must not change afterwards.
func NewSecret(b []byte) Secret { return Secret{value: b} }

// Reveal returns the secret itself.
func (s Secret) Reveal() []byte { return s.value }

// IsZero tells whether there is no secret.
func (s Secret) IsZero() bool { return len(s.value) == 0 }

// Format masks the secret under every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(masked)) }

// MarshalJSON masks the secret.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + masked + `"`), nil }

// MarshalText masks the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }
