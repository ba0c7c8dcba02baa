package trace

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func compileText(t testing.TB, text string, o CompileOptions) *Tape {
	t.Helper()
	r, err := NewReader("t", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	tape, err := Compile(r, o)
	if err != nil {
		t.Fatal(err)
	}
	return tape
}

// op makes an Op in few words.
func op(kind Kind, thread, slot, seq uint32, size uint64) Op {
	return Op{Kind: kind, Thread: thread, Slot: slot, Seq: seq, Size: size}
}

func TestCompile(t *testing.T) {
	aligned := func(seq uint32, log uint8) Op {
		return Op{Kind: Memalign, Seq: seq, Size: 1, Align: log}
	}
	tests := []struct {
		name, text string // text is behind our header
		o          CompileOptions
		want       Tape
	}{
		{name: "nothing"},
		{
			name: "slots are recycled, the thread's own last first",
			text: "a 9 a 1\na 9 b 2\na 9 c 4\nf 9 b\nf 9 a\na 9 d 8\nf 9 c\na 9 e 16",
			want: Tape{Threads: 1, Slots: 3, PeakLive: 24, PeakBlocks: 3, Ops: []Op{
				op(Malloc, 0, 0, 0, 1), op(Malloc, 0, 1, 0, 2), op(Malloc, 0, 2, 0, 4),
				op(Free, 0, 1, 1, 0), op(Free, 0, 0, 1, 0), op(Malloc, 0, 0, 2, 8),
				op(Free, 0, 2, 1, 0), op(Malloc, 0, 2, 2, 16),
			}},
		},
		{
			name: "or the one that another emptied longest ago",
			text: "a 9 a 1\na 9 b 2\nf 8 a\nf 8 b\na 9 c 4\na 8 d 4",
			want: Tape{Threads: 2, Slots: 2, PeakLive: 8, PeakBlocks: 2, Ops: []Op{
				op(Malloc, 0, 0, 0, 1), op(Malloc, 0, 1, 0, 2), op(Free, 1, 0, 1, 0), op(Free, 1, 1, 1, 0),
				op(Malloc, 0, 0, 2, 4), op(Malloc, 1, 1, 2, 4),
			}},
		},
		{
			name: "all kinds",
			text: "z 1 a 100\ng 1 b 10 4096\nr 1 a 50 a\nr 1 c 200 a\nf 1 c\nd 1\nf 1 b",
			want: Tape{Threads: 1, Slots: 2, PeakLive: 210, PeakBlocks: 2, Ops: []Op{
				op(Calloc, 0, 0, 0, 100), {Kind: Memalign, Slot: 1, Size: 10, Align: 12},
				op(Realloc, 0, 0, 1, 50), op(Realloc, 0, 0, 2, 200), op(Free, 0, 0, 3, 0), op(Free, 0, 1, 1, 0),
			}},
		},
		{
			name: "threads folded",
			text: "a 5 a 1\na 6 b 1\na 7 c 1\nf 6 c\nd 7",
			o:    CompileOptions{Threads: 2},
			want: Tape{Threads: 2, Slots: 3, PeakLive: 3, PeakBlocks: 3, Ops: []Op{
				op(Malloc, 0, 0, 0, 1), op(Malloc, 1, 1, 0, 1), op(Malloc, 0, 2, 0, 1), op(Free, 1, 2, 1, 0),
			}},
		},
		{
			name: "one thread",
			text: "a 5 a 1\nf 6 a",
			o:    CompileOptions{Threads: 1},
			want: Tape{Threads: 1, Slots: 1, PeakLive: 1, PeakBlocks: 1, Ops: []Op{op(Malloc, 0, 0, 0, 1), op(Free, 0, 0, 1, 0)}},
		},
		{
			name: "threads without operations do not count",
			text: "d 4\nf 5 a\na 6 a 1",
			want: Tape{Threads: 1, Slots: 1, PeakLive: 1, PeakBlocks: 1, Ops: []Op{op(Malloc, 0, 0, 0, 1)}, Anomalies: Anomalies{UnknownFrees: 1}},
		},
		{
			name: "sizes clipped",
			text: "a 1 a 1001\nr 1 a 1000000 a\nz 1 b 1000",
			o:    CompileOptions{MaxSize: 1000},
			want: Tape{Threads: 1, Slots: 2, PeakLive: 2000, PeakBlocks: 2, Anomalies: Anomalies{ClippedSizes: 2}, Ops: []Op{
				op(Malloc, 0, 0, 0, 1000), op(Realloc, 0, 0, 1, 1000), op(Calloc, 0, 1, 0, 1000),
			}},
		},
		{
			name: "clipped to 1 GiB where nothing else is said",
			text: "a 1 a 18446744073709551615",
			want: Tape{Threads: 1, Slots: 1, PeakLive: 1 << 30, PeakBlocks: 1, Anomalies: Anomalies{ClippedSizes: 1}, Ops: []Op{op(Malloc, 0, 0, 0, 1<<30)}},
		},
		{
			name: "alignments",
			text: "g 1 a 1 8\nf 1 a\ng 1 a 1 2097152\nf 1 a\ng 1 a 1 0\nf 1 a\ng 1 a 1 24\nf 1 a\ng 1 a 1 18446744073709551615\nf 1 a",
			want: Tape{Threads: 1, Slots: 1, PeakLive: 1, PeakBlocks: 1, Anomalies: Anomalies{FixedAligns: 3}, Ops: []Op{
				aligned(0, 3), op(Free, 0, 0, 1, 0), aligned(2, 21), op(Free, 0, 0, 3, 0), aligned(4, 3), op(Free, 0, 0, 5, 0),
				aligned(6, 5), op(Free, 0, 0, 7, 0), aligned(8, 21), op(Free, 0, 0, 9, 0),
			}},
		},
		{
			name: "operations cut, in the middle of a repair",
			text: "a 1 a 1\na 2 a 2\na 3 b 4",
			o:    CompileOptions{MaxOps: 2},
			want: Tape{Threads: 2, Slots: 1, PeakLive: 1, PeakBlocks: 1, Anomalies: Anomalies{LostFrees: 1}, Ops: []Op{op(Malloc, 0, 0, 0, 1), op(Free, 1, 0, 1, 0)}},
		},
		{
			name: "failed and nil",
			text: "a 1 0 10\nz 1 0 10\ng 1 0 10 64\nf 1 0\na 1 a 5\nr 1 0 100 a\nr 1 0 7 0\nr 1 0 7 9\nr 1 0 0 0",
			want: Tape{Threads: 1, Slots: 1, PeakLive: 5, PeakBlocks: 1, Anomalies: Anomalies{FailedAllocs: 7, NilFrees: 1}, Ops: []Op{op(Malloc, 0, 0, 0, 5)}},
		},
		{
			name: "never seen",
			text: "f 1 a\nr 1 b 10 c\nr 1 d 20 0\nr 1 0 0 e\nf 1 b\nf 1 b",
			want: Tape{Threads: 1, Slots: 2, PeakLive: 30, PeakBlocks: 2, Anomalies: Anomalies{UnknownFrees: 3, NilReallocs: 1, UnknownReallocs: 1}, Ops: []Op{
				op(Malloc, 0, 0, 0, 10), op(Malloc, 0, 1, 0, 20), op(Free, 0, 0, 1, 0),
			}},
		},
		{
			name: "reallocated to nothing",
			text: "a 1 a 5\nr 1 b 0 a\nr 1 0 0 b\nf 1 b",
			want: Tape{Threads: 1, Slots: 1, PeakLive: 5, PeakBlocks: 1, Anomalies: Anomalies{ZeroReallocs: 2, UnknownFrees: 1}, Ops: []Op{
				op(Malloc, 0, 0, 0, 5), op(Realloc, 0, 0, 1, 1), op(Free, 0, 0, 2, 0),
			}},
		},
		{
			name: "allocated again",
			text: "a 1 a 5\nz 2 a 6\na 2 b 1\nr 2 a 7 b\nf 1 a",
			want: Tape{Threads: 2, Slots: 2, PeakLive: 7, PeakBlocks: 2, Anomalies: Anomalies{LostFrees: 2}, Ops: []Op{
				op(Malloc, 0, 0, 0, 5), op(Free, 1, 0, 1, 0), op(Calloc, 1, 0, 2, 6), op(Malloc, 1, 1, 0, 1),
				op(Free, 1, 0, 3, 0), op(Realloc, 1, 1, 1, 7), op(Free, 0, 1, 2, 0),
			}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := compileText(t, header+"\n"+test.text, test.o)
			if !equal(got, &test.want) {
				t.Errorf("tape\n%+v, want\n%+v", *got, test.want)
			}
		})
	}
}

func equal(a, b *Tape) bool {
	return a.Threads == b.Threads && a.Slots == b.Slots && a.Initial == b.Initial && a.PeakLive == b.PeakLive &&
		a.PeakBlocks == b.PeakBlocks && a.Anomalies == b.Anomalies && slices.Equal(a.Ops, b.Ops)
}

func TestSummarize(t *testing.T) {
	const text = header + "\na 3 a 10\nz 4 b 20\nr 3 a 5 a\ng 3 c 1 64\nf 4 a\nd 4\nf 4 a\na 4 d 100"
	for _, test := range []struct {
		o    CompileOptions
		want Summary
	}{
		{CompileOptions{}, Summary{
			Events: 8, Ops: [5]int{2, 1, 1, 1, 1}, Threads: 2, Allocated: 136, PeakLive: 121, PeakBlocks: 3,
			EndLive: 121, EndBlocks: 3, Anomalies: Anomalies{UnknownFrees: 1},
		}},
		{CompileOptions{MaxOps: 2}, Summary{
			Events: 3, Ops: [5]int{1, 1}, Threads: 2, Allocated: 30, PeakLive: 30, PeakBlocks: 2,
			EndLive: 30, EndBlocks: 2, Truncated: true,
		}},
		{CompileOptions{MaxOps: 6, Threads: 1}, Summary{
			Events: 8, Ops: [5]int{2, 1, 1, 1, 1}, Threads: 1, Allocated: 136, PeakLive: 121, PeakBlocks: 3,
			EndLive: 121, EndBlocks: 3, Anomalies: Anomalies{UnknownFrees: 1},
		}},
	} {
		r, err := NewReader("t", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Summarize(r, test.o); got != test.want || err != nil {
			t.Errorf("%+v: summary\n%+v, want\n%+v; error %v", test.o, got, test.want, err)
		}
	}
	all := Anomalies{1, 2, 3, 4, 5, 6, 7, 8, 9}
	if all.Total() != 45 {
		t.Errorf("total of %+v: %d", all, all.Total())
	}
}

func TestCompileErrors(t *testing.T) {
	for _, test := range []struct {
		text string
		o    CompileOptions
		want string
	}{
		{"", CompileOptions{Threads: -1}, "-1 threads: use 1 or more, or 0"},
		{"", CompileOptions{MaxSize: 1<<40 + 1}, "largest size of 1099511627777 bytes: use at most 1099511627776"},
		{"", CompileOptions{MaxOps: -1}, "at most -1 operations"},
		{"a 1 a", CompileOptions{}, `t:2: "a 1 a"`},
	} {
		r, err := NewReader("t", strings.NewReader(header+"\n"+test.text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Compile(r, test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: error %v, want one with %q", test.o, err, test.want)
		}
	}
}

// randomTrace is a recording, in our format, of threads that allocate blocks and free each other's.
// Now and then an event is odd.
func randomTrace(seed uint64, threads, events int) string {
	rng := rand.New(rand.NewPCG(seed, 0))
	var s strings.Builder
	s.WriteString(header + "\n")
	var live []int
	for id := 1; id <= events; id++ {
		thread := rng.IntN(threads)
		i := -1
		if len(live) > 0 {
			i = rng.IntN(len(live))
		}
		switch what := rng.IntN(100); {
		case what < 40 || i < 0:
			fmt.Fprintf(&s, "a %d %x %d\n", thread, id, rng.IntN(1000))
			live = append(live, id)
		case what < 45:
			fmt.Fprintf(&s, "g %d %x %d %d\n", thread, id, rng.IntN(1000), 8<<rng.IntN(10))
			live = append(live, id)
		case what < 55:
			fmt.Fprintf(&s, "r %d %x %d %x\n", thread, id, rng.IntN(1000), live[i])
			live[i] = id
		case what < 58: // odd: already live
			fmt.Fprintf(&s, "z %d %x %d\n", thread, live[i], rng.IntN(1000))
		case what < 60: // odd: never live
			fmt.Fprintf(&s, "f %d %x\n", thread, events+id)
		default:
			fmt.Fprintf(&s, "f %d %x\n", thread, live[i])
			live[i] = live[len(live)-1]
			live = live[:len(live)-1]
		}
	}
	return s.String()
}

// model executes a tape one operation after the other, with a map for its slots, independently of
// Check.
func model(t *testing.T, tape *Tape) {
	t.Helper()
	type slot struct {
		size uint64
		live bool
	}
	slots, seqs := map[uint32]slot{}, map[uint32]uint32{}
	var peak uint64
	for i, op := range tape.Ops {
		if op.Seq != seqs[op.Slot] {
			t.Fatalf("operation %d, %+v: want sequence number %d", i, op, seqs[op.Slot])
		}
		seqs[op.Slot]++
		if live := slots[op.Slot].live; live != (op.Kind == Free || op.Kind == Realloc) {
			t.Fatalf("operation %d, %+v: live is %t", i, op, live)
		}
		slots[op.Slot] = slot{op.Size, op.Kind != Free}
		if i%64 == 0 || i == len(tape.Ops)-1 { // adding up is slow
			sum := uint64(0)
			for _, s := range slots {
				sum += s.size
			}
			if peak = max(peak, sum); sum > tape.PeakLive {
				t.Fatalf("%d bytes live behind operation %d, above the peak of %d", sum, i, tape.PeakLive)
			}
		}
	}
	if peak < tape.PeakLive*9/10 {
		t.Errorf("peak of %d live bytes, but %d where looked", tape.PeakLive, peak)
	}
	if err := tape.Check(); err != nil {
		t.Error(err)
	}
}

// execute runs a tape with a goroutine for each thread, which waits for its turn at each slot.
func execute(t *testing.T, tape *Tape) {
	t.Helper()
	type slot struct {
		seq  atomic.Uint32
		size uint64 // written by the thread whose turn it is
		live bool
	}
	slots := make([]slot, tape.Slots)
	own := make([][]Op, tape.Threads)
	for _, op := range tape.Ops {
		own[op.Thread] = append(own[op.Thread], op)
	}
	var wg sync.WaitGroup
	var wrong atomic.Int64
	for _, ops := range own {
		wg.Go(func() {
			for _, op := range ops {
				s := &slots[op.Slot]
				for s.seq.Load() != op.Seq {
					runtime.Gosched()
				}
				if s.live != (op.Kind == Free || op.Kind == Realloc) {
					wrong.Add(1)
				}
				s.live, s.size = op.Kind != Free, op.Size
				s.seq.Store(op.Seq + 1)
			}
		})
	}
	wg.Wait()
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d operations found their slot in the wrong state", n)
	}
}

func TestCompiledTapesRun(t *testing.T) {
	for seed := range uint64(4) {
		text := randomTrace(seed, 5, 5000)
		for _, threads := range []int{0, 1, 2} {
			tape := compileText(t, text, CompileOptions{Threads: threads})
			model(t, tape)
			execute(t, tape)
			if tape.Slots != tape.PeakBlocks {
				t.Errorf("%d slots for %d blocks", tape.Slots, tape.PeakBlocks)
			}
			if a := tape.Anomalies; a.LostFrees == 0 || a.UnknownFrees == 0 || a.Total() != a.LostFrees+a.UnknownFrees+a.ZeroReallocs {
				t.Errorf("anomalies %+v", a)
			}
		}
	}
}

// TestTake compares the slots that are taken with the simplest version of take.
func TestTake(t *testing.T) {
	const texts = header + "\na 0 1 1\na 0 2 1\na 0 3 1\nf 0 1\nf 1 2\nf 0 3\na 2 4 1\na 2 5 1\na 2 6 1\n"
	for seed := range uint64(20) {
		text := texts // of all threads, the oldest first: 0, 1, 2
		if seed > 0 {
			text = randomTrace(seed, 1+int(seed)%7, 3000)
		}
		type idle struct{ slot, by uint32 }
		var free []idle // in the order in which they were freed
		slots := uint32(0)
		for i, op := range compileText(t, text, CompileOptions{}).Ops {
			switch op.Kind {
			case Free:
				free = append(free, idle{op.Slot, op.Thread})
			case Malloc, Calloc, Memalign:
				want, at := slots, -1
				if len(free) > 0 {
					at = 0
				}
				for k, f := range free {
					if f.by == op.Thread {
						at = k
					}
				}
				if at >= 0 {
					want = free[at].slot
					free = slices.Delete(free, at, at+1)
				} else {
					slots++
				}
				if op.Slot != want {
					t.Fatalf("seed %d, operation %d of thread %d: slot %d, want %d", seed, i, op.Thread, op.Slot, want)
				}
			}
		}
	}
}

// TestManyThreads has threads that each free one block, the last thread first; another thread takes
// each of them. It would take half a minute if all threads were looked at each time.
func TestManyThreads(t *testing.T) {
	const threads = 100_000
	var s strings.Builder
	s.WriteString(header + "\n")
	for i := range threads {
		fmt.Fprintf(&s, "a %d %x 1\n", i, i+1)
	}
	for i := threads - 1; i > 0; i-- {
		fmt.Fprintf(&s, "f %d %x\na 0 %x 1\n", i, i+1, threads+i)
	}
	if tape := compileText(t, s.String(), CompileOptions{}); tape.Threads != threads || tape.PeakBlocks != threads {
		t.Errorf("%d threads, %d blocks", tape.Threads, tape.PeakBlocks)
	}
}
