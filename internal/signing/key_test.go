package signing

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSecretKeyRefuses(t *testing.T) {
	for _, test := range []struct{ dialect, method, secret, says string }{
		{"opl", "", "x", "unknown dialect"},
		{"op1", "", "", "empty"},
		{"op1", "md5", "x", "hmac-sha256"},
		{"op1", "ed25519", "x", "takes no secret"},
		{"top", "sha1", "x", "md5"},
	} {
		_, err := NewSecretKey(test.dialect, test.method, 1, []byte(test.secret))
		require.ErrorContains(t, err, test.says)
		_, err = NewSigningSecret(test.dialect, test.method, []byte(test.secret))
		require.ErrorContains(t, err, test.says)
	}
}

func TestSecretKeyDefaultIsNotWeak(t *testing.T) {
	for _, name := range Names() {
		k, err := NewSecretKey(name, "", 1, []byte("x"))
		require.NoError(t, err)
		strong := false
		for _, method := range Methods(name) {
			strong = strong || !OptIn(name, method)
		}
		require.Equal(t, strong, !OptIn(name, k.method), "%s: %s", name, k.method)
	}
}

func TestSecretIsCopied(t *testing.T) {
	secret := []byte(testSecret)
	k, err := NewSecretKey("op1", "", 1, secret)
	require.NoError(t, err)
	clear(secret)
	require.Equal(t, testSecret, string(k.secret))
	r := signedBy(t, "op1", get(), secretPair(t, "op1", "", testSecret, 1), 0)
	_, _, err = admit(mustSet(t, "op1"), r, Options{Now: testNow}, k)
	require.NoError(t, err)
}

// pemOf writes a key in PEM.
func pemOf(t *testing.T, kind string, der []byte, err error) []byte {
	t.Helper()
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestPublicKeyRefuses(t *testing.T) {
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	good, err := testRSA()
	require.NoError(t, err)

	long := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), maxRSABits, 1), E: 65537}
	longDER, longErr := x509.MarshalPKIXPublicKey(long)
	shortDER, shortErr := x509.MarshalPKIXPublicKey(&short.PublicKey)
	curveDER, curveErr := x509.MarshalPKIXPublicKey(&curve.PublicKey)
	privateDER, privateErr := x509.MarshalPKCS8PrivateKey(good)
	for name, test := range map[string]struct {
		text []byte
		says string
	}{
		"no PEM":       {[]byte("hello"), "BEGIN PUBLIC KEY"},
		"empty":        {nil, "BEGIN PUBLIC KEY"},
		"PKCS #1":      {pemOf(t, "RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&good.PublicKey), nil), "pubout"},
		"private":      {pemOf(t, "PRIVATE KEY", privateDER, privateErr), "public key alone"},
		"1024 bits":    {pemOf(t, "PUBLIC KEY", shortDER, shortErr), "2048"},
		"4097 bits":    {pemOf(t, "PUBLIC KEY", longDER, longErr), "2048 to 4096 bits"},
		"ECDSA":        {pemOf(t, "PUBLIC KEY", curveDER, curveErr), "Ed25519"},
		"not a key":    {pemOf(t, "PUBLIC KEY", []byte("hello"), nil), "PKIX"},
		"only a label": {[]byte("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"), "PKIX"},
	} {
		_, err := NewPublicKey(1, test.text)
		require.ErrorContains(t, err, test.says, name)
	}

	shortDER, shortErr = x509.MarshalPKCS8PrivateKey(short)
	_, err = NewSigningPrivateKey(pemOf(t, "PRIVATE KEY", shortDER, shortErr))
	require.ErrorContains(t, err, "2048")
	curveDER, curveErr = x509.MarshalPKCS8PrivateKey(curve)
	_, err = NewSigningPrivateKey(pemOf(t, "PRIVATE KEY", curveDER, curveErr))
	require.ErrorContains(t, err, "Ed25519")
	_, err = NewSigningPrivateKey([]byte("hello"))
	require.ErrorContains(t, err, "BEGIN PRIVATE KEY")
	_, err = NewSigningPrivateKey(pemOf(t, "PUBLIC KEY", longDER, nil))
	require.ErrorContains(t, err, "BEGIN PRIVATE KEY")
	_, err = NewSigningPrivateKey(pemOf(t, "PRIVATE KEY", []byte("hello"), nil))
	require.ErrorContains(t, err, "PKCS #8")
}

// TestRSABits: a key of either bound is taken.
func TestRSABits(t *testing.T) {
	for bits, want := range map[int]bool{2047: false, 2048: true, 4096: true, 4097: false} {
		err := checkRSA(&rsa.PublicKey{N: new(big.Int).SetBit(new(big.Int), bits-1, 1)})
		require.Equal(t, want, err == nil, "%d bits: %v", bits, err)
	}
}

func TestHMACMatchesStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 1, 150).Draw(t, "key")
		msg := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "message")
		want := hmac.New(sha256.New, key)
		want.Write(msg)
		s := getScratch()
		defer s.put()
		require.Equal(t, want.Sum(nil), newHMACSHA256(key).sum(s, msg))
	})
}
