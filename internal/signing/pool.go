package signing

import (
	"crypto/sha256"
	"encoding"
	"hash"
	"sync"
)

// scratch is the memory of one verification.
type scratch struct {
	buf    []byte    // the string to sign
	sum    [64]byte  // the digest that we compute
	sig    [516]byte // the signature that the call carries, decoded: up to RSA 4096
	text   [684]byte // the same in base64
	sha256 hash.Hash
}

// maxScratch is the largest buffer that goes back into the pool.
const maxScratch = 64 << 10

var scratches = sync.Pool{New: func() any {
	return &scratch{buf: make([]byte, 0, 1024), sha256: sha256.New()}
}}

func getScratch() *scratch { return scratches.Get().(*scratch) }

// put gives s back; nothing that points into it may be used afterwards.
func (s *scratch) put() {
	if cap(s.buf) > maxScratch {
		return
	}
	s.buf = s.buf[:0]
	scratches.Put(s)
}

// hmacSHA256 is HMAC-SHA256 under one key, with both padded key blocks already
// hashed: a third of the work for a short message. The states of the inner and
// the outer hash lie side by side, since a call seldom finds them in the
// processor's caches.
type hmacSHA256 struct{ states []byte }

func newHMACSHA256(key []byte) hmacSHA256 {
	if len(key) > sha256.BlockSize {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	var inner, outer [sha256.BlockSize]byte
	copy(inner[:], key)
	copy(outer[:], key)
	for i := range inner {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	return hmacSHA256{append(sha256State(inner[:]), sha256State(outer[:])...)}
}

func sha256State(block []byte) []byte {
	h := sha256.New()
	h.Write(block)
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic("signing: sha256 state: " + err.Error()) // the standard library never fails here
	}
	return state
}

// start readies s.sha256 for the message.
func (m hmacSHA256) start(s *scratch) hash.Hash {
	restore(s.sha256, m.states[:len(m.states)/2])
	return s.sha256
}

// finish returns the code of what was written since start; it lies in s.sum.
func (m hmacSHA256) finish(s *scratch) []byte {
	sum := s.sha256.Sum(s.sum[:0])
	restore(s.sha256, m.states[len(m.states)/2:])
	s.sha256.Write(sum)
	return s.sha256.Sum(s.sum[:0])
}

// sum returns the code of msg; it lies in s.sum.
func (m hmacSHA256) sum(s *scratch, msg []byte) []byte {
	m.start(s).Write(msg)
	return m.finish(s)
}

func restore(h hash.Hash, state []byte) {
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
		panic("signing: sha256 state: " + err.Error()) // the state is our own
	}
}
