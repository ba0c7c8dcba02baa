package offheap

import (
	"hash/maphash"
	"math"
	"math/bits"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
)

// This file is the memory of a Map and of a StringMap. Nothing in it is exported.
//
// A table is one block: a header and groups of eight slots. The control word of a group has a byte for
// each slot, so that eight slots are compared with seven bits of a hash by a few operations on one
// word. This is the layout of Abseil's Swiss tables, and of Go's maps, which say more about it.
//
// A table does not grow beyond some size (see largestLog). Then it is split in two, by the next bit of
// the hashes of its keys. A directory, indexed by the first bits of a hash, leads to the table: this is
// extendible hashing (Fagin and others, 1979). So no insert moves more entries than one table has,
// however large the map is. (The other way to bound it, to keep an old and a new array and move some
// entries with each call, makes each lookup of that time a lookup in two places, and holds both.)
// Shrinking is the same backwards: a table with few entries moves to a smaller block, or together with
// the table from which it was split.

const (
	// groupSlots is the number of slots in a group: the bytes of a control word.
	groupSlots = 8
	// groupRoom is how many of them may be in use on average: 7/8, as Abseil and Go have found best.
	// So each table has a slot that was never used, where a search ends.
	groupRoom = 7

	// A table has 2^log groups. mostLog is that of the largest ones: 1024 slots, as many as Go's maps
	// have. To move so many takes some 20 µs, the longest that an insert takes.
	mostLog = 7
	// mostTable is the size in bytes beyond which tables have fewer slots: the largest block that has a
	// size class, because larger ones take whole pages of 64 KiB.
	mostTable = 32 << 10
	// leastLog is that of the largest tables where slots are very large: 32 slots. Directories get long
	// where tables hold few entries: with b entries in each and n in all, as n^(1+1/b).
	leastLog = 2

	// A table shrinks when it has at most one entry in shrinkAt of its room. Then it moves to a block that
	// has twice the room that it needs. Two tables become one when they have together at most one in
	// mergeAt of the room of the largest table. The table that comes of it is half full at most, and a
	// table that has grown or was split is half full, so a map whose size goes up and down by a little
	// does not move its entries each time.
	shrinkAt = 8
	mergeAt  = 4

	hashBits = 64
)

// control is the control word of a group: byte i, counted from the lowest, is about slot i. It is the
// low seven bits of the hash if the slot has an entry; otherwise its highest bit is set.
type control uint64

const (
	slotEmpty   = 0x80 // no entry since the table was made: a search ends here
	slotDeleted = 0xFE // its entry was deleted: a search goes on

	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
	allEmpty = control(slotEmpty * lowBits)
)

// A match is a set of slots: bit 8i+7 stands for slot i.
type match uint64

func (m match) any() bool   { return m != 0 }
func (m match) slot() int   { return bits.TrailingZeros64(uint64(m)) >> 3 }
func (m match) rest() match { return m & (m - 1) }

// candidates returns the slots whose entry has this tag, and perhaps others that have an entry: those
// with a tag that differs in the last bit, behind a slot that is rightly there.
func (c control) candidates(tag uint8) match {
	x := uint64(c) ^ lowBits*uint64(tag)
	return match((x - lowBits) &^ x & highBits)
}
func (c control) full() match  { return match(^uint64(c) & highBits) }
func (c control) free() match  { return match(uint64(c) & highBits) }
func (c control) empty() match { return match(uint64(c) &^ (uint64(c) << 6) & highBits) }

func (c control) isFull(slot int) bool { return c>>(8*slot)&slotEmpty == 0 }
func (c control) isDeleted(slot int) bool {
	return c>>(8*slot)&0xFF == slotDeleted
}
func (c control) with(slot int, state uint8) control {
	return c&^(0xFF<<(8*slot)) | control(state)<<(8*slot)
}

// slot is the place of an entry. The value comes first: a value without a size would else make the slot
// larger, because Go leaves room behind a last field that has none.
type slot[K, V any] struct {
	elem V
	key  K
}

type group[K, V any] struct {
	control control
	slots   [groupSlots]slot[K, V]
}

// slot returns the slot i, which is below groupSlots.
func (g *group[K, V]) slot(i int) *slot[K, V] {
	return (*slot[K, V])(unsafe.Add(unsafe.Pointer(&g.slots), uintptr(i)*unsafe.Sizeof(slot[K, V]{})))
}

// tableHeader begins a table.
type tableHeader struct {
	walks atomic.Int32 // iterations that are in this table
	live  uint16       // entries
	left  uint16       // how many empty slots may still be used
	depth uint8        // how many first bits the hashes of all keys have in common
	dead  bool         // its entries have moved, and the last iteration to leave it frees it
}

// tableHead is the size of the header in bytes, as large as keeps the groups aligned to 16 bytes where a
// group allows it.
const tableHead = 16

var _ [tableHead - unsafe.Sizeof(tableHeader{})]byte

// tableRef is the address of a table, which is a multiple of 16, plus the log of how many groups it has.
// So a search needs nothing from the header.
type tableRef uint64

func (t tableRef) pointer() unsafe.Pointer {
	return engine.Pointer(engine.Block(t &^ 15))
}
func (t tableRef) log() uint8           { return uint8(t & 15) }
func (t tableRef) groups() uint32       { return 1 << t.log() }
func (t tableRef) header() *tableHeader { return (*tableHeader)(t.pointer()) }

// roomOf returns how many entries a table of 2^log groups holds.
func roomOf(log uint8) int { return groupRoom << log }

// mapMemory is what a map holds. It is an object of its own because the cleanup of a map that was
// dropped needs it and must not refer to the map.
type mapMemory struct {
	dir   unsafe.Pointer // the directory, 1<<depth tableRefs; nil if there is none
	depth uint8
	by    *stack
}

func (m *mapMemory) at(i uint64) *tableRef {
	return (*tableRef)(unsafe.Add(m.dir, uintptr(i)*unsafe.Sizeof(tableRef(0))))
}

// each calls f once for each table.
func (m *mapMemory) each(f func(tableRef)) {
	if m.dir == nil {
		return
	}
	for i := uint64(0); i < 1<<m.depth; {
		t := *m.at(i)
		i += 1 << (m.depth - t.header().depth)
		f(t)
	}
}

// mapCore is what Map and StringMap have in common: all except the comparison of keys.
type mapCore[K, V any] struct {
	self  uintptr        // the address of this struct, which a copy does not have; 0 if it is unmade or closed
	dir   unsafe.Pointer // that of memory, for searches
	shift uint8          // by which a hash is shifted to be an index into dir
	depth uint8          // that of memory
	// largest is the log of the largest tables.
	largest  uint8
	closed   bool
	integer  bool // keys are integers, hashed by integers and not by seed
	seed     maphash.Seed
	integers integerSeed
	count    int
	memory   *mapMemory
	site     hakmem.Site
	epoch    uint64           // how often all entries were dropped at once
	depths   [hashBits]uint32 // how many tables have each depth
	hash     func(*K) mapHash // hashes a key that is in a slot
	drop     func(*K)         // frees what a key holds outside of its slot; nil if it holds nothing
	walks    atomic.Int32     // iterations
	dead     atomic.Int32     // tables that are dead
	late     []engine.Block   // keys to be freed when no table is dead
	cleanup  runtime.Cleanup  // set with self
}

// Misuse of a handle. These are kinds of hakmem.MisuseError, which has the remedies.
const (
	kindClosedMap = "closed map"
	kindCopiedMap = "copied map"
)

// ready reports whether the map has entries to search. It panics if the map is closed, or a copy.
func (c *mapCore[K, V]) ready(op string) bool {
	if c.self == uintptr(unsafe.Pointer(c)) {
		return c.dir != nil
	}
	c.mustBeOpen(op)
	return false
}

func (c *mapCore[K, V]) mustBeOpen(op string) {
	kind := ""
	switch {
	case c.closed:
		kind = kindClosedMap
	case c.self != 0 && c.self != uintptr(unsafe.Pointer(c)):
		kind = kindCopiedMap
	default:
		return
	}
	panic(&hakmem.MisuseError{Op: op, Kind: kind, Addr: uintptr(unsafe.Pointer(c))})
}

// begin makes the map ready for entries.
func (c *mapCore[K, V]) begin() {
	c.self = uintptr(unsafe.Pointer(c))
	c.seed = maphash.MakeSeed()
	c.largest = largestLog(unsafe.Sizeof(group[K, V]{}))
	c.memory = &mapMemory{by: callers()}
}

// largestLog returns the log of the largest table where a group has so many bytes.
func largestLog(size uintptr) uint8 {
	log := uint8(mostLog)
	for log > leastLog && tableHead+size<<log > mostTable {
		log--
	}
	return log
}

// malloc returns a block, or nil.
func (c *mapCore[K, V]) malloc(size uintptr) unsafe.Pointer {
	if c.site != 0 {
		return hakmem.MallocAt(c.site, size)
	}
	return hakmem.Malloc(size)
}

// noMemory panics because there was no block of size bytes.
func noMemory(size uintptr) {
	panic(&hakmem.OutOfMemoryError{Size: size, Reason: engine.Refusal(mem.Bytes(size))})
}

func (c *mapCore[K, V]) groupOf(t tableRef, i uint32) *group[K, V] {
	return (*group[K, V])(unsafe.Add(t.pointer(), tableHead+uintptr(i)*unsafe.Sizeof(group[K, V]{})))
}

// placeOf returns the group of a slot of the table t, and which of its slots it is. Slots without a size
// are all at one address; then there is one entry at most, in the first slot.
func (c *mapCore[K, V]) placeOf(t tableRef, s *slot[K, V]) (g *group[K, V], i int) {
	at := uintptr(unsafe.Pointer(s)) - uintptr(t.pointer()) - tableHead - unsafe.Sizeof(g.control)
	g = c.groupOf(t, uint32(at/unsafe.Sizeof(*g)))
	if size := unsafe.Sizeof(*s); size != 0 {
		i = int((uintptr(unsafe.Pointer(s)) - uintptr(unsafe.Pointer(&g.slots))) / size)
	}
	return g, i
}

// tableSize returns the size of a table of 2^log groups, in bytes.
func (c *mapCore[K, V]) tableSize(log uint8) uintptr {
	return tableHead + unsafe.Sizeof(group[K, V]{})<<log
}

// newTable returns an empty table, or 0.
func (c *mapCore[K, V]) newTable(log, depth uint8) tableRef {
	p := c.malloc(c.tableSize(log))
	if p == nil {
		return 0
	}
	t := tableRef(uintptr(p)) | tableRef(log)
	*t.header() = tableHeader{left: uint16(roomOf(log)), depth: depth}
	for i := range t.groups() {
		c.groupOf(t, i).control = allEmpty
	}
	return t
}

// tableOf returns the table for a hash.
func (c *mapCore[K, V]) tableOf(h mapHash) tableRef {
	return *(*tableRef)(unsafe.Add(c.dir, uintptr(h>>c.shift)*unsafe.Sizeof(tableRef(0))))
}

// setDirectory puts another directory into place.
func (c *mapCore[K, V]) setDirectory(dir unsafe.Pointer, depth uint8) {
	c.dir, c.depth, c.shift = dir, depth, hashBits-depth
	c.memory.dir, c.memory.depth = dir, depth
}

// install makes t the table for the hashes that begin as h does.
func (c *mapCore[K, V]) install(t tableRef, h mapHash) {
	depth := t.header().depth
	first := uint64(h>>c.shift) &^ (1<<(c.depth-depth) - 1)
	for i := range uint64(1) << (c.depth - depth) {
		*c.memory.at(first + i) = t
	}
	c.depths[depth]++
}

// retire frees a table whose entries have moved, or leaves that to the iterations that are in it.
func (c *mapCore[K, V]) retire(t tableRef) {
	h := t.header()
	c.depths[h.depth]--
	if h.walks.Load() == 0 {
		hakmem.Free(t.pointer())
		return
	}
	h.dead = true
	c.dead.Add(1)
}

// freeSlot returns the first slot for a new entry, and its group.
func (c *mapCore[K, V]) freeSlot(t tableRef, h mapHash) (*group[K, V], int) {
	mask := t.groups() - 1
	for i, step := h.group()&mask, uint32(1); ; i, step = (i+step)&mask, step+1 {
		g := c.groupOf(t, i)
		if m := g.control.free(); m.any() {
			return g, m.slot()
		}
	}
}

// insert makes an entry for a key that is not in the map and returns its slot, in which only the control
// byte is set. It panics when no memory is left, and nothing is changed.
func (c *mapCore[K, V]) insert(h mapHash) *slot[K, V] {
	if c.dir == nil {
		c.first(0, 0)
	}
	for {
		t := c.tableOf(h)
		head := t.header()
		g, i := c.freeSlot(t, h)
		if !g.control.isDeleted(i) {
			if head.left == 0 {
				c.makeRoom(t, h)
				continue
			}
			head.left--
		}
		head.live++
		c.count++
		g.control = g.control.with(i, h.tag())
		return &g.slots[i]
	}
}

// first makes the first directory, and a table for each of its entries.
func (c *mapCore[K, V]) first(depth, log uint8) {
	size := unsafe.Sizeof(tableRef(0)) << depth
	dir := c.malloc(size)
	if dir == nil {
		noMemory(size)
	}
	made := mapMemory{dir: dir, depth: depth}
	for i := range uint64(1) << depth {
		t := c.newTable(log, depth)
		if t == 0 {
			for j := range i {
				hakmem.Free((*made.at(j)).pointer())
			}
			hakmem.Free(dir)
			noMemory(c.tableSize(log))
		}
		*made.at(i) = t
	}
	c.setDirectory(dir, depth)
	c.depths[depth] = 1 << depth
}

// makeRoom makes room in a table that is full, or full of what was deleted.
func (c *mapCore[K, V]) makeRoom(t tableRef, h mapHash) {
	log := t.log()
	switch live := int(t.header().live); {
	case live <= roomOf(log)/4*3: // a quarter is gained without more memory
		c.mustMove(t, h, log)
	case log < c.largest:
		c.mustMove(t, h, log+1)
	default:
		c.split(t, h)
	}
}

func (c *mapCore[K, V]) mustMove(t tableRef, h mapHash, log uint8) {
	if !c.move(t, h, log) {
		noMemory(c.tableSize(log))
	}
}

// move moves a table to a block for 2^log groups. It reports false if there is no memory.
func (c *mapCore[K, V]) move(t tableRef, h mapHash, log uint8) bool {
	to := c.newTable(log, t.header().depth)
	if to == 0 {
		return false
	}
	c.copyTo(t, func(mapHash) tableRef { return to })
	c.install(to, h)
	c.retire(t)
	return true
}

// copyTo copies each entry of t into the table that to returns for its hash.
func (c *mapCore[K, V]) copyTo(t tableRef, to func(mapHash) tableRef) {
	for i := range t.groups() {
		from := c.groupOf(t, i)
		for m := from.control.full(); m.any(); m = m.rest() {
			s := &from.slots[m.slot()]
			h := c.hash(&s.key)
			into := to(h)
			g, at := c.freeSlot(into, h)
			g.control = g.control.with(at, h.tag())
			g.slots[at] = *s
			head := into.header()
			head.live++
			head.left--
		}
	}
}

// split makes two tables of one, by the next bit of the hashes.
func (c *mapCore[K, V]) split(t tableRef, h mapHash) {
	depth := t.header().depth
	var halves [2]tableRef
	for i := range halves {
		if halves[i] = c.newTable(c.largest, depth+1); halves[i] == 0 {
			c.freeTables(halves[:i])
			noMemory(c.tableSize(c.largest))
		}
	}
	if depth == c.depth && !c.double() {
		c.freeTables(halves[:])
		noMemory(unsafe.Sizeof(tableRef(0)) << (c.depth + 1))
	}
	c.copyTo(t, func(h mapHash) tableRef { return halves[h.bit(depth)] })
	bit := mapHash(1) << (hashBits - 1 - depth)
	c.install(halves[0], h&^bit)
	c.install(halves[1], h|bit)
	c.retire(t)
}

func (c *mapCore[K, V]) freeTables(tables []tableRef) {
	for _, t := range tables {
		hakmem.Free(t.pointer())
	}
}

// double makes the directory twice as long.
func (c *mapCore[K, V]) double() bool {
	dir := c.malloc(unsafe.Sizeof(tableRef(0)) << (c.depth + 1))
	if dir == nil {
		return false
	}
	longer := mapMemory{dir: dir}
	for i := range uint64(1) << c.depth {
		t := *c.memory.at(i)
		*longer.at(2 * i), *longer.at(2*i + 1) = t, t
	}
	hakmem.Free(c.dir)
	c.setDirectory(dir, c.depth+1)
	return true
}

// halve makes the directory shorter while no table needs its last bit. Without memory it stays as it is.
func (c *mapCore[K, V]) halve() {
	for c.depth > 0 && c.depths[c.depth] == 0 {
		dir := c.malloc(unsafe.Sizeof(tableRef(0)) << (c.depth - 1))
		if dir == nil {
			return
		}
		shorter := mapMemory{dir: dir}
		for i := range uint64(1) << (c.depth - 1) {
			*shorter.at(i) = *c.memory.at(2 * i)
		}
		hakmem.Free(c.dir)
		c.setDirectory(dir, c.depth-1)
	}
}

// remove drops the entry in the slot s, whose key has the hash h.
func (c *mapCore[K, V]) remove(h mapHash, s *slot[K, V]) {
	t := c.tableOf(h)
	head := t.header()
	if c.drop != nil {
		c.drop(&s.key)
	}
	g, i := c.placeOf(t, s)
	if g.control.empty().any() { // no search has gone beyond this group
		g.control = g.control.with(i, slotEmpty)
		head.left++
	} else {
		g.control = g.control.with(i, slotDeleted)
	}
	head.live--
	c.count--
	if int(head.live) <= roomOf(t.log())/shrinkAt {
		c.shrink(h)
	}
}

// shrink gives back memory of the table for h, which has few entries. Without memory for the smaller
// table it stays as it is.
func (c *mapCore[K, V]) shrink(h mapHash) {
	for {
		t := c.tableOf(h)
		head := t.header()
		live, log := int(head.live), t.log()
		if live > roomOf(log)/shrinkAt {
			return
		}
		// Iterations go through the tables in the order of hashes. For them a table may become two, but
		// two tables must not become one, of which they would have seen a half.
		if head.depth > 0 && c.walks.Load() == 0 {
			other := c.tableOf(h ^ 1<<(hashBits-head.depth))
			all := live + int(other.header().live)
			if other.header().depth == head.depth && all <= roomOf(c.largest)/mergeAt {
				if !c.merge(t, other, h, all) {
					return
				}
				continue
			}
		}
		if log > 0 {
			c.move(t, h, logFor(2*live))
		}
		return
	}
}

// merge makes one table of two.
func (c *mapCore[K, V]) merge(t, other tableRef, h mapHash, all int) bool {
	to := c.newTable(logFor(2*all), t.header().depth-1)
	if to == 0 {
		return false
	}
	c.copyTo(t, func(mapHash) tableRef { return to })
	c.copyTo(other, func(mapHash) tableRef { return to })
	c.install(to, h)
	c.retire(t)
	c.retire(other)
	c.halve()
	return true
}

// logFor returns the log of the smallest table for so many entries.
func logFor(entries int) (log uint8) {
	for roomOf(log) < entries {
		log++
	}
	return log
}

// reserve makes room for n entries in all.
func (c *mapCore[K, V]) reserve(n int) {
	if n == 0 {
		return
	}
	depth, log := uint8(0), c.largest
	if room := roomOf(c.largest); n <= room {
		log = logFor(n)
	} else {
		// Keys do not spread evenly. With three quarters of the room in use on average, a table with 896
		// entries, the largest, is full at eight standard deviations.
		depth = uint8(bits.Len(uint(n-1) / uint(room/4*3)))
		switch hi, size := bits.Mul64(uint64(c.tableSize(c.largest)), 1<<depth); {
		case hi != 0:
			noMemory(^uintptr(0))
		case size > engine.MostMemory:
			noMemory(uintptr(size))
		}
	}
	if c.dir == nil {
		c.first(depth, log)
		return
	}
	for at := mapHash(0); ; {
		t := c.tableOf(at)
		d := t.header().depth
		if d < depth {
			c.split(t, at)
			continue
		}
		// A table that lost entries may be smaller than its share.
		if log := c.shareLog(n, d); t.log() < log {
			c.mustMove(t, at, log)
		}
		if at += 1 << (hashBits - d); at == 0 {
			return
		}
	}
}

// shareLog returns the log of a table of a depth that has room for its share of n entries: all at depth 0, else eight
// standard deviations above the average, which is the variance, too.
func (c *mapCore[K, V]) shareLog(n int, depth uint8) uint8 {
	if depth > 0 {
		n = n>>depth + 1
		n += 8 * int(math.Sqrt(float64(n)))
	}
	return logFor(min(n, roomOf(c.largest)))
}

// clear drops all entries and gives back all memory.
func (c *mapCore[K, V]) clear() {
	m := *c.memory
	c.epoch++
	c.count = 0
	c.setDirectory(nil, 0)
	m.each(func(t tableRef) {
		if c.drop != nil {
			dropKeys[K, V](t, c.drop)
		}
		c.retire(t)
	})
	hakmem.Free(m.dir)
}

// dropKeys calls drop for each key of a table.
func dropKeys[K, V any](t tableRef, drop func(*K)) {
	var c *mapCore[K, V]
	for i := range t.groups() {
		g := c.groupOf(t, i)
		for m := g.control.full(); m.any(); m = m.rest() {
			drop(&g.slots[m.slot()].key)
		}
	}
}

// close gives back everything.
func (c *mapCore[K, V]) close(op string) {
	c.mustBeOpen(op)
	if c.self != 0 {
		c.clear()
		c.cleanup.Stop()
	}
	c.self, c.closed = 0, true
}

// abandonMap frees the memory of a map that was dropped. drop is that of its core.
func abandonMap[K, V any](k *kind, m *mapMemory, drop func(*K)) {
	if m.dir == nil {
		return
	}
	var c *mapCore[K, V]
	bytes := unsafe.Sizeof(tableRef(0)) << m.depth
	m.each(func(t tableRef) { bytes += c.tableSize(t.log()) })
	k.abandon(m.by, uint64(bytes), func() {
		m.each(func(t tableRef) {
			if drop != nil {
				dropKeys[K, V](t, drop)
			}
			hakmem.Free(t.pointer())
		})
		hakmem.Free(m.dir)
	})
}
