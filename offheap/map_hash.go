package offheap

import (
	"hash/maphash"
	"math/bits"
	"reflect"
	"unsafe"
)

// mapHash is a hash of a key. From the top it has the index in the directory; the lowest seven bits are
// the tag; the bits above these say in which group the search begins.
type mapHash uint64

func (h mapHash) tag() uint8    { return uint8(h & 0x7F) }
func (h mapHash) group() uint32 { return uint32(h >> 7) }

// bit returns the bit of a hash that tells the two halves of a table of the given depth apart.
func (h mapHash) bit(depth uint8) uint { return uint(h>>(hashBits-1-depth)) & 1 }

// integerSeed is the seed of the hashes of integers. Maps draw seeds of their own, so keys that collide
// in one map say nothing of another.
type integerSeed struct{ first, second uint64 }

// integerSeedOf derives a seed from one of maphash, which is random.
func integerSeedOf(seed maphash.Seed) integerSeed {
	return integerSeed{maphash.Comparable(seed, 1), maphash.Comparable(seed, 2)}
}

// hash hashes an integer. It is wyhash's function for 64 bits (Wang Yi, github.com/wangyi-fudan/wyhash):
// two products of 128 bits, each folded. maphash.Comparable finds the function for a type each time,
// and calls it by its address; this is compiled into the search, so that the processor begins the next
// search while this one waits for memory.
func (s integerSeed) hash(key uint64) mapHash {
	hi, lo := bits.Mul64(key^s.first, s.second)
	hi, lo = bits.Mul64(lo^s.first, hi^s.second)
	return mapHash(hi ^ lo)
}

// isInteger reports whether the values of K are integers of 4 or 8 bytes, whose hash is that of their bits.
func isInteger[K any]() bool {
	switch reflect.TypeFor[K]().Kind() {
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return true
	}
	return false
}

// hashOf hashes a key.
func (m *Map[K, V]) hashOf(key K) mapHash {
	if m.integer {
		return m.integers.hash(integerOf(&key))
	}
	return mapHash(maphash.Comparable(m.seed, key))
}

// integerOf returns the bits of an integer. The size is known where this is compiled.
func integerOf[K any](key *K) uint64 {
	if unsafe.Sizeof(*key) == 4 {
		return uint64(*(*uint32)(unsafe.Pointer(key)))
	}
	return *(*uint64)(unsafe.Pointer(key))
}
