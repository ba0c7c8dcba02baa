package offheap

import (
	"fmt"
	"hash/maphash"
	"iter"
	"runtime"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// MapOptions are the options of a [Map] and of a [StringMap]. The zero value is the default.
type MapOptions struct {
	// Site is the site of all blocks that the map allocates, see [hakmem.MallocAt]. 0 means none.
	Site hakmem.Site
	// Capacity is the number of entries for which the map has room when it is made, as after Reserve. 0
	// means that it has no memory until the first entry.
	Capacity int
}

// Map is a hash map whose entries are in hakmem's memory. It works as Go's map[K]V does, with these
// differences:
//
//   - K and V must not hold Go pointers, which include strings and slices ([StringMap] has strings as
//     keys). The first call that would store one panics as [hakmem.New] does, and names the field.
//   - It shrinks. When entries are deleted, their memory is given back in small steps.
//   - No call takes long because the map is large: one call moves at most 1024 entries. (Each time that
//     the number of entries doubles, one call also copies the directory, which has 8 bytes for some 500
//     entries, or for some 20 where they are large. Clear, Close and Reserve take time for all entries.)
//   - It is freed by [Map.Close], not by the collector.
//
// NaN is not equal to itself, so a key with a NaN cannot be found, as in Go's map: each Put of it makes
// an entry, which All shows and only Clear and Close remove.
//
// The zero Map is empty and ready for use, like the result of [NewMap] without options. It holds no
// memory until its first entry. A Map must not be copied after its first use: a method of the copy
// panics.
//
// A Map is for one goroutine at a time, except that any number of goroutines may read it (Get, GetPtr,
// Len, All) while none changes it.
//
// A Map that becomes unreachable without Close is an error that the program survives. Some time after
// a garbage collection its memory is freed. [ReadAbandoned] counts such Maps, and [hakmem.Err] reports
// the first. What GetPtr and PutPtr have returned does not keep a Map reachable.
//
// An entry takes as much as struct{V; K}, and a byte. A Map that only grows is filled to 44 to 88 %, one
// from which entries were deleted to about 11 % at least. While loops over All run, tables become smaller
// but are not joined; later calls of Delete do that.
type Map[K comparable, V any] struct{ mapCore[K, V] }

// NewMap returns an empty Map with the given options; at most one MapOptions may be given. It panics for
// a K or V that holds Go pointers, for a site that was not registered, for a negative capacity, and with
// [*hakmem.OutOfMemoryError] when no memory is left.
func NewMap[K comparable, V any](options ...MapOptions) *Map[K, V] {
	o := onlyMapOptions("NewMap", options)
	m := new(Map[K, V])
	m.site = o.Site
	m.begin()
	if o.Capacity > 0 {
		m.reserve(o.Capacity)
	}
	return m
}

// onlyMapOptions checks the options that function op was given.
func onlyMapOptions(op string, options []MapOptions) MapOptions {
	o := only(op, options)
	mustBeCapacity(op, o.Capacity)
	mustBeSite(o.Site)
	return o
}

// mustBePlain panics as hakmem.New does if T holds Go pointers.
func mustBePlain[T any]() {
	if err := hakmem.PointerFree[T](); err != nil {
		panic(err.Error())
	}
}

func (m *Map[K, V]) begin() {
	mustBePlain[K]()
	mustBePlain[V]()
	m.mapCore.begin()
	m.hash = func(k *K) mapHash { return m.hashOf(*k) }
	if m.integer = isInteger[K](); m.integer {
		m.integers = integerSeedOf(m.seed)
	}
	m.cleanup = runtime.AddCleanup(m, func(held *mapMemory) { abandonMap[K, V](&maps, held, nil) }, m.memory)
}

// mayChange is the first step of a method that may change the map.
func (m *Map[K, V]) mayChange(op string) {
	if !m.ready(op) && m.self == 0 {
		m.begin()
	}
}

// Get returns the value of key, and whether there is one.
func (m *Map[K, V]) Get(key K) (value V, ok bool) {
	// Where a map is larger than the caches, a lookup waits for memory, and the processor begins the next ones
	// meanwhile, as many as its queues hold. So this is one function, which repeats find: with the hash and
	// the search in functions of their own, lookups took half as long again.
	if !m.ready("Map.Get") {
		return value, false
	}
	var h mapHash
	if m.integer {
		h = m.integers.hash(integerOf(&key))
	} else {
		h = mapHash(maphash.Comparable(m.seed, key))
	}
	t := m.tableOf(h)
	mask := t.groups() - 1
	for i, step := h.group()&mask, uint32(1); ; i, step = (i+step)&mask, step+1 {
		g := m.groupOf(t, i)
		for c := g.control.candidates(h.tag()); c.any(); c = c.rest() {
			if s := g.slot(c.slot()); s.key == key {
				value = s.elem
				runtime.KeepAlive(m)
				return value, true
			}
		}
		if g.control.empty().any() {
			runtime.KeepAlive(m)
			return value, false
		}
	}
}

// GetPtr returns a pointer to the value of key in the map, or nil if there is none. It is valid, for
// reading and writing, until the next call of a method that may change the map (Put, PutPtr, Delete,
// Clear, Reserve, Close), as long as the Map is reachable.
func (m *Map[K, V]) GetPtr(key K) *V {
	_, s := m.find("Map.GetPtr", key)
	runtime.KeepAlive(m)
	return (*V)(unsafe.Pointer(s)) // which begins with the value; so short, this is compiled into its caller
}

// find returns the hash of key, and its slot, or nil. If the map has no directory, it returns no hash either.
func (m *Map[K, V]) find(op string, key K) (h mapHash, s *slot[K, V]) {
	if !m.ready(op) {
		return 0, nil
	}
	if m.integer {
		h = m.integers.hash(integerOf(&key))
	} else {
		h = mapHash(maphash.Comparable(m.seed, key))
	}
	t := m.tableOf(h)
	mask := t.groups() - 1
	for i, step := h.group()&mask, uint32(1); ; i, step = (i+step)&mask, step+1 {
		g := m.groupOf(t, i)
		for c := g.control.candidates(h.tag()); c.any(); c = c.rest() {
			if s := g.slot(c.slot()); s.key == key {
				return h, s
			}
		}
		if g.control.empty().any() {
			return h, nil
		}
	}
}

// Put sets the value of key. It panics with [*hakmem.OutOfMemoryError] when no memory is left; then the
// map is as it was.
func (m *Map[K, V]) Put(key K, value V) {
	s, _ := m.put("Map.Put", key)
	s.elem = value
	runtime.KeepAlive(m)
}

// PutPtr returns a pointer to the value of key in the map. If there was no entry it makes one, with the
// zero value, and added is true. The pointer is valid as that of [Map.GetPtr] is. PutPtr panics as Put
// does.
func (m *Map[K, V]) PutPtr(key K) (value *V, added bool) {
	s, added := m.put("Map.PutPtr", key)
	if added {
		s.elem = *new(V)
	}
	runtime.KeepAlive(m)
	return &s.elem, added
}

func (m *Map[K, V]) put(op string, key K) (s *slot[K, V], added bool) {
	m.mayChange(op)
	h, s := m.find(op, key)
	if s != nil {
		return s, false
	}
	if m.dir == nil {
		h = m.hashOf(key)
	}
	s = m.insert(h)
	s.key = key
	return s, true
}

// Delete removes the entry of key and reports whether there was one. Memory that the map no longer needs
// is given back.
func (m *Map[K, V]) Delete(key K) (found bool) {
	if h, s := m.find("Map.Delete", key); s != nil {
		m.remove(h, s)
		found = true
	}
	runtime.KeepAlive(m)
	return found
}

// Len returns the number of entries.
func (m *Map[K, V]) Len() int {
	m.mustBeOpen("Map.Len")
	return m.count
}

// Clear removes all entries and gives their memory back. It takes time for each of them.
func (m *Map[K, V]) Clear() {
	if m.ready("Map.Clear") {
		m.clear()
	}
	runtime.KeepAlive(m)
}

// Reserve makes room for n entries in all, so that the map need not grow before it has as many. Those
// tables that get more than their share of the entries are split all the same. A Delete may give room
// back. A negative n panics. When no memory is left Reserve panics with [*hakmem.OutOfMemoryError]; then
// the map has its entries, and perhaps more room.
func (m *Map[K, V]) Reserve(n int) {
	m.mayChange("Map.Reserve")
	mustBeLength("Map.Reserve", n)
	m.reserve(n)
	runtime.KeepAlive(m)
}

func mustBeLength(op string, n int) {
	if n < 0 {
		panic(fmt.Sprintf("offheap: %s(%d): the number must not be negative", op, n))
	}
}

// All iterates over the entries, in no particular order. The body of the loop may change the map, with
// the rules of Go's map: each entry that is there from the beginning to the end of the iteration comes
// once, with the value that it has then. An entry that was removed does not come after that. One that
// was added may come or not. After Clear or Close no entry comes.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if !m.ready("Map.All") {
			return
		}
		m.walk(m.now, func(s *slot[K, V]) bool { return yield(s.key, s.elem) })
		runtime.KeepAlive(m)
	}
}

// now returns where the entry is that was in the slot s of a dead table. An entry that cannot be found,
// because its key is not equal to itself, is still there: it cannot be deleted either.
func (m *Map[K, V]) now(s *slot[K, V]) *slot[K, V] {
	if key := s.key; key != s.key {
		return s
	}
	_, s = m.find("Map.All", s.key)
	return s
}

// Close frees the map's memory. Any later use of the Map, including a second Close, panics with a
// [*hakmem.MisuseError]. A loop over All that is being run ends.
func (m *Map[K, V]) Close() { m.close("Map.Close") }
