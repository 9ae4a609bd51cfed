package pusher

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// minSecret is the least size of a secret that Standard Webhooks allows. Ours have
// 32 bytes.
const minSecret = 24

var errNoSigningKey = errors.New("the app has no live signing key for pushes")

// signer signs the pushes of one app and environment (Standard Webhooks 1.0).
// It is safe for concurrent use.
type signer struct {
	symmetric  []signingKey
	asymmetric []signingKey
}

// signingKey is one key with what makes it quick to use.
type signingKey struct {
	key    *platform.PushKey
	macs   *sync.Pool         // of hash.Hash, for HMAC
	secret ed25519.PrivateKey // for Ed25519
}

// newSigner takes the keys of the environment, the newest first.
func newSigner(keys []platform.PushKey, e platform.Environment) (*signer, error) {
	s := new(signer)
	for i := range keys {
		k := &keys[i]
		if k.Environment != e || k.Kind == platform.EncryptionKey {
			continue
		}
		secret := k.Secret.Reveal()
		if len(secret) < minSecret || k.Kind == platform.Ed25519Key && len(secret) != ed25519.SeedSize {
			return nil, fmt.Errorf("push key %d: a signing key has 32 bytes", k.Number)
		}
		switch k.Kind {
		case platform.SigningKey:
			s.symmetric = append(s.symmetric, signingKey{key: k, macs: &sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}})
		case platform.Ed25519Key:
			s.asymmetric = append(s.asymmetric, signingKey{key: k, secret: ed25519.NewKeyFromSeed(secret)})
		}
	}
	newest := func(a, b signingKey) int { return b.key.Number - a.key.Number }
	slices.SortFunc(s.symmetric, newest)
	slices.SortFunc(s.asymmetric, newest)
	return s, nil
}

// sign returns the values of webhook-timestamp and webhook-signature for a body
// that is sent at now: a signature by each live key.
func (s *signer) sign(id string, now time.Time, body []byte, asymmetric bool) (timestamp, signatures string, err error) {
	timestamp = strconv.FormatInt(now.Unix(), 10)
	prefix := make([]byte, 0, 64)
	prefix = append(prefix, id...)
	prefix = append(prefix, '.')
	prefix = append(prefix, timestamp...)
	prefix = append(prefix, '.')

	out := make([]byte, 0, 128)
	for _, k := range s.symmetric {
		if !k.key.Live(now) {
			continue
		}
		m := k.macs.Get().(hash.Hash)
		m.Reset()
		m.Write(prefix)
		m.Write(body)
		var sum [sha256.Size]byte
		out = appendSignature(out, "v1,", m.Sum(sum[:0]))
		k.macs.Put(m)
	}
	if asymmetric {
		var message []byte
		for _, k := range s.asymmetric {
			if !k.key.Live(now) {
				continue
			}
			if message == nil {
				message = append(append(make([]byte, 0, len(prefix)+len(body)), prefix...), body...)
			}
			out = appendSignature(out, "v1a,", ed25519.Sign(k.secret, message))
		}
	}
	if len(out) == 0 {
		return "", "", errNoSigningKey
	}
	return timestamp, string(out), nil
}

func appendSignature(out []byte, version string, signature []byte) []byte {
	if len(out) > 0 {
		out = append(out, ' ')
	}
	out = append(out, version...)
	return base64.StdEncoding.AppendEncode(out, signature)
}
