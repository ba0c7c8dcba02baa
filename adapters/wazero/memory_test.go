package hakmemwazero_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/hakmem/hakmem"
	hakmemwazero "github.com/hakmem/hakmem/adapters/wazero"
	"github.com/hakmem/hakmem/hakmemtest"
)

const page = 64 << 10 // WebAssembly's

var site = hakmem.RegisterSite("wazero")

// variants are the allocators that the tests try.
var variants = map[string]hakmemwazero.Options{
	"plain":       {},
	"site":        {Site: site},
	"moves":       {Moves: true},
	"site, moves": {Site: site, Moves: true},
	"moves, room": {Reserve: 7 * page, Moves: true},
}

// each runs a test with every variant, and looks for leaks.
func each(t *testing.T, f func(t *testing.T, o hakmemwazero.Options)) {
	for name, o := range variants {
		t.Run(name, func(t *testing.T) {
			hakmemtest.NoLeaks(t)
			f(t, o)
		})
	}
}

func fill(b []byte, value byte) {
	for i := range b {
		b[i] = value
	}
}

// all fails unless every byte has the value.
func all(t *testing.T, b []byte, value byte) {
	t.Helper()
	if i := slices.IndexFunc(b, func(x byte) bool { return x != value }); i >= 0 {
		t.Fatalf("byte %d of %d is %d, want %d", i, len(b), b[i], value)
	}
}

// TestMemory goes through what wazero asks of a memory. sizes are in pages; -1 means that it must be refused.
func TestMemory(t *testing.T) {
	each(t, func(t *testing.T, o hakmemwazero.Options) {
		for _, c := range []struct {
			name          string
			capacity, max uint64
			sizes         []uint64 // in pages
			refused       []uint64 // after these
		}{
			{"it stays as it is", 1, 1, []uint64{1}, []uint64{2}},
			{"it grows", 1, 10, []uint64{1, 2, 5, 10}, []uint64{11, 1 << 30, 1 << 47}},
			{"it begins with nothing", 0, 3, []uint64{0, 1, 3}, []uint64{4}},
			{"it has nothing", 0, 0, []uint64{0}, []uint64{1}},
			{"it has room from the start", 8, 8, []uint64{1, 8}, []uint64{9}},
			{"the room is more than the max", 8, 2, []uint64{1, 2}, []uint64{3}},
			{"it becomes large", 1, 50, []uint64{1, 40, 41, 50}, []uint64{51}},
			{"it becomes shorter, and grows again", 1, 20, []uint64{10, 2, 10, 20}, []uint64{21}},
			{"the same size again", 1, 20, []uint64{3, 3, 3}, []uint64{21}},
			{"it begins with more than its max", 1, 2, []uint64{5, 3, 5}, []uint64{6}},
		} {
			for range 2 { // in memory that was used before, the second time
				m := hakmemwazero.New(o).Allocate(c.capacity*page, c.max*page)
				var b []byte
				for i, pages := range c.sizes {
					was, had := unsafe.SliceData(b), len(b)
					b = m.Reallocate(pages * page)
					if b == nil || len(b) != int(pages*page) || cap(b) != len(b) {
						t.Fatalf("%s: %d pages: nil: %t, len %d, cap %d", c.name, pages, b == nil, len(b), cap(b))
					}
					if i > 0 && !o.Moves && unsafe.SliceData(b) != was {
						t.Fatalf("%s: it moved at %d pages", c.name, pages)
					}
					kept := min(had, len(b))
					all(t, b[:kept], 0xAA)
					all(t, b[kept:], 0)
					fill(b, 0xAA)
				}
				for _, pages := range c.refused {
					if b := m.Reallocate(pages * page); b != nil {
						t.Errorf("%s: %d pages were not refused", c.name, pages)
					}
				}
				all(t, b, 0xAA)
				m.Free()
				m.Free()
			}
		}
		m := hakmemwazero.New(o).Allocate(page, page)
		m.Free() // before any Reallocate
		if text := panicOf(func() { m.Reallocate(page) }); !strings.Contains(text, "after Free") {
			t.Errorf("Reallocate after Free: panic %q", text)
		}
		if text := panicOf(func() { hakmemwazero.New(hakmemwazero.Options{Site: 1 << 15}) }); !strings.Contains(text, "site") {
			t.Errorf("a site that is not there: panic %q", text)
		}
	})
}

// TestReserve: a memory that may not move does not grow beyond its reserve, unless it begins with more.
func TestReserve(t *testing.T) {
	hakmemtest.NoLeaks(t)
	for _, c := range []struct {
		o               hakmemwazero.Options
		capacity, first uint64 // in pages
		most            uint64
	}{
		{hakmemwazero.Options{Reserve: 4 * page}, 1, 1, 4},
		{hakmemwazero.Options{Reserve: 4 * page}, 1, 6, 6},
		{hakmemwazero.Options{Reserve: 4 * page}, 9, 1, 9},
		{hakmemwazero.Options{Reserve: 1}, 0, 2, 2},
		{hakmemwazero.Options{Reserve: 4 * page, Moves: true}, 1, 1, 20},
		{hakmemwazero.Options{}, 1, 1, 20},
	} {
		m := hakmemwazero.New(c.o).Allocate(c.capacity*page, 20*page)
		for pages := c.first; pages <= 21; pages++ {
			if b := m.Reallocate(pages * page); (b != nil) != (pages <= c.most) {
				t.Errorf("%+v: %d pages, first %d, are given: %t", c, pages, c.first, b != nil)
			}
		}
		m.Free()
	}
}

func panicOf(f func()) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprint(v)
		}
	}()
	f()
	return ""
}

// TestModes runs the tests above with the settings under which blocks lie elsewhere.
func TestModes(t *testing.T) {
	if os.Getenv("HAKMEM_HARDEN") != "" || os.Getenv("HAKMEM_GUARD") != "" {
		t.Skip("skipped: the settings of this process are such settings already")
	}
	for _, setting := range []string{"HAKMEM_HARDEN=1", "HAKMEM_GUARD=1"} {
		c := exec.Command(os.Args[0], "-test.short", "-test.run=^(TestMemory|TestModule)$")
		c.Env = append(os.Environ(), setting)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", setting, err, out)
		}
	}
}

// binaryOf is a module with a memory, which it exports, and three functions: grow(pages) returns the former size in
// pages or -1, poke(address, value) and peek(address) write and read a byte. flags is 1 for a memory with a max,
// 3 for a shared one, and 0 for one without max.
func binaryOf(flags byte, first, most uint64) []byte {
	section := func(id byte, payload ...byte) []byte {
		return append(binary.AppendUvarint([]byte{id}, uint64(len(payload))), payload...)
	}
	export := func(name string, kind, index byte) []byte {
		return append(append([]byte{byte(len(name))}, name...), kind, index)
	}
	limits := binary.AppendUvarint([]byte{1, flags}, first)
	if flags != 0 {
		limits = binary.AppendUvarint(limits, most)
	}
	const i32, function, memory = 0x7f, 0, 2
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, 2, 0x60, 1, i32, 1, i32, 0x60, 2, i32, i32, 0), // types: i32 → i32; i32, i32 → nothing
		section(3, 3, 0, 1, 0), // the types of the functions
		section(5, limits...),
		section(7, slices.Concat([]byte{4}, export("memory", memory, 0), export("grow", function, 0), export("poke", function, 1), export("peek", function, 2))...),
		section(10, 3,
			6, 0, 0x20, 0, 0x40, 0, 0x0b, // local.get 0, memory.grow
			9, 0, 0x20, 0, 0x20, 1, 0x3a, 0, 0, 0x0b, // local.get 0, local.get 1, i32.store8
			7, 0, 0x20, 0, 0x2d, 0, 0, 0x0b, // local.get 0, i32.load8_u
		))
}

// engines are wazero's two ways to run a module.
var engines = map[string]wazero.RuntimeConfig{
	"interpreter": wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(api.CoreFeaturesV2 | experimental.CoreFeaturesThreads),
	"best":        wazero.NewRuntimeConfig().WithCoreFeatures(api.CoreFeaturesV2 | experimental.CoreFeaturesThreads),
}

// instance is a module that runs.
type instance struct {
	t *testing.T
	api.Module
}

// call calls one of its functions.
func (m instance) call(name string, args ...uint64) uint64 {
	m.t.Helper()
	results, err := m.ExportedFunction(name).Call(context.Background(), args...)
	if err != nil {
		m.t.Fatalf("%s%v: %v", name, args, err)
	}
	if len(results) == 0 {
		return 0
	}
	return results[0]
}

const failed = 1<<32 - 1 // memory.grow returns -1

// TestModule runs a module that makes its memory grow and uses it.
func TestModule(t *testing.T) {
	for engine, config := range engines {
		t.Run(engine, func(t *testing.T) {
			each(t, func(t *testing.T, o hakmemwazero.Options) {
				ctx := experimental.WithMemoryAllocator(context.Background(), hakmemwazero.New(o))
				r := wazero.NewRuntimeWithConfig(ctx, config)
				defer func() {
					if err := r.Close(ctx); err != nil {
						t.Error(err)
					}
				}()
				for _, flags := range []byte{1, 3} {
					if flags == 3 && o.Moves {
						continue // a shared memory must not move
					}
					compiled, err := r.Instantiate(ctx, binaryOf(flags, 1, 40))
					if err != nil {
						t.Fatal(err)
					}
					m := instance{t, compiled}
					view, ok := m.Memory().Read(0, page)
					if !ok || !hakmem.Owns(unsafe.Pointer(&view[0])) {
						t.Fatal("the memory is not in hakmem")
					}
					for pages := uint64(1); pages < 40; pages++ {
						at := pages*page - 1
						m.call("poke", at, pages)
						if was := m.call("grow", 1); was != pages {
							t.Fatalf("at %d pages grow returns %d", pages, int32(was))
						}
						for _, address := range []uint64{at, at + 1, at + page} {
							want := uint64(0)
							if address == at {
								want = pages
							}
							if got := m.call("peek", address); got != want {
								t.Fatalf("byte %d of %d pages is %d, want %d", address, pages+1, got, want)
							}
						}
					}
					if got := m.call("grow", 1); got != failed {
						t.Errorf("beyond the max grow returns %d, want -1", int32(got))
					}
					if _, err := m.ExportedFunction("peek").Call(ctx, 40*page); err == nil {
						t.Error("a byte behind the memory was read")
					}
					if !o.Moves {
						if view[page-1] != 1 {
							t.Errorf("what was read from the memory at first now shows %d, want 1", view[page-1])
						}
					}
					b := []byte("from outside")
					if !m.Memory().Write(40*page-uint32(len(b)), b) {
						t.Error("Write at the end is refused")
					}
					if got, ok := m.Memory().Read(40*page-uint32(len(b)), uint32(len(b))); !ok || !bytes.Equal(got, b) {
						t.Errorf("at the end there is %q", got)
					}
					if flags == 1 { // the other one is closed with the runtime
						if err := m.Close(ctx); err != nil {
							t.Error(err)
						}
					}
				}
			})
		})
	}
}

// TestLimited: a memory whose max is more than there is gets less, and grows as far as that; and a module whose first size
// is more than there is does not take the process with it.
func TestLimited(t *testing.T) {
	for name, o := range variants {
		t.Run(name, func(t *testing.T) {
			hakmem.Trim() // what others have freed is no room for it
			soft, hard, err := hakmem.SwapMemoryLimit(0, hakmem.Counted()+(64<<20))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if _, _, err := hakmem.SwapMemoryLimit(soft, hard); err != nil {
					t.Error(err)
				}
			}()
			ctx := experimental.WithMemoryAllocator(context.Background(), hakmemwazero.New(o))
			r := wazero.NewRuntimeWithConfig(ctx, engines["interpreter"])
			defer r.Close(ctx)
			module, err := r.Instantiate(ctx, binaryOf(0, 1, 0)) // up to 4 GiB
			if err != nil {
				t.Fatal(err)
			}
			m := instance{t, module}
			grown := 0
			for ; m.call("grow", 16) != failed; grown++ {
				m.call("poke", uint64(grown)*16*page, 1)
			}
			if grown < 8 || grown > 64 {
				t.Errorf("with 64 MiB, the memory grew %d times by 1 MiB", grown)
			}
			if got := m.call("peek", uint64(grown-1)*16*page); got != 1 {
				t.Errorf("after a refused grow, what was written is %d, want 1", got)
			}
			if text := panicOf(func() {
				if _, err := r.InstantiateWithConfig(ctx, binaryOf(1, 2048, 2048), wazero.NewModuleConfig().WithName("large")); err != nil {
					panic(err)
				}
			}); text == "" {
				t.Error("128 MiB at once were not refused")
			}
		})
	}
	if err := hakmem.CheckInvariants(); err != nil {
		t.Error(err)
	}
}

// TestConcurrent: many modules are made, used and closed at the same time, over one allocator.
func TestConcurrent(t *testing.T) {
	each(t, func(t *testing.T, o hakmemwazero.Options) {
		ctx := experimental.WithMemoryAllocator(context.Background(), hakmemwazero.New(o))
		r := wazero.NewRuntimeWithConfig(ctx, engines["best"])
		defer r.Close(ctx)
		compiled, err := r.CompileModule(ctx, binaryOf(1, 1, 64))
		if err != nil {
			t.Fatal(err)
		}
		rounds := 20
		if testing.Short() {
			rounds = 5
		}
		var workers sync.WaitGroup
		for worker := range uint64(4) {
			workers.Go(func() {
				for range rounds {
					module, err := r.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName(""))
					if err != nil {
						t.Error(err)
						return
					}
					m := instance{t, module}
					for pages := uint64(1); pages < 16; pages++ {
						m.call("poke", pages*page-1, worker)
						m.call("grow", 1)
						if got := m.call("peek", pages*page-1); got != worker {
							t.Errorf("worker %d reads %d", worker, got)
						}
					}
					module.Close(ctx)
				}
			})
		}
		workers.Wait()
	})
}

// leave makes a memory, and closes it or drops it.
//
//go:noinline
func leave(free bool) {
	m := hakmemwazero.New(hakmemwazero.Options{}).Allocate(page, 2*page)
	m.Reallocate(page)
	if free {
		m.Free()
	}
}

// TestDropped: a memory that was dropped is counted with the place that made it; one that was freed is not.
func TestDropped(t *testing.T) {
	leave(true)
	runtime.GC()
	leave(false)
	for deadline := time.Now().Add(time.Minute); hakmemwazero.ReadDropped().Memories == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the dropped memory was not noticed")
		}
		runtime.GC()
	}
	if d := hakmemwazero.ReadDropped(); d.Memories != 1 || d.Bytes != 2*page || !strings.Contains(d.First, "leave") || !strings.Contains(d.First, "memory_test.go:") {
		t.Errorf("%+v, want 1 with %d bytes, made by leave", d, 2*page)
	}
}
