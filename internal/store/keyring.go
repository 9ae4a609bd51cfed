package store

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// keySize is the length of a master key in bytes: AES-256.
const keySize = 32

// Keyring holds the master keys that secrets are encrypted with. The primary
// one seals; all of them open. It is immutable and never prints its keys.
type Keyring struct{ keys []masterKey }

type masterKey struct {
	// id is the first 8 hex digits of the key's SHA-256.
	id   string
	raw  []byte
	aead cipher.AEAD
}

// NewKeyring makes a keyring of keys of 32 bytes. The older ones are for what
// was sealed before the primary one came.
func NewKeyring(primary []byte, older ...[]byte) (*Keyring, error) {
	k := &Keyring{}
	for i, raw := range append([][]byte{primary}, older...) {
		if len(raw) != keySize {
			return nil, fmt.Errorf("master key %d has %d bytes; want exactly %d", i+1, len(raw), keySize)
		}
		sum := sha256.Sum256(raw)
		key := masterKey{id: hex.EncodeToString(sum[:4]), raw: slices.Clone(raw)}
		if k.find(key.id) != nil {
			return nil, fmt.Errorf("master key %d is there twice; want each key once", i+1)
		}
		block, err := aes.NewCipher(key.raw)
		if err != nil {
			return nil, fmt.Errorf("master key %d: %w", i+1, err)
		}
		if key.aead, err = cipher.NewGCM(block); err != nil {
			return nil, fmt.Errorf("master key %d: %w", i+1, err)
		}
		k.keys = append(k.keys, key)
	}
	return k, nil
}

// ParseKeyring reads one key a line, as 64 hex digits or base64 of 32 bytes.
// The first is the primary one. Blank lines and lines after # do not count.
// Errors name the line, never what is in it.
func ParseKeyring(text string) (*Keyring, error) {
	var keys [][]byte
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		raw, ok := decodeKey(line)
		if !ok {
			return nil, fmt.Errorf("master key, line %d: not a key; want 64 hex digits, or base64 of %d bytes, as `openssl rand -hex %d` prints it", n, keySize, keySize)
		}
		keys = append(keys, raw)
	}
	if err := lines.Err(); err != nil {
		return nil, errors.New("master key: a line is too long; want one key a line")
	}
	if len(keys) == 0 {
		return nil, errors.New("master key: no key found; want one a line, as 64 hex digits or base64")
	}
	return NewKeyring(keys[0], keys[1:]...)
}

// decodeKey reads hex or any of the usual kinds of base64.
func decodeKey(s string) ([]byte, bool) {
	if b, err := hex.DecodeString(s); err == nil && len(b) == keySize {
		return b, true
	}
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	b, err := base64.RawStdEncoding.Strict().DecodeString(s)
	return b, err == nil && len(b) == keySize
}

// NewKey makes a random master key.
func NewKey(rand io.Reader) ([]byte, error) {
	key := make([]byte, keySize)
	if _, err := io.ReadFull(rand, key); err != nil {
		return nil, fmt.Errorf("making a master key: %w", err)
	}
	return key, nil
}

// Keys returns copies of the keys, the primary one first.
func (k *Keyring) Keys() [][]byte {
	keys := make([][]byte, len(k.keys))
	for i := range k.keys {
		keys[i] = slices.Clone(k.keys[i].raw)
	}
	return keys
}

// PrimaryID names the primary key.
func (k *Keyring) PrimaryID() string { return k.keys[0].id }

// Format masks the keys under every verb.
func (k Keyring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[master keys]") }

func (k *Keyring) find(id string) *masterKey {
	for i := range k.keys {
		if k.keys[i].id == id {
			return &k.keys[i]
		}
	}
	return nil
}

// with is k and the keys of older that it lacks.
func (k *Keyring) with(older *Keyring) *Keyring {
	all := &Keyring{keys: slices.Clone(k.keys)}
	for _, key := range older.keys {
		if all.find(key.id) == nil {
			all.keys = append(all.keys, key)
		}
	}
	return all
}

// Seal encrypts plaintext with the primary key (AES-256-GCM, random nonce) and
// binds it to its place, aad. It returns the key's ID and nonce | ciphertext |
// tag.
func (k *Keyring) Seal(rand io.Reader, plaintext, aad []byte) (id string, sealed []byte, err error) {
	key := &k.keys[0]
	nonce := make([]byte, key.aead.NonceSize(), key.aead.NonceSize()+len(plaintext)+key.aead.Overhead())
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return "", nil, fmt.Errorf("sealing: %w", err)
	}
	return key.id, key.aead.Seal(nonce, nonce, plaintext, aad), nil
}

// Open decrypts what Seal made at the same place.
func (k *Keyring) Open(id string, sealed, aad []byte) ([]byte, error) {
	key := k.find(id)
	if key == nil {
		return nil, fmt.Errorf("opening a secret: master key %s is not at hand", id)
	}
	size := key.aead.NonceSize()
	if len(sealed) < size {
		return nil, errors.New("opening a secret: it is cut short")
	}
	plaintext, err := key.aead.Open(nil, sealed[:size], sealed[size:], aad)
	if err != nil {
		return nil, fmt.Errorf("opening a secret: it was changed, moved to another row, or sealed with another key than %s", id)
	}
	return plaintext, nil
}
