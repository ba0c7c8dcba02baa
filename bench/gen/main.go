// Command gen writes ../loops_*_gen.go: for every allocator a file with one
// loop for each workload, each calling its allocator directly.
//
// The loops are generated and not generic because a call through an interface,
// a func value or a generic dictionary costs about as much as the allocators
// under test, and because the methods of hakmem.Heap inline only into code that
// names the type. One template for each loop, in loops/, keeps the loops the
// same: it is Go, with the methods of family in place of the allocator's calls.
//
// One family, "observed", calls through a func value after all: it is what
// hashes the operations, verifies the blocks and samples latencies.
package main

import (
	"bytes"
	"embed"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"path"
	"strings"
	"text/template"
)

//go:embed loops/*.tmpl
var loops embed.FS

// family is an allocator as the templates see it: fragments of Go, in which %1,
// %2 … stand for a method's operands, in order.
//
// In all of them a block is one word, an unsafe.Pointer: the block's address or,
// for the pool, that of the slice which holds it.
type family struct {
	Func    string // suffix of the function names
	Doc     string // what the comments call it
	Tag     string // build constraint of the file; "": none
	Imports []string
	Setup   string // at the start of a goroutine's work; may declare variables
	Param   string // of those, what a helper function takes: name and type
	Arg     string // and its name
	Close   string // after the goroutine's last call
	// Slot is uintptr, so that no write barrier guards it, where the collector
	// need not see the block; else unsafe.Pointer.
	Slot string

	malloc, calloc, realloc, memalign, free, data string
	// observe makes the calls take the slot as well, which an allocator does
	// not see.
	observe bool
}

// Malloc declares p, a new block of size bytes for slot; none of the
// expressions may have effects.
func (f family) Malloc(p, size, slot string) string {
	if f.observe {
		return fmt.Sprintf("%s := w.obs.malloc(%s, %s)", p, size, slot)
	}
	return expand(f.malloc, p, size)
}

// Calloc declares p, a new block of n zeroed bytes.
func (f family) Calloc(p, n, slot string) string {
	if f.observe {
		return fmt.Sprintf("%s := w.obs.calloc(%s, %s)", p, n, slot)
	}
	return expand(f.calloc, p, n)
}

// Realloc declares q, block p of size bytes changed to size more.
func (f family) Realloc(q, p, size, more, slot string) string {
	if f.observe {
		return fmt.Sprintf("%s := w.obs.realloc(%s, %s, %s, %s)", q, p, size, more, slot)
	}
	return expand(f.realloc, q, p, size, more)
}

// Memalign declares p, a new block of size bytes at a multiple of align. Where
// an allocator has no such call, the block is larger by align instead.
func (f family) Memalign(p, align, size, slot string) string {
	if f.observe {
		return fmt.Sprintf("%s := w.obs.memalign(%s, %s, %s)", p, align, size, slot)
	}
	return expand(f.memalign, p, align, size)
}

// Free gives block p, of slot, back.
func (f family) Free(p, slot string) string {
	if f.observe {
		return fmt.Sprintf("w.obs.free(%s, %s)", p, slot)
	}
	if f.free == "" {
		return "_ = " + p
	}
	return expand(f.free, p)
}

// FreeHanded gives back a block that another thread handed over: which one
// that is depends on the scheduler, and so it is not part of the hash.
func (f family) FreeHanded(p string) string {
	if f.observe {
		return fmt.Sprintf("w.obs.freeHanded(%s)", p)
	}
	return f.Free(p, "")
}

// Data is the address of block p's bytes, an unsafe.Pointer. Use Write to write
// them: while blocks are verified they are not the loop's.
func (f family) Data(p string) string {
	if f.data == "" {
		return p
	}
	return expand(f.data, p)
}

// Write writes 1 into the byte at offset off of block p.
func (f family) Write(p, off string) string {
	switch {
	case f.observe:
		return fmt.Sprintf("w.obs.write(%s, %s)", p, off)
	case off == "0":
		return fmt.Sprintf("*(*byte)(%s) = 1", f.Data(p))
	}
	return fmt.Sprintf("*(*byte)(unsafe.Add(%s, %s)) = 1", f.Data(p), off)
}

// Fill writes the word v into the whole of block p, of size bytes, from its
// start (a rest of less than 8 bytes stays as it is). Sum declares sum, that of
// these words.
func (f family) Fill(p, size, v string) string {
	if f.observe {
		return fmt.Sprintf("w.obs.fill(%s, %s, %s)", p, size, v)
	}
	return fmt.Sprintf("fillWords(%s, %s, %s)", f.Data(p), size, v)
}

func (f family) Sum(sum, p, size string) string {
	if f.observe {
		return fmt.Sprintf("%s := w.obs.sum(%s, %s)", sum, p, size)
	}
	return fmt.Sprintf("%s := sumWords(%s, %s)", sum, f.Data(p), size)
}

// Load declares p, the block in the slot at address s, nil if there is none.
// A slot is read back as an unsafe.Pointer, so that no integer is converted to
// a pointer.
func (f family) Load(p, s string) string {
	if f.Slot == "uintptr" {
		return fmt.Sprintf("%s := *(*unsafe.Pointer)(unsafe.Pointer(%s))", p, s)
	}
	return fmt.Sprintf("%s := %s", p, place(s))
}

// Store puts p into the slot at s, Clear empties it.
func (f family) Store(s, p string) string {
	if f.Slot == "uintptr" {
		return fmt.Sprintf("%s = uintptr(%s)", place(s), p)
	}
	return fmt.Sprintf("%s = %s", place(s), p)
}

func (f family) Clear(s string) string {
	if f.Slot == "uintptr" {
		return fmt.Sprintf("%s = 0", place(s))
	}
	return fmt.Sprintf("%s = nil", place(s))
}

// place is the variable at address s: x for &x and (&x).
func place(s string) string {
	if inner, ok := strings.CutPrefix(s, "(&"); ok {
		return strings.TrimSuffix(inner, ")")
	}
	if inner, ok := strings.CutPrefix(s, "&"); ok {
		return inner
	}
	return "*" + s
}

// Swap declares old, what was in the slot at s before p (which may be "nil")
// was put there, in one atomic step.
func (f family) Swap(old, s, p string) string {
	if f.Slot == "uintptr" {
		if p == "nil" {
			p = "unsafe.Pointer(nil)"
		}
		return fmt.Sprintf("%s := unsafe.Add(nil, atomic.SwapUintptr(%s, uintptr(%s)))", old, s, p)
	}
	return fmt.Sprintf("%s := atomic.SwapPointer(%s, %s)", old, s, p)
}

// SlotArray is the field of shared that holds n slots which all threads see.
func (f family) SlotArray() string {
	if f.Slot == "uintptr" {
		return "w.shared.words"
	}
	return "w.shared.pointers"
}

// Observed tells whether the calls go through an observer.
func (f family) Observed() bool { return f.observe }

// expand replaces each %N by operand N, counted from 1.
func expand(text string, operands ...string) string {
	for i, o := range operands {
		text = strings.ReplaceAll(text, fmt.Sprintf("%%%d", i+1), o)
	}
	return text
}

var families = []family{
	{
		Func: "Hakmem", Doc: "hakmem.Malloc and hakmem.Free", Slot: "uintptr",
		Imports:  []string{"github.com/hakmem/hakmem"},
		malloc:   "%1 := hakmem.Malloc(%2)",
		calloc:   "%1 := hakmem.Calloc(1, %2)",
		realloc:  "%1 := hakmem.Realloc(%2, %4)",
		memalign: "%1 := hakmem.AlignedAlloc(%2, %3)",
		free:     "hakmem.Free(%1)",
	},
	{
		Func: "Heap", Doc: "a hakmem.Heap of the goroutine's own", Slot: "uintptr",
		Imports:  []string{"github.com/hakmem/hakmem"},
		Setup:    "h := hakmem.NewHeap()",
		Param:    "h *hakmem.Heap",
		Arg:      "h",
		Close:    "h.Close()",
		malloc:   "%1 := h.Malloc(%2)",
		calloc:   "%1 := h.Calloc(1, %2)",
		realloc:  "%1 := h.Realloc(%2, %4)",
		memalign: "%1 := hakmem.AlignedAlloc(%2, %3)",
		free:     "h.Free(%1)",
	},
	{
		Func: "Go", Doc: "make and the garbage collector", Slot: "unsafe.Pointer",
		malloc:   "%1 := unsafe.Pointer(unsafe.SliceData(make([]byte, %2)))",
		calloc:   "%1 := unsafe.Pointer(unsafe.SliceData(make([]byte, %2)))",
		realloc:  "%1 := goRealloc(%2, %3, %4)",
		memalign: "%1 := unsafe.Pointer(unsafe.SliceData(make([]byte, %3+%2)))",
	},
	{
		Func: "Pool", Doc: "one sync.Pool for each power of two", Slot: "unsafe.Pointer",
		malloc:   "%1 := unsafe.Pointer(poolGet(%2))",
		calloc:   "%1 := unsafe.Pointer(poolGetZeroed(%2))",
		realloc:  "%1 := poolRealloc(%2, %4)",
		memalign: "%1 := unsafe.Pointer(poolGet(%3+%2))",
		free:     "poolPut((*[]byte)(%1))",
		data:     "unsafe.Pointer(unsafe.SliceData(*(*[]byte)(%1)))",
	},
	{
		Func: "Modernc", Doc: "modernc.org/memory, for a single goroutine", Slot: "uintptr",
		malloc:   "%1 := moderncMalloc(%2)",
		calloc:   "%1 := moderncCalloc(%2)",
		realloc:  "%1 := moderncRealloc(%2, %4)",
		memalign: "%1 := moderncMalloc(%3+%2)",
		free:     "moderncFree(%1)",
	},
	{
		Func: "ModerncLocked", Doc: "modernc.org/memory behind one mutex", Slot: "uintptr",
		malloc:   "moderncMu.Lock()\n%1 := moderncMalloc(%2)\nmoderncMu.Unlock()",
		calloc:   "moderncMu.Lock()\n%1 := moderncCalloc(%2)\nmoderncMu.Unlock()",
		realloc:  "moderncMu.Lock()\n%1 := moderncRealloc(%2, %4)\nmoderncMu.Unlock()",
		memalign: "moderncMu.Lock()\n%1 := moderncMalloc(%3+%2)\nmoderncMu.Unlock()",
		free:     "moderncMu.Lock()\nmoderncFree(%1)\nmoderncMu.Unlock()",
	},
	{
		Func: "Cgo", Doc: "C's malloc and free, through cgo", Slot: "uintptr",
		Tag:      "hakmem_cgo",
		Imports:  []string{"github.com/hakmem/hakmem/bench/cgomalloc"},
		malloc:   "%1 := cgomalloc.Malloc(%2)",
		calloc:   "%1 := cgomalloc.Calloc(%2)",
		realloc:  "%1 := cgomalloc.Realloc(%2, %4)",
		memalign: "%1 := cgomalloc.Malloc(%3+%2)",
		free:     "cgomalloc.Free(%1)",
	},
	{
		Func: "Empty", Doc: "no allocator: every block is the same scratch buffer", Slot: "uintptr",
		Setup:    "scratch, sink := w.scratch, &w.sink",
		Param:    "scratch unsafe.Pointer, sink *uintptr",
		Arg:      "scratch, sink",
		Close:    "_, _ = scratch, sink",
		malloc:   "_ = %2\n%1 := scratch",
		calloc:   "_ = %2\n%1 := scratch",
		realloc:  "%1 := %2",
		memalign: "%1 := scratch",
		free:     "*sink = uintptr(%1)",
	},
	{
		Func: "Observed", Doc: "what w.obs stands for: any allocator, observed", Slot: "unsafe.Pointer",
		data: "w.obs.data(%1)", observe: true,
	},
}

// generate returns the text of each file.
func generate() (map[string][]byte, error) {
	names, err := fs.Glob(loops, "loops/*.tmpl")
	if err != nil {
		return nil, err
	}
	all, err := template.ParseFS(loops, "loops/*.tmpl")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, f := range families {
		var body bytes.Buffer
		fmt.Fprintf(&body, "\n// loops%s are the loops by name.\nvar loops%s = map[string]func(*worker){\n", f.Func, f.Func)
		for _, name := range names {
			loop := strings.TrimSuffix(path.Base(name), ".tmpl")
			fmt.Fprintf(&body, "%q: %s%s,\n", loop, camel(loop), f.Func)
		}
		fmt.Fprintln(&body, "}")
		for _, name := range names {
			fmt.Fprintln(&body)
			if err := all.ExecuteTemplate(&body, path.Base(name), f); err != nil {
				return nil, err
			}
		}
		var b bytes.Buffer
		fmt.Fprintln(&b, "// Code generated by gen; DO NOT EDIT.")
		if f.Tag != "" {
			fmt.Fprintf(&b, "\n//go:build %s\n", f.Tag)
		}
		fmt.Fprint(&b, "\npackage bench\n\nimport (\n")
		for _, std := range []string{"runtime", "sync/atomic", "unsafe"} {
			if strings.Contains(body.String(), path.Base(std)+".") {
				fmt.Fprintf(&b, "%q\n", std)
			}
		}
		fmt.Fprintln(&b)
		for _, other := range append(f.Imports, "github.com/hakmem/hakmem/bench/trace") {
			fmt.Fprintf(&b, "%q\n", other)
		}
		fmt.Fprint(&b, ")\n")
		b.Write(body.Bytes())
		text, err := format.Source(b.Bytes())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Func, err)
		}
		files["loops_"+strings.ToLower(f.Func)+"_gen.go"] = text
	}
	return files, nil
}

// camel turns random_mixed into randomMixed.
func camel(name string) string {
	parts := strings.Split(name, "_")
	for i := 1; i < len(parts); i++ {
		parts[i] = strings.ToUpper(parts[i][:1]) + parts[i][1:]
	}
	return strings.Join(parts, "")
}

func main() {
	files, err := generate()
	for name, text := range files {
		if err == nil {
			err = os.WriteFile(name, text, 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
