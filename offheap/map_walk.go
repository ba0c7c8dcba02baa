package offheap

import "github.com/hakmem/hakmem"

// This file is the iteration over a Map and a StringMap.
//
// An iteration goes through the tables in the order of the hashes that they are for, and through the
// slots of each table in the order of addresses. While a table stays where it is, it reads each slot
// when it comes to it. If the entries of the table move meanwhile, they do so once: the iteration goes
// on in the old table, which it holds, and looks up in the map what has become of each entry. The new
// tables are for the same hashes, so that it comes to none of them.

// walk calls yield for the slot of each entry, until that returns false. For an entry that has moved,
// now returns the slot with the same key, or nil if there is none.
func (c *mapCore[K, V]) walk(now func(*slot[K, V]) *slot[K, V], yield func(*slot[K, V]) bool) {
	c.walks.Add(1)
	defer c.walks.Add(-1)
	epoch := c.epoch
	for at := mapHash(0); ; {
		t := c.tableOf(at)
		at += 1 << (hashBits - t.header().depth) // of now: t may be split meanwhile
		if !c.walkTable(t, epoch, now, yield) || at == 0 {
			return
		}
	}
}

// walkTable reports whether the walk goes on.
func (c *mapCore[K, V]) walkTable(t tableRef, epoch uint64, now func(*slot[K, V]) *slot[K, V], yield func(*slot[K, V]) bool) bool {
	head := t.header()
	head.walks.Add(1)
	defer c.leave(t)
	for i := range t.groups() {
		g := c.groupOf(t, i)
		for j := range groupSlots {
			if !g.control.isFull(j) {
				continue
			}
			s := &g.slots[j]
			if head.dead {
				if s = now(s); s == nil {
					continue
				}
			}
			if !yield(s) || c.epoch != epoch {
				return false
			}
		}
	}
	return true
}

// leave ends an iteration's stay in a table. Iterations of several goroutines may leave at once.
func (c *mapCore[K, V]) leave(t tableRef) {
	head := t.header()
	dead := head.dead // nothing changes it while an iteration ends
	if head.walks.Add(-1) > 0 || !dead {
		return
	}
	hakmem.Free(t.pointer())
	if c.dead.Add(-1) > 0 {
		return
	}
	late := c.late
	c.late = nil
	for _, b := range late {
		hakmem.Free(pointerTo(b))
	}
}
