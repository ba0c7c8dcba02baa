package offheap

import (
	"fmt"
	"hash/maphash"
)

// IntegerHash returns the function by which a new map hashes integers.
func IntegerHash() func(uint64) uint64 {
	seed := integerSeedOf(maphash.MakeSeed())
	return func(key uint64) uint64 { return uint64(seed.hash(key)) }
}

// CheckMap returns what is wrong with a Map's books.
func CheckMap[K comparable, V any](m *Map[K, V]) error { return m.check(m.now) }

// CheckStringMap returns what is wrong with a StringMap's books.
func CheckStringMap[V any](m *StringMap[V]) error { return m.check(m.now) }

func (c *mapCore[K, V]) check(now func(*slot[K, V]) *slot[K, V]) error {
	if c.walks.Load() == 0 && (c.dead.Load() != 0 || len(c.late) != 0) {
		return fmt.Errorf("%d dead tables and %d late keys without an iteration", c.dead.Load(), len(c.late))
	}
	if c.dir == nil {
		if c.count != 0 {
			return fmt.Errorf("%d entries without a directory", c.count)
		}
		return nil
	}
	if c.dir != c.memory.dir || c.depth != c.memory.depth || c.shift != hashBits-c.depth {
		return fmt.Errorf("depth %d, shift %d; the cleanup's has depth %d", c.depth, c.shift, c.memory.depth)
	}
	count, depths := 0, [hashBits]uint32{}
	for i := uint64(0); i < 1<<c.depth; {
		t := *c.memory.at(i)
		head := t.header()
		if head.depth > c.depth || head.dead || t.log() > c.largest {
			return fmt.Errorf("table %d: depth %d of %d, dead %v, log %d", i, head.depth, c.depth, head.dead, t.log())
		}
		end := i + 1<<(c.depth-head.depth)
		if i%(end-i) != 0 {
			return fmt.Errorf("table %d has depth %d of %d", i, head.depth, c.depth)
		}
		for j := i; j < end; j++ {
			if *c.memory.at(j) != t {
				return fmt.Errorf("entries %d and %d of the directory differ", i, j)
			}
		}
		full, deleted := 0, 0
		for g := range t.groups() {
			group := c.groupOf(t, g)
			for j := range groupSlots {
				switch {
				case group.control.isDeleted(j):
					deleted++
				case group.control.isFull(j):
					full++
					if s := &group.slots[j]; now(s) != s {
						return fmt.Errorf("table %d, group %d, slot %d: the key is not found there", i, g, j)
					}
				}
			}
		}
		if full != int(head.live) || int(head.left) != roomOf(t.log())-full-deleted {
			return fmt.Errorf("table %d: %d entries, %d deleted; its header has %d, and %d left of %d", i, full, deleted, head.live, head.left, roomOf(t.log()))
		}
		count += full
		depths[head.depth]++
		i = end
	}
	if count != c.count || depths != c.depths {
		return fmt.Errorf("%d entries, Len %d; depths %v, want %v", count, c.count, c.depths, depths)
	}
	return nil
}

// Tables returns how many tables a Map has, and how long its directory is.
func Tables[K comparable, V any](m *Map[K, V]) (tables, directory int) {
	if m.dir == nil {
		return 0, 0
	}
	m.memory.each(func(tableRef) { tables++ })
	return tables, 1 << m.depth
}
