package offheap_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/hakmem/hakmem/offheap"
)

// TestIntegerHash: keys that programs have, such as numbers in a row, multiples, addresses and numbers in
// the high bits, spread over all of the hash that a map uses: the first bits, the tag, and the bits of the group.
func TestIntegerHash(t *testing.T) {
	const (
		keys    = 1 << 14
		buckets = 1 << 7 // so that 128 keys are expected in each
		// chi-square with 127 degrees of freedom has the mean 127 and the standard deviation 16. This is
		// nine of them: by chance once in 10^14 times. A bit of the hash that is always 0 gives 16,384.
		most = 127 + 9*16
	)
	for name, key := range map[string]func(i uint64) uint64{
		"in a row":           func(i uint64) uint64 { return i },
		"negative":           func(i uint64) uint64 { return -i },
		"multiples of 4096":  func(i uint64) uint64 { return i << 12 },
		"the high half":      func(i uint64) uint64 { return i << 32 },
		"the highest bits":   func(i uint64) uint64 { return i << (64 - 14) },
		"both halves":        func(i uint64) uint64 { return i<<32 | i },
		"every tenth":        func(i uint64) uint64 { return 10 * i },
		"as float64 is":      func(i uint64) uint64 { return math.Float64bits(float64(i)) },
		"low and high bits":  func(i uint64) uint64 { return i&0x7F | i>>7<<57 },
		"multiples of 2^n±1": func(i uint64) uint64 { return (1<<40 - 1) * i },
	} {
		hash := offheap.IntegerHash()
		var counts [3][buckets]int
		for i := range uint64(keys) {
			h := hash(key(i))
			for part, bits := range []uint64{h >> 57, h >> 7, h} {
				counts[part][bits%buckets]++
			}
		}
		for part, counts := range counts {
			chi := 0.0
			for _, n := range counts {
				d := float64(n) - keys/buckets
				chi += d * d / (keys / buckets)
			}
			if chi > most {
				t.Errorf("%s: chi-square of %s is %.0f, want at most %d", name, [...]string{"the first bits", "the group", "the tag"}[part], chi, most)
			}
		}
	}
	// Two maps have hashes of their own.
	if a, b := offheap.IntegerHash(), offheap.IntegerHash(); a(1) == b(1) && a(2) == b(2) {
		t.Error("two maps have the same hashes")
	}
}

type named int32

func tryKeys[K comparable](keys ...K) error {
	m := offheap.NewMap[K, int]()
	defer m.Close()
	for i, k := range keys {
		m.Put(k, i)
	}
	for i, k := range keys {
		if v, ok := m.Get(k); !ok || v != i {
			return fmt.Errorf("key %v has the value %d, %v; want %d", k, v, ok, i)
		}
	}
	for i, k := range keys {
		if p := m.GetPtr(k); p == nil || *p != i || !m.Delete(k) || m.GetPtr(k) != nil {
			return fmt.Errorf("key %v is not deleted", k)
		}
	}
	return offheap.CheckMap(m)
}

// TestIntegerKeys: every kind of integer is a key with all its bits.
func TestIntegerKeys(t *testing.T) {
	for name, err := range map[string]error{
		"int":     tryKeys[int](math.MinInt, math.MaxInt, -1, 0, 1),
		"int32":   tryKeys[int32](math.MinInt32, math.MaxInt32, -1, 0, 1),
		"named":   tryKeys[named](math.MinInt32, math.MaxInt32, -1, 0, 1),
		"uint":    tryKeys[uint](math.MaxUint, math.MaxUint>>1, 0, 1),
		"uint16":  tryKeys[uint16](math.MaxUint16, 0, 1),
		"int8":    tryKeys[int8](math.MinInt8, math.MaxInt8, -1, 0),
		"uintptr": tryKeys[uintptr](0, 1, ^uintptr(0)),
		"float64": tryKeys(0, 1, -1, math.Inf(1), math.SmallestNonzeroFloat64),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := offheap.NewMap[float64, int]()
	defer m.Close()
	m.Put(0, 1)
	if v, ok := m.Get(math.Copysign(0, -1)); !ok || v != 1 {
		t.Error("-0 is another key than 0")
	}
}
