package offheap

import (
	"iter"
	"runtime"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// OwnerOptions are the options of an [Owner]. The zero value is the default.
type OwnerOptions struct {
	// Site is the site of all blocks that the Owner allocates, see [hakmem.MallocAt]. 0 means none.
	Site hakmem.Site
	// KeepDropped says that the blocks of an Owner which becomes unreachable without Close stay allocated. It is for
	// programs that keep addresses of blocks where the collector does not see them. The Owner is counted and
	// reported all the same.
	KeepDropped bool
}

// Owner allocates blocks and knows which ones are its own. Each can be freed alone, and Close frees all that are left. So a
// part of a program that allocates for itself, such as a parser, a plugin or an interpreter, can be ended without a leak,
// whatever it has forgotten; and no part can free or change another's blocks through its own Owner.
//
// Its blocks are ordinary blocks, with the sizes and alignments of hakmem's. They must not be given to [hakmem.Free] or
// [hakmem.Realloc], because the Owner would not know of that; a later Free or Close of it panics then, or
// frees what has the address by that time.
//
// For its knowledge an Owner needs Go memory: a bit for each 16 bytes of the memory in which its blocks lie, 0.8 % of it.
// A call allocates Go memory only for the first block in a part of 64 KiB of the address space. [hakmem.Arena] needs nothing
// of the kind, and is for pieces that are never freed alone.
//
// The zero Owner is ready for use, like the result of [NewOwner] without options. It must not be copied after its first use: a
// method of the copy panics. An Owner is for one goroutine at a time; different Owners may be used at the same time.
//
// An Owner that becomes unreachable without Close while it has blocks is an error that the program survives. Some time
// after a garbage collection the blocks are freed (see OwnerOptions.KeepDropped). [ReadAbandoned] counts such Owners, and
// [hakmem.Err] reports the first. So an Owner must stay reachable as long as its blocks are used.
type Owner struct {
	self    uintptr // the address of this struct, which a copy does not have; 0 if it is unmade or closed
	held    *owned  // nil if it is unmade or closed
	options OwnerOptions
	closed  bool
	cleanup runtime.Cleanup // set with self
}

// owned is what an Owner holds. It is an object of its own because the cleanup of an Owner that was dropped needs it and must
// not refer to the Owner.
type owned struct {
	blocks blockSet
	keep   bool // when the Owner is dropped
	by     *stack
}

// Misuse of an Owner. These are kinds of hakmem.MisuseError, which has the remedies.
const (
	kindClosedOwner = "closed owner"
	kindCopiedOwner = "copied owner"
	kindNotOwners   = "not the owner's"

	// What hakmem says of a block that was freed: to a Free, and to any other function.
	kindDoubleFree   = "double free"
	kindUseAfterFree = "use after free"
)

const opFree = "Owner.Free"

// NewOwner returns an Owner without blocks; at most one OwnerOptions may be given. It panics for a site that was not
// registered. Any goroutine may call it.
func NewOwner(options ...OwnerOptions) *Owner {
	o := &Owner{options: only("NewOwner", options)}
	mustBeSite(o.options.Site)
	return o
}

// Malloc returns a block of at least size bytes with undefined contents, as [hakmem.Malloc] does, or nil when no memory is
// left. The Owner owns it until [Owner.Free] or [Owner.Close].
func (o *Owner) Malloc(size uintptr) unsafe.Pointer {
	o.ready("Owner.Malloc")
	var p unsafe.Pointer
	if s := o.options.Site; s != 0 {
		p = hakmem.MallocAt(s, size)
	} else {
		p = hakmem.Malloc(size)
	}
	return o.own(p)
}

// Calloc is [Owner.Malloc] for n elements of size bytes each, with every byte zero, as [hakmem.Calloc] is. It returns nil when no
// memory is left or when n·size overflows.
func (o *Owner) Calloc(n, size uintptr) unsafe.Pointer {
	o.ready("Owner.Calloc")
	return o.own(hakmem.CallocAt(o.options.Site, n, size))
}

// AlignedAlloc is [Owner.Malloc] with an address that is a multiple of align, as [hakmem.AlignedAlloc] has it. It panics for an
// alignment that that does not grant.
func (o *Owner) AlignedAlloc(align, size uintptr) unsafe.Pointer {
	o.ready("Owner.AlignedAlloc")
	return o.own(hakmem.AlignedAllocAt(o.options.Site, align, size))
}

// Realloc returns a block of at least size bytes with the contents of the Owner's block at p, as [hakmem.Realloc] does: the
// result may be the block itself, and if it is another one, that at p is freed. A nil p makes it Malloc(size). When no
// memory is left it returns nil, and the block at p stays valid. It panics as [Owner.Free] does if p is no block of the Owner.
func (o *Owner) Realloc(p unsafe.Pointer, size uintptr) unsafe.Pointer {
	if p == nil {
		return o.Malloc(size)
	}
	const op = "Owner.Realloc"
	h := o.look(op)
	if h == nil || !h.blocks.has(p) {
		refuse(op, p)
	}
	q := hakmem.Realloc(p, size)
	if q != nil && q != p {
		h.blocks.remove(p)
		h.blocks.add(q)
	}
	runtime.KeepAlive(o)
	return q
}

// Free frees the Owner's block at p. A nil p is allowed and does nothing.
//
// It panics with a [*hakmem.MisuseError], and nothing is changed, if p is not the beginning of a live block of this Owner. If a
// live block of another Owner or of hakmem's own user begins there, the error's Kind is "not the owner's"; otherwise it is
// what [hakmem.Free] would say.
func (o *Owner) Free(p unsafe.Pointer) {
	if p == nil {
		return
	}
	if h := o.look(opFree); h == nil || !h.blocks.remove(p) {
		refuse(opFree, p)
	}
	hakmem.Free(p)
	runtime.KeepAlive(o)
}

// Owns reports whether a live block of the Owner begins at p. p may be any pointer.
func (o *Owner) Owns(p unsafe.Pointer) bool {
	h := o.look("Owner.Owns")
	is := h != nil && h.blocks.has(p)
	runtime.KeepAlive(o)
	return is
}

// Len returns the number of the Owner's blocks.
func (o *Owner) Len() (n int) {
	if h := o.look("Owner.Len"); h != nil {
		n = h.blocks.n
	}
	runtime.KeepAlive(o)
	return n
}

// Bytes returns how many bytes the Owner's blocks have, as [hakmem.UsableSize] says it of each. It takes time for each of
// them.
func (o *Owner) Bytes() (n uint64) {
	if h := o.look("Owner.Bytes"); h != nil {
		n = h.bytes()
	}
	runtime.KeepAlive(o)
	return n
}

// All iterates over the Owner's blocks, in no particular order. The body of the loop may allocate and free through the Owner: a
// block that was freed does not come after that, and one that was allocated meanwhile may come or not. After Close none comes.
func (o *Owner) All() iter.Seq[unsafe.Pointer] {
	return func(yield func(unsafe.Pointer) bool) {
		if h := o.look("Owner.All"); h != nil {
			h.blocks.all()(yield)
		}
		runtime.KeepAlive(o)
	}
}

// Trim gives up the Go memory for parts of the address space where the Owner has no blocks any more. The memory of freed blocks
// is hakmem's: [hakmem.Trim] returns it to the system.
func (o *Owner) Trim() {
	if h := o.look("Owner.Trim"); h != nil {
		h.blocks.shrink()
	}
	runtime.KeepAlive(o)
}

// Close frees all blocks of the Owner. It takes time for each of them. Any later use of the Owner, including a second
// Close, panics with a [*hakmem.MisuseError], except Free(nil), which does nothing.
//
// If hakmem finds misuse meanwhile, for example a block that was freed by [hakmem.Free], Close frees all others and then panics
// with the first [*hakmem.MisuseError].
func (o *Owner) Close() {
	h := o.look("Owner.Close")
	o.self, o.held, o.closed = 0, nil, true
	if h == nil {
		return
	}
	o.cleanup.Stop()
	runtime.KeepAlive(o) // else the cleanup could run before Stop
	if misuse := h.freeAll(); misuse != nil {
		panic(misuse)
	}
}

// look returns what the Owner holds, nil if it has never had a block. It panics if the Owner is closed, or a copy.
func (o *Owner) look(op string) *owned {
	if o.self != uintptr(unsafe.Pointer(o)) {
		o.mustBeUnmade(op)
	}
	return o.held // nil if it is unmade
}

// mustBeUnmade panics if the Owner, which is not in use, is closed or a copy.
func (o *Owner) mustBeUnmade(op string) {
	kind := ""
	switch {
	case o.closed:
		kind = kindClosedOwner
	case o.self != 0:
		kind = kindCopiedOwner
	default:
		return
	}
	panic(&hakmem.MisuseError{Op: op, Kind: kind, Addr: uintptr(unsafe.Pointer(o))})
}

// ready is the first step of a call that may add a block.
func (o *Owner) ready(op string) {
	if o.self != uintptr(unsafe.Pointer(o)) {
		o.begin(op)
	}
}

// begin makes the Owner ready for blocks. It panics if it is closed, or a copy.
func (o *Owner) begin(op string) {
	o.mustBeUnmade(op)
	o.self = uintptr(unsafe.Pointer(o))
	o.held = &owned{keep: o.options.KeepDropped, by: callers()}
	o.cleanup = runtime.AddCleanup(o, abandonOwner, o.held)
}

// own adds a new block to what the Owner holds, and returns it. p is nil when there was no memory.
func (o *Owner) own(p unsafe.Pointer) unsafe.Pointer {
	if p != nil {
		o.held.blocks.add(p)
	}
	runtime.KeepAlive(o)
	return p
}

// refuse panics in the name of op because p is no block of the Owner. If no live block of hakmem's begins there at all, the
// error says what is there.
func refuse(op string, p unsafe.Pointer) {
	defer func() {
		v := recover()
		if m, is := v.(*hakmem.MisuseError); is {
			if m.Op = op; op == opFree && m.Kind == kindUseAfterFree {
				m.Kind = kindDoubleFree
			}
		}
		panic(v)
	}()
	size := hakmem.UsableSize(p)
	panic(&hakmem.MisuseError{Kind: kindNotOwners, Addr: uintptr(p), Block: uintptr(p), Class: size})
}

// bytes returns how many bytes the blocks have. One that was freed by others has none.
func (h *owned) bytes() (n uint64) {
	for p := range h.blocks.all() {
		_ = panicOf(func() { n += uint64(hakmem.UsableSize(p)) })
	}
	return n
}

// freeAll frees every block, and returns what the first free that panicked has panicked with.
func (h *owned) freeAll() (first any) {
	for p := range h.blocks.all() {
		h.blocks.remove(p)
		if v := panicOf(func() { hakmem.Free(p) }); first == nil {
			first = v
		}
	}
	h.blocks.shrink()
	return first
}

// panicOf returns what do panics with, or nil.
func panicOf(do func()) (v any) {
	defer func() { v = recover() }()
	do()
	return nil
}

func abandonOwner(h *owned) {
	if h.blocks.n == 0 {
		return
	}
	free := func() {
		if misuse := h.freeAll(); misuse != nil {
			panic(misuse) // abandon reports it
		}
	}
	if h.keep {
		free = nil
	}
	owners.abandon(h.by, h.bytes(), free)
}
