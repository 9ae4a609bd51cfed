package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// keyPeriod is how long one key signs. The next one is published a whole period
// ahead, and the one before stays as long, which is much longer than any token.
// Keys of a new master key sign and are published at once; those of the old one
// stay as long as it is kept.
const keyPeriod = 90 * 24 * time.Hour

// errNoSecrets means that the server was given no key material.
var errNoSecrets = errors.New("the authorization server has no secrets to sign with")

// signingKeys are the keys of one period, and those around it.
type signingKeys struct {
	period int64
	// secrets is the hash of what they were made of.
	secrets Hash
	// access signs access tokens, start what shows that a start is genuine. Each
	// writes its own typ.
	access, start jose.Signer
	public        jose.JSONWebKeySet
}

// signingKeys makes the keys that are in force at now. They follow from the
// secrets and the time, so every node has the same without asking another.
func (s *Server) signingKeys(now time.Time) (*signingKeys, error) {
	if s.Secrets == nil {
		return nil, errNoSecrets
	}
	secrets := s.Secrets()
	if len(secrets) == 0 {
		return nil, errNoSecrets
	}
	made := &signingKeys{period: now.Unix() / int64(keyPeriod/time.Second), secrets: hashAll(secrets)}
	if k := s.keys.Load(); k != nil && k.period == made.period && k.secrets == made.secrets {
		return k, nil
	}
	for i, secret := range secrets {
		for _, period := range []int64{made.period, made.period + 1, made.period - 1} {
			key, err := s.deriveKey(secret, period)
			if err != nil {
				return nil, err
			}
			made.public.Keys = append(made.public.Keys, key.Public())
			if i > 0 || period != made.period {
				continue
			}
			if made.access, err = newSigner(key, accessType); err != nil {
				return nil, err
			}
			if made.start, err = newSigner(key, startType); err != nil {
				return nil, err
			}
		}
	}
	s.keys.Store(made)
	return made, nil
}

// newSigner makes what signs JWTs of a type.
func newSigner(key *jose.JSONWebKey, typ jose.ContentType) (jose.Signer, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType(typ))
	if err != nil {
		return nil, fmt.Errorf("making the signer of tokens: %w", err)
	}
	return signer, nil
}

// deriveKey makes the key for ES256 of a period. Its kid is its thumbprint (RFC
// 7638).
func (s *Server) deriveKey(secret []byte, period int64) (*jose.JSONWebKey, error) {
	for n := 0; ; n++ {
		scalar, err := s.derive(secret, fmt.Sprintf("ES256 %d %d", period, n))
		if err != nil {
			return nil, err
		}
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
		if err != nil {
			if n > 8 { // each failure has a chance of one in 2^32
				return nil, fmt.Errorf("making a key for tokens: %w", err)
			}
			continue
		}
		out := &jose.JSONWebKey{Key: key, Algorithm: string(jose.ES256), Use: "sig"}
		sum, err := out.Thumbprint(crypto.SHA256)
		if err != nil {
			return nil, fmt.Errorf("making a key for tokens: %w", err)
		}
		out.KeyID = base64.RawURLEncoding.EncodeToString(sum)
		return out, nil
	}
}

// derive makes 32 bytes from a secret that serve one purpose, in one
// environment, for one issuer (RFC 5869).
func (s *Server) derive(secret []byte, purpose string) ([]byte, error) {
	info := "authorization server\x00" + s.Issuer + "\x00" + string(s.Environment) + "\x00" + purpose
	key, err := hkdf.Key(sha256.New, secret, nil, info, 32)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	return key, nil
}

func hashAll(secrets [][]byte) Hash {
	h := sha256.New()
	for _, secret := range secrets {
		h.Write([]byte(strconv.Itoa(len(secret)) + ":"))
		h.Write(secret)
	}
	return Hash(h.Sum(nil))
}

// serveJWKS publishes the public keys (RFC 7517 section 5).
func (s *Server) serveJWKS(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		s.writeRefusal(w, r, refuse(methodNotAllowed, "use GET"))
		return
	}
	keys, err := s.signingKeys(s.Now())
	if errors.Is(err, errNoSecrets) {
		http.NotFound(w, r)
		return
	}
	if err != nil {
		s.writeRefusal(w, r, failed(err))
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=300")
	writeJSON(w, http.StatusOK, keys.public)
}
