package hakmem

import (
	"fmt"
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
)

// Site is the label of an allocation's purpose, made by RegisterSite.
type Site uint32

// RegisterSite returns the site called name: the same name gives the same site.
// There can be 65,535 of them; beyond that it returns 0, which is no site. Any
// goroutine.
func RegisterSite(name string) Site { return Site(site.Register(name)) }

// MallocAt is Malloc for a site: the block counts as alive under the site in
// ReadStats until it is freed. It costs a few tens of nanoseconds more than
// Malloc, and so does the block's Free. Site 0 is no site; it panics for one that
// RegisterSite did not return, and returns nil when memory is out. Any goroutine.
func MallocAt(s Site, size uintptr) unsafe.Pointer {
	if s != 0 && !site.ID(s).Known() {
		panic(fmt.Sprintf("hakmem: MallocAt: site %d was not registered: use the result of RegisterSite", s))
	}
	return handOut('a', engine.MallocAt(site.ID(s), mem.Bytes(size)), mem.Bytes(size), 0)
}
