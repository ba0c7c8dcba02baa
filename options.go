package hakmem

import (
	"errors"
	"maps"
	"strconv"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/policy"
)

// Toggle is an option that is on, off, or left to the environment or the mode.
type Toggle uint8

// The values of a Toggle.
const (
	ToggleDefault Toggle = iota
	ToggleOn
	ToggleOff
)

// Options has a field for every setting except HAKMEM_TRACE, for which there is StartTrace,
// HAKMEM_POLICY, for which there is ImportPolicy, and HAKMEM_POLICY_EXPORT, for which there is
// ExportPolicy. A zero field leaves the setting to its environment variable, else to the mode, else to its
// default. A number of -1 sets the setting to 0. The last line of each comment names the variable,
// the default and the range; "hakmem env" prints the values in force. docs/tuning.md says which
// settings help against which symptom. Limits that SetMemoryLimit has set, before Configure or
// after, override MemorySoft and MemoryHard.
type Options struct {
	// Mode is a set of values for the other settings; each of them can still be set on its own.
	// minimal keeps few free blocks in magazines, fast keeps many and commits memory in larger
	// steps. learning is balanced with Evo auto; research is balanced with Elo real.
	//
	// HAKMEM_MODE; default balanced, one of minimal, fast, balanced, learning, research.
	Mode string

	// FastSection selects the fast section: Malloc and Free find the current P without pinning
	// it. Where it is off or the build has none, each call pins its P, which takes about half as
	// long again. There is no danger in either: the fast section is verified when the program
	// starts.
	//
	// HAKMEM_FAST_SECTION; default on, on or off.
	FastSection Toggle

	// MagBlocks is the most blocks that a magazine of a class up to 1 KiB may hold once it has
	// grown; it starts with 127 at most. Fewer blocks leave more memory to other classes and
	// goroutines, and more of the calls take a slow path.
	//
	// HAKMEM_MAG_BLOCKS; default 1023, from 2 to 1023 blocks.
	MagBlocks int

	// MagBytes is the byte budget with which a magazine of a class up to 1 KiB starts; it holds
	// two blocks in any case. A smaller budget limits the larger of these classes first. With
	// 32 KiB instead of the default, workloads of 256 B to 1 KiB lose up to a tenth of their
	// speed, and a front saves 0.5 MiB at most.
	//
	// HAKMEM_MAG_BYTES; default 64 KiB, from 0 to 1 GiB.
	MagBytes int

	// MagMidBlocks is the most blocks that a magazine of a class from 1 KiB to 32 KiB may hold
	// once it has grown. Fewer blocks take less memory, and more of the calls take a slow path.
	//
	// HAKMEM_MAG_MID_BLOCKS; default 127, from 2 to 127 blocks.
	MagMidBlocks int

	// MagMidBytes is the byte budget with which a magazine of a class from 1 KiB to 32 KiB
	// starts; it holds two blocks in any case. A budget of 1 MiB makes programs of such sizes
	// faster by some percent, at the price of up to 1 MiB for each class and front.
	//
	// HAKMEM_MAG_MID_BYTES; default 128 KiB, from 0 to 1 GiB.
	MagMidBytes int

	// MagGrowBytes is the byte budget to which a magazine of a class up to 32 KiB grows when it
	// runs full and empty in turns. Growth halves the time of programs that allocate and free
	// thousands of blocks in turns. It costs up to this much memory for each class and front; 0
	// lets no magazine grow.
	//
	// HAKMEM_MAG_GROW_BYTES; default 512 KiB, from 0 to 1 GiB.
	MagGrowBytes int

	// MagLargeBytes is the byte budget of a magazine of a class from 32 KiB to 2 MiB; it holds one
	// block in any case. An allocation that a magazine serves takes 4 ns, one of free pages 100.
	// The price is memory that waits in each front: up to this much for each of these classes.
	//
	// HAKMEM_MAG_LARGE_BYTES; default 2 MiB, from 0 to 1 GiB.
	MagLargeBytes int

	// SharedSlots is how many freed blocks of each class from 32 KiB to 2 MiB are kept for all
	// goroutines when the magazines are full. More slots help goroutines that free what others
	// allocate; each slot may hold a block, with its memory, until it has not been wanted for a
	// while (see DecayMs).
	//
	// HAKMEM_SHARED_SLOTS; default 16, from 0 to 16 blocks.
	SharedSlots int

	// WMax is by how many times a cached block from 32 KiB to 2 MiB may be larger than the request that it
	// serves, if its own class has none: fewer blocks are made of free pages then, and those that serve
	// smaller requests hold more memory than these asked for. UsableSize says how much. With auto the
	// factor is learnt.
	//
	// HAKMEM_W_MAX; default 1, one of 1, 1.25, 1.5, 1.75, auto.
	WMax string

	// HugeCacheBytes is the largest block above 2 MiB that is cached when it is freed, until another one is
	// freed or wanted. An allocation of exactly its size takes it as it is, in a tenth of the time. 0
	// switches the cache off: each huge block is made of free pages.
	//
	// HAKMEM_HUGE_CACHE_BYTES; default 256 MiB, from 0 to 1 TiB.
	HugeCacheBytes int

	// CacheBudget is how many bytes of free blocks magazines, leased slabs and the shared slots
	// together should hold at most. If they hold more, those get less room that save the least work
	// for their memory. Each keeps a few blocks, also where the budget is smaller than that. 0 leaves
	// 12 MiB and 128 KiB for each P and Heap in use, at most 4 MiB for each, or a 16th of the memory in
	// use if that is more.
	//
	// HAKMEM_CACHE_BUDGET; default 0, from 0 to 1 TiB.
	CacheBudget int

	// Keep says for how long free memory is kept before it is given back to the operating system:
	// with auto for as long as pays, which is learnt from how long memory waited until it was used
	// again; with never not at all; or for a fixed time, such as 500ms, of up to an hour. With always
	// only Trim gives memory back, and allocations near a memory limit. always avoids page faults after
	// a pause of any length, and the process stays as large as it ever was.
	//
	// HAKMEM_KEEP; default auto, one of auto, always, never.
	Keep string

	// MemoryPrice is what a GiB of memory that is held for a second costs, in seconds of CPU time. With
	// Keep auto, memory is kept for as long as it costs less than to return it and to fault it in again.
	// A higher price returns memory sooner; 0.01 is for programs to which latency matters more.
	//
	// HAKMEM_MEMORY_PRICE; default 0.1, from 0.001 to 100.
	MemoryPrice float64

	// Evo says when hakmem learns hold times, lanes and block sizes: with learn at all times, with frozen not at all, so
	// that what a policy file says is used (see ImportPolicy), and with auto until what is learnt has
	// settled, which takes three minutes at least, and again when it no longer fits. With off, nothing that
	// was learnt is used: free memory is kept for the time for which that costs as much as to return it and
	// to fault it in again.
	//
	// HAKMEM_EVO; default learn, one of off, learn, frozen, auto.
	Evo string

	// Elo says what becomes of twelve strategies that are rated as chess players are: hold times a quarter,
	// half, once or twice as long, with half, once or twice the memory in caches. With shadow they are only
	// compared by what they would have cost; with leader the best rated one is in force; and with real they
	// are used in turns, two at a time, which is for research.
	//
	// HAKMEM_ELO; default shadow, one of shadow, leader, real.
	Elo string

	// Touch says how memory comes to blocks from 64 KiB to 64 MiB that are made of pages without memory: with
	// a page fault for each OS page when the program touches it, with one call of the system for a whole
	// block, which takes about half of the time and also brings memory that is not used, or in the same way
	// with huge pages, of which all 2 MiB come. auto tries these on some blocks, of each size and each site,
	// and uses what takes least time for what the program really touches. Near a memory limit nothing comes
	// before it is touched.
	//
	// HAKMEM_TOUCH; default fault, one of fault, auto, populate, huge.
	Touch string

	// DecayMs is the unit of the scavenger's times: of how long caches and magazines must be idle,
	// and of the hold times of Keep auto. With a tenth of it, everything goes back ten times as fast. A
	// page that is soon faulted in again costs more than a hundred allocations.
	//
	// HAKMEM_DECAY_MS; default 2200, from 1 to 16777216 milliseconds.
	DecayMs int

	// THP is what hakmem asks of the operating system about transparent huge pages: never, always,
	// or, with auto, nothing. With always a growing heap has a fraction of the page faults, and
	// large heaps are faster where the system has huge pages at hand. The price is memory: the
	// system may fill again what was returned. canary asks for nothing either, and makes huge pages of
	// slabs that have been in use as a whole for a minute, first of a part of them, and of the others if
	// the process then takes less CPU time for each slow path, which need not say how fast the program is.
	//
	// HAKMEM_THP; default auto, one of never, auto, always, canary.
	THP string

	// MemorySoft is the number of bytes of memory near which the scavenger keeps nothing; 0 is no
	// limit. It is SetMemoryLimit's soft limit from the start on. A limit that the program needs
	// all the time costs page faults, since whatever is freed is returned. The variable may also be
	// cgroup or a share such as 60%, as that of MemoryHard.
	//
	// HAKMEM_MEMORY_SOFT; default 0, from 0 to 1 TiB.
	MemorySoft int

	// MemoryHard is the number of bytes of memory beyond which allocations fail; 0 is no limit, and
	// else it is at least 2 MiB. It is SetMemoryLimit's hard limit from the start on. A program
	// that comes near it must expect nil from Malloc and a panic from Alloc, New and MakeSlice. The
	// variable may also be a share of the container's limit (ContainerLimit): 80%, or cgroup for 85%.
	//
	// HAKMEM_MEMORY_HARD; default 0, from 0 to 1 TiB.
	MemoryHard int

	// Guard is N when one in N blocks is to lie between pages that fault, which finds accesses
	// next to the block and after its free; 0 is none, 1 is every block. The variable is spelled
	// 1/N. A rate of 1/5000 makes a program slower by 2 %; with 1 each block takes some 16 µs, and
	// two OS pages or more.
	//
	// HAKMEM_GUARD; default 0, from 0 to 1099511627776.
	Guard int

	// Sites says which blocks have a site: with names those that the program allocates with one (MallocAt); with
	// pc also one in 64 of the others, or one in N with pc/N, whose site is named after the function and the line
	// that called hakmem. With pc an allocation takes some 24 ns more and a call of a Heap, which has no fast
	// paths then, 80 ns; with pc/1 an allocation takes 0.9 µs more.
	//
	// HAKMEM_SITES; default names, one of names, pc.
	Sites string

	// ProfileRate is how many bytes are allocated, on average, from one sample of the profile of allocations to the
	// next; package hakmempprof writes that profile. 0 is no profile, and 524288 is the rate of Go's own. With 1
	// each block is a sample, and the profile is exact. While there is a profile, each call of a Heap takes the slow
	// path, where it is counted.
	//
	// HAKMEM_PROFILE_RATE; default 0, from 0 to 1099511627776 bytes.
	ProfileRate int

	// Harden finds writes behind any block and, up to 4 MiB, after its free. Each call takes about
	// six times as long, every block is 16 bytes larger, and freed blocks wait in a quarantine of
	// up to 16 MiB for each front.
	//
	// HAKMEM_HARDEN; default off, on or off.
	Harden Toggle

	// Timing counts the processor's cycles in the phases of the slow paths, for Stats.Timing. A
	// phase then reads the cycle counter twice; the fast paths are as fast as before.
	//
	// HAKMEM_TIMING; default off, on or off.
	Timing Toggle

	// Refill is the most blocks that an empty magazine gets from its slab at once, and up to four
	// times as many where the magazine has grown. More blocks save slow paths: 64 is 8 % faster
	// than 32 in a heap of 100,000 blocks. They are also blocks that no other front can use.
	//
	// HAKMEM_REFILL; default 64, from 1 to 127 blocks.
	Refill int

	// Batch says whether Refill and EmptyScanLimit hold as they are, or whether half of them, they
	// themselves or twice as much is used: whichever is learnt to cost least, for refills of blocks up to 1,
	// 8 and 32 KiB and for searches. What that can bring is a percent or two of a program's time.
	//
	// HAKMEM_BATCH; default fixed, one of fixed, auto.
	Batch string

	// EmptyReuse lets a class take the pages of another class's EMPTY slabs, which have no block
	// in use. Off, a heap whose sizes change needs new memory until the scavenger has taken these
	// pages back.
	//
	// HAKMEM_EMPTY_REUSE; default on, on or off.
	EmptyReuse Toggle

	// EmptyFirst takes EMPTY slabs of the class before its partly free ones. Allocation is then
	// spread over more slabs: in a heap of 100,000 blocks this is 7 % slower, and fewer slabs
	// become EMPTY.
	//
	// HAKMEM_EMPTY_FIRST; default off, on or off.
	EmptyFirst Toggle

	// EmptyScanLimit bounds one search for EMPTY slabs: how many superslabs it looks at for those
	// of other classes, and how many slabs of its own class. A longer search finds more memory to
	// reuse and makes the slow path that searches slower.
	//
	// HAKMEM_EMPTY_SCAN_LIMIT; default 16, from 1 to 1048576.
	EmptyScanLimit int

	// EmptyMinKeep is the number of partly free slabs that a class must have before others may
	// take its EMPTY ones. More of them save a class from formatting slabs again, and leave memory
	// unused in classes that need it no longer.
	//
	// HAKMEM_EMPTY_MIN_KEEP; default 0, from 0 to 1048576 slabs.
	EmptyMinKeep int

	// CommitMin is the first step in which address space is made usable; the steps double up to
	// CommitMax. A larger step saves system calls while a heap grows. It takes no memory until
	// blocks are touched, except where the system charges for what is committed (Windows, or Linux
	// with vm.overcommit_memory=2).
	//
	// HAKMEM_COMMIT_MIN; default 2 MiB, from 2 MiB to 4 GiB.
	CommitMin int

	// CommitMax is the largest such step. It gives way to a CommitMin that is larger, but must not
	// be set below it.
	//
	// HAKMEM_COMMIT_MAX; default 64 MiB, from 2 MiB to 4 GiB.
	CommitMax int

	// RegionBytes is the address range for all blocks, the most that can ever be allocated. The
	// default is reserved as it is needed; a range that is set, as a whole by the first allocation.
	// A reservation takes no memory, but counts against a limit on address space (ulimit -v). If the
	// whole cannot be reserved, Err reports it, and the range is reserved as it is needed.
	//
	// HAKMEM_REGION_BYTES; default 1 TiB (2 GiB with hakmem_racetrack), from 256 MiB to 1 TiB.
	RegionBytes int

	// Dyn says which block sizes between 1 KiB and 32 KiB there are besides those an eighth of a doubling
	// apart. With auto hakmem adds two at most, where many blocks of a size such as 4112 bytes would each
	// be an eighth larger than asked for; with off none. One or two sizes, such as 4224,16512, are added
	// by the first allocation, and no others are; each is a multiple of 128 bytes.
	//
	// HAKMEM_DYN; default auto, one of auto, off.
	Dyn string
}

// values returns the settings of o, spelled as the environment would.
func (o *Options) values() map[string]string {
	v := map[string]string{}
	number := func(name string, n int) {
		switch n {
		case 0:
		case -1:
			v[name] = "0"
		default:
			v[name] = strconv.Itoa(n)
		}
	}
	toggle := func(name string, t Toggle) {
		switch t {
		case ToggleDefault:
		case ToggleOn:
			v[name] = "1"
		case ToggleOff:
			v[name] = "0"
		default:
			v[name] = "Toggle(" + strconv.Itoa(int(t)) + ")" // refused by the setting
		}
	}
	for name, word := range map[string]string{"HAKMEM_MODE": o.Mode, "HAKMEM_KEEP": o.Keep, "HAKMEM_EVO": o.Evo, "HAKMEM_ELO": o.Elo, "HAKMEM_THP": o.THP, "HAKMEM_DYN": o.Dyn, "HAKMEM_W_MAX": o.WMax, "HAKMEM_BATCH": o.Batch, "HAKMEM_TOUCH": o.Touch, "HAKMEM_SITES": o.Sites} {
		if word != "" {
			v[name] = word
		}
	}
	toggle("HAKMEM_FAST_SECTION", o.FastSection)
	number("HAKMEM_MAG_BLOCKS", o.MagBlocks)
	number("HAKMEM_MAG_BYTES", o.MagBytes)
	number("HAKMEM_MAG_MID_BLOCKS", o.MagMidBlocks)
	number("HAKMEM_MAG_MID_BYTES", o.MagMidBytes)
	number("HAKMEM_MAG_GROW_BYTES", o.MagGrowBytes)
	number("HAKMEM_MAG_LARGE_BYTES", o.MagLargeBytes)
	number("HAKMEM_SHARED_SLOTS", o.SharedSlots)
	number("HAKMEM_HUGE_CACHE_BYTES", o.HugeCacheBytes)
	number("HAKMEM_CACHE_BUDGET", o.CacheBudget)
	if o.MemoryPrice != 0 {
		v["HAKMEM_MEMORY_PRICE"] = strconv.FormatFloat(o.MemoryPrice, 'f', -1, 64)
	}
	number("HAKMEM_DECAY_MS", o.DecayMs)
	number("HAKMEM_MEMORY_SOFT", o.MemorySoft)
	number("HAKMEM_MEMORY_HARD", o.MemoryHard)
	if number("HAKMEM_GUARD", o.Guard); o.Guard > 0 {
		v["HAKMEM_GUARD"] = "1/" + strconv.Itoa(o.Guard)
	}
	number("HAKMEM_PROFILE_RATE", o.ProfileRate)
	toggle("HAKMEM_HARDEN", o.Harden)
	toggle("HAKMEM_TIMING", o.Timing)
	number("HAKMEM_REFILL", o.Refill)
	toggle("HAKMEM_EMPTY_REUSE", o.EmptyReuse)
	toggle("HAKMEM_EMPTY_FIRST", o.EmptyFirst)
	number("HAKMEM_EMPTY_SCAN_LIMIT", o.EmptyScanLimit)
	number("HAKMEM_EMPTY_MIN_KEEP", o.EmptyMinKeep)
	number("HAKMEM_COMMIT_MIN", o.CommitMin)
	number("HAKMEM_COMMIT_MAX", o.CommitMax)
	number("HAKMEM_REGION_BYTES", o.RegionBytes)
	return v
}

// ErrConfigured is what Configure returns once hakmem has been used.
var ErrConfigured = errors.New("hakmem: Configure: the allocator is in use already: call it before the first allocation")

// configured has the values that Configure set so far, spelled as the environment would.
var configured struct {
	check.Mutex[check.Configured]
	set map[string]string
}

// Configure sets settings from the program. The fields of o win over the environment, and over
// those of an earlier Configure, whose other fields stay in force. It must be called before the
// first allocation; later it returns ErrConfigured. A value that a setting cannot use is an error
// that names it, and then nothing has changed. Any goroutine.
func Configure(o Options) error {
	configured.Lock()
	defer configured.Unlock()
	set := maps.Clone(configured.set)
	if set == nil {
		set = map[string]string{}
	}
	maps.Copy(set, o.values())
	s, errs := policy.Load(set)
	var bad []error
	for _, err := range errs {
		// Err reports what is wrong with the environment.
		var g *policy.SettingError
		if errors.As(err, &g) {
			if _, ours := set[g.Name]; ours {
				bad = append(bad, err)
			}
		}
	}
	if len(bad) > 0 {
		return errors.Join(bad...)
	}
	if !engine.Configure(func() { policy.Set(s, errs); chooseRoad() }) {
		return ErrConfigured
	}
	configured.set = set
	return nil
}
