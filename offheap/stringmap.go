package offheap

import (
	"hash/maphash"
	"iter"
	"runtime"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
)

// mapKey is the key of a StringMap: 16 bytes without a Go pointer. A string of up to shortKey bytes is
// in the key itself, which is most of the words of a language, and saves a block and a cache miss. A
// longer one is in a block of its own.
type mapKey struct {
	block uint64   // the address of the block
	low   uint32   // the length, in bytes
	high  [3]uint8 // its further bits: no address space has room for more
	in    uint8    // the length of a short key, or longKey
}

const (
	shortKey = uint8(unsafe.Offsetof(mapKey{}.in))
	longKey  = shortKey + 1
)

// text returns the key as a string, which is valid as long as k stays where it is and has its block.
func (k *mapKey) text() string {
	if k.in <= shortKey {
		return unsafe.String((*byte)(unsafe.Pointer(k)), int(k.in))
	}
	n := uint64(k.low) | uint64(k.high[0])<<32 | uint64(k.high[1])<<40 | uint64(k.high[2])<<48
	return unsafe.String((*byte)(pointerTo(engine.Block(k.block))), int(n))
}

func pointerTo(b engine.Block) unsafe.Pointer { return engine.Pointer(b) }

// StringMap is a hash map with strings as keys, whose entries and keys are in hakmem's memory. The map
// copies each key when it makes an entry, and frees the copy with the entry. All that [Map] says holds
// for it, with V as it is there.
//
// An entry takes as much as struct{V; [16]byte}, and a byte. A key of more than 15 bytes takes a block
// of its own.
type StringMap[V any] struct{ mapCore[mapKey, V] }

// NewStringMap is [NewMap] for a StringMap.
func NewStringMap[V any](options ...MapOptions) *StringMap[V] {
	o := onlyMapOptions("NewStringMap", options)
	m := new(StringMap[V])
	m.site = o.Site
	m.begin()
	if o.Capacity > 0 {
		m.reserve(o.Capacity)
	}
	return m
}

func (m *StringMap[V]) begin() {
	mustBePlain[V]()
	m.mapCore.begin()
	m.hash = func(k *mapKey) mapHash { return m.hashOf(k.text()) }
	m.drop = m.dropKey
	m.cleanup = runtime.AddCleanup(m, func(held *mapMemory) {
		abandonMap[mapKey, V](&stringMaps, held, func(k *mapKey) { hakmem.Free(k.outside()) })
	}, m.memory)
}

// outside returns the block of a long key, or nil.
func (k *mapKey) outside() unsafe.Pointer {
	if k.in <= shortKey {
		return nil
	}
	return pointerTo(engine.Block(k.block))
}

// dropKey frees the block of a key. While an iteration is in a table that is dead, it may still compare
// the key: then the block is freed when it leaves.
func (m *StringMap[V]) dropKey(k *mapKey) {
	switch p := k.outside(); {
	case p == nil:
	case m.dead.Load() > 0:
		m.late = append(m.late, engine.Block(k.block))
	default:
		hakmem.Free(p)
	}
}

// mayChange is the first step of a method that may change the map.
func (m *StringMap[V]) mayChange(op string) {
	if !m.ready(op) && m.self == 0 {
		m.begin()
	}
}

func (m *StringMap[V]) hashOf(key string) mapHash { return mapHash(maphash.String(m.seed, key)) }

// find is Map's find.
func (m *StringMap[V]) find(op, key string) (h mapHash, s *slot[mapKey, V]) {
	if !m.ready(op) {
		return 0, nil
	}
	h = m.hashOf(key)
	t := m.tableOf(h)
	mask := t.groups() - 1
	for i, step := h.group()&mask, uint32(1); ; i, step = (i+step)&mask, step+1 {
		g := m.groupOf(t, i)
		for c := g.control.candidates(h.tag()); c.any(); c = c.rest() {
			if s := g.slot(c.slot()); s.key.text() == key {
				return h, s
			}
		}
		if g.control.empty().any() {
			return h, nil
		}
	}
}

// Get returns the value of key, and whether there is one.
func (m *StringMap[V]) Get(key string) (value V, ok bool) {
	if _, s := m.find("StringMap.Get", key); s != nil {
		value, ok = s.elem, true
	}
	runtime.KeepAlive(m)
	return value, ok
}

// GetBytes is Get for a key that is a slice of bytes.
func (m *StringMap[V]) GetBytes(key []byte) (value V, ok bool) {
	if _, s := m.find("StringMap.GetBytes", textOf(key)); s != nil {
		value, ok = s.elem, true
	}
	runtime.KeepAlive(m)
	return value, ok
}

// textOf returns the bytes as a string that is valid while they do not change.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// GetPtr is [Map.GetPtr].
func (m *StringMap[V]) GetPtr(key string) *V {
	_, s := m.find("StringMap.GetPtr", key)
	runtime.KeepAlive(m)
	return (*V)(unsafe.Pointer(s)) // as in Map.GetPtr
}

// Put sets the value of key. It copies the key if there was no entry. It panics with
// [*hakmem.OutOfMemoryError] when no memory is left; then the map has the entries that it had.
func (m *StringMap[V]) Put(key string, value V) {
	s, _ := m.put("StringMap.Put", key)
	s.elem = value
	runtime.KeepAlive(m)
}

// PutPtr is [Map.PutPtr]. It copies the key if there was no entry.
func (m *StringMap[V]) PutPtr(key string) (value *V, added bool) {
	return m.putPtr("StringMap.PutPtr", key)
}

// PutPtrBytes is PutPtr for a key that is a slice of bytes. The slice is not kept.
func (m *StringMap[V]) PutPtrBytes(key []byte) (value *V, added bool) {
	return m.putPtr("StringMap.PutPtrBytes", textOf(key))
}

func (m *StringMap[V]) putPtr(op, key string) (value *V, added bool) {
	s, added := m.put(op, key)
	if added {
		s.elem = *new(V)
	}
	runtime.KeepAlive(m)
	return &s.elem, added
}

func (m *StringMap[V]) put(op, key string) (s *slot[mapKey, V], added bool) {
	m.mayChange(op)
	h, s := m.find(op, key)
	if s != nil {
		return s, false
	}
	if m.dir == nil {
		h = m.hashOf(key)
	}
	k := m.keep(key)
	defer func() {
		if !added { // no memory for the entry
			hakmem.Free(k.outside())
		}
	}()
	s = m.insert(h)
	s.key = k
	return s, true
}

// keep returns a key with a copy of the text.
func (m *StringMap[V]) keep(text string) (k mapKey) {
	n := uint64(len(text))
	if n <= uint64(shortKey) {
		k.in = uint8(n)
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&k)), shortKey), text)
		return k
	}
	p := m.malloc(uintptr(n))
	if p == nil {
		noMemory(uintptr(n))
	}
	copy(unsafe.Slice((*byte)(p), n), text)
	return mapKey{block: uint64(uintptr(p)), low: uint32(n), high: [3]uint8{uint8(n >> 32), uint8(n >> 40), uint8(n >> 48)}, in: longKey}
}

// Delete removes the entry of key and reports whether there was one. The copy of the key is freed, and
// so is other memory that the map no longer needs. key may be the view that All has given.
func (m *StringMap[V]) Delete(key string) (found bool) {
	if h, s := m.find("StringMap.Delete", key); s != nil {
		m.remove(h, s)
		found = true
	}
	runtime.KeepAlive(m)
	return found
}

// Len returns the number of entries.
func (m *StringMap[V]) Len() int {
	m.mustBeOpen("StringMap.Len")
	return m.count
}

// Clear is [Map.Clear].
func (m *StringMap[V]) Clear() {
	if m.ready("StringMap.Clear") {
		m.clear()
	}
	runtime.KeepAlive(m)
}

// Reserve is [Map.Reserve]. It makes no room for the keys that have blocks of their own.
func (m *StringMap[V]) Reserve(n int) {
	m.mayChange("StringMap.Reserve")
	mustBeLength("StringMap.Reserve", n)
	m.reserve(n)
	runtime.KeepAlive(m)
}

// All is [Map.All]. Each key is a view of the map's memory. It is valid until the body of the loop ends
// or changes the map, whichever comes first, as long as the Map is reachable: use strings.Clone to keep
// it.
func (m *StringMap[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		if !m.ready("StringMap.All") {
			return
		}
		m.walk(m.now, func(s *slot[mapKey, V]) bool { return yield(s.key.text(), s.elem) })
		runtime.KeepAlive(m)
	}
}

// now returns where the entry is that was in the slot s of a dead table, or nil.
func (m *StringMap[V]) now(s *slot[mapKey, V]) *slot[mapKey, V] {
	_, s = m.find("StringMap.All", s.key.text())
	return s
}

// Close is [Map.Close].
func (m *StringMap[V]) Close() { m.close("StringMap.Close") }
