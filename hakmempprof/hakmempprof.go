// Package hakmempprof writes a sampled profile of what a program allocates with hakmem, for go tool pprof and for
// whatever else reads Go's heap profile. Go's own profile does not have that memory: it lies outside the Go heap.
//
// The profile is off by default. One line turns it on, before the program first allocates with hakmem:
//
//	hakmem.Configure(hakmem.Options{ProfileRate: 512 << 10})
//
// and so does the variable HAKMEM_PROFILE_RATE=524288, without a change of the program. The rate is the mean number
// of bytes from one sample to the next, as runtime.MemProfileRate is for Go's heap; at 1 each block is a sample and the
// profile is exact. To see the profile of a program that serves HTTP:
//
//	http.Handle("GET /debug/pprof/hakmem", hakmempprof.Handler())
//
// and then go tool pprof http://localhost:6060/debug/pprof/hakmem. Importing this package registers nothing.
//
// # What is in it
//
// The types of the samples are those of Go's heap profile: alloc_objects and alloc_space count what was allocated
// since the program began, inuse_objects and inuse_space what of that is live. A sample has the stack of the call that
// allocated, from the first function that is not hakmem's on; the label bytes, which is the size of the blocks; and
// the label site for blocks of [hakmem.MallocAt]. Values are scaled to what the samples stand for. With a mean gap of R
// bytes, n live bytes are shown with a standard deviation of about √(n·R): of a GiB, at 512 KiB, 2 %.
//
// Blocks count with the bytes of their size class, as [hakmem.UsableSize] has them. Hardened ones (HAKMEM_HARDEN, -asan)
// count with what hardening adds, too. An [hakmem.Arena] counts with the pieces of memory that it takes. A
// [hakmem.Realloc] that moves a block, or changes its size where it is, counts as a free and an allocation; one that
// does neither counts as nothing.
//
// # Leaks
//
// [WriteLeaks] lists live blocks by where they were allocated, as text. With HAKMEM_PROFILE_RATE=1 and this line in main, a
// program says at its end what it forgot to free:
//
//	defer hakmempprof.WriteLeaks(os.Stderr)
package hakmempprof

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/profile"
	"github.com/hakmem/hakmem/internal/profile/proto"
	"github.com/hakmem/hakmem/internal/site"
)

// ErrOff is what this package returns if there is no profile.
var ErrOff = errors.New("hakmempprof: there is no profile: start the program with HAKMEM_PROFILE_RATE=524288, or call hakmem.Configure(hakmem.Options{ProfileRate: 512 << 10}) before it first allocates with hakmem")

// WriteProfile writes the profile as it is now to w, as a compressed profile.proto. It returns [ErrOff] if there is
// none, and otherwise the first error of w. It copies the counts while allocations wait that are samples, and writes
// when they no longer do. Any goroutine.
func WriteProfile(w io.Writer) error { return write(w, false) }

// WritePeakProfile is [WriteProfile] for the moment at which the samples stood for the most live bytes since the program
// began. alloc_objects and alloc_space are those of that moment, too.
func WritePeakProfile(w io.Writer) error { return write(w, true) }

// WriteHeldProfile writes a profile of memory that was freed and that hakmem still holds for what the program allocates next, by
// the stacks that had allocated it. It answers whose memory it is that a process has beyond what is live, which
// [hakmem.Trim] or a longer wait would return. The types of the samples are held_objects and held_space.
//
// It is an estimate. How many bytes are held of each size of blocks is known; above 32 KiB, of all sizes together. They
// are divided among the stacks whose sampled blocks of that size were freed last. A size of which no sample was
// freed yet is missing. Errors and concurrency are those of [WriteProfile]; it also takes the time of a [hakmem.ReadStats].
func WriteHeldProfile(w io.Writer) error {
	p, err := readHeld()
	if err != nil {
		return err
	}
	return p.Write(w)
}

// readHeld returns the profile of held memory.
func readHeld() (*proto.Profile, error) {
	p, err := newProfile()
	if err != nil {
		return nil, err
	}
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	live, free := 0.0, 0.0 // of all slabs
	for _, c := range s.Classes {
		live += float64(c.Size * c.Live)
		free += float64(c.Size * (c.Free + c.InMagazines))
	}
	// A part of what is free in slabs has no memory: it was returned, or never touched.
	there := 1.0
	if s.ResidentBy.Slabs > 0 && free > 0 {
		there = min(max(float64(s.ResidentBy.Slabs)-live, 0)/free, 1)
	}
	held := map[mem.Bytes]float64{0: float64(s.ResidentBy.LargeCached + s.ResidentBy.Free)}
	for _, c := range s.Classes {
		held[mem.Bytes(c.Size)] = there * float64(c.Size*(c.Free+c.InMagazines))
	}
	p.Held = engine.ReadHeld(func(size mem.Bytes) int64 { return int64(held[size]) })
	if p.Held == nil {
		p.Held = []profile.Held{} // nothing is held, or nothing was freed
	}
	return p, nil
}

func write(w io.Writer, atPeak bool) error {
	p, err := read(atPeak)
	if err != nil {
		return err
	}
	return p.Write(w)
}

// read returns the profile as it is now, or as it was at the peak.
func read(atPeak bool) (*proto.Profile, error) {
	p, err := newProfile()
	if err != nil {
		return nil, err
	}
	p.Samples = engine.ReadProfile(atPeak)
	return p, nil
}

// newProfile returns a profile of now in which nothing is counted yet.
func newProfile() (*proto.Profile, error) {
	rate := engine.ProfileRate()
	if rate <= 0 {
		return nil, ErrOff
	}
	return &proto.Profile{Rate: rate, SiteName: siteName, Program: program, Time: time.Now()}, nil
}

// program is the path of the program, for a profile to be recognized by. pprof needs some name here.
var program = func() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}()

func siteName(s site.ID) string {
	name, _, _ := site.Read(s)
	return name
}

// since returns what was counted from one reading to a later one.
func since(before, now *proto.Profile) *proto.Profile {
	p := *now
	p.Samples = profile.Since(before.Samples, now.Samples)
	p.Duration = now.Time.Sub(before.Time)
	return &p
}
