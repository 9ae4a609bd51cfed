package pusher

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

const (
	// cekSize is a content key of A256GCM, wrappedSize the same wrapped.
	cekSize     = 32
	wrappedSize = cekSize + 8
)

// wrapIV is the initial value of RFC 3394 section 2.2.3.1.
const wrapIV = 0xa6a6a6a6a6a6a6a6

var errUnwrap = errors.New("the content key does not belong to this key")

// newWrapper makes a key ready to wrap others.
func newWrapper(key []byte) (cipher.Block, error) {
	if len(key) != cekSize {
		return nil, errors.New("an encryption key has 32 bytes")
	}
	return aes.NewCipher(key)
}

// wrapKey wraps a content key (RFC 3394 section 2.2.1, AES key wrap) into dst.
func wrapKey(kek cipher.Block, dst *[wrappedSize]byte, cek *[cekSize]byte) {
	const n = cekSize / 8
	r := dst[8:]
	copy(r, cek[:])
	var block [aes.BlockSize]byte
	binary.BigEndian.PutUint64(block[:8], wrapIV)
	for t := range 6 * n {
		i := t % n * 8
		copy(block[8:], r[i:i+8])
		kek.Encrypt(block[:], block[:])
		binary.BigEndian.PutUint64(block[:8], binary.BigEndian.Uint64(block[:8])^uint64(t+1))
		copy(r[i:], block[8:])
	}
	copy(dst[:8], block[:8])
}

// unwrapKey is the reverse (RFC 3394 section 2.2.2).
func unwrapKey(kek cipher.Block, cek *[cekSize]byte, wrapped *[wrappedSize]byte) error {
	const n = cekSize / 8
	var block [aes.BlockSize]byte
	copy(block[:8], wrapped[:8])
	copy(cek[:], wrapped[8:])
	for t := 6*n - 1; t >= 0; t-- {
		i := t % n * 8
		binary.BigEndian.PutUint64(block[:8], binary.BigEndian.Uint64(block[:8])^uint64(t+1))
		copy(block[8:], cek[i:i+8])
		kek.Decrypt(block[:], block[:])
		copy(cek[i:], block[8:])
	}
	var want [8]byte
	binary.BigEndian.PutUint64(want[:], wrapIV)
	if subtle.ConstantTimeCompare(block[:8], want[:]) != 1 {
		return errUnwrap
	}
	return nil
}
