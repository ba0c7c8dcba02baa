// Package grpcbuffers is a BufferPool of google.golang.org/grpc/mem in hakmem's memory. It is dangerous, and only for programs
// whose owners have read what follows:
//
//	pool := grpcbuffers.New(grpcbuffers.Options{})
//	server := grpc.NewServer(experimental.BufferPool(pool))
//	client, err := grpc.NewClient(target, experimental.WithBufferPool(pool))
//
// # What is dangerous
//
// With the pools that come with gRPC a buffer that is never put back is garbage like any other, and one that is put back
// too early is at worst another message's. Here both are errors of manual memory:
//
//   - A message that outlives its buffer is read after its free. A codec that keeps parts of what it is given, instead of
//     copying them, makes such messages; the one for protocol buffers copies, unless lazy decoding or a vtprotobuf-like
//     generator with unsafe strings is used. HAKMEM_GUARD=1/100 makes one in a hundred such reads fault.
//   - A buffer that is never put back stays. gRPC puts back what it has read and written, but paths that end with an error,
//     interceptors and codecs of others may not. The pool counts such buffers when the collector finds that nobody has
//     them (Stats.Lost) and calls Options.OnLost. It frees them only with Options.FreeLost, because a part of the
//     buffer may still be in use where the collector does not look.
//
// Buffers of up to 1 KiB are of the Go heap: gRPC never puts them back. So are those for which hakmem has no memory.
//
// The package needs nothing of gRPC, because the interface has no types of its own. It was tried with v1.85.0, where all of
// it is experimental.
package grpcbuffers

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// goHeapSize is the length in bytes up to which buffers are of the Go heap. mem.NewBuffer keeps a slice of that
// capacity without its pool.
const goHeapSize = 1 << 10

// Options says how a Pool works.
type Options struct {
	// Site labels the buffers in hakmem's statistics. 0 is the site "grpcbuffers".
	Site hakmem.Site
	// OnLost is called for each buffer of which the collector finds that nobody can put it back any more, with the number
	// of its bytes. It runs in the runtime's goroutine for cleanups, and must not block.
	OnLost func(size int)
	// FreeLost says that such buffers are freed. What still uses a part of one then reads another's memory.
	FreeLost bool
}

// Pool is a mem.BufferPool of gRPC. Any goroutine may call its methods at any time.
type Pool struct {
	options Options
	site    func() hakmem.Site

	out sync.Map // the address of each buffer that is out → its *buffer

	gets, puts, ignored, lost, goHeap atomic.Uint64
	live                              atomic.Int64
}

// buffer is a buffer that is out.
type buffer struct {
	memory unsafe.Pointer
	size   int
	lost   runtime.Cleanup
}

// ourSite is registered by the first buffer, so that a program may make a Pool and then configure hakmem.
var ourSite = sync.OnceValue(func() hakmem.Site { return hakmem.RegisterSite("grpcbuffers") })

// New returns a Pool. It panics for a site that [hakmem.RegisterSite] did not return.
func New(o Options) *Pool {
	p := &Pool{options: o, site: ourSite}
	if o.Site != 0 {
		hakmem.ReadSiteRule(o.Site) // it panics for a site that is not registered
		p.site = func() hakmem.Site { return o.Site }
	}
	return p
}

// Get returns a zeroed buffer with len = cap = length. The caller owns it until Put. A negative length panics.
func (p *Pool) Get(length int) *[]byte {
	if length < 0 {
		panic(fmt.Sprintf("grpcbuffers: Get(%d): lengths are not negative", length))
	}
	p.gets.Add(1)
	var memory unsafe.Pointer
	if length > goHeapSize {
		memory = hakmem.MallocAt(p.site(), uintptr(length))
	}
	if memory == nil {
		p.goHeap.Add(1)
		b := make([]byte, length)
		return &b
	}
	b := unsafe.Slice((*byte)(memory), length)
	clear(b)
	entry := &buffer{memory: memory, size: length}
	head := &b
	entry.lost = runtime.AddCleanup(head, p.lose, entry)
	p.out.Store(uintptr(memory), entry)
	p.live.Add(int64(length))
	return head
}

// Put takes back a buffer that Get returned. b need not be the same pointer; the slice must begin where it began then. The slice that b
// points to becomes nil, so that a caller that uses it afterwards finds nothing. Every other slice is ignored, and left to
// the collector: gRPC puts back slices that were moved to the Go heap by an append.
func (p *Pool) Put(b *[]byte) {
	if b == nil || cap(*b) == 0 {
		return
	}
	entry, ours := p.out.LoadAndDelete(uintptr(unsafe.Pointer(unsafe.SliceData(*b))))
	if !ours {
		p.ignored.Add(1)
		return
	}
	*b = nil
	p.puts.Add(1)
	entry.(*buffer).lost.Stop()
	p.free(entry.(*buffer))
}

// free gives the memory of a buffer that is not out any more back.
func (p *Pool) free(b *buffer) {
	p.live.Add(-int64(b.size))
	hakmem.Free(b.memory)
}

// lose is called when the slice that Get returned is garbage. Its buffer may have been put back by a copy of the slice,
// and its memory may be another buffer's since.
func (p *Pool) lose(b *buffer) {
	if !p.out.CompareAndDelete(uintptr(b.memory), b) {
		return
	}
	p.lost.Add(1)
	if p.options.FreeLost {
		p.free(b)
	}
	if p.options.OnLost != nil {
		p.options.OnLost(b.size)
	}
}

// Stats is what became of a Pool's buffers.
type Stats struct {
	// Gets is the number of buffers that Get returned, GoHeap of how many of them the Go heap is the owner.
	Gets, GoHeap uint64
	// Puts is the number of buffers of hakmem that were put back, Ignored that of other slices.
	Puts, Ignored uint64
	// Lost is the number of buffers that nobody can put back any more.
	Lost uint64
	// LiveBytes is the memory of hakmem's buffers that are out, or lost and not freed, in bytes.
	LiveBytes int64
}

// Stats returns the statistics. Any goroutine may call it.
func (p *Pool) Stats() Stats {
	return Stats{Gets: p.gets.Load(), GoHeap: p.goHeap.Load(), Puts: p.puts.Load(), Ignored: p.ignored.Load(), Lost: p.lost.Load(), LiveBytes: p.live.Load()}
}
