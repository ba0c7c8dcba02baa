// Package parquetbuffers is a BufferPool of github.com/parquet-go/parquet-go in hakmem's memory:
//
//	w := parquet.NewGenericWriter[Row](file, parquet.ColumnPageBuffers(parquetbuffers.New(parquetbuffers.Options{})))
//
// A parquet writer keeps the pages of each column in a buffer until a row group is complete. The pool that comes with
// parquet-go has chunks of 32 KiB on the Go heap, which a sync.Pool keeps until the collector has run. Here a buffer
// is outside the Go heap, grows with what is written to it, and gives its memory back when the writer puts it
// back. parquet-go promises that every buffer is put back, once, and not used afterwards.
//
// The package needs nothing of parquet-go, because the interface has no types of its own. It was tried with v0.32.0.
package parquetbuffers

import (
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/hakmem/hakmem"
)

// Options says what buffers a Pool has.
type Options struct {
	// Site labels the buffers in hakmem's statistics. 0 is the site "parquetbuffers".
	Site hakmem.Site
}

// Pool is a BufferPool of parquet-go. Any goroutine may call its methods at any time.
type Pool struct{ site func() hakmem.Site }

// ourSite is registered by the first buffer, so that a program may make a Pool and then configure hakmem.
var ourSite = sync.OnceValue(func() hakmem.Site { return hakmem.RegisterSite("parquetbuffers") })

// New returns a Pool. It panics for a site that [hakmem.RegisterSite] did not return.
func New(o Options) *Pool {
	if o.Site != 0 {
		hakmem.ReadSiteRule(o.Site) // it panics for a site that is not registered
		return &Pool{func() hakmem.Site { return o.Site }}
	}
	return &Pool{ourSite}
}

// GetBuffer returns an empty *Buffer. It has no memory until something is written. The caller owns it until PutBuffer.
func (p *Pool) GetBuffer() io.ReadWriteSeeker {
	b := &Buffer{rope: &rope{site: p.site()}}
	runtime.AddCleanup(b, (*rope).free, b.rope)
	return b
}

// PutBuffer gives the memory of a buffer back. From then on the buffer's methods return ErrPut. A second PutBuffer, and
// one of something else than a *Buffer, panics. A Buffer that nobody puts back is freed when the collector finds that
// nobody uses it.
func (p *Pool) PutBuffer(b io.ReadWriteSeeker) {
	ours, ok := b.(*Buffer)
	if !ok {
		panic(fmt.Sprintf("parquetbuffers: PutBuffer of a %T: put back what GetBuffer returned", b))
	}
	if ours.rope.put {
		panic("parquetbuffers: the buffer was put back already")
	}
	ours.rope.free()
	runtime.KeepAlive(ours)
}
