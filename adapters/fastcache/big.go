package fastcache

import (
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// A big value is stored in parts, as entries with keys of 16 bytes: the value's hash and the number of the part.
// The entry of its own key has the value's hash and length. Files depend on that, and on the length of a part.

// bigHead is the length of a part's key, and of what the own key has.
const bigHead = 16

// partSize is the most bytes of a value that fit into an entry with a key of 16.
const partSize = chunkSize - 1 - headSize - bigHead

// maxBigKey is the longest key to which 16 bytes can be stored.
const maxBigKey = chunkSize - 1 - headSize - bigHead

func bigPair(b *[bigHead]byte, hash, n uint64) []byte {
	binary.BigEndian.PutUint64(b[:], hash)
	binary.BigEndian.PutUint64(b[8:], n)
	return b[:]
}

// SetBig is Set for values of any length, which GetBig returns. Any of its parts may be overwritten by newer
// entries, as all entries are; then GetBig finds nothing. It does nothing for a k above 65,515 bytes.
func (c *Cache) SetBig(k, v []byte) {
	c.big.sets.Add(1)
	if len(k) > maxBigKey {
		c.big.longKeys.Add(1)
		return
	}
	var key [bigHead]byte
	sum, n := xxhash.Sum64(v), uint64(0)
	for part := range slices.Chunk(v, partSize) {
		c.Set(bigPair(&key, sum, n), part)
		n++
	}
	c.Set(k, bigPair(&key, sum, uint64(len(v))))
}

// GetBig appends the value of k, which SetBig has stored, to dst and returns the result: dst as it is where there
// is none, or not all of it any more.
func (c *Cache) GetBig(dst, k []byte) []byte {
	c.big.gets.Add(1)
	var head [bigHead + 1]byte // one more: a longer value moves to the Go heap, and is not ours anyway
	h, ok := c.HasGet(head[:0], k)
	if !ok || len(h) == 0 {
		return dst
	}
	if len(h) != bigHead {
		c.big.notBig.Add(1)
		return dst
	}
	sum, length := binary.BigEndian.Uint64(h), binary.BigEndian.Uint64(h[8:])
	if length > c.buckets[0].room*minBytes { // what Set has stored, by accident, or a damaged file
		c.big.lengths.Add(1)
		return dst
	}
	var key [bigHead]byte
	got := dst
	for n := uint64(0); uint64(len(got)-len(dst)) < length; n++ {
		before := len(got)
		if got = c.Get(got, bigPair(&key, sum, n)); len(got) == before {
			return dst
		}
		if have := uint64(len(got) - len(dst)); have < length { // only now is it likely to be there
			got = slices.Grow(got, int(length-have))
		}
	}
	switch v := got[len(dst):]; {
	case uint64(len(v)) != length:
		c.big.lengths.Add(1)
		return dst
	case xxhash.Sum64(v) != sum:
		c.big.hashes.Add(1)
		return dst
	}
	return got
}
