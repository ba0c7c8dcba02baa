package main

// The allocators that get a copy of the loops, and the statements that stand in for the observer's
// calls.

// family is an allocator as the generated loops call it. Its operations are Go statements in which
// names stand for operands: size, more and align are numbers of bytes, p is a block, and q is what
// p became. An operand must not have effects, because an operation may name it twice or not at all.
type family struct {
	name    string // suffix of the function names
	doc     string // stands in comments for anyAllocator
	tag     string // build constraint of the file; "": none
	imports []string
	enter   string // in place of w.obs.enter; it may declare variables
	params  string // the variables of enter that a helper function takes: names and types
	args    string // their names alone
	leave   string // in place of w.obs.leave
	// words says that a slot is a uintptr, which no write barrier guards: the collector need not
	// see the block. Otherwise a slot is an unsafe.Pointer.
	words bool

	malloc, calloc string // declare p, a block of size bytes; calloc's bytes are zero
	realloc        string // declares q, which is block p of size bytes changed to more bytes
	// memalign declares p, a block of size bytes at a multiple of align. Where an allocator has no
	// such call, the block is larger by align instead.
	memalign string
	free     string
	// data is an expression: the address of block p's bytes.
	data string
}

var families = []family{
	{
		name: "Hakmem", doc: "hakmem.Malloc and hakmem.Free", words: true,
		imports:  []string{"github.com/hakmem/hakmem"},
		malloc:   "p := hakmem.Malloc(size)",
		calloc:   "p := hakmem.Calloc(1, size)",
		realloc:  "q := hakmem.Realloc(p, more)",
		memalign: "p := hakmem.AlignedAlloc(align, size)",
		free:     "hakmem.Free(p)",
		data:     "p",
	},
	{
		name: "Heap", doc: "a hakmem.Heap of the goroutine's own", words: true,
		imports:  []string{"github.com/hakmem/hakmem"},
		enter:    "h := hakmem.NewHeap()",
		params:   "h *hakmem.Heap",
		args:     "h",
		leave:    "h.Close()",
		malloc:   "p := h.Malloc(size)",
		calloc:   "p := h.Calloc(1, size)",
		realloc:  "q := h.Realloc(p, more)",
		memalign: "p := hakmem.AlignedAlloc(align, size)",
		free:     "h.Free(p)",
		data:     "p",
	},
	{
		name: "Go", doc: "make and the garbage collector",
		malloc:   "p := unsafe.Pointer(unsafe.SliceData(make([]byte, size)))",
		calloc:   "p := unsafe.Pointer(unsafe.SliceData(make([]byte, size)))",
		realloc:  "q := goRealloc(p, size, more)",
		memalign: "p := unsafe.Pointer(unsafe.SliceData(make([]byte, size+align)))",
		free:     "_ = p",
		data:     "p",
	},
	{
		name: "Pool", doc: "one sync.Pool for each power of two",
		malloc:   "p := unsafe.Pointer(poolGet(size))",
		calloc:   "p := unsafe.Pointer(poolGetZeroed(size))",
		realloc:  "q := poolRealloc(p, more)",
		memalign: "p := unsafe.Pointer(poolGet(size + align))",
		free:     "poolPut((*[]byte)(p))",
		data:     "unsafe.Pointer(unsafe.SliceData(*(*[]byte)(p)))",
	},
	{
		name: "Modernc", doc: "modernc.org/memory, for a single goroutine", words: true,
		malloc:   "p := moderncMalloc(size)",
		calloc:   "p := moderncCalloc(size)",
		realloc:  "q := moderncRealloc(p, more)",
		memalign: "p := moderncMalloc(size + align)",
		free:     "moderncFree(p)",
		data:     "p",
	},
	{
		name: "ModerncLocked", doc: "modernc.org/memory behind one mutex", words: true,
		malloc:   "moderncMu.Lock()\np := moderncMalloc(size)\nmoderncMu.Unlock()",
		calloc:   "moderncMu.Lock()\np := moderncCalloc(size)\nmoderncMu.Unlock()",
		realloc:  "moderncMu.Lock()\nq := moderncRealloc(p, more)\nmoderncMu.Unlock()",
		memalign: "moderncMu.Lock()\np := moderncMalloc(size + align)\nmoderncMu.Unlock()",
		free:     "moderncMu.Lock()\nmoderncFree(p)\nmoderncMu.Unlock()",
		data:     "p",
	},
	{
		name: "Cgo", doc: "C's malloc and free, through cgo", words: true,
		tag:      "hakmem_cgo",
		imports:  []string{"github.com/hakmem/hakmem/bench/cgomalloc"},
		malloc:   "p := cgomalloc.Malloc(size)",
		calloc:   "p := cgomalloc.Calloc(size)",
		realloc:  "q := cgomalloc.Realloc(p, more)",
		memalign: "p := cgomalloc.Malloc(size + align)",
		free:     "cgomalloc.Free(p)",
		data:     "p",
	},
	{
		name: "Empty", doc: "no allocator: every block is the same scratch buffer", words: true,
		enter:    "scratch, sink := w.scratch, &w.sink",
		params:   "scratch unsafe.Pointer, sink *uintptr",
		args:     "scratch, sink",
		leave:    "_, _ = scratch, sink",
		malloc:   "_ = size\np := scratch",
		calloc:   "_ = size\np := scratch",
		realloc:  "q := p",
		memalign: "p := scratch",
		free:     "*sink = uintptr(p)",
		data:     "p",
	},
}
