package limit

import (
	"encoding/binary"
	"math/bits"
)

// hash128 is a hash value; the zero value marks a free slot.
type hash128 [16]byte

// newHash128 takes the first 16 bytes of sum.
func newHash128(sum []byte) hash128 {
	h := hash128(sum)
	if h == (hash128{}) {
		h[15] = 1
	}
	return h
}

// hashSet is a set of uniform hashes: open addressing with linear probing, 16
// bytes a slot, no pointers for the garbage collector to follow. It is filled
// to three quarters and grows by half, so an entry takes 22 to 32 bytes once
// the set is no longer tiny. Nothing is ever removed: a set is dropped whole.
type hashSet struct {
	slots []hash128
	n     int
}

const firstSlots = 16

func (s *hashSet) contains(h hash128) bool {
	if s.n == 0 {
		return false
	}
	return s.slots[s.find(h)] == h
}

// insert adds h, which is not in the set.
func (s *hashSet) insert(h hash128) {
	if s.n >= len(s.slots)/4*3 {
		s.grow()
	}
	s.slots[s.find(h)] = h
	s.n++
}

// find returns the slot of h, or the free slot where it belongs. A slot is
// always free.
func (s *hashSet) find(h hash128) int {
	// The second half places the hash; the first has chosen the shard. The
	// product maps it evenly to any number of slots.
	hi, _ := bits.Mul64(binary.BigEndian.Uint64(h[8:]), uint64(len(s.slots)))
	i := int(hi)
	for s.slots[i] != h && s.slots[i] != (hash128{}) {
		i++
		if i == len(s.slots) {
			i = 0
		}
	}
	return i
}

func (s *hashSet) grow() {
	old := s.slots
	s.slots = make([]hash128, max(firstSlots, len(old)/2*3))
	for _, h := range old {
		if h != (hash128{}) {
			s.slots[s.find(h)] = h
		}
	}
}

func (s *hashSet) bytes() int64 { return int64(len(s.slots)) * 16 }
