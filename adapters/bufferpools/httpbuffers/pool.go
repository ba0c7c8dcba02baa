// Package httpbuffers is a BufferPool of net/http/httputil in hakmem's memory:
//
//	proxy := &httputil.ReverseProxy{Rewrite: rewrite, BufferPool: httpbuffers.New(httpbuffers.Options{})}
//
// A ReverseProxy without a pool makes a buffer of 32 KiB on the Go heap for each response. Here a buffer exists for as
// long as a response is copied, and never on the Go heap. ReverseProxy puts each buffer back when the copy ends, however
// it ends, and does not use it afterwards, so there is nothing to take care of.
package httpbuffers

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// DefaultSize is what io.Copy and ReverseProxy use where they have no buffer, in bytes. It is the largest block that
// hakmem's magazines serve by the hundred.
const DefaultSize = 32 << 10

// Options says what buffers a Pool has.
type Options struct {
	// Size is the length of a buffer, in bytes. 0 is DefaultSize. The system reads and writes a network
	// connection in pieces of up to this length.
	Size int
	// Site labels the buffers in hakmem's statistics. 0 is the site "httpbuffers".
	Site hakmem.Site
}

// Pool is a BufferPool. Any goroutine may call its methods at any time.
type Pool struct {
	size int
	site func() hakmem.Site
}

// ourSite is registered by the first buffer, so that a program may make a Pool and then configure hakmem.
var ourSite = sync.OnceValue(func() hakmem.Site { return hakmem.RegisterSite("httpbuffers") })

// New returns a Pool. It panics if the size is negative, and for a site that [hakmem.RegisterSite] did not return.
func New(o Options) *Pool {
	if o.Size < 0 {
		panic(fmt.Sprintf("httpbuffers: Options.Size is %d: use 0 or the bytes of a buffer", o.Size))
	}
	p := &Pool{size: o.Size, site: ourSite}
	if o.Size == 0 {
		p.size = DefaultSize
	}
	if o.Site != 0 {
		hakmem.ReadSiteRule(o.Site) // it panics for a site that is not registered
		p.site = func() hakmem.Site { return o.Site }
	}
	return p
}

// Get returns a slice of Options.Size bytes with undefined contents. It is for the caller until Put. Where hakmem has no
// memory the slice is of the Go heap: a response is not worth less than a limit.
func (p *Pool) Get() []byte {
	b := hakmem.MallocAt(p.site(), uintptr(p.size))
	if b == nil {
		return make([]byte, p.size)
	}
	return unsafe.Slice((*byte)(b), p.size)
}

// Put takes back a slice that Get returned. It must begin where it began then; its length does not matter. A slice of
// the Go heap is left to the collector. A second Put panics with a *hakmem.MisuseError, as hakmem.Free does.
func (p *Pool) Put(b []byte) {
	if cap(b) == 0 || hakmem.Foreign(unsafe.Pointer(unsafe.SliceData(b))) {
		return
	}
	hakmem.FreeBytes(b)
}
