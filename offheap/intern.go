package offheap

import (
	"hash/maphash"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// InternerOptions are the options of an [Interner]. The zero value is the default.
//
// There is none for an Arena of the program's. An Interner is for all goroutines, an Arena for one at a time. And after
// Reset or Close of that Arena, a search in the Interner would read bytes that are someone else's. So an Interner has
// Arenas of its own: a task that frees everything at its end makes an Interner and closes it there, next to its Arena.
type InternerOptions struct {
	// Site is the site of all memory that the Interner allocates, see [hakmem.MallocAt] and [hakmem.NewArenaAt]. 0 means
	// none.
	Site hakmem.Site
}

// Interner keeps one copy of each string that it is given, in hakmem's memory. All goroutines may use it
// at the same time, except that nothing else may run while and after it is closed. Strings that are
// there already are found without a lock.
//
// Strings are not counted and none is freed by itself: that would take an atomic operation for every
// copy of a String, and a forgotten one would go unnoticed. They live until Close. So an Interner is for
// a set of strings that is bounded, such as names of fields, or for a task that ends.
//
// The Interner owns the bytes and must stay reachable as long as its Strings are used, as it does when
// the program calls (or defers) Close at the end. One that becomes unreachable without Close is counted
// and reported (see the package comment).
type Interner struct{ t *internTable }

// internTable is the memory of an Interner. It is an object of its own because the Interner's cleanup
// needs it and must not refer to the Interner.
type internTable struct {
	seed   maphash.Seed
	shards [internShards]internShard
	by     *stack
	closed atomic.Bool
}

const (
	// internShards is the number of parts, each of which takes one new string at a time. As many
	// goroutines as a large machine has cores seldom meet in 16, because only new strings need the lock;
	// more would cost memory: each part has an Arena, whose first chunk is 64 KiB.
	internShards = 16
	// firstSlots is the number of slots in a shard's first table, which fills a block of 1 KiB: few
	// enough that a small Interner is small, and enough for some hundred strings in all shards.
	firstSlots = 64
)

// internShard has those strings whose hash ends with its number. Its lock is taken by those who add
// one. Readers look into the current table at any time.
type internShard struct {
	mu    sync.Mutex
	table atomic.Pointer[internSlots]
	// old are the tables that were outgrown. Readers may still look into them, so they live until
	// Close; together they are smaller than the current one.
	old   []*internSlots
	arena *hakmem.Arena // the bytes
	site  hakmem.Site   // of the tables, and of the arena
	n     atomic.Int64  // strings; their bytes are next
	bytes atomic.Int64
	_     [64]byte // the next shard has cache lines of its own
}

// internSlots is a hash table with linear probing (Knuth, vol. 3, 6.4, algorithm L) in a block of
// hakmem's. Its length is a power of two, of which at most three quarters are used: then an unsuccessful
// search looks at 8.5 slots on average, in two or three cache lines.
type internSlots []internSlot

// internSlot is one string. Once addr is stored, it does not change any more.
type internSlot struct {
	addr atomic.Uint64 // an address, or 0 while the slot is free; stored last
	// tagAndLen has bits of the hash above the length, so that another string is hardly ever compared.
	tagAndLen uint64
}

// lenBits is the number of bits for a length: hakmem's region has at most 2^40 bytes.
const lenBits = 40

func tagAndLen(hash uint64, n int) uint64 { return hash&^(1<<lenBits-1) | uint64(n) }

// NewInterner returns an empty Interner; at most one InternerOptions may be given. It holds no memory of hakmem's until its
// first string. NewInterner panics for a site that was not registered. Any goroutine may call it.
func NewInterner(options ...InternerOptions) *Interner {
	o := only("NewInterner", options)
	mustBeSite(o.Site)
	in := &Interner{&internTable{seed: maphash.MakeSeed(), by: callers()}}
	for i := range in.t.shards {
		s := &in.t.shards[i]
		s.arena, s.site = hakmem.NewArenaAt(o.Site), o.Site
	}
	runtime.AddCleanup(in, abandonTable, in.t)
	return in
}

func abandonTable(t *internTable) {
	if n := t.held(); n > 0 && !t.closed.Load() {
		interners.abandon(t.by, n, t.close)
	}
}

// Intern returns the String with the bytes of s. The same bytes always give the same String, so those
// of one Interner are equal exactly if == says so. It is valid until Close, and must not be freed.
//
// Intern panics with [*hakmem.OutOfMemoryError] when no memory is left for a new string, and with
// [*hakmem.MisuseError] if the Interner is closed.
func (in *Interner) Intern(s string) String {
	t := in.open("Intern")
	if s == "" {
		return String{}
	}
	hash := maphash.String(t.seed, s)
	shard := &t.shards[hash%internShards]
	found, _ := shard.load().find(hash, s)
	if found == (String{}) {
		found = shard.add(t.seed, hash, s)
	}
	runtime.KeepAlive(in) // else the cleanup could run before s is there
	return found
}

// InternBytes is [Interner.Intern] for the bytes of b, without a Go string on the way.
func (in *Interner) InternBytes(b []byte) String {
	return in.Intern(unsafe.String(unsafe.SliceData(b), len(b)))
}

// open returns the table. It panics in the name of a method if the Interner is closed.
func (in *Interner) open(method string) *internTable {
	kind := "closed interner"
	switch {
	case in.t == nil:
		kind = "unmade interner"
	case !in.t.closed.Load():
		return in.t
	}
	panic(&hakmem.MisuseError{Op: "Interner." + method, Kind: kind, Addr: uintptr(unsafe.Pointer(in))})
}

func (s *internShard) load() internSlots {
	if table := s.table.Load(); table != nil {
		return *table
	}
	return nil
}

// find returns the String with the bytes of s, or String{} and the free slot that ended the search. A
// table without slots has none.
func (t internSlots) find(hash uint64, s string) (String, *internSlot) {
	want := tagAndLen(hash, len(s))
	for i := t.home(hash); len(t) > 0; i = (i + 1) & (len(t) - 1) {
		slot := &t[i]
		addr := address(slot.addr.Load())
		if addr == 0 {
			return String{}, slot
		}
		if slot.tagAndLen == want {
			if found := (String{addr, uint64(len(s))}); found.View() == s {
				return found, nil
			}
		}
	}
	return String{}, nil
}

// home is where the search for a hash begins. The bits that chose the shard are not used again.
func (t internSlots) home(hash uint64) int {
	return int(hash/internShards) & (len(t) - 1)
}

// add is find, and adds s if it is not there.
func (s *internShard) add(seed maphash.Seed, hash uint64, text string) String {
	s.mu.Lock()
	defer s.mu.Unlock()
	table := s.load()
	found, slot := table.find(hash, text) // another goroutine may have added it
	if found != (String{}) {
		return found
	}
	if n := int(s.n.Load()); n >= len(table)/4*3 {
		table = s.grow(seed, table)
		_, slot = table.find(hash, text)
	}
	p := unsafe.Slice((*byte)(s.arena.Alloc(uintptr(len(text)), 1)), len(text))
	copy(p, text)
	found = stringAt(p)
	slot.tagAndLen = tagAndLen(hash, len(text))
	slot.addr.Store(uint64(found.addr))
	s.n.Add(1)
	s.bytes.Add(int64(len(text)))
	return found
}

// grow replaces the table by one of twice the length.
func (s *internShard) grow(seed maphash.Seed, table internSlots) internSlots {
	slots := max(firstSlots, 2*len(table))
	larger := internSlots(hakmem.MakeSliceAt[internSlot](s.site, slots, slots))
	for i := range table {
		from := &table[i]
		addr := from.addr.Load()
		if addr == 0 {
			continue
		}
		text := String{address(addr), from.tagAndLen & (1<<lenBits - 1)}
		_, to := larger.find(text.Hash(seed), text.View())
		to.tagAndLen = from.tagAndLen
		to.addr.Store(addr)
	}
	if table != nil {
		s.old = append(s.old, s.table.Load())
	}
	s.table.Store(&larger)
	return larger
}

// Len returns the number of strings, without the empty one.
func (in *Interner) Len() (n int) {
	t := in.open("Len")
	for i := range t.shards {
		n += int(t.shards[i].n.Load())
	}
	runtime.KeepAlive(in)
	return n
}

// Bytes returns how many bytes the strings and the tables take; a string's slot has 16. The strings are
// in 16 Arenas, which hold more: the rest of a chunk of 64 KiB to 2 MiB each.
func (in *Interner) Bytes() uint64 {
	n := in.open("Bytes").held()
	runtime.KeepAlive(in)
	return n
}

func (t *internTable) held() (bytes uint64) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		bytes += uint64(s.bytes.Load())
		for _, table := range append(s.old[:len(s.old):len(s.old)], s.table.Load()) {
			if table != nil {
				bytes += uint64(len(*table)) * uint64(unsafe.Sizeof(internSlot{}))
			}
		}
		s.mu.Unlock()
	}
	return bytes
}

// Close frees all memory. No other call of the Interner may run at the same time. All its Strings and
// their views are invalid then, and every call of the Interner panics with [*hakmem.MisuseError], a second
// Close too.
func (in *Interner) Close() {
	in.open("Close").close()
	runtime.KeepAlive(in)
}

func (t *internTable) close() {
	t.closed.Store(true)
	for i := range t.shards {
		s := &t.shards[i]
		s.arena.Close()
		for _, table := range append(s.old, s.table.Swap(nil)) {
			if table != nil {
				hakmem.FreeSlice(*table)
			}
		}
		s.old = nil
	}
}
