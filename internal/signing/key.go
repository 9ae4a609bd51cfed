package signing

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The algorithms of op1 and rfc9421, by the names of the IANA registry "HTTP
// Signature Algorithms" (RFC 9421, section 6.2.2).
const (
	algHMAC    = "hmac-sha256"
	algEd25519 = "ed25519"
	algRSA     = "rsa-v1_5-sha256"
	algRSAPSS  = "rsa-pss-sha512" // rfc9421 only
)

const (
	minRSABits = 2048
	maxRSABits = 4096 // more costs the verifier too much
)

// shared is a secret that both sides know, pinned to one dialect and method.
type shared struct {
	dialect string
	method  string
	secret  []byte
	hmac    hmacSHA256
}

func newShared(dialect, method string, secret []byte) (shared, error) {
	s := lookup(dialect)
	if s == nil {
		return shared{}, unknown(dialect)
	}
	if len(secret) == 0 {
		return shared{}, fmt.Errorf("key for %s: the secret is empty", dialect)
	}
	if method == "" {
		method = preferred(s)
	}
	if !slices.Contains(secretMethods(s), method) {
		return shared{}, fmt.Errorf("key for %s: method %q takes no secret: write one of %s",
			dialect, method, strings.Join(secretMethods(s), ", "))
	}
	secret = slices.Clone(secret)
	// The dialect's own name, and not the caller's copy of it, which would be one
	// place of the memory more for each verification to look at.
	return shared{dialect: s.name(), method: method, secret: secret, hmac: newHMACSHA256(secret)}, nil
}

// preferred is the method of a key that names none: the dialect's first one
// that needs no explicit permission.
func preferred(s scheme) string {
	methods := secretMethods(s)
	for _, m := range methods {
		if !s.optIn(m) {
			return m
		}
	}
	return methods[0]
}

// secretMethods are the methods of s that a shared secret can serve.
func secretMethods(s scheme) []string {
	if asymmetric(s) {
		return []string{algHMAC}
	}
	return s.methods()
}

// asymmetric tells whether s takes public keys.
func asymmetric(s scheme) bool { return slices.Contains(s.methods(), algEd25519) }

// Key is a verification key, compiled for use by many goroutines. A key made
// of a secret serves the one dialect and method that it was made for; a public
// key serves op1 and rfc9421.
type Key struct {
	// Number is the n of "appKey#n"; a claim without a number tries all keys.
	Number int

	shared
	public crypto.PublicKey // ed25519.PublicKey or *rsa.PublicKey; nil for a secret
}

// NewSecretKey makes the key of a shared secret, taken as its bytes are shown.
// The method pins the digest algorithm, see [Methods]; "" means the dialect's
// strongest default. Errors name the dialect and the methods that it has.
func NewSecretKey(dialect, method string, number int, secret []byte) (*Key, error) {
	sh, err := newShared(dialect, method, secret)
	if err != nil {
		return nil, err
	}
	return &Key{Number: number, shared: sh}, nil
}

// NewPublicKey makes the key of a registered public key: Ed25519, or RSA of
// 2048 to 4096 bits, as PKIX PEM ("BEGIN PUBLIC KEY").
func NewPublicKey(number int, text []byte) (*Key, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("public key: no PEM block found: supply text that starts with -----BEGIN PUBLIC KEY-----")
	}
	if block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("public key: the PEM block is a %q: supply the public key alone, "+
			"as `openssl pkey -in key.pem -pubout` prints it", block.Type)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("public key: reading PKIX: %w", err)
	}
	switch public := parsed.(type) {
	case ed25519.PublicKey:
		return &Key{Number: number, shared: shared{method: algEd25519}, public: public}, nil
	case *rsa.PublicKey:
		if err := checkRSA(public); err != nil {
			return nil, err
		}
		return &Key{Number: number, shared: shared{method: algRSA}, public: public}, nil
	default:
		return nil, fmt.Errorf("public key: a %T: supply an Ed25519 key, or an RSA key of %d to %d bits", parsed, minRSABits, maxRSABits)
	}
}

func checkRSA(public *rsa.PublicKey) error {
	if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return fmt.Errorf("RSA key: it has %d bits: supply one of %d to %d bits", bits, minRSABits, maxRSABits)
	}
	return nil
}

// fits tells whether k may verify calls of s.
func (k *Key) fits(s scheme) bool {
	if k.public != nil {
		return asymmetric(s)
	}
	return k.dialect == s.name()
}

// serves tells whether k may verify by this method. An RSA key serves both
// paddings; that op1 knows only one of them is op1's matter.
func (k *Key) serves(method string) bool {
	return k.method == method || k.method == algRSA && method == algRSAPSS
}

// SigningKey is what a caller signs with.
type SigningKey struct {
	shared
	private crypto.Signer // ed25519.PrivateKey or *rsa.PrivateKey; nil for a secret
}

// NewSigningSecret makes the signing key of a shared secret; the arguments are
// those of [NewSecretKey].
func NewSigningSecret(dialect, method string, secret []byte) (*SigningKey, error) {
	sh, err := newShared(dialect, method, secret)
	if err != nil {
		return nil, err
	}
	return &SigningKey{shared: sh}, nil
}

// NewSigningPrivateKey makes the signing key of an Ed25519 or RSA private key,
// as PKCS #8 PEM ("BEGIN PRIVATE KEY"). It serves op1 and rfc9421.
func NewSigningPrivateKey(text []byte) (*SigningKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("private key: no PEM block of PKCS #8 found: supply text that starts with " +
			"-----BEGIN PRIVATE KEY-----, as `openssl genpkey -algorithm ed25519` prints it")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("private key: it is not PKCS #8") // the cause could quote the key
	}
	switch private := parsed.(type) {
	case ed25519.PrivateKey:
		return &SigningKey{shared: shared{method: algEd25519}, private: private}, nil
	case *rsa.PrivateKey:
		if err := checkRSA(&private.PublicKey); err != nil {
			return nil, err
		}
		return &SigningKey{shared: shared{method: algRSA}, private: private}, nil
	default:
		return nil, fmt.Errorf("private key: a %T: supply an Ed25519 key, or an RSA key of %d to %d bits", parsed, minRSABits, maxRSABits)
	}
}

// fits tells whether k may sign calls of s.
func (k *SigningKey) fits(s scheme) bool {
	if k.private != nil {
		return asymmetric(s)
	}
	return k.dialect == s.name()
}
