package offheap_test

import (
	"bytes"
	"slices"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/offheap"
)

// ownerModel is an Owner and what it must have: the contents of each of its blocks.
type ownerModel struct {
	o      *offheap.Owner
	blocks map[unsafe.Pointer][]byte
	order  []unsafe.Pointer // of the blocks, for draws that are the same in each run
	freed  []unsafe.Pointer
}

func newOwnerModel(t *rapid.T) *ownerModel {
	site := rapid.SampledFrom([]hakmem.Site{0, hakmem.RegisterSite("proof/offheap owner")}).Draw(t, "site")
	return &ownerModel{o: offheap.NewOwner(offheap.OwnerOptions{Site: site}), blocks: map[unsafe.Pointer][]byte{}}
}

// fill notes a block of n bytes that has the first bytes of had, and writes to the others.
func (m *ownerModel) fill(t *rapid.T, p unsafe.Pointer, n int, had []byte) {
	b := unsafe.Slice((*byte)(p), n)
	kept := copy(make([]byte, n), had)
	same(t, "kept", b[:kept], had[:kept])
	seed := rapid.Byte().Draw(t, "byte")
	for i := kept; i < n; i++ {
		b[i] = seed + byte(i)
	}
	if m.blocks[p] != nil {
		t.Fatalf("%p is handed out twice", p)
	}
	m.blocks[p] = bytes.Clone(b)
	if m.blocks[p] == nil {
		m.blocks[p] = []byte{}
	}
	m.order = append(m.order, p)
}

func (m *ownerModel) pick(t *rapid.T) unsafe.Pointer {
	if len(m.order) == 0 {
		t.Skip("there is none")
	}
	return m.order[rapid.IntRange(0, len(m.order)-1).Draw(t, "which")]
}

func (m *ownerModel) drop(p unsafe.Pointer) {
	delete(m.blocks, p)
	m.order = slices.DeleteFunc(m.order, func(q unsafe.Pointer) bool { return q == p })
	m.freed = append(m.freed, p)
}

func (m *ownerModel) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"Malloc": func(t *rapid.T) {
			n := length(t)
			m.fill(t, m.o.Malloc(uintptr(n)), n, nil)
		},
		"Calloc": func(t *rapid.T) {
			n := length(t)
			m.fill(t, m.o.Calloc(uintptr(n), 1), n, make([]byte, n))
		},
		"AlignedAlloc": func(t *rapid.T) {
			n, align := length(t), uintptr(1)<<rapid.IntRange(0, 16).Draw(t, "align")
			p := m.o.AlignedAlloc(align, uintptr(n))
			if uintptr(p)%align != 0 {
				t.Fatalf("%p is not aligned to %d", p, align)
			}
			m.fill(t, p, n, nil)
		},
		"Realloc": func(t *rapid.T) {
			p, n := m.pick(t), length(t)
			had := m.blocks[p]
			q := m.o.Realloc(p, uintptr(n))
			m.drop(p)
			m.fill(t, q, n, had)
		},
		"Free": func(t *rapid.T) {
			p := m.pick(t)
			m.o.Free(p)
			m.drop(p)
		},
		"free some in a loop": func(t *rapid.T) {
			every := rapid.IntRange(1, 4).Draw(t, "every")
			for p := range m.o.All() { // in no order, so that the choice follows from what the block is like
				if len(m.blocks[p])%every == 0 {
					m.o.Free(p)
					m.drop(p)
				}
			}
		},
		"wrong pointers": func(t *rapid.T) {
			wrong := []unsafe.Pointer{unsafe.Pointer(new([64]byte))}
			if len(m.order) > 0 {
				wrong = append(wrong, unsafe.Add(m.pick(t), 1))
			}
			if len(m.freed) > 0 {
				wrong = append(wrong, m.freed[rapid.IntRange(0, len(m.freed)-1).Draw(t, "freed")])
			}
			mine := hakmem.Malloc(64)
			defer hakmem.Free(mine)
			for _, p := range append(wrong, mine) {
				if _, again := m.blocks[p]; again {
					continue
				}
				if e, instead := testkit.PanicAs[*hakmem.MisuseError](func() { m.o.Free(p) }); e == nil || e.Op != "Owner.Free" || m.o.Owns(p) {
					t.Fatalf("Free(%p): %v %s", p, e, instead)
				}
			}
		},
		"Trim": func(*rapid.T) { m.o.Trim() },
		"Close": func(t *rapid.T) {
			if rapid.IntRange(0, 9).Draw(t, "really") > 0 {
				t.Skip("not now")
			}
			m.o.Close()
			if e, _ := testkit.PanicAs[*hakmem.MisuseError](func() { m.o.Len() }); e == nil || e.Kind != "closed owner" {
				t.Fatalf("after Close: %v", e)
			}
			for p := range m.blocks {
				if hakmem.Owns(p) {
					t.Fatalf("%p is live after Close", p)
				}
			}
			*m = *newOwnerModel(t)
		},
		"": m.check,
	}
}

func (m *ownerModel) check(t *rapid.T) {
	total, n := uint64(0), 0
	for p, want := range m.blocks {
		if !m.o.Owns(p) {
			t.Fatalf("%p is not owned", p)
		}
		same(t, "block", unsafe.Slice((*byte)(p), len(want)), want)
		total += uint64(hakmem.UsableSize(p))
	}
	for p := range m.o.All() {
		if n++; m.blocks[p] == nil {
			t.Fatalf("All yields %p", p)
		}
	}
	if m.o.Len() != len(m.blocks) || n != len(m.blocks) || m.o.Bytes() != total {
		t.Fatalf("Len %d, Bytes %d, All yields %d, want %d blocks of %d bytes", m.o.Len(), m.o.Bytes(), n, len(m.blocks), total)
	}
}

func runOwner(t *rapid.T) {
	m := newOwnerModel(t)
	defer func() { m.o.Close() }()
	t.Repeat(m.actions())
}

func TestOwner(t *testing.T) {
	hakmemtest.NoLeaks(t)
	rapid.Check(t, runOwner)
}

// TestOwnerUnwatched is TestOwner without NoLeaks, so that calls take hakmem's fast paths.
func TestOwnerUnwatched(t *testing.T) {
	before := live()
	rapid.Check(t, runOwner)
	if n := live(); n != before {
		t.Errorf("%d live blocks, before %d", n, before)
	}
}
