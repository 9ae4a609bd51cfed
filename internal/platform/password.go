package platform

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// The parameters of argon2id, as OWASP's Password Storage Cheat Sheet has them:
// 19 MiB, two passes, one lane.
const (
	argonMemory = 19456 // KiB
	argonTime   = 2
	argonLanes  = 1
	argonSalt   = 16
	argonKey    = 32
)

// The bounds of a password. A longer one is no safer, and costs time to read.
const (
	minPassword = 12  // characters, as NIST SP 800-63B advises more rather than stranger ones
	maxPassword = 256 // bytes
)

// The largest parameters that a stored hash may ask for, so that none can take
// the machine's memory.
const (
	maxArgonMemory = 1 << 20 // KiB
	maxArgonTime   = 64
	maxArgonLanes  = 16
)

func checkPassword(password string) error {
	want := fmt.Sprintf("at least %d characters and at most %d bytes", minPassword, maxPassword)
	switch {
	case !utf8.ValidString(password):
		return &FieldError{Field: "password", Problem: "is not UTF-8", Want: want}
	case utf8.RuneCountInString(password) < minPassword:
		return &FieldError{Field: "password", Problem: "is too short", Want: want}
	case len(password) > maxPassword:
		return &FieldError{Field: "password", Problem: "is too long", Want: want}
	}
	return nil
}

// hashPatience is how long a password that somebody sent waits to be looked at:
// whoever waits longer tries again or has gone.
const hashPatience = 2 * time.Second

// hasher hashes passwords, and bounds how many at a time: each takes 19 MiB and
// a processor for about 20 ms, and the gate needs processors, too.
type hasher struct {
	slots    chan struct{}
	patience time.Duration
}

func newHasher() hasher {
	return hasher{make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), hashPatience}
}

// enter waits for a turn.
func (h hasher) enter(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("hashing a password: %w: %w", ErrUnavailable, ctx.Err())
	}
}

// hash makes the PHC string of a password.
func (h hasher) hash(ctx context.Context, rand io.Reader, password string) (Secret, error) {
	salt := make([]byte, argonSalt)
	if _, err := io.ReadFull(rand, salt); err != nil {
		return Secret{}, fmt.Errorf("hashing a password: %w", err)
	}
	if err := h.enter(ctx); err != nil {
		return Secret{}, err
	}
	defer func() { <-h.slots }()
	key := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonLanes, argonKey)
	return NewSecret(fmt.Appendf(nil, "$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))), nil
}

// matches tells whether the password is the one of the hash. Without a hash it
// works as long and says no. The error is ErrUnavailable where too many others
// wait.
func (h hasher) matches(ctx context.Context, hash Secret, password string) (bool, error) {
	p := phc{memory: argonMemory, time: argonTime, lanes: argonLanes, salt: make([]byte, argonSalt), key: make([]byte, argonKey)}
	if !hash.IsZero() {
		var err error
		if p, err = parsePHC(string(hash.Reveal())); err != nil {
			return false, err
		}
	}
	wait, cancel := context.WithTimeout(ctx, h.patience)
	defer cancel()
	if err := h.enter(wait); err != nil {
		return false, err
	}
	defer func() { <-h.slots }()
	key := argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.lanes, uint32(len(p.key)))
	return subtle.ConstantTimeCompare(key, p.key) == 1 && !hash.IsZero(), nil
}

// phc is a hash of argon2id, taken apart.
type phc struct {
	memory, time uint32
	lanes        uint8
	salt, key    []byte
}

// parsePHC reads $argon2id$v=19$m=…,t=…,p=…$salt$key. Errors show none of it.
func parsePHC(s string) (phc, error) {
	var p phc
	var version int
	broken := fmt.Errorf("the stored password is no argon2id hash in PHC format: set the password anew")
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return p, broken
	}
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return p, broken
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.lanes); err != nil {
		return p, broken
	}
	var err error
	if p.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil {
		return p, broken
	}
	if p.key, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil {
		return p, broken
	}
	if p.memory > maxArgonMemory || p.time < 1 || p.time > maxArgonTime || p.lanes < 1 || p.lanes > maxArgonLanes ||
		len(p.salt) < 8 || len(p.salt) > 64 || len(p.key) < 16 || len(p.key) > 64 {
		return p, broken
	}
	return p, nil
}
